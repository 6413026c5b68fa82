"""What the TRRG models return.

Shapes: B studies, n views of all studies, N image placeholders a view, P patches, C clues, T text tokens,
Dv/Dt widths of vision and text model.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import ModelOutput

from .clue_trrg import ClueBank
from .configuration_trrg import TRRGConfig


@dataclass
class SeenImages:
    """Views in the order study by study: patches `[n, P, Dv]`, pooled `[n, Dv]`, the study of each view `[n]`, and
    what the tower returned."""

    patches: torch.Tensor
    pooled: torch.Tensor
    study_index: torch.Tensor
    image_mask: torch.Tensor
    outputs: BaseModelOutput

    def summary(self) -> torch.Tensor:
        """What a view is judged readable by, `[n, 5 * Dv]`: the mean patch of each quarter, which tells up from down,
        and the deviation of all."""
        grid = round(self.patches.shape[1] ** 0.5)
        maps = self.patches.float().transpose(1, 2).unflatten(2, (grid, grid))
        quarters = F.adaptive_avg_pool2d(maps, 2).flatten(1)
        return torch.cat([quarters, maps.flatten(2).std(2, correction=0)], 1)

    def readability(self, config: TRRGConfig) -> dict[str, torch.Tensor]:
        """`readable` and `readable_scores` of `TRRGStudyFeatures`; nothing where the model was never fitted to tell."""
        if config.readable_weights is None:
            return {}
        bias, *weights = config.readable_weights
        views = self.summary() @ torch.tensor(weights, device=self.patches.device) + bias
        lowest = views.new_full((len(self.image_mask),), -torch.inf)
        scores = lowest.scatter_reduce(0, self.study_index, views, "amax")
        return {"readable_scores": scores, "readable": scores >= config.readable_threshold}


@dataclass
class TRRGStudyFeatures(ModelOutput):
    """A batch of studies that have been looked at once: all that clues, prompt, report and later turns need of them.

    `generate` and `forward` take it as `study` in place of images, so that nothing is looked at twice.

    Attributes:
        last_hidden_state: patches `[n, P, Dv]`, None where a study is known only by its clues.
        pooler_output: image features `[n, N, Dt]`, one row a placeholder (the name serving engines look for); None
            after stage 1, which has no language model.
        image_mask: `[B, V]` bool, which views a study has; the n views are its true entries, study by study.
        clue_scores: `[B, C]` in [0, 1]: a softmax over the clues, or for each clue the probability of "there is X"; 0
            in a row without a view, which only `forward` and `generate` accept (a text alone).
        clue_logits: `[B, C]`, the scores before softmax or sigmoid. Both None where `clue_source` is `"none"`.
        selected_clues: `[B, C]` bool, the clues that reach the language model, injected or said in its prompt.
        clue_thresholds: `[B, C]`, what each had to score more than.
        clue_answers: `[B, C]`, 1 present, 0 absent, -1 indeterminate, -100 unknown (`clue_trrg.answers`); None without
            operating points.
        evidence_maps: `[B, V, C, h, w]`, similarity of each patch to each clue, in logits; zero in masked views. Only
            from `read_study`.
        clue_bank: the encoded clues.
        hidden_states, attentions: of the vision tower, one of each layer, where they were asked for.
        readable_scores: `[B]`, the logit of "an upright frontal chest X-ray" of a study's best view.
        readable: `[B]` bool, whether it reaches `readable_threshold`. Both None where `readable_weights` is.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    image_mask: torch.Tensor | None = None
    clue_scores: torch.Tensor | None = None
    clue_logits: torch.Tensor | None = None
    selected_clues: torch.Tensor | None = None
    clue_thresholds: torch.Tensor | None = None
    clue_answers: torch.Tensor | None = None
    evidence_maps: torch.Tensor | None = None
    clue_bank: ClueBank | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    readable_scores: torch.Tensor | None = None
    readable: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> "TRRGStudyFeatures":
        """The features on `device`; the clue bank, which studies share, stays where it is."""
        tensors = {name: value.to(device) for name, value in self.items() if isinstance(value, torch.Tensor)}
        return TRRGStudyFeatures(**{**self, **tensors})

    def select(self, rows: torch.Tensor) -> "TRRGStudyFeatures":
        """The studies `rows` `[R]` of the batch, in that order; a study may come more than once, as beams ask for."""
        rows = rows.to(self.image_mask.device)
        ends = self.image_mask.sum(1).cumsum(0).tolist()
        spans = [range(ends[row - 1] if row else 0, ends[row]) for row in rows.tolist()]
        views = torch.tensor([view for span in spans for view in span], dtype=torch.long, device=rows.device)
        by_view = ("pooler_output", "last_hidden_state")
        chosen = {name: self[name][(views if name in by_view else rows).to(self[name].device)]
                  for name in self.keys() if name not in ("clue_bank", "hidden_states", "attentions")}  # fmt: skip
        return TRRGStudyFeatures(**chosen, clue_bank=self.clue_bank)


@dataclass
class TRRGModelOutputWithPast(BaseModelOutputWithPast):
    """Output of `TRRGModel`: `last_hidden_state [B, T, Dt]`, and the studies that the text speaks of.

    The cache is inherited: its field is `cache` from Transformers 5.24 on and `past_key_values` before.
    """

    study: TRRGStudyFeatures | None = None


@dataclass
class TRRGCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Output of `TRRGForConditionalGeneration`; `loss`, `logits`, cache, hidden states and attentions are inherited.

    Attributes:
        loss: language modelling loss, plus the consistency loss where it is switched on.
        logits: `[B, T, vocabulary]`.
        consistency_loss: the second part of `loss` alone.
        image_hidden_states: `[n, N, Dt]`.
        clue_scores, clue_logits: `[B, C]`.
    """

    image_hidden_states: torch.Tensor | None = None
    consistency_loss: torch.Tensor | None = None
    clue_scores: torch.Tensor | None = None
    clue_logits: torch.Tensor | None = None
