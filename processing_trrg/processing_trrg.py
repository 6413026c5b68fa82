# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""TRRGProcessor: a study as files and words -> tensors; generated tokens and clue scores -> reports."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch

from .batch_trrg import (
    ClueLists,
    StudyBatch,
    check_words,
    cut_row,
    each_study,
    group_studies,
    image_tensors,
    labels_by_clue,
    list_sources,
    scores_by_clue,
    text_tensors,
)
from .chat_trrg import ChatProcessor
from .compared_trrg import compare as compare  # copied to the Hub with this file
from .conversation_trrg import TalkedStudy as TalkedStudy  # copied to the Hub with this file
from .corrected_trrg import kept_but_for as kept_but_for  # this too
from .dicom_header_trrg import check_header as check_header  # this too
from .dicom_trrg import decode_dicom as decode_dicom  # this too
from .findings_trrg import states as states  # this too
from .fingerprint_trrg import check_fingerprint
from .grey_trrg import GreyRange as GreyRange  # copied to the Hub with this file
from .grounding_trrg import FindingBox as FindingBox  # this too
from .image_processing_trrg import IMAGE_OPTIONS, Placement, PreparedView, TRRGImageProcessor
from .image_trrg import read_radiograph
from .options_trrg import NO_CUTTING, TRRGProcessorKwargs, read_options
from .picture_trrg import RadiographError as RadiographError  # this too
from .pipeline_trrg import RadiologyReportPipeline as RadiologyReportPipeline  # copied to the Hub with this file
from .prompt_trrg import CONTEXT_FIELDS as CONTEXT_FIELDS
from .prompt_trrg import (
    FINDINGS_FIELDS,
    PROMPT_STYLES,
    PromptError,
    PromptStyle,
    check_clues,
    check_prompt,
    count_images,
    default_chat_template,
    default_clues,
    refuse_special_tokens,
    report_messages,
)
from .report_trrg import Report, decode, length_of_prompts, note_readable, sorted_clues, split_report
from .requests_trrg import read_request as read_request  # copied to the Hub with this file
from .revised_trrg import revise_reports as revise_reports  # copied to the Hub with this file
from .sentences_trrg import cut_sentences as cut_sentences  # copied to the Hub with this file
from .statements_trrg import look_up as look_up  # this too
from .unmet_trrg import unmet as unmet  # this too


