"""Connectors: what turns patches (and clues) into the image features the language model reads.

Shapes: n views of all studies, P patches, N image placeholders a view, K clue tokens, D shared width,
Dv/Dc/Dt widths of vision, clue and text model.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel

from .configuration_trrg import TRRGConfig


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention: `[n, heads, queries, d]` to `[n, queries, heads, d]` and the weights."""
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, torch.finfo(weights.dtype).min)
    weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


class UnitLinear(nn.Linear):
    """A linear layer that starts with the variance of its input kept, whatever its width (see `init_connector`).

    With the usual fixed deviation of 0.02 the clues reach a narrow model a hundred times weaker than the queries that
    fetch them, and it takes very long to listen.
    """


class ClueAttention(nn.Module):
    """Multi-head attention with a key mask, through the attention functions of Transformers.

    Flash attention has no kernel for masked keys of another length than the queries, so under it this small module
    uses `sdpa`, and the towers and the language model keep flash.
    """

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_interaction_heads
        self.head_dim = config.projection_dim // self.num_heads
        self.is_causal = False
        self.q_proj = UnitLinear(config.projection_dim, config.projection_dim)
        self.k_proj = UnitLinear(config.projection_dim, config.projection_dim)
        self.v_proj = UnitLinear(config.projection_dim, config.projection_dim)
        self.out_proj = UnitLinear(config.projection_dim, config.projection_dim)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, key_mask: torch.Tensor | None = None) -> torch.Tensor:
        """`queries [n or 1, Q, D]`, `keys [n, K, D]`, `key_mask [n, K]` (bool, a True in each row; None: all seen) to
        `[n, Q, D]`."""
        q, k, v = (
            projection(states).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for projection, states in ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, keys))
        )
        attention = eager_attention
        if self.config._attn_implementation != "eager":
            attention = ALL_ATTENTION_FUNCTIONS["sdpa"]
        q = q.expand(len(keys), -1, -1, -1)  # learned queries are projected once for all
        mask = None if key_mask is None else key_mask[:, None, None, :].expand(-1, 1, queries.shape[1], -1)
        attended, _ = attention(self, q, k, v, mask, scaling=self.head_dim**-0.5, dropout=0.0, is_causal=False)
        return self.out_proj(attended.flatten(2))


