"""What sees: the vision tower, the clue encoder, and the clue scores between them. Both training stages share it."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .clue_trrg import ClueBank, ProjectionHead, log_mean_exp, mean_by_study, scores_from_logits
from .configuration_trrg import TRRGConfig
from .connector_trrg import QueryTransformer, UnitLinear, init_connector

# Module names that are no part of the language model, as patterns; bitsandbytes leaves them in full precision.
NOT_QUANTISED = [
    r".*vision_tower", r".*clue_encoder", r".*image_projection", r".*clue_projection", r".*classifier",
    r".*query_transformer", r".*multi_modal_projector", r".*report_projection", "lm_head",
]  # fmt: skip


@dataclass
class TRRGClueOutput(ModelOutput):
    """Disease clues of a batch of studies.

    Attributes:
        clue_scores: `[B, C]` in [0, 1]: a softmax over the clues, or for each clue the probability of "there is X".
        clue_logits: `[B, C]`, the scores before softmax or sigmoid.
        evidence_maps: `[B, V, C, h, w]`, similarity of each patch to each clue, in logits; zero in masked views.
    """

    clue_scores: torch.Tensor | None = None
    clue_logits: torch.Tensor | None = None
    evidence_maps: torch.Tensor | None = None


@dataclass
class SeenImages:
    """Views in the order study by study: patches `[n, P, Dv]`, pooled `[n, Dv]`, the study of each view `[n]`."""

    patches: torch.Tensor
    pooled: torch.Tensor
    study_index: torch.Tensor
    image_mask: torch.Tensor


class TRRGPreTrainedModel(PreTrainedModel):
    config_class = TRRGConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ClueInteraction", "ProjectionHead"]
    _skip_keys_device_placement = ["cache", "past_key_values"]  # the second name was the first one before 5.24
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False  # counts of placeholders and views are checked against the data

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, UnitLinear):
            super()._init_weights(module)
        init_connector(module, std=self.config.text_config.initializer_range)
        if isinstance(module, TRRGEncoder) and module.logit_scale is not None:
            init.constant_(module.logit_scale, 2.6592)  # log(1 / 0.07), as in CLIP

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in Transformers, but strict: safetensors only, and a missing, unexpected or misshapen weight raises.

        With a bitsandbytes config that names no modules to skip, only the language model is quantised.

        Raises:
            ValueError: pickled weights are asked for, or the checkpoint does not hold exactly the model's weights.
            OSError: the checkpoint has no safetensors.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError("use_safetensors=False: TRRG reads safetensors only, since a pickle can run code.")
        kwargs["use_safetensors"] = True
        quantization = kwargs.get("quantization_config")
        if isinstance(quantization, dict) and quantization.get("quant_method", "bitsandbytes") == "bitsandbytes":
            quantization = BitsAndBytesConfig.from_dict(quantization)
        if isinstance(quantization, BitsAndBytesConfig) and quantization.llm_int8_skip_modules is None:
            quantization = copy.deepcopy(quantization)
            quantization.llm_int8_skip_modules = list(NOT_QUANTISED)
            kwargs["quantization_config"] = quantization
        return_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        problems = [
            f"{title}: {', '.join(sorted(map(str, info[key]))[:8])}{' ...' if len(info[key]) > 8 else ''}"
            for title, key in (
                ("missing", "missing_keys"),
                ("unexpected", "unexpected_keys"),
                ("wrong shape", "mismatched_keys"),
            )
            if info[key]
        ]
        if problems:
            raise ValueError(
                f"{pretrained_model_name_or_path} does not hold the weights of {cls.__name__}: {'; '.join(problems)}. "
                "Weights are never filled in at random."
            )
        return (model, info) if return_info else model


def build_tower(config: Any) -> PreTrainedModel:
    """A vision tower or clue encoder from its config, without parts that nothing uses.

    A pooler would get no gradient, which distributed training refuses. Flash attention stays with the language model:
    few encoders have it.
    """
    if (config._attn_implementation or "").startswith("flash"):
        config._attn_implementation = None
    tower = AutoModel.from_config(config)
    # Convolutions start by their fan-out. Wrapped timm models start at a fixed deviation of 0.02 instead, at which the
    # first steps of a training from scratch change every depthwise filter beyond recognition.
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
    if getattr(tower, "pooler", None) is not None and any(True for _ in tower.pooler.parameters()):
        tower.pooler = None
    return tower


class TRRGEncoder(TRRGPreTrainedModel):
    """Vision tower, clue encoder and clue scores, without a language model.

    Shapes: B studies, V views, n views of all studies, P patches, C clues, L clue tokens, D shared width.
    """

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__(config)
        config.check()
        self.vision_tower = build_tower(config.vision_config)
        self.clue_encoder = self.image_projection = self.clue_projection = None
        self.classifier = self.query_transformer = None
        if config.uses_clue_encoder:
            self.clue_encoder = build_tower(config.clue_config)
            self.clue_projection = ProjectionHead(config.clue_config.hidden_size, config.projection_dim)
            self.image_projection = ProjectionHead(config.vision_hidden_size, config.projection_dim)
            self.logit_scale = nn.Parameter(torch.tensor([2.6592]))  # not a scalar: FSDP2 shards no scalars
        elif config.connector == "query_transformer":
            self.logit_scale = nn.Parameter(torch.tensor([2.6592]))
        else:
            self.logit_scale = None
        if config.clue_source == "classifier":
            self.classifier = nn.Linear(config.vision_hidden_size, config.num_classifier_labels)
        if config.connector == "query_transformer":
            self.query_transformer = QueryTransformer(config)
        self._bank: tuple[Any, ClueBank] | None = None
        if type(self) is TRRGEncoder:
            self.post_init()

    def get_input_embeddings(self) -> nn.Module | None:
        return None

    def train(self, mode: bool = True) -> "TRRGEncoder":
        self._bank = None
        return super().train(mode)

    # --- images ---

    def encode_images(self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None) -> SeenImages:
        """
        Args:
            pixel_values: `[B, V, 3, H, W]`, or `[B, 3, H, W]` for one view each.
            image_mask: `[B, V]` bool, False for views that only pad; they are never computed.

        Raises:
            ValueError: wrong shape, a study without a view, or a tower that returns another number of patches than
                the config promises.
        """
        if pixel_values.dim() == 4:
            pixel_values = pixel_values[:, None]
        size = self.config.image_size
        if pixel_values.dim() != 5 or pixel_values.shape[2:] != (3, size, size):
            raise ValueError(
                f"pixel_values has the shape {list(pixel_values.shape)}; expected [B, V, 3, {size}, {size}]."
            )
        if image_mask is None:
            image_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        if image_mask.shape != pixel_values.shape[:2]:
            raise ValueError(
                f"image_mask has the shape {list(image_mask.shape)}; pixel_values has [B, V] = "
                f"{list(pixel_values.shape[:2])}."
            )
        image_mask = image_mask.bool()
        if not bool(image_mask.any(dim=1).all()):
            blind = (~image_mask.any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"image_mask leaves no view to the studies {blind} of the batch; expected at least one.")
        # channels last: convolutions run up to twice as fast, on CPUs as on GPUs; transformers do not mind
        pixels = pixel_values[image_mask].to(self.vision_tower.dtype, memory_format=torch.channels_last)
        hidden = self.vision_tower(pixels).last_hidden_state
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        prefix, expected = self.config.num_prefix_tokens, self.config.num_patches
        if hidden.shape[1:] != (prefix + expected, self.config.vision_hidden_size):
            raise ValueError(
                f"the vision tower returned {hidden.shape[1]} tokens of width {hidden.shape[2]}; the config promises "
                f"{prefix} prefix tokens + {expected} patches of width {self.config.vision_hidden_size}."
            )
        patches = hidden[:, prefix:]
        pooled = hidden[:, 0] if self.config.vision_pooling == "cls" else patches.mean(1)
        return SeenImages(patches, pooled, image_mask.nonzero()[:, 0], image_mask)

    def embed_images(self, seen: SeenImages) -> torch.Tensor:
        """Unit image vectors `[B, D]`: the mean over a study's views, normalised."""
        vectors = mean_by_study(self.image_projection(seen.pooled), seen.study_index, len(seen.image_mask))
        return nn.functional.normalize(vectors, dim=-1)

    def sentence_logits(self, seen: SeenImages, sentences: torch.Tensor) -> torch.Tensor:
        """How well each study fits sentences with the unit vectors `[S, D]`: `[B, S]`."""
        if self.config.vision_pooling == "lse":
            logits = log_mean_exp(self.scale * self.image_projection(seen.patches) @ sentences.T)
            return mean_by_study(logits, seen.study_index, len(seen.image_mask))
        return self.scale * self.embed_images(seen) @ sentences.T

    # --- clues ---

    def embed_sentences(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sentences `[S, L]` to token states `[S, L, Dc]` and unit vectors `[S, D]` of their first token."""
        hidden = self.clue_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden, self.clue_projection(hidden[:, 0])

    def encode_clues(
        self,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        negative_clue_input_ids: torch.Tensor | None = None,
        negative_clue_attention_mask: torch.Tensor | None = None,
    ) -> ClueBank:
        """The clue bank. In eval mode and without gradient it is cached until the clues or the weights change; weights
        written through `.data` go unseen, and `train()` forgets the bank. Autocast and adapters on the clue encoder
        switch the cache off.

        Args:
            clue_input_ids, clue_attention_mask: `[C, L]`, "there is X"; a row without any True is padding. Without
                them the checkpoint's own clues (`config.clue_token_ids`) are taken.
            negative_clue_input_ids, negative_clue_attention_mask: `[C, L]`, "there is no X"; pairwise scoring needs it.

        Raises:
            ValueError: no clues anywhere, or no negative ones where they are needed.
        """
        if clue_input_ids is None:
            clue_input_ids, clue_attention_mask = self._own_clues(self.config.clue_token_ids)
            negative_clue_input_ids, negative_clue_attention_mask = self._own_clues(self.config.negative_clue_token_ids)
        if clue_input_ids is None:
            raise ValueError(
                "no clues: pass clue_input_ids (the processor makes them) or set clue_token_ids in the config."
            )
        if self.config.clue_scoring == "pairwise" and negative_clue_input_ids is None:
            raise ValueError("negative_clue_input_ids is missing; clue_scoring='pairwise' needs 'there is no X' too.")
        sentences = [(clue_input_ids, clue_attention_mask)]
        if self.config.clue_scoring == "pairwise":
            sentences.append((negative_clue_input_ids, negative_clue_attention_mask))
        sentences = [(ids, torch.ones_like(ids) if mask is None else mask) for ids, mask in sentences]
        present = [mask.bool().any(1) for _, mask in sentences]
        if any(len(rows) != len(present[0]) or not torch.equal(rows, present[0]) for rows in present):
            raise ValueError(
                f"{int(present[0].sum())} clues of {len(present[0])} rows, but {int(present[-1].sum())} negative clues "
                f"of {len(present[-1])} rows; expected one for each, padding in the same rows."
            )
        if not bool(present[0].any()):
            raise ValueError("clue_attention_mask leaves no clue; expected at least one row that is not padding.")
        parameters = [*self.clue_encoder.parameters(), *self.clue_projection.parameters()]
        adapted = any(type(module).__module__.startswith("peft") for module in self.clue_encoder.modules())
        if (
            self.training
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled(parameters[0].device.type)
            or adapted
            or any(parameter.is_inference() for parameter in parameters)
        ):
            return self._encode_clues(sentences)
        weights = [(p.data_ptr(), p.dtype, p._version) for p in parameters]
        if self._bank is not None:
            (cached_sentences, cached_weights), bank = self._bank
            if cached_weights == weights and all(
                torch.equal(a, b)
                for cached, given in zip(cached_sentences, sentences, strict=True)
                for a, b in zip(cached, given, strict=True)
            ):
                return bank
        bank = self._encode_clues(sentences)
        self._bank = (([(ids.clone(), mask.clone()) for ids, mask in sentences], weights), bank)
        return bank

    def _encode_clues(self, sentences: list[tuple[torch.Tensor, torch.Tensor]]) -> ClueBank:
        vectors, positive = [], None
        for ids, mask in sentences:
            readable = mask.clone()
            readable[:, 0] = 1  # a padding row must not turn into NaN; it is masked below
            hidden, vector = self.embed_sentences(ids, readable)
            vectors.append(vector)
            positive = hidden if positive is None else positive
        mask = sentences[0][1].bool()
        return ClueBank(
            tokens=positive,
            token_mask=mask,
            vectors=vectors[0],
            negative_vectors=vectors[1] if len(vectors) > 1 else None,
            valid=mask.any(1),
        )

    def _own_clues(self, token_ids: list[list[int]] | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if token_ids is None:
            return None, None
        length = max(map(len, token_ids))
        pad = self.config.pad_clue_token_id
        ids = torch.tensor([row + [pad] * (length - len(row)) for row in token_ids], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in token_ids], device=self.device)
        return ids, mask

    # --- clue scores ---

    @property
    def scale(self) -> torch.Tensor:
        """The temperature of similarities, `[1]`, at most 100."""
        return self.logit_scale.clamp(max=4.6052).exp()

    def similarity(self, vectors: torch.Tensor, bank: ClueBank) -> torch.Tensor:
        """Unit vectors `[..., D]` to clue logits `[..., C]`, on the device of the vectors."""
        return self.scale.to(vectors.device) * vectors @ bank.directions().T.to(vectors.device)

    def score_clues(self, seen: SeenImages, bank: ClueBank | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Clue logits and scores `[B, C]`, the mean of a study's views.

        Raises:
            ValueError: a classifier with another number of labels than there are clues.
        """
        num_studies = len(seen.image_mask)
        pools_logits = self.config.vision_pooling == "lse"
        logits = self.clue_logits(seen.patches if pools_logits else seen.pooled, bank)
        logits = mean_by_study(log_mean_exp(logits) if pools_logits else logits, seen.study_index, num_studies)
        if self.config.clue_source == "classifier":
            if bank is not None and len(bank.valid) != logits.shape[1]:
                raise ValueError(
                    f"{len(bank.valid)} clues for a classifier of {logits.shape[1]} labels; expected one clue a label."
                )
            return logits, logits.sigmoid()
        return logits, scores_from_logits(logits, self.config.clue_scoring, bank.valid)

    def clue_logits(self, features: torch.Tensor, bank: ClueBank | None) -> torch.Tensor:
        """Patches or pooled images `[..., Dv]` to `[..., C]`."""
        if self.config.clue_source == "classifier":
            return self.classifier(features)
        return self.similarity(self.image_projection(features), bank)

    def evidence_maps(self, seen: SeenImages, bank: ClueBank | None) -> torch.Tensor:
        """Similarity of every patch to every clue, `[B, V, C, h, w]`; zero in masked views."""
        grid = self.config.patch_grid
        maps = self.clue_logits(seen.patches, bank).transpose(1, 2).unflatten(-1, (grid, grid))
        result = maps.new_zeros((*seen.image_mask.shape, *maps.shape[1:]))
        result[seen.image_mask] = maps
        return result

    @torch.no_grad()
    def predict_clues(
        self,
        pixel_values: torch.Tensor | None,
        image_mask: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        negative_clue_input_ids: torch.Tensor | None = None,
        negative_clue_attention_mask: torch.Tensor | None = None,
    ) -> TRRGClueOutput:
        """The disease clues the model sees in each study, and where. Shapes as in `encode_images`, `encode_clues`.

        Raises:
            ValueError: `config.clue_source` is `"none"`.
        """
        if self.config.clue_source == "none":
            raise ValueError("clue_source is 'none': this model sees no clues.")
        if pixel_values is None:
            raise ValueError("pixel_values is None; clues are predicted from images.")
        seen = self.encode_images(pixel_values, image_mask)
        bank = None
        if self.config.uses_clue_encoder:
            bank = self.encode_clues(
                clue_input_ids, clue_attention_mask, negative_clue_input_ids, negative_clue_attention_mask
            )
        logits, scores = self.score_clues(seen, bank)
        return TRRGClueOutput(clue_scores=scores, clue_logits=logits, evidence_maps=self.evidence_maps(seen, bank))
