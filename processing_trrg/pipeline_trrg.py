"""The one way from studies to reports, for every system: look once, write, post-process.

    write = pipeline("radiology-report", model="demo/trrg-small", trust_remote_code=True)
    report = write("chest.png", indication="Cough.")
    answer = report.ask("Is there a pleural effusion?")
    reports = write([{"images": ["a.dcm", "b.dcm"]}, {"images": "c.png", "indication": "Fever."}], batch_size=8)

Research only, never for clinical use.
"""

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import Pipeline
from transformers.generation import GenerateDecoderOnlyOutput

from .batch_trrg import StudyBatch, StudyError
from .chat_trrg import check_lengths
from .conversation_trrg import TalkedStudy
from .prompt_trrg import PromptError, check_messages, said
from .report_trrg import UNREADABLE, Report
from .revised_trrg import Revision, knows_comparison, revise_reports
from .statements_trrg import look_up

_LOOK = ("on_error", "operating_point", "abstain", "revise")  # options that are not for `generate`
STUDY_FIELDS = (
    "images",
    "indication",
    "technique",
    "comparison",
    "prior_report",
    "question",
    "clue_scores",
    "study_id",
)


def _at(place: Callable[[int], int], result: Any) -> Any:
    """A `StudyError` at the place that its own has in all; anything else as it is. A checkpoint's processor and its
    pipeline load as two modules, each with a `StudyError` of its own."""
    if hasattr(result, "study_id") and hasattr(result, "reason"):
        return StudyError(place(result.index), result.study_id, result.reason)
    return result