class ClueInteraction(nn.Module):
    """Cross-modal clue interaction: N/2 learned queries look at the clues, N/2 at the patches. With
    `interaction="cross"` clues and patches look at each other before; in a short run that learned slower.

    Differences to the public author code, each on purpose: queries start at different values (equal ones stay one
    query for ever), padding is masked, every view asks for clues, attention has residuals, patches carry a learned
    position, and a learned "no clue" stands among the clues, a learned "no patch" among the patches, so that none is a
    legal number of both.
    """

    def __init__(self, config: TRRGConfig, clue_hidden_size: int) -> None:
        super().__init__()
        self.config = config
        width, half = config.projection_dim, config.num_query_tokens // 2
        self.clue_queries = nn.Parameter(torch.empty(half, width))
        self.patch_queries = nn.Parameter(torch.empty(half, width))
        self.no_clue = nn.Parameter(torch.empty(1, width))
        self.no_patch = nn.Parameter(torch.empty(1, width))
        self.patch_position = nn.Parameter(torch.empty(config.num_patches, width))
        self.clue_in = UnitLinear(clue_hidden_size, width, bias=False)
        self.patch_in = UnitLinear(config.vision_hidden_size, width)
        self.patch_norm = nn.LayerNorm(width)
        self.clue_self_attention = ClueAttention(config)
        self.clue_attention = ClueAttention(config)
        self.patch_attention = ClueAttention(config)
        if config.interaction == "cross":
            self.clue_to_patches = ClueAttention(config)
            self.patch_to_clues = ClueAttention(config)
        self.norm = nn.LayerNorm(width)
        self.linear = UnitLinear(width, config.text_config.hidden_size)
        self.out_norm = nn.LayerNorm(config.text_config.hidden_size)

    def forward(
        self,
        patches: torch.Tensor | None,
        clue_tokens: torch.Tensor,
        clue_mask: torch.Tensor,
        study_index: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            patches: `[n, P, Dv]`, or None for studies known only by their clues.
            clue_tokens: `[B, K, Dc]`, weighted by the clue scores; `K` may be 0.
            clue_mask: `[B, K]` bool.
            study_index: `[n]`, the study of each view.

        Returns:
            Image features `[n, N, Dt]`.
        """
        batch, views = len(clue_tokens), len(study_index)
        clues = torch.cat([self.no_clue.expand(batch, 1, -1), self.clue_in(clue_tokens)], dim=1)
        clue_mask = torch.cat([clue_mask.new_ones(batch, 1), clue_mask], dim=1)
        clues = clues + self.clue_self_attention(clues, clues, clue_mask)
        seen = self.no_patch.expand(views, 1, -1)
        if patches is not None:
            seen = torch.cat([seen, self.patch_norm(self.patch_in(patches)) + self.patch_position], dim=1)
        if self.config.interaction == "cross":
            clues, clue_mask = clues[study_index], clue_mask[study_index]
            study_index = torch.arange(views, device=clues.device)
            seen_clues = clues + self.clue_to_patches(clues, seen)
            seen = seen + self.patch_to_clues(seen, clues, clue_mask)
            clues = seen_clues

        from_clues = self.clue_queries + self.clue_attention(self.clue_queries[None], clues, clue_mask)
        from_patches = self.patch_queries + self.patch_attention(self.patch_queries[None], seen)
        features = torch.cat([from_clues[study_index], from_patches], dim=1)
        return self.out_norm(self.linear(self.norm(features)))


class MLPConnector(nn.Module):
    """MAIRA-1's adapter: every patch through `mlp_depth` linear layers with GELU between them."""

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        layers: list[nn.Module] = [nn.Linear(config.vision_hidden_size, width)]
        for _ in range(config.mlp_depth - 1):
            layers += [nn.GELU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """`[n, P, Dv]` to image features `[n, P, Dt]`."""
        return self.layers(patches)


class QueryTransformer(nn.Module):
    """RaDialog's alignment module: a BERT with cross attention to the patches, after BLIP-2 (arXiv 2301.12597).

    One stack serves queries and text; who sees whom is decided by the mask, as the three losses of the alignment need.
    """

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__()
        inner = config.query_transformer_config
        self.num_queries = config.num_query_tokens
        self.queries = nn.Parameter(torch.empty(1, self.num_queries, inner.hidden_size))
        self.word_embeddings = nn.Embedding(inner.vocab_size, inner.hidden_size, padding_idx=inner.pad_token_id)
        self.position_embeddings = nn.Embedding(inner.max_position_embeddings, inner.hidden_size)
        self.encoder = Blip2QFormerModel(inner)

    def forward(
        self,
        patches: torch.Tensor | None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        mode: str = "queries",
    ) -> torch.Tensor:
        """
        Args:
            patches: `[n, P, Dv]`; None only in mode `"text"`.
            input_ids, attention_mask: `[n, T]`, in every mode but `"queries"`.
            mode: `"queries"`: queries alone. `"text"`: text alone. `"matching"`: everyone sees everyone.
                `"generation"`: text sees the queries and the text before it, queries see queries.

        Returns:
            Hidden states `[n, queries (+ T), width]`; in mode `"text"` `[n, T, width]`.

        Raises:
            ValueError: text longer than the position table.
        """
        if input_ids is None:
            queries = self.queries.expand(len(patches), -1, -1)
            return self.encoder(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        length, limit = input_ids.shape[1], self.position_embeddings.num_embeddings
        if length > limit:
            raise ValueError(f"the report has {length} tokens; the query transformer holds at most {limit}.")
        positions = torch.arange(length, device=input_ids.device)
        text = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        if mode == "text":
            return self.encoder(query_embeds=text, query_length=0, attention_mask=attention_mask).last_hidden_state
        batch, num_queries = len(input_ids), self.num_queries
        total = num_queries + length
        keys = torch.cat([attention_mask.new_ones(batch, num_queries), attention_mask], dim=1).bool()
        allowed = keys[:, None, :].expand(batch, total, total).clone()
        if mode == "generation":
            allowed[:, :num_queries, num_queries:] = False
            causal = torch.ones(length, length, dtype=torch.bool, device=keys.device).tril()
            allowed[:, num_queries:, num_queries:] &= causal
        bias = torch.zeros(allowed.shape, dtype=text.dtype, device=text.device)
        bias = bias.masked_fill(~allowed, torch.finfo(text.dtype).min)[:, None]
        return self.encoder(
            query_embeds=torch.cat([self.queries.expand(batch, -1, -1), text], dim=1),
            query_length=num_queries,
            attention_mask=bias,
            encoder_hidden_states=patches,
        ).last_hidden_state


def init_connector(module: nn.Module, std: float) -> None:
    """Initialise what is special in a connector; every other layer is initialised as in any model."""
    if isinstance(module, UnitLinear):
        init.normal_(module.weight, mean=0.0, std=module.in_features**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, ClueInteraction):
        # far apart from the start: queries that begin alike ask alike for a long time
        for parameter in (
            module.clue_queries,
            module.patch_queries,
            module.no_clue,
            module.no_patch,
            module.patch_position,
        ):
            init.normal_(parameter, mean=0.0, std=1.0)
    elif isinstance(module, QueryTransformer):
        init.normal_(module.queries, mean=0.0, std=std)
