"""TRRGProcessor: a study as files and words -> tensors; generated tokens and clue scores -> reports."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers.processing_utils import MultiModalData, ProcessorMixin

from .batch_trrg import (
    StudyBatch,
    StudyError,
    group_studies,
    image_tensors,
    labels_by_clue,
    refuse_ignored,
    scores_by_clue,
    text_tensors,
)
from .grey_trrg import GreyRange as GreyRange  # copied to the Hub with this file
from .image_processing_trrg import PreparedView
from .image_processing_trrg import TRRGImageProcessor as TRRGImageProcessor  # this too
from .image_trrg import RadiographError, list_views, read_radiograph
from .prompt_trrg import (
    PROMPT_STYLES,
    PromptError,
    PromptStyle,
    check_clues,
    default_chat_template,
    default_clues,
    refuse_special_tokens,
    report_messages,
)
from .report_trrg import Report, sorted_clues, split_report

CONTEXT_FIELDS = ("indication", "technique", "comparison", "prior_report", "question")


class TRRGProcessor(ProcessorMixin):
    """Images, context, questions and clues to tensors, and generated tokens to reports.

    Args:
        image_processor: a `TRRGImageProcessor`.
        tokenizer: of the language model; `image_token` must be one of its special tokens, and it needs a pad and an EOS
            token.
        clue_tokenizer: of the clue encoder.
        num_image_tokens: placeholders a view, `config.num_image_tokens`.
        clues: names, or dicts of name, positive and negative sentence; the 14 CheXpert observations by default.
        prompt_style: whose prompt is written, one of "trrg", "maira1", "radialog".
        max_length: most tokens of a text, image placeholders and report included; None for no limit.
        image_token: the placeholder's token.
        chat_template: Jinja template of a chat; the style's own by default.
        vocabularies: fingerprints of the two tokenizers the processor was saved with. Transformers loads the first
            tokenizer in place of a second one that it cannot find; a processor with the wrong one is refused.

    Raises:
        ValueError: a field is not legal, or a tokenizer is not the one the processor was saved with.
    """

    clue_tokenizer: Any

    def __init__(
        self,
        image_processor,
        tokenizer,
        clue_tokenizer,
        num_image_tokens: int,
        clues: Sequence[str | Mapping[str, str]] | None = None,
        prompt_style: PromptStyle = "trrg",
        max_length: int | None = None,
        image_token: str = "<image>",
        chat_template: str | None = None,
        vocabularies: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        if not isinstance(num_image_tokens, int) or num_image_tokens < 1:
            raise ValueError(f"num_image_tokens: expected a positive integer, got {num_image_tokens!r}")
        if prompt_style not in PROMPT_STYLES:
            raise ValueError(f"prompt_style: expected one of {', '.join(PROMPT_STYLES)}, got {prompt_style!r}")
        if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
            raise ValueError(f"max_length: expected a positive number of tokens or None, got {max_length!r}")
        if image_token not in tokenizer.all_special_tokens:
            raise ValueError(
                f"tokenizer: {image_token!r} is not one of its special tokens; add it with add_special_tokens("
                f"{{'additional_special_tokens': [{image_token!r}]}}) and resize the language model's embeddings"
            )
        for name in ("pad_token", "eos_token"):
            if getattr(tokenizer, name) is None:
                raise ValueError(f"tokenizer: it has no {name}; set one before building the processor")
        self.num_image_tokens = num_image_tokens
        self.clues = default_clues() if clues is None else check_clues(clues)
        self.prompt_style = prompt_style
        self.max_length = max_length
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        template = chat_template or default_chat_template(prompt_style, image_token)
        super().__init__(image_processor, tokenizer, clue_tokenizer, chat_template=template)
        for name, saved in (vocabularies or {}).items():
            found = fingerprint(getattr(self, name))
            if found != saved:
                raise ValueError(
                    f"{name}: this is not the one the processor was saved with. It holds {found['size']:,} tokens "
                    f"(hash {found['sha256'][:8]}), expected {saved['size']:,} (hash {saved['sha256'][:8]}); "
                    f"its files are missing or were replaced"
                )

    # --------------------------------------------------------------------------------------------- study -> tensors

    def __call__(
        self,
        images=None,
        text: str | Sequence[str] | None = None,
        *,
        indication=None,
        technique=None,
        comparison=None,
        prior_report=None,
        question=None,
        predicted_findings=None,
        report=None,
        clues: Sequence[str | Mapping[str, str]] | None = None,
        clue_scores=None,
        clue_labels=None,
        study_ids: Sequence[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        padding_side: Literal["left", "right"] | None = None,
        padding: bool | str = True,
        truncation: bool | None = False,
        add_special_tokens: bool = False,
        return_text_replacement_offsets: bool = False,
        return_tensors: str = "pt",
        videos: None = None,
        audio: None = None,
    ) -> StudyBatch:
        """One study, or a batch of them, as tensors.

        One study is one image, a folder, or a list of views; a batch is a list of lists of views. For a batch every
        other argument that belongs to a study is a list with one entry a study, None where a study has none.

        Args:
            images: anything `read_radiograph` reads, or a `PreparedView`. None: studies known by `clue_scores` only.
            text: rendered prompts, with one image token a view, in place of the style's own; see `apply_chat_template`.
            indication, technique, comparison, prior_report: context, in words. None and blank leave no trace.
            question: asked in place of the request for a report.
            predicted_findings: names of positive findings, said in words by the style "radialog"; see `positive_clues`.
            report: target text (`report_text`), for training; gives `labels` and pads on the right.
            clues: another clue list for this call.
            clue_scores: of a study, a dict with a score in 0..1 for every clue, given (oracle, corrected), not seen.
            clue_labels: of a study, a dict of clue name to 1, 0, -1 (uncertain) or None (not mentioned).
            study_ids: what errors call the studies.
            on_error: "raise" stops at the first bad study and names it; "skip" leaves bad studies out and lists them in
                `skipped` of the result. Then no study may be left: check `kept`.

        Returns:
            input_ids, attention_mask `[B, T]`, padded left without `report` and right with it;
            labels `[B, T]` with `report`: the target and its EOS, -100 elsewhere;
            pixel_values `[B, V, 3, H, W]` and image_mask `[B, V]` (False: padding of a study), absent without images;
            clue_input_ids, clue_attention_mask `[C, L]`, and the same of the negations as negative_clue_*;
            clue_scores `[B, C]`, clue_labels `[B, C]` (-100: not mentioned), when given.

        Raises:
            StudyError: a study has no view, an image that is not a radiograph, a special token typed in a text, a text
                longer than `max_length`, or scores or labels that do not fit the clues.
            ValueError: arguments that do not fit together, or a clue list that is not legal.
        """
        refuse_ignored(padding, truncation, add_special_tokens, return_tensors, videos, audio)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
        clue_list = self.clues if clues is None else check_clues(clues)
        fields = dict(zip(CONTEXT_FIELDS, (indication, technique, comparison, prior_report, question), strict=True))
        fields |= {"predicted_findings": predicted_findings, "report": report}
        fields |= {"clue_scores": clue_scores, "clue_labels": clue_labels}
        studies = group_studies(images, text, self.image_token, fields)
        if study_ids is not None and len(study_ids) != len(studies):
            raise ValueError(f"study_ids: expected {len(studies)}, got {len(study_ids)}")

        rows, kept, skipped = [], [], []
        for index, study in enumerate(studies):
            try:
                rows.append(self._study(study, [clue["name"] for clue in clue_list]))
                kept.append(index)
            except (RadiographError, PromptError) as error:
                bad = StudyError(index, study_ids[index] if study_ids else None, str(error))
                if on_error == "raise":
                    raise bad from error
                skipped.append(bad)
        if not rows:
            return StudyBatch({}, kept, skipped)
        data: dict[str, Any] = text_tensors(rows, self.tokenizer.pad_token_id, padding_side)
        data |= image_tensors(rows) | self._clue_tensors(clue_list)
        for name, dtype in (("clue_scores", torch.float32), ("clue_labels", torch.long)):
            if fields[name] is not None:
                data[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        if return_text_replacement_offsets:
            data["text_replacement_offsets"] = [row["offsets"] for row in rows]
        return StudyBatch(data, kept, skipped)

    def _study(self, study: dict[str, Any], clue_names: list[str]) -> dict[str, Any]:
        """One study's pixels, tokens, scores and labels."""
        views = None if study["images"] is None else self._views(study["images"])
        num_views = 1 if views is None else len(views)
        prompt, target, offsets = self._tokens(study, num_views)
        row: dict[str, Any] = {"views": views, "prompt": prompt, "target": target, "offsets": offsets}
        if study["clue_scores"] is not None:
            row["clue_scores"] = scores_by_clue(study["clue_scores"], clue_names)
        row["clue_labels"] = labels_by_clue(study["clue_labels"] or {}, clue_names)
        return row

    def _views(self, sources: Sequence) -> torch.Tensor:
        """`[V, 3, H, W]` of one study."""
        paths: list = []
        for source in sources:
            # os.path, unlike Path, answers False to what cannot be a path: a URL longer than any name, a NUL
            is_folder = isinstance(source, (str, os.PathLike)) and os.path.isdir(source)  # noqa: PTH112
            paths.extend(list_views(source) if is_folder else [source])
        if not paths:
            raise RadiographError("the study has no view")
        squares = [
            source.square
            if isinstance(source, PreparedView)
            else self.image_processor.square(read_radiograph(source, f"view {view}"))
            for view, source in enumerate(paths)
        ]
        return self.image_processor.normalise(np.stack(squares))

    def _tokens(self, study: dict[str, Any], num_views: int) -> tuple[list[int], list[int], Any]:
        """Ids of the prompt and of the target, and where image tokens were expanded."""
        prompt = study["text"]
        if prompt is None:
            prompt = self._prompt(study, num_views)
        count = prompt.count(self.image_token)
        if count != num_views:
            raise PromptError(f"text: {count} {self.image_token} for {num_views} views")
        expanded, offsets = self.get_text_with_replacements([prompt], [self.replace_image_token({}, 0)] * num_views)
        ids = self.tokenizer(expanded[0], add_special_tokens=False)["input_ids"]
        placeholders = num_views * self.num_image_tokens
        if ids.count(self.image_token_id) != placeholders:
            raise PromptError(
                f"text: {ids.count(self.image_token_id)} image tokens after tokenising, expected {placeholders}"
            )
        target = []
        if study["report"] is not None:
            refuse_special_tokens("report", study["report"], self.tokenizer.all_special_tokens)
            if not study["report"].strip():
                raise PromptError("report: the target text is blank")
            target = self.tokenizer(study["report"].strip(), add_special_tokens=False)["input_ids"]
            target.append(self.tokenizer.eos_token_id)
        if self.max_length is not None and len(ids) + len(target) > self.max_length:
            raise PromptError(f"the text is {len(ids) + len(target)} tokens long, max_length is {self.max_length}")
        return ids, target, offsets[0]

    def _prompt(self, study: dict[str, Any], num_views: int) -> str:
        context = {name: study[name] for name in CONTEXT_FIELDS}
        findings = study["predicted_findings"]
        for name, value in [*context.items(), *(("predicted_findings", name) for name in findings or ())]:
            if value is not None:
                refuse_special_tokens(name, value, self.tokenizer.all_special_tokens)
        messages = report_messages(self.prompt_style, num_views, predicted_findings=findings, **context)
        return super().apply_chat_template(messages, add_generation_prompt=True)

    def _clue_tensors(self, clues: Sequence[Mapping[str, str]]) -> dict[str, torch.Tensor]:
        tensors = {}
        for prefix, sign in (("clue_", "positive"), ("negative_clue_", "negative")):
            encoded = self.clue_tokenizer([clue[sign] for clue in clues], padding=True, return_tensors="pt")
            length, limit = encoded["input_ids"].shape[1], self.clue_tokenizer.model_max_length
            if length > limit:
                raise ValueError(
                    f"clues: a {sign} sentence is {length} tokens long, the clue tokenizer's limit is {limit}"
                )
            tensors[f"{prefix}input_ids"] = encoded["input_ids"]
            tensors[f"{prefix}attention_mask"] = encoded["attention_mask"]
        return tensors

    # ------------------------------------------------------------------------------------------- tensors -> reports

    def post_process_report(
        self,
        outputs: torch.Tensor | str | Sequence[str],
        clues=None,
        *,
        prompt_length: int = 0,
        image_mask: torch.Tensor | None = None,
        clue_names: Sequence[str] | None = None,
    ) -> list[Report]:
        """Reports of a batch.

        Args:
            outputs: ids `[B, T]` from `generate`, or texts.
            clues: from `model.predict_clues`: `clue_scores` `[B, C]`, and `evidence_maps` `[B, V, C, h, w]` or None.
            prompt_length: tokens before the report, `inputs["input_ids"].shape[1]`; 0 for ids without the prompt.
            image_mask: `[B, V]`; evidence of masked views is left out.
            clue_names: when another clue list was used than the processor's own.

        Raises:
            ValueError: ids that still hold the prompt, or counts of reports, scores and names that differ.
        """
        texts, complete = self._decode(outputs, prompt_length)
        reports = []
        for row, text in enumerate(texts):
            findings, impression = split_report(text)
            reports.append(Report(findings, impression, text, complete=complete[row]))
        if clues is not None:
            names = list(clue_names) if clue_names is not None else [clue["name"] for clue in self.clues]
            shape = tuple(clues.clue_scores.shape)
            if shape != (len(reports), len(names)):
                raise ValueError(
                    f"clues: scores of shape {shape} for {len(reports)} reports and {len(names)} clue names"
                )
            for row, report in enumerate(reports):
                report.clues = sorted_clues(clues, row, names, image_mask)
        return reports

    def _decode(self, outputs, prompt_length: int) -> tuple[list[str], list[bool | None]]:
        if isinstance(outputs, str):
            outputs = [outputs]
        if not isinstance(outputs, torch.Tensor):
            return [text.strip() for text in outputs], [None] * len(outputs)
        generated = outputs[:, prompt_length:]
        if (generated == self.image_token_id).any():
            raise ValueError(
                "outputs: the ids hold image tokens, so the prompt is still in front of the report; "
                "pass prompt_length=inputs['input_ids'].shape[1]"
            )
        texts = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
        ended = (generated == self.tokenizer.eos_token_id).any(dim=1).tolist()
        return [text.strip() for text in texts], ended

    def evidence_on_image(self, evidence: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """An evidence map `[h, w]` of one view on its radiograph: `[height, width]` of `image_size` (height, width)."""
        return self.image_processor.evidence_on_image(evidence, *image_size)

    def positive_clues(
        self, scores: torch.Tensor, threshold: float = 0.5, clue_names: Sequence[str] | None = None
    ) -> list[list[str]]:
        """Names of the clues of each study whose score in `[B, C]` reaches `threshold`; for `predicted_findings`."""
        names = list(clue_names) if clue_names is not None else [clue["name"] for clue in self.clues]
        if scores.shape[1] != len(names):
            raise ValueError(f"scores: {scores.shape[1]} clues, expected {len(names)}")
        return [[name for name, score in zip(names, row, strict=True) if score >= threshold] for row in scores.tolist()]

    # ---------------------------------------------------------------------------------------- chats, engines, saving

    def apply_chat_template(self, conversation, *args, **kwargs):
        """As in Transformers, but a special token typed in a message is refused.

        Raises:
            PromptError: a message's text holds one.
        """
        chats = conversation if conversation and isinstance(conversation[0], (list, tuple)) else [conversation]
        for message in (message for chat in chats for message in chat):
            content = message.get("content") or ""
            texts = [content] if isinstance(content, str) else [item.get("text") or "" for item in content]
            for text in texts:
                refuse_special_tokens(f"{message['role']} message", text, self.tokenizer.all_special_tokens)
        return super().apply_chat_template(conversation, *args, **kwargs)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        return self.image_token * self.num_image_tokens

    def _get_num_multimodal_tokens(self, image_sizes=None, **kwargs) -> MultiModalData:
        """For serving engines: every view takes the same number of placeholders, whatever its size."""
        if image_sizes is None:
            return MultiModalData()
        count = len(image_sizes)
        return MultiModalData(num_image_tokens=[self.num_image_tokens] * count, num_image_patches=[1] * count)

    @property
    def model_input_names(self) -> list[str]:
        names = [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]
        return [
            *names,
            *(f"{sign}clue_{part}" for sign in ("", "negative_") for part in ("input_ids", "attention_mask")),
        ]

    def to_dict(self) -> dict[str, Any]:
        vocabularies = {name: fingerprint(getattr(self, name)) for name in ("tokenizer", "clue_tokenizer")}
        return super().to_dict() | {"vocabularies": vocabularies}

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        # Transformers finds a second tokenizer in an offline Hub cache only beside a config.json with a model_type.
        folder = Path(save_directory) / "clue_tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "bert"}\n')
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def fingerprint(tokenizer) -> dict[str, Any]:
    """Number of tokens and SHA-256 of the sorted vocabulary."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {"size": len(tokenizer), "sha256": hashlib.sha256(vocabulary.encode()).hexdigest()}


TRRGProcessor.register_for_auto_class("AutoProcessor")
