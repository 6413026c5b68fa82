"""Stage 1: sentence-level image-text contrast, and the alignment of RaDialog's query transformer.

Shapes: B studies, V views, S sentences, T tokens of a sentence, C clues, D shared width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_trrg import TRRGConfig
from .encoder_trrg import SeenImages, TRRGEncoder, check_seen
from .outputs_trrg import TRRGStudyFeatures
from .pretrained_trrg import TRRGPreTrainedModel


@dataclass
class TRRGContrastiveOutput(ModelOutput):
    """Output of `TRRGForContrastivePretraining`.

    Attributes:
        loss: the sum of the parts below that this model has, the clue loss by `clue_loss_weight`.
        sentence_loss: image-sentence contrast, both directions averaged (ITC with the query transformer).
        clue_loss: binary cross entropy of each clue against its negated twin (or of the findings classifier).
        matching_loss, generation_loss: ITM and LM of the query transformer.
        image_embeds: `[B, D]`, of the query transformer. sentence_embeds: `[S, D]`. clue_scores: `[B, C]`.
        hidden_states, attentions: of the vision tower, where they were asked for.
    """

    loss: torch.Tensor | None = None
    sentence_loss: torch.Tensor | None = None
    clue_loss: torch.Tensor | None = None
    matching_loss: torch.Tensor | None = None
    generation_loss: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    sentence_embeds: torch.Tensor | None = None
    clue_scores: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def world_size() -> int:
    """Number of processes that train together; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Rows of all ranks, in rank order, with gradient where the tensor has one.

    Raises:
        ValueError: ranks hold different numbers of rows, which would hang or misalign the gather.
    """
    if world_size() == 1:
        return tensor
    rows = tensor.new_tensor([len(tensor)], dtype=torch.long)
    counts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(counts, rows)
    if len({int(count) for count in counts}) > 1:
        raise ValueError(f"ranks hold {[int(c) for c in counts]} rows; expected the same number on each.")
    if tensor.is_floating_point():
        return torch.cat(all_gather(tensor.contiguous()))
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def sentence_matches(
    sentence_study: torch.Tensor,
    sentence_keys: torch.Tensor,
    sentence_targets: torch.Tensor | None,
    clue_targets: torch.Tensor | None,
    num_studies: int,
    study_source: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which sentence is true of which study.

    Args:
        sentence_study: `[S]`, the study each sentence is from.
        sentence_keys: `[S]`, equal for equal sentences.
        sentence_targets: `[S, C]`, what a sentence asserts: 1 present, 0 absent, anything else nothing.
        clue_targets: `[B, C]`, what is known of a study: 1 present, 0 absent, -1 uncertain, anything else unknown.
        study_source: `[B]`, the dataset each study is from. What one dataset leaves unsaid (a label it does not have, a
            wording) says nothing of the studies of another.

    Returns:
        `[B, S]`: 1 where the sentence is in the study's report; -1, no negative, where the study's labels entail all
        that the sentence asserts or are uncertain of it, or where it is from another dataset and nothing contradicts
        it; 0, a negative, elsewhere.
    """
    own = torch.arange(num_studies, device=sentence_study.device)[:, None] == sentence_study
    same = sentence_keys[:, None] == sentence_keys
    positive = (own.float() @ same.float()) > 0
    matches = positive.long()
    if sentence_targets is not None and clue_targets is not None:
        asserted = (sentence_targets == 0) | (sentence_targets == 1)
        agrees = (clue_targets[:, None] == sentence_targets[None]) | (clue_targets == -1)[:, None] | ~asserted
        entailed = agrees.all(-1) & asserted.any(-1)
        matches = torch.where(entailed & ~positive, -1, matches)
        if study_source is not None:
            foreign = study_source[:, None] != study_source[sentence_study]
            opposite = clue_targets[:, None] + sentence_targets[None] == 1
            contradicted = opposite & asserted & (clue_targets >= 0)[:, None]
            matches = torch.where(foreign & ~contradicted.any(-1) & ~positive, -1, matches)
    return matches