class TRRGProcessor(ChatProcessor):  # trf-ignore: TRF057
    """Images, context, questions and clues to tensors, and generated tokens to reports.

    Args:
        image_processor: a `TRRGImageProcessor`.
        tokenizer: of the language model; `image_token` must be one of its special tokens, and it needs a pad and an EOS
            token.
        clue_tokenizer: of the clue encoder.
        num_image_tokens: placeholders a view, `config.num_image_tokens`.
        clues: names, or dicts of name, positive and negative sentence; the 14 CheXpert observations by default.
        prompt_style: whose prompt is written, one of "trrg", "maira1", "radialog".
        max_length: most tokens of a text, image placeholders and report included: the language model's context, which
            training writes; None for no limit.
        max_prompt_length: most tokens of a prompt, image placeholders included, that the model was trained with; a
            longer one without `report` is refused. None where it is not known.
        max_views: most views of a study that the model was trained with, `config.max_views`.
        image_token: the placeholder's token.
        chat_template: Jinja template of a chat; the style's own by default.
        vocabularies: fingerprints of the two tokenizers the processor was saved with. Transformers loads the first
            tokenizer in place of a second one that it cannot find; a processor with the wrong one is refused.

    Raises:
        ValueError: a field is not legal, or a tokenizer is not the one the processor was saved with.
    """

    clue_tokenizer: Any
    valid_processor_kwargs = TRRGProcessorKwargs
    clue_input_names = ("clue_input_ids", "clue_attention_mask", "clue_parents")

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
        max_prompt_length: int | None = None,
        max_views: int = 4,
    ):
        for name, count, most in (("num_image_tokens", num_image_tokens, 2**16), ("max_views", max_views, 64)):
            if not isinstance(count, int) or not 1 <= count <= most:
                raise ValueError(f"{name}: expected a positive integer, got {count!r}, at most {most}")
        if prompt_style not in PROMPT_STYLES:
            raise ValueError(f"prompt_style: expected one of {', '.join(PROMPT_STYLES)}, got {prompt_style!r}")
        for name, limit in (("max_length", max_length), ("max_prompt_length", max_prompt_length)):
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"{name}: expected a positive number of tokens or None, got {limit!r}")
        if image_token not in tokenizer.all_special_tokens:
            raise ValueError(
                f"tokenizer: {image_token!r} is not one of its special tokens; add it with add_special_tokens("
                f"{{'additional_special_tokens': [{image_token!r}]}}) and resize the language model's embeddings"
            )
        for name in ("pad_token", "eos_token"):
            if getattr(tokenizer, name) is None:
                raise ValueError(f"tokenizer: it has no {name}; set one before building the processor")
        self.num_image_tokens = num_image_tokens
        self._lists = ClueLists()
        self.clues = default_clues() if clues is None else clues
        self.prompt_style = prompt_style
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.max_views = max_views
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        template = chat_template or default_chat_template(prompt_style, image_token)
        super().__init__(image_processor, tokenizer, clue_tokenizer, chat_template=template)
        tokenizer.response_template = self.response_template()
        for name, saved in (vocabularies or {}).items():
            check_fingerprint(name, getattr(self, name), saved)

    @property
    def clues(self) -> list[dict[str, str]]:
        """The clue list; set it to names, sentences or dicts (`check_clues`)."""
        return self._clues

    @clues.setter
    def clues(self, clues: Sequence[str | Mapping[str, str]]) -> None:
        self._clues = check_clues(clues)

    # --------------------------------------------------------------------------------------------- study -> tensors

    def __call__(  # trf-ignore: TRF057
        self,
        images=None,
        text: str | Sequence[str] | None = None,
        *,
        indication=None,
        technique=None,
        comparison=None,
        prior_report=None,
        question=None,
        report=None,
        clues: Sequence[str | Mapping[str, str]] | None = None,
        clue_scores=None,
        clue_targets=None,
        **kwargs: Unpack[TRRGProcessorKwargs],  # type: ignore[misc]  # mypy does not follow into Transformers
    ) -> StudyBatch:
        """One study, or a batch of them, as tensors.

        One study is one image, a folder, or a list of views; a batch is a list of lists of views. For a batch every
        other argument that belongs to a study is a list with one entry a study, None where a study has none.

        Args:
            images: anything `read_radiograph` reads, or a `PreparedView`. None: studies known by `clue_scores` only.
            text: rendered prompts, with one image token a view, in place of the style's own; see `apply_chat_template`.
                Blank ones are none.
            indication, technique, comparison, prior_report: context, in words. None and blank leave no trace.
            question: asked in place of the request for a report.
            report: target text (`report_text`), for training; gives `labels` and pads on the right.
            clues: another clue list for this call: names, sentences or dicts (`check_clues`).
            clue_scores: of a study, a dict with a score in 0..1 for every clue, given (oracle, corrected), not seen.
            clue_targets: of a study, a dict of clue name to 1, 0, -1 (uncertain) or None (not mentioned).
            kwargs: see `TRRGProcessorKwargs`.

        Returns:
            input_ids, attention_mask `[B, T]`, padded left without `report` and right with it;
            labels `[B, T]` with `report`: the target and its EOS, -100 elsewhere;
            pixel_values `[B, V, 3, H, W]` and image_mask `[B, V]` (False: padding of a study), absent without images;
            clue_input_ids, clue_attention_mask `[S, C, L]`: "there is X" and, where every clue has it, its negation;
            clue_parents `[C]`: the index of each clue's parent, -1 for none; absent where no clue has one;
            clue_scores `[B, C]`, clue_targets `[B, C]` (-100: not mentioned), when given.

        Raises:
            StudyError: a study has no view or more than `max_views`, an image that is not a radiograph, a special token
                typed in a text, a text longer than `max_length` or `max_prompt_length`, a lone surrogate, or scores or
                labels that do not fit the clues.
            ValueError: arguments that do not fit together, or a clue list that is not legal.
        """
        options = read_options(kwargs, self.tokenizer.init_kwargs)
        clue_list = self.clues if clues is None else self._lists.checked(clues)
        fields = dict(zip(CONTEXT_FIELDS, (indication, technique, comparison, prior_report, question), strict=True))
        fields |= {name: options.get(name) for name in (*FINDINGS_FIELDS, "turns")} | {"report": report}
        fields |= {"clue_scores": clue_scores, "clue_targets": clue_targets}
        studies = group_studies(images, text, self.image_token, fields)
        study_ids = options.get("study_ids")
        if study_ids is not None and (not isinstance(study_ids, (list, tuple)) or len(study_ids) != len(studies)):
            raise ValueError(f"study_ids: expected a list of {len(studies)}, got {study_ids!r:.80}")

        names = [clue["name"] for clue in clue_list]
        ids = study_ids or [None] * len(studies)
        seer = self.image_processor.with_options(**{n: options[n] for n in options.keys() & IMAGE_OPTIONS})
        make = functools.partial(self._study, clue_names=names, image_processor=seer, options=options)
        rows, kept, skipped = each_study(make, studies, ids, options.get("on_error", "raise"))
        if not rows:
            return StudyBatch({}, kept, skipped)
        data: dict[str, Any] = text_tensors(rows, self.tokenizer.pad_token_id, self.image_token_id, options)
        data |= image_tensors(rows)
        if "pixel_values" in data or clue_scores is not None:  # else text alone
            data |= self.clue_tensors(clue_list)
        for name, dtype in (("clue_scores", torch.float32), ("clue_targets", torch.long)):
            if fields[name] is not None:
                data[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        words = [
            {name: value for name, value in studies[index].items() if name != "images"}
            | {"num_views": 1 if row["views"] is None else len(row["views"]), "study_id": ids[index]}
            | {"frontal": row["frontal"]}
            for index, row in zip(kept, rows, strict=True)
        ]
        return StudyBatch(data, kept, skipped, clue_list, words)

    def _study(
        self, study: dict[str, Any], clue_names: list[str], image_processor: TRRGImageProcessor, options: dict[str, Any]
    ) -> dict[str, Any]:
        """One study's pixels, tokens, scores and labels."""
        views, frontal = (None, None) if study["images"] is None else self._views(study, image_processor)
        num_views = 1 if views is None else len(views)
        check_words(study)
        prior = (study["prior_report"] or "").strip()
        if options.get("compares") and prior and study["text"] is None and not (study["question"] or "").strip():
            self.check_said("prior_report", prior)  # it becomes a turn of the chat
            study |= {"prior_report": None, "comparison": None, "compared_with": prior}
        row: dict[str, Any] = {"views": views, "frontal": frontal, **self._tokens(study, num_views, options)}
        if study["clue_scores"] is not None:
            row["clue_scores"] = scores_by_clue(study["clue_scores"], clue_names)
        row["clue_targets"] = labels_by_clue(study["clue_targets"] or {}, clue_names)
        return row

    def _views(
        self, study: dict[str, Any], image_processor: TRRGImageProcessor
    ) -> tuple[torch.Tensor, Placement | None]:
        """`[V, 3, H, W]` of one study, none for a text that has no image token, and how the first view lies in it."""
        size = image_processor.size
        if not study["images"] and study["text"] and not count_images(study["text"], self.image_token):
            return torch.empty(0, 3, size, size), None
        squares, frontal = [], None
        for view, source in enumerate(list_sources(study["images"], self.max_views)):
            if isinstance(source, PreparedView):
                squares.append(source.square)
                frontal = frontal or Placement(size, size, size)
                continue
            radiograph = read_radiograph(source, f"view {view}")
            squares.append(image_processor.square(radiograph))
            height, width = radiograph.values.shape
            frontal = frontal or Placement(height, width, size)
        return image_processor.normalise(np.stack(squares)), frontal

    def _tokens(self, study: dict[str, Any], num_views: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ids of the prompt and of the target, where the prompt's tokens stand in its text, and where image tokens were
        expanded."""
        text = self._prompt(study, num_views) if study["text"] is None else study["text"]
        if (count := count_images(text, self.image_token)) != num_views:
            raise PromptError(f"text: {count} {self.image_token} for {num_views} views")
        expanded, replaced = self.get_text_with_replacements([text], [self.replace_image_token({}, 0)] * num_views)
        asked = {name: True for name in ("return_offsets_mapping", "sanitize_control_tokens") if options.get(name)}
        encoded = self.tokenizer(expanded[0], add_special_tokens=False, **asked)
        ids, placeholders = encoded["input_ids"], num_views * self.num_image_tokens
        if ids.count(self.image_token_id) != placeholders:
            raise PromptError(
                f"text: {ids.count(self.image_token_id)} image tokens after tokenising, expected {placeholders}"
            )
        spans = encoded.get("offset_mapping", [])
        for turn in study["turns"] or ():
            if not isinstance(turn, (list, tuple)) or len(turn) != 2:
                raise PromptError(f"turns: expected pairs of a reply and a request, got {turn!r:.80}")
            for said in turn:
                refuse_special_tokens("turns", said, self.tokenizer.all_special_tokens)
            ids = [*ids, *self.reply_ids(turn[0])[0].tolist(), *self.turn_ids(turn[1])[0].tolist()]
        spans = spans and [*spans, *[(0, 0)] * (len(ids) - len(spans))]
        target = []
        if study["report"] is not None:
            refuse_special_tokens("report", study["report"], self.tokenizer.all_special_tokens)
            if not study["report"].strip():
                raise PromptError("report: the target text is blank")
            target = [*self.reply_ids(study["report"].strip())[0].tolist(), self.tokenizer.eos_token_id]
        elif num_views and not text.endswith(self.tokenizer.eos_token):  # else a chat that is learned, not continued
            check_prompt(self.prompt_style, text, len(ids), self.max_prompt_length)
        row = {"prompt": ids, "target": target, "replacements": replaced[0], "spans": spans}
        limits = [limit for limit in (self.max_length, options.get("max_length")) if limit is not None]
        if limits and options.get("truncation") not in NO_CUTTING:
            row = cut_row(row, min(limits), self.tokenizer.truncation_side, self.image_token_id)
        if self.max_length is not None and (length := len(row["prompt"] + row["target"])) > self.max_length:
            raise PromptError(f"the text is {length} tokens long, max_length is {self.max_length}")
        return row

    def _prompt(self, study: dict[str, Any], num_views: int) -> str:
        context = {name: study[name] for name in CONTEXT_FIELDS}
        findings = {name: study[name] for name in FINDINGS_FIELDS}
        named = [(field, name) for field, names in findings.items() for name in names or ()]
        for name, value in [*context.items(), *named]:
            if value is not None:
                refuse_special_tokens(name, value, self.tokenizer.all_special_tokens)
        messages = report_messages(self.prompt_style, num_views, **findings, **context)
        return super().apply_chat_template(messages, add_generation_prompt=True)

    def clue_tensors(self, clues: Sequence[Mapping[str, str]] | None = None) -> dict[str, torch.Tensor]:
        """`clue_input_ids`, `clue_attention_mask` `[S, C, L]` and, where a clue has a parent, `clue_parents` `[C]` of a
        checked clue list (default: the processor's own).

        The last few lists stay tokenised.

        Raises:
            ValueError: a sentence is longer than the clue tokenizer's limit.
        """
        return self._lists.tensors(self.clues if clues is None else clues, self.clue_tokenizer)

    # ------------------------------------------------------------------------------------------- tensors -> reports

    def post_process_report(
        self,
        outputs: torch.Tensor | str | Sequence[str],
        inputs: Mapping[str, Any] | None = None,
        study=None,
        abstain: bool = True,
    ) -> list[Report]:
        """Reports of a batch.

        Args:
            outputs: ids `[B, T]` from `generate`, or texts.
            inputs: what this processor made and `generate` was given: it says where the reports begin and what the
                clues are called. None for texts, and for ids without their prompt.
            study: from `model.read_study`; then the reports carry their clues, and say of a picture that the model
                cannot read that it is none (`Report.readable`).
            abstain: False keeps what was written of such a picture.

        Raises:
            ValueError: ids that still hold the prompt, or counts of reports, scores and names that differ.
        """
        texts, complete = decode(outputs, self.tokenizer, length_of_prompts(inputs), self.image_token_id)
        reports = [Report(*split_report(text), text, complete=end) for text, end in zip(texts, complete, strict=True)]
        if study is not None and getattr(study, "clue_scores", study) is not None:
            for row, clues in enumerate(sorted_clues(study, getattr(inputs, "clue_names", None), len(reports))):
                reports[row].clues = clues
        for report, words in zip(reports, getattr(inputs, "studies", ()), strict=False):
            report.frontal = words["frontal"]
        if getattr(study, "readable", None) is not None:
            note_readable(reports, study, abstain)
        return reports

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that the model takes: text, images, clues."""
        clues = self.clue_input_names if any("parent" in clue for clue in self.clues) else self.clue_input_names[:2]
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names, *clues]


TRRGProcessor.register_for_auto_class("AutoProcessor")