class RadiologyReportPipeline(Pipeline):
    """Task "radiology-report": studies in, `Report`s with their clues and evidence out.

    The vision tower runs once a study; the clues of a report are those that it was written from, and its sentences are
    looked up in what the tower saw.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _last_talked: Callable[[], TalkedStudy | None] | None = None

    def __call__(self, studies: Any = None, messages: Sequence[Mapping[str, Any]] = (), **options: Any) -> Any:
        """
        Args:
            studies: one study or many. One: anything the processor reads as an image, a list of views, or a dict of
                `STUDY_FIELDS`, as `TRRGProcessor` takes them.
                Many: a list of dicts, or an iterator of dicts, which is read as reports are taken.
            messages: of one study, a chat to go on with, as `TalkedStudy.messages` gives it (or from its first reply
                on): that reply is taken as the report, and none is written.
            options: the fields of one study; `clues`, another clue list; `batch_size` (default 1); `on_error`, "raise"
                or "skip"; `operating_point`, "careful", "balanced", "sensitive" or a wanted false-negative rate
                (`model.at_operating_point`); `abstain`, False to report a picture that the model cannot read
                (`Report.readable`) all the same; `revise`, False to have the report as it was written first, also where
                it does not say what its clues say, and to have the model read the prior report and compare by itself
                (`revised_trrg`); anything else goes to `generate`
                (`max_new_tokens`, `num_beams` ...). A streamer gets what is written first.

        Returns:
            Of one study a `TalkedStudy`: its report, which can be asked about and corrected. Its key-value cache stays
            until the next study is looked at. Of many a list of `Report`s, or for an iterator an iterator: a cache for
            each would fill the memory. With `on_error="skip"` a study that cannot be read has its `StudyError` in the
            place of its report.

        Raises:
            StudyError: a study cannot be read.
            ValueError: a dict with an unknown field, fields of one study beside several, or `max_length`, which counts
                the prompt too.
        """
        fields = {name: options.pop(name) for name in STUDY_FIELDS if name in options}
        batch_size = options.pop("batch_size", None) or self._batch_size or 1
        many = _is_many(studies)
        if many and (fields or messages):
            raise ValueError(
                f"{', '.join(fields) or 'messages'}: given beside several studies; put them into each study's dict"
            )
        if not many:
            study = studies if isinstance(studies, Mapping) else {} if studies is None else {"images": studies}
            return next(self._reports(iter([{**study, **fields}]), 1, {**options, "talk": list(messages or ())}))
        reports = self._reports(iter(studies), batch_size, options)
        return list(reports) if isinstance(studies, (list, tuple)) else reports

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Model and processor, with the code that they need: Transformers' own would leave the processor out.

        Args:
            save_directory: folder.
            kwargs: as both take them.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """For a pickle: without the study that is talked about."""
        return {name: value for name, value in vars(self).items() if name != "_last_talked"}

    def _reports(self, studies: Iterator[Any], batch_size: int, options: dict[str, Any]) -> Iterator[Any]:
        given = self._sanitize_parameters(**options)
        pre, forward, post = ({**kept, **new} for kept, new in zip(
            (self._preprocess_params, self._forward_params, self._postprocess_params), given, strict=True
        ))  # fmt: skip
        check_lengths(forward)
        if chat := forward.get("talk"):
            check_messages(chat, [])
        pre["compares"] = forward.get("revise", True) and knows_comparison(chat or ())
        start = 0
        while batch := list(islice(studies, batch_size)):
            try:
                results = self.run_single(batch, pre, forward, post)
            except ValueError as bad:
                if (placed := _at(start.__add__, bad)) is bad:
                    raise
                raise placed from bad
            for result in results:
                yield _at(start.__add__, result)
            start += len(batch)

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """A batch of studies at once. Those with images, with given scores and with both do not share tensors."""
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for place, study in enumerate(inputs):
            if not isinstance(study, Mapping):
                raise ValueError(
                    f"study {place}: expected a dict of {', '.join(STUDY_FIELDS)}, got {type(study).__name__}"
                )
            kind = (study.get("images") is not None, study.get("clue_scores") is not None)
            kinds.setdefault(kind, []).append(place)
        results: dict[int, Any] = {}
        for places in kinds.values():
            try:
                batch = self.preprocess([inputs[place] for place in places], **preprocess_params)
                written = self.write_batch(batch, **forward_params)
            except ValueError as bad:
                if (placed := _at(places.__getitem__, bad)) is bad:
                    raise
                raise placed from bad
            for place, result in zip(places, written, strict=True):
                results[place] = _at(places.__getitem__, result)
        return self.postprocess(results, **postprocess_params)

    def write_batch(self, batch: StudyBatch, **forward_params: Any) -> list[Report | StudyError]:
        """Reports of a batch that `prepare_studies` has made already, in a worker process for instance."""
        # Transformers' own `forward` would lose what `StudyBatch` says of its tensors. Not inference mode: the clues
        # that the model keeps encoded may be asked for a gradient later.
        with self.device_placement(), torch.no_grad():
            return self.postprocess(self._forward(batch.to(self.device), **forward_params))

    def _sanitize_parameters(self, clues: Any = None, on_error: str | None = None, **generate: Any) -> tuple[dict, ...]:
        both = {} if on_error is None else {"on_error": on_error}
        return both | ({} if clues is None else {"clues": clues}), both | generate, {}

    def preprocess(
        self, studies: list[Mapping[str, Any]], clues: Any = None, on_error: str = "raise", compares: bool = True
    ) -> StudyBatch:
        """See `prepare_studies`; a clue list for a model that reads no clue sentences is refused."""
        if clues is not None and not self.model.config.uses_clue_encoder:
            source = self.model.config.clue_source
            raise ValueError(f"clues: this model reads no clue sentences (clue_source={source!r}); leave them out")
        return prepare_studies(self.processor, studies, clues, on_error, compares)

    def _forward(
        self, batch: StudyBatch, on_error: str = "raise", talk: list[Mapping[str, Any]] | None = None,
        operating_point: str | float | None = None, abstain: bool = True, revise: bool = True, **generate: Any,
    ) -> dict[int, Any]:  # fmt: skip
        """The look, then the report: place of each study of the batch -> its `Report` or `StudyError`.

        With `talk` the one study of the batch can be talked about, from the turns in it on.
        """
        results: dict[int, Any] = {bad.index: bad for bad in batch.skipped}
        if not batch.kept:
            return results
        study, kept = self.model.read_study(**batch), batch.kept
        if operating_point is not None:
            study = self.model.at_operating_point(study, operating_point)
        prompts = self.processor.say_findings(batch, study, on_error)
        if prompts is not batch:  # a prompt that names what was seen may be too long
            for bad in prompts.skipped:
                results[kept[bad.index]] = StudyError(kept[bad.index], bad.study_id, bad.reason)
            kept = [kept[row] for row in prompts.kept]
            study = study.select(torch.tensor(prompts.kept, dtype=torch.long))
        if kept:
            texts = {name: prompts[name] for name in ("input_ids", "attention_mask")}
            if talk is not None:
                return results | {kept[0]: self._talked(batch, prompts, study, talk, abstain, revise, generate)}
            generated = self.model.generate(**texts, study=study, **generate)
            reports, _ = self._read(generated, prompts, study, abstain, revise, generate)
            results |= zip(kept, reports, strict=True)
        return results

    def _read(
        self, generated: Any, prompts: StudyBatch, study: Any, abstain: bool, revise: bool, generate: dict[str, Any]
    ) -> tuple[list[Report], list[list[Revision]]]:
        """What was generated as reports, revised by their clues, and the turns that revised each; their sentences are
        looked up in the image."""
        reports = self.processor.post_process_report(generated, prompts, study, abstain)
        turns: list[list[Revision]] = [[] for _ in reports]
        if revise:
            options = {name: value for name, value in generate.items() if name != "streamer"}
            turns = revise_reports(reports, self.model, self.processor, prompts, study, options)
        look_up(reports, self.model, self.processor, prompts, study)
        return reports, turns

    def _talked(
        self,
        batch: StudyBatch,
        prompts: StudyBatch,
        study: Any,
        chat: list[Mapping[str, Any]],
        abstain: bool,
        revise: bool,
        generate: dict[str, Any],
    ) -> TalkedStudy:
        """One study with its report, written or the first reply of a chat; the one before it goes to rest."""
        if self._last_talked is not None and (before := self._last_talked()) is not None:
            before.rest()
        ids = prompts["input_ids"]
        abstain = abstain and not chat  # a chat that goes on has its report
        if abstain and study.readable is not None and not study.readable.item():
            chat = [{"role": "assistant", "content": UNREADABLE}]
        if chat:
            replies = [place for place, message in enumerate(chat) if message.get("role") == "assistant"]
            chat = chat[replies[0] if replies else len(chat) :]
            if not chat:
                raise PromptError("messages: no reply of the assistant; the first one is the report")
            self.processor.check_said("assistant message", first := said(chat[0]))
            written = self.processor.reply_ids(first.strip() + self.processor.tokenizer.eos_token).to(ids.device)
            generated = GenerateDecoderOnlyOutput(sequences=torch.cat([ids, written], 1))
        else:
            options = {**generate, "return_dict_in_generate": True}
            generated = self.model.generate(ids, attention_mask=prompts["attention_mask"], study=study, **options)
        (report,), (turns,) = self._read(generated, prompts, study, abstain, revise and not chat, generate)
        options = {name: value for name, value in self._forward_params.items() if name not in _LOOK}
        talked = TalkedStudy(report, self.model, self.processor, batch, study, options, generated)
        talked.recall(chat[1:])
        talked.remember(turns)
        self._last_talked = weakref.ref(talked)
        return talked

    def postprocess(self, results: dict[int, Any]) -> list[Report | StudyError]:
        """In the order of the studies."""
        return [results[place] for place in sorted(results)]


def prepare_studies(
    processor: Any,
    studies: Sequence[Mapping[str, Any]],
    clues: Any = None,
    on_error: str = "raise",
    compares: bool = False,
) -> StudyBatch:
    """The tensors of a batch of studies, all with images or none, all with given scores or none; with `compares` for
    reports that are compared with the prior one afterwards, as the pipeline's are.

    Raises:
        StudyError: a study cannot be read; with `on_error="skip"` it is in `skipped` instead.
        ValueError: a field that no study has.
    """
    for study in studies:
        if unknown := sorted(set(study) - set(STUDY_FIELDS)):
            raise ValueError(f"a study has the unknown fields {unknown}; known are {', '.join(STUDY_FIELDS)}")
    columns = {name: [study.get(name) for study in studies] for name in STUDY_FIELDS}
    images, ids = columns.pop("images"), columns.pop("study_id")
    given = {name: column for name, column in columns.items() if any(value is not None for value in column)}
    if images[0] is None and "clue_scores" not in given:
        images = [[]] * len(studies)  # no view: each study is refused by its name
    if images[0] is not None:
        given["images"] = [list(views) if isinstance(views, (list, tuple)) else [views] for views in images]
    return processor(**given, study_ids=ids, clues=clues, on_error=on_error, compares=compares)


def _is_many(studies: Any) -> bool:
    """A list of dicts, or an iterator; a list of anything else is the views of one study."""
    if isinstance(studies, (list, tuple)):
        return all(isinstance(study, Mapping) for study in studies)
    return isinstance(studies, Iterator)
