"""`generate` of a study: it is looked at once, and enters with the prompt."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers.generation import (
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from .clue_trrg import log_mean_exp, tell, thresholds_at
from .configuration_trrg import TRRGConfig
from .outputs_trrg import TRRGStudyFeatures

# What is seen of a study; its `TRRGStudyFeatures` stand for all of it.
STUDY_INPUTS = (
    "pixel_values", "image_mask", "clue_input_ids", "clue_attention_mask", "clue_parents", "clue_scores",
)  # fmt: skip

_NAMES = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE_NAME = "cache" if "cache" in _NAMES else "past_key_values"  # renamed in Transformers 5.24


class ContextEnd(StoppingCriteria):
    """Ends each report of a batch where the language model's context ends; padding takes no room in it.

    Args:
        ends: `[B]`, ids of a row, padding and all, at which its context is full.
    """

    def __init__(self, ends: torch.Tensor) -> None:
        self.ends = ends

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Whether each row of ids `[B x beams, T]` is at its end."""
        ends = self.ends.to(input_ids.device).repeat_interleave(len(input_ids) // len(self.ends))
        return ends <= input_ids.shape[1]


class NoPlaceholder(LogitsProcessor):
    """A report never holds an image placeholder; `forward` has a finite logit for it, as for every other token."""

    def __init__(self, image_token_id: int) -> None:
        self.image_token_id = image_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` `[B, vocabulary]`, that of the placeholder -inf; its id may lie outside of the vocabulary."""
        scores = scores.clone()
        scores[..., self.image_token_id : self.image_token_id + 1] = float("-inf")
        return scores


@functools.cache
def _asks_for_more(call: Callable[..., Any]) -> bool:
    return len(inspect.signature(call).parameters) > 3


class QuickProcessorList(LogitsProcessorList):
    """As in Transformers, where each processor's signature is worked out at every token: a tenth of a small model's."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """`scores` `[B, vocabulary]` after each processor in turn."""
        if any(_asks_for_more(type(processor).__call__) for processor in self):
            return super().__call__(input_ids, scores, **kwargs)
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


def with_signature(call: Any) -> Any:
    """The method with its signature worked out once: Transformers asks for that of `forward` at every token."""
    call.__signature__ = inspect.signature(call)
    return call


def shows_study(given: Mapping[str, Any]) -> bool:
    """Whether a view or clue scores are `given`; else the texts stand alone."""
    pixels, mask = given.get("pixel_values"), given.get("image_mask")
    return given.get("clue_scores") is not None or (pixels is not None and (mask is None or bool(mask.any())))


def max_context(config: TRRGConfig) -> int | None:
    """Most tokens of a text that the language model was made for; None for those without a limit."""
    return getattr(config.text_config, "max_position_embeddings", None)


def context_ends(context: int, input_ids: torch.Tensor | None, given: Mapping[str, Any]) -> torch.Tensor:
    """`ContextEnd.ends` of the ids and what else is `given` to `generate`: mask, embeddings in the place of ids."""
    mask, embeds = given.get("attention_mask"), given.get("inputs_embeds")
    start = 0 if input_ids is None else input_ids.shape[1]
    if mask is not None and mask.dim() == 2:
        return start + context - mask.sum(1)
    rows = embeds if input_ids is None else input_ids
    return torch.tensor([context] if rows is None else [start + context - rows.shape[1]] * len(rows))


class TRRGGenerationMixin(GenerationMixin):
    """As in Transformers, with a study that has been looked at, or its images and clues, beside the text."""

    @torch.no_grad()
    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, study: TRRGStudyFeatures | None = None,
        operating_point: str | float | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """As in Transformers. The study is looked at once, whatever the number of beams and with or without a cache. A
        report ends at the latest where the language model's context does. `max_length` without `max_new_tokens` goes
        before the checkpoint's `max_new_tokens`.

        The next turn of a chat: `return_dict_in_generate=True` here, then the ids of the whole chat with the cache that
        came back (`past_key_values=out.past_key_values`). Neither study nor text is computed a second time.

        Args:
            study: from `read_study`; then the images and clues among `kwargs` are not looked at again.
            operating_point: see `at_operating_point`.

        Raises:
            ValueError: an operating point without a study, or `prefill_chunk_size` with one, which enters with its
                whole prompt.
        """
        given = {name: kwargs.pop(name) for name in STUDY_INPUTS if name in kwargs}
        input_ids = kwargs.get("input_ids") if inputs is None else inputs
        if self._is_cached(input_ids, kwargs):
            given, study = {}, None
        if study is None and shows_study(given):
            study = self.get_image_features(**given, return_dict=True)
            if kwargs.get("assistant_model") is not None:  # it looks for itself, see `_get_candidate_generator`
                kwargs |= given
        if operating_point is not None:
            if study is None:
                raise ValueError(f"operating_point is {operating_point!r}, but no study is looked at; expected None.")
            study = self.at_operating_point(study, operating_point)
        if study is not None:
            kwargs["study"] = study
            chunk = kwargs.get("prefill_chunk_size") or getattr(
                kwargs.get("generation_config"), "prefill_chunk_size", None
            )
            if chunk is not None:
                raise ValueError(
                    f"prefill_chunk_size is {chunk}, but a study enters with its whole prompt; expected None."
                )
        writes = [*(kwargs.get("logits_processor") or ()), NoPlaceholder(self.config.image_token_id)]
        kwargs["logits_processor"] = LogitsProcessorList(writes)
        if kwargs.get("max_length") is not None:
            kwargs.setdefault("max_new_tokens", None)
        if (context := max_context(self.config)) is None:
            return super().generate(inputs, *args, **kwargs)
        ends = context_ends(context, input_ids, kwargs)
        criteria = [*(kwargs.pop("stopping_criteria", None) or ()), ContextEnd(ends)]
        out = super().generate(inputs, *args, **kwargs, stopping_criteria=StoppingCriteriaList(criteria))
        self._blank_behind(out, ends)
        return out

    def _blank_behind(self, out: Any, ends: torch.Tensor) -> None:
        """Fills what stands behind the ends of rows that waited for others with a token that ends no report: beam
        search, and a padding that is the end token, would tell that they had ended by themselves."""
        ids, told = getattr(out, "sequences", out), self.generation_config
        last = told.eos_token_id if isinstance(told.eos_token_id, list) else [told.eos_token_id]
        blank = next((token for token in (told.pad_token_id, told.bos_token_id) if token not in (None, *last)), None)
        if blank is not None:
            ends = ends.to(ids.device).repeat_interleave(len(ids) // len(ends))
            ids.masked_fill_(torch.arange(ids.shape[1], device=ids.device) >= ends[:, None], blank)

    def _is_cached(self, input_ids: torch.Tensor | None, kwargs: dict[str, Any]) -> bool:
        """Whether a cache of an earlier turn holds all that the text shows of the study."""
        cache, mask = kwargs.get(CACHE_NAME, kwargs.get("past_key_values")), kwargs.get("attention_mask")
        if cache is None or input_ids is None or not (length := int(cache.get_seq_length())):
            return False
        if mask is None or mask.shape[1] == input_ids.shape[1]:  # else only the new tokens were given
            input_ids = input_ids[:, length:]
        return not bool((input_ids == self.config.image_token_id).any())

    @torch.no_grad()
    def edit_clues(self, study: TRRGStudyFeatures, **clues: torch.Tensor) -> TRRGStudyFeatures:
        """A study with other clue scores in the place of those that were seen. Its patches are kept: no tower is asked.

        Args:
            study: from `read_study`.
            clues: `clue_scores` `[B, C]`, and the clue list as `read_study` took it.

        Raises:
            ValueError: see `TRRGEncoder.look`.
        """
        given = self.model.look(**clues)
        scores = {name: given[name] for name in ("clue_scores", "clue_logits")}
        return self._told(TRRGStudyFeatures(**{**study, **scores}), study.clue_thresholds)

    @torch.no_grad()
    def at_operating_point(self, study: TRRGStudyFeatures, operating_point: str | float) -> TRRGStudyFeatures:
        """A study with the clues that are told at another point of the dial. Its patches are kept: no tower is asked.

        Args:
            study: from `read_study`.
            operating_point: "careful", "balanced", "sensitive" or the false-negative rate that is wanted
                (`thresholds_at`). `num_selected_clues` still limits how many are told.

        Raises:
            ValueError: a model or clues without operating points, or another value.
        """
        if study.clue_scores is None:
            raise ValueError(f"operating_point is {operating_point!r}, but this model knows no clues; expected None.")
        found = self.model.fitted(study.clue_bank)
        return self._told(study, thresholds_at(self.config, found, study.clue_scores, operating_point))

    def _told(self, study: TRRGStudyFeatures, thresholds: torch.Tensor) -> TRRGStudyFeatures:
        told = tell(self.config, self.model.fitted(study.clue_bank), study.clue_scores, thresholds)
        return self.model.connect(TRRGStudyFeatures(**{**study, **told}))

    @torch.no_grad()
    def score_sentences(
        self, study: TRRGStudyFeatures, input_ids: torch.Tensor, attention_mask: torch.Tensor, rows: list[int],
        sentences: list[int], claims: torch.Tensor,
    ) -> tuple[list[float | None], list[np.ndarray]]:  # fmt: skip
        """How well sentences fit studies, by the features of the one look: no tower is asked.

        A sentence is compared with what would be true if it was false: the mean of "there is no X" of the clues that it
        states and of "there is X" of those that it denies. Its logit is read at the mean calibration of these clues. A
        sentence that only denies has to hold in every patch: its contrary is pooled.

        Args:
            study: from `read_study`, of a model with pairwise clues.
            input_ids, attention_mask: `[S, L]`, sentences by the clue tokenizer.
            rows, sentences: of each pair to score the study and the sentence.
            claims: `[pairs, C]`, 1 for a clue that the sentence states, -1 for one that it denies; one at least.

        Returns:
            Of each pair the score in 0..1, None where an image is compared by its class token, which is not kept; and
            the evidence map `[V, h, w]` in logits.
        """
        model, device, grid = self.model, study.last_hidden_state.device, self.config.patch_grid
        bank = study.clue_bank.to(device)
        claims = claims.to(device) / claims.abs().sum(1, keepdim=True).to(device)
        _, vectors = model.embed_sentences(input_ids.to(device), attention_mask.to(device))
        against = claims.clamp(min=0) @ bank.negative_vectors.float() - claims.clamp(max=0) @ bank.vectors.float()
        directions = model.scale.to(device) * (vectors.to(device).float()[sentences] - against)
        sign = (claims > 0).any(1).float() * 2 - 1
        scale, offset = torch.ones(len(rows), device=device), torch.zeros(len(rows), device=device)
        if bank.calibration is not None:
            scale, offset = claims.abs() @ bank.calibration[:, 0], claims @ bank.calibration[:, 1]
        projected, ends = model.image_projection(study.last_hidden_state).float(), study.image_mask.sum(1).cumsum(0)
        pooled = projected
        if self.config.vision_pooling == "mean":
            pooled = model.image_projection(study.last_hidden_state.mean(1, keepdim=True)).float()
        scores: list[float | None] = [None] * len(rows)
        maps: list[Any] = [None] * len(rows)
        for row in sorted(set(rows)):
            mine = [pair for pair, own in enumerate(rows) if own == row]
            views = slice(int(ends[row] - study.image_mask[row].sum()), int(ends[row]))
            found = (projected[views] @ directions[mine].T).transpose(1, 2).unflatten(-1, (grid, grid)).cpu().numpy()
            logits = sign[mine] * log_mean_exp(sign[mine] * (pooled[views] @ directions[mine].T)).mean(0)
            fits = (scale[mine] * logits + offset[mine]).sigmoid().tolist()
            for place, pair in enumerate(mine):
                maps[pair] = found[:, place].copy()
                scores[pair] = None if self.config.vision_pooling == "cls" else fits[place]
        return scores, maps

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        return QuickProcessorList(super()._get_logits_processor(*args, **kwargs))

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        super()._validate_model_kwargs({name: value for name, value in model_kwargs.items() if name != CACHE_NAME})

    def _update_model_kwargs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As in Transformers. What stands behind the end of the context, in a row that waits for others, is hidden."""
        model_kwargs = super()._update_model_kwargs_for_generation(*args, **kwargs)
        mask, context = model_kwargs.get("attention_mask"), max_context(self.config)
        if mask is not None and context is not None and mask.shape[1] > context:
            mask[:, -1] *= mask.sum(1) <= context
        return model_kwargs

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, inputs_embeds: torch.Tensor | None = None, use_cache: bool = True,
        is_first_iteration: bool = False, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """As in Transformers. The study enters with the prompt only; afterwards it is in the cache."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, use_cache=use_cache, is_first_iteration=is_first_iteration,
            **kwargs,
        )  # fmt: skip
        if "study" in inputs:  # in place of what it was made from
            inputs = {name: value for name, value in inputs.items() if name not in STUDY_INPUTS}
            cache = kwargs.get(CACHE_NAME)
            # an assistant's prompt is no first iteration to Transformers; its cache is still empty
            if use_cache and not is_first_iteration and cache is not None and cache.get_seq_length() > 0:
                del inputs["study"]
        return inputs

    def _get_candidate_generator(
        self, *, model_kwargs: dict[str, Any], assistant_model: Any = None, **kwargs: Any
    ) -> Any:
        """As in Transformers. An assistant of this kind looks at the images itself, since its features have a width of
        their own, or reads the study that was given; a language model gets the text alone."""
        if assistant_model is not None:
            given = {name: value for name, value in model_kwargs.items() if name in STUDY_INPUTS}
            model_kwargs = {k: v for k, v in model_kwargs.items() if k not in STUDY_INPUTS}
            study = model_kwargs.pop("study", None)
            if study is not None and assistant_model.config.model_type == self.config.model_type:
                device = assistant_model.device
                given = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
                model_kwargs["study"] = (
                    assistant_model.get_image_features(**given, return_dict=True) if given else study
                )
        return super()._get_candidate_generator(model_kwargs=model_kwargs, assistant_model=assistant_model, **kwargs)

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: torch.Tensor | None = None,
        study: TRRGStudyFeatures | None = None, **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:  # fmt: skip
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )  # fmt: skip
        if study is not None and expand_size > 1:
            needed = ("pooler_output", "image_mask", "clue_scores", "clue_logits", "selected_clues", "clue_bank")
            study = TRRGStudyFeatures(**{name: value for name, value in study.items() if name in needed})
            study = study.select(torch.arange(len(study.image_mask)).repeat_interleave(expand_size))
        if study is not None:
            kwargs["study"] = study
        return input_ids, kwargs