def contrast(logits: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    """InfoNCE with several positives: each competes with the negatives of its row alone. With one positive a row and
    no ignored pair this is CLIP's cross entropy.

    Args:
        logits: `[R, K]`.
        matches: `[R, K]`: 1 positive, 0 negative, -1 ignored.
    """
    negatives = logits.masked_fill(matches != 0, torch.finfo(logits.dtype).min).logsumexp(1, keepdim=True)
    positive = matches == 1
    return (F.softplus(negatives - logits) * positive).sum() / positive.sum().clamp(min=1)


class TRRGForContrastivePretraining(TRRGPreTrainedModel):
    """Stage 1. Its weights under `model.` are those stage 2 starts from."""

    main_input_name = "pixel_values"

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__(config)
        self.model = TRRGEncoder(config)
        self.query_projection = self.text_projection = self.matching_head = self.generation_head = None
        if config.connector == "query_transformer":
            inner = config.query_transformer_config
            self.query_projection = nn.Linear(inner.hidden_size, config.projection_dim)
            self.text_projection = nn.Linear(inner.hidden_size, config.projection_dim)
            self.matching_head = nn.Linear(inner.hidden_size, 2)
            self.generation_head = nn.Sequential(
                nn.Linear(inner.hidden_size, inner.hidden_size), nn.GELU(), nn.LayerNorm(inner.hidden_size)
            )
        elif not config.uses_clue_encoder and config.clue_source != "classifier":
            raise ValueError(
                f"connector={config.connector!r} with clue_source={config.clue_source!r}: nothing to learn in stage 1."
            )
        self.post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in Transformers; no class or pipeline is named that these weights do not fit."""
        classes, pipelines = self.config.auto_map, self.config.custom_pipelines
        self.config.auto_map = {name: classes[name] for name in ("AutoConfig", "AutoProcessor")}
        self.config.custom_pipelines = {}
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            self.config.auto_map, self.config.custom_pipelines = classes, pipelines

    def read_study(self, **inputs: Any) -> TRRGStudyFeatures:
        """See `TRRGEncoder.read_study`."""
        return self.model.read_study(**inputs)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        image_mask: torch.Tensor | None = None,
        sentence_input_ids: torch.Tensor | None = None,
        sentence_attention_mask: torch.Tensor | None = None,
        sentence_study: torch.Tensor | None = None,
        sentence_keys: torch.Tensor | None = None,
        sentence_targets: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        clue_targets: torch.Tensor | None = None,
        study_source: torch.Tensor | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> TRRGContrastiveOutput:
        """
        Args:
            pixel_values, image_mask: `[B, V, 3, H, W]`, `[B, V]`.
            sentence_input_ids, sentence_attention_mask: `[S, T]`, by the clue tokenizer. With the query transformer
                these are whole reports, one a study, in order; a study whose mask is empty has none, and its image
                takes part in the clue loss alone.
            sentence_study: `[S]`, the row of each sentence's study in this batch.
            sentence_keys: `[S]`, equal for equal sentences.
            sentence_targets: `[S, C]`, clue_targets: `[B, C]`, study_source: `[B]`; see `sentence_matches`.
            clue_input_ids ...: the clues behind `clue_targets`, for the negated twins; the same on every rank.
            return_loss: by its default Trainer knows that there is a loss without labels; False leaves it out.
        """
        seen = self.model.encode_images(
            pixel_values, image_mask, output_hidden_states=output_hidden_states, output_attentions=output_attentions
        )
        check_seen(seen.image_mask)
        out = TRRGContrastiveOutput(
            hidden_states=seen.outputs.get("hidden_states"), attentions=seen.outputs.get("attentions")
        )
        if sentence_input_ids is not None:
            num_studies = len(seen.image_mask)
            offset = dist.get_rank() * num_studies if world_size() > 1 else 0
            matches = sentence_matches(
                gather(sentence_study + offset),
                gather(sentence_keys),
                None if sentence_targets is None else gather(sentence_targets),
                None if clue_targets is None else gather(clue_targets),
                num_studies * world_size(),
                None if study_source is None else gather(study_source),
            )
            if self.model.query_transformer is not None:
                self._align(out, seen, sentence_input_ids, sentence_attention_mask, sentence_study, matches)
            elif self.model.clue_encoder is not None:
                _, out.sentence_embeds = self.model.embed_sentences(sentence_input_ids, sentence_attention_mask)
                logits = gather(self.model.sentence_logits(seen, gather(out.sentence_embeds)))
                out.sentence_loss = (contrast(logits, matches) + contrast(logits.T, matches.T)) / 2
        if self.config.clue_source != "none":
            bank = None
            if self.config.uses_clue_encoder:
                bank = self.model.encode_clues(clue_input_ids, clue_attention_mask, clue_parents)
            clue_logits, out.clue_scores = self.model.score_clues(seen, bank)
            trainable = self.config.clue_source == "classifier" or self.config.clue_scoring == "pairwise"
            if clue_targets is not None and trainable:
                out.clue_loss = self._clue_loss(clue_logits, clue_targets)
        parts = [out.sentence_loss, out.matching_loss, out.generation_loss]
        if out.clue_loss is not None:
            parts.append(self.config.clue_loss_weight * out.clue_loss)
        parts = [part for part in parts if part is not None]
        if parts and return_loss:
            out.loss = torch.stack(parts).sum()
        return TRRGContrastiveOutput(**out)  # anew, for the order of a tuple

    def _clue_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labelled = (labels == 0) | (labels == 1)
        entropy = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
        count = labelled.sum()
        if world_size() > 1:  # ranks are averaged afterwards, so each divides by the mean count
            dist.all_reduce(count)
            count = count / world_size()
        return (entropy * labelled).sum() / count.clamp(min=1)

    def _align(
        self,
        out: TRRGContrastiveOutput,
        seen: SeenImages,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_study: torch.Tensor,
        matches: torch.Tensor,
    ) -> None:
        """ITC, ITM and LM of the query transformer (BLIP-2, section 3.2)."""
        former = self.model.query_transformer
        if len(seen.patches) != len(seen.image_mask) or len(input_ids) != len(seen.patches):
            raise ValueError(
                f"{len(seen.image_mask)} studies with {len(seen.patches)} views and {len(input_ids)} reports; the "
                "alignment of the query transformer expected one view and one report a study."
            )
        if sentence_study.tolist() != list(range(len(input_ids))):
            raise ValueError(
                f"sentence_study is {sentence_study.tolist()}; expected the reports in the studies' order."
            )
        written = attention_mask.any(1)
        reports = gather(written.long()).bool()
        matches = torch.where(reports[:, None] & reports, matches, -1)
        queries = F.normalize(self.query_projection(former(seen.patches)), dim=-1)
        text = former(None, input_ids, attention_mask, mode="text")
        out.sentence_embeds = F.normalize(self.text_projection(text[:, 0]), dim=-1)
        out.image_embeds = F.normalize(queries.mean(1), dim=-1)
        # image-text contrast: the best query of an image speaks for it
        similarity = torch.einsum("bqd,sd->bsq", gather(queries), gather(out.sentence_embeds)).amax(-1)
        logits = self.model.scale * similarity
        out.sentence_loss = (contrast(logits, matches) + contrast(logits.T, matches.T)) / 2

        # image-text matching against the hardest negatives on this rank
        batch = len(input_ids)
        start = dist.get_rank() * batch if world_size() > 1 else 0
        local = slice(start, start + batch)
        negative = matches[local, local] == 0
        weights = logits[local, local].detach().softmax(1) * negative + 1e-8 * negative
        text_rows = negative.any(1).nonzero().flatten()
        image_rows = negative.any(0).nonzero().flatten()
        wrong_text = torch.multinomial(weights[text_rows], 1).flatten()
        wrong_image = torch.multinomial(weights.T[image_rows], 1).flatten()
        images = torch.cat([torch.arange(batch, device=input_ids.device), text_rows, wrong_image])
        texts = torch.cat([images[:batch], wrong_text, image_rows])
        hidden = former(seen.patches[images], input_ids[texts], attention_mask[texts], mode="matching")
        answer = self.matching_head(hidden[:, : former.num_queries]).mean(1)
        target = (torch.arange(len(images), device=images.device) < batch).long()
        told = written[images] & written[texts] & negative.any()  # without a negative there is nothing to tell apart
        entropy = F.cross_entropy(answer, target, reduction="none")
        out.matching_loss = (entropy * told).sum() / told.sum().clamp(min=1)

        # report generation conditioned on the queries
        hidden = former(seen.patches, input_ids, attention_mask, mode="generation")[:, former.num_queries :]
        words = self.generation_head(hidden[:, :-1]) @ former.word_embeddings.weight.T
        target = input_ids[:, 1:].masked_fill(attention_mask[:, 1:] == 0, -100)
        total = F.cross_entropy(words.flatten(0, 1), target.flatten(), reduction="sum")
        out.generation_loss = total / (target != -100).sum().clamp(min=1)


TRRGForContrastivePretraining.register_for_auto_class("AutoModelForPreTraining")

__all__ = ["TRRGForContrastivePretraining"]
