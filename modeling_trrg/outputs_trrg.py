"""What the TRRG models return.

Shapes: B studies, n views of all studies, N image placeholders a view, P patches, C clues, T text tokens,
Dv/Dt widths of vision and text model.
"""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import ModelOutput

from .clue_trrg import ClueBank


@dataclass
class TRRGImageFeatures(ModelOutput):
    """What passes the one door between seeing and reading.

    Attributes:
        pooler_output: image features `[n, N, Dt]`, one row a placeholder (the name serving engines look for).
        last_hidden_state: patches `[n, P, Dv]`, None where a study is known only by its clues.
        clue_scores, clue_logits: `[B, C]`, None where `clue_source` is `"none"`.
        clue_bank: the encoded clues.
        views_by_study: `[B]`, how many of the n views are of each study.
    """

    pooler_output: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    views_by_study: torch.Tensor | None = None
    clue_scores: torch.Tensor | None = None
    clue_logits: torch.Tensor | None = None
    clue_bank: ClueBank | None = None


@dataclass
class TRRGModelOutputWithPast(BaseModelOutputWithPast):
    """Output of `TRRGModel`: `last_hidden_state [B, T, Dt]`, and what `TRRGImageFeatures` holds.

    The cache is inherited: its field is `cache` from Transformers 5.24 on and `past_key_values` before.
    """

    image_hidden_states: torch.Tensor | None = None
    clue_scores: torch.Tensor | None = None
    clue_logits: torch.Tensor | None = None
    clue_bank: ClueBank | None = None


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
