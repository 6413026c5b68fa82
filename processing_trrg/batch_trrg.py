"""The arguments of a call -> one dict a study; the studies' rows -> padded tensors."""

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs

from .image_trrg import list_views
from .picture_trrg import RadiographError
from .prompt_trrg import PromptError, refuse_surrogates

MAX_KEPT_LISTS = 8


class StudyError(ValueError):
    """A study of a batch that cannot become tensors.

    Attributes:
        index: its place in the batch the caller gave.
        study_id: what the caller calls it, or None.
        reason: what is wrong with it.
    """

    def __init__(self, index: int, study_id: str | None, reason: str):
        super().__init__(index, study_id, reason)
        self.index, self.study_id, self.reason = index, study_id, reason

    def __str__(self) -> str:
        told = f"study {self.index}{f' ({self.study_id})' if self.study_id else ''}: {self.reason}"
        return told.encode(errors="backslashreplace").decode()  # can be printed, whatever the study is called


class StudyBatch(BatchFeature):
    """The tensors of a batch, and what they were made from.

    Attributes:
        kept: for each row, the index of its study in the caller's batch.
        skipped: the studies left out with `on_error="skip"`, and why.
        clue_names: in the order of the clue tensors.
        studies: for each row, its words by argument, and `num_views`.
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        kept: Sequence[int] = (),
        skipped: Sequence[StudyError] = (),
        clue_names: Sequence[str] = (),
        studies: Sequence[dict[str, Any]] = (),
    ):
        super().__init__(data)
        self.kept, self.skipped = list(kept), list(skipped)
        self.clue_names, self.studies = list(clue_names), list(studies)

    def __getstate__(self):
        names = ("data", "kept", "skipped", "clue_names", "studies")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state):
        StudyBatch.__init__(self, **state)


# What callers of Transformers' processors pass by habit: the values it can have here, and why no other.
HABITS: dict[str, tuple[tuple, str]] = {
    "padding": ((True, "longest"), "a batch is always padded to its longest text"),
    "truncation": ((None, False), "a text is never cut; set the processor's max_length or shorten the text"),
    "add_special_tokens": ((False,), "special tokens are written by the chat template only"),
    "return_tensors": (("pt",), "expected 'pt'"),
    "videos": ((None,), "a study has images only"),
    "audio": ((None,), "a study has images only"),
}


class TRRGProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]  # a TypedDict
    """Rarer arguments of `TRRGProcessor`, beside those that Transformers' processors share.

    Attributes:
        predicted_findings: of a study, names of findings, which the prompt of the style "radialog" names.
        study_ids: what errors call the studies.
        on_error: "raise" stops at the first bad study and names it; "skip" leaves bad studies out and lists them in
            `skipped` of the result. Then no study may be left: check `kept`.
        padding_side: "left" or "right"; by default left without `report` and right with it.
    """

    predicted_findings: Sequence[Any] | None
    study_ids: Sequence[str] | None
    on_error: Literal["raise", "skip"]
    padding_side: Literal["left", "right"] | None


# Transformers before 5.23 looks for it; a TypedDict inherits no attribute and takes none in its body.
TRRGProcessorKwargs._defaults = {}


def read_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The rarer arguments of a call, flat; those of Transformers' nested groups (`text_kwargs`) too.

    Raises:
        TypeError: an unknown one.
        ValueError: a value that would be ignored (`HABITS`).
    """
    flat = {name: value for name, value in kwargs.items() if not name.endswith("_kwargs")}
    for name in kwargs.keys() - flat.keys():
        flat |= kwargs[name]
    known = TRRGProcessorKwargs.__annotations__.keys() | HABITS | {"return_text_replacement_offsets"}
    if unknown := sorted(flat.keys() - known):
        raise TypeError(f"unknown arguments: {', '.join(unknown)}")
    for name, (legal, reason) in HABITS.items():
        if name in flat and not any(flat[name] is value or flat[name] == value for value in legal):
            raise ValueError(f"{name}: {reason}, got {flat[name]!r:.80}")
    if flat.get("on_error", "raise") not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {flat['on_error']!r}")
    return flat


def group_studies(images, text, image_token: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each study by name; `images` is a list of views, or None for a study known by its clues.

    Raises:
        ValueError: nothing to see, or arguments whose counts or types do not fit together.
    """
    if images is None and fields["clue_scores"] is None:
        raise ValueError("no view: give images, or clue_scores for studies known by their clues only")
    if _is_nested(images) and len(images) == 1 and isinstance(text, str):
        images = images[0]  # a chat's images come nested, its prompt does not
    if text is not None and not isinstance(text, str) and not any(prompt and prompt.strip() for prompt in text):
        images = [[image] for image in images] if images is not None and not _is_nested(images) else images
        text = None
    if isinstance(text, str) and not text.strip():
        text = None
    if isinstance(text, str) or text is None:
        batched = _is_nested(images) or (images is None and isinstance(fields["clue_scores"], (list, tuple)))
    else:
        batched = True
        if images is not None and not _is_nested(images):
            images = _split_by_prompt(images, text, image_token)
    if not batched:
        count, views = 1, [images if images is None else _as_views(images)]
    elif images is None:
        count = len(fields["clue_scores"])
        views = [None] * count
    else:
        count, views = len(images), [_as_views(study) for study in images]

    columns = {}
    for name, value in {"text": text, **fields}.items():
        if value is not None and batched and (not isinstance(value, (list, tuple)) or len(value) != count):
            raise ValueError(f"{name}: a batch of {count} studies needs a list of {count}, got {type(value).__name__}")
        columns[name] = value if batched and value is not None else [value] * count
        _check_column(name, columns[name])
    return [{"images": views[row]} | {name: column[row] for name, column in columns.items()} for row in range(count)]


def each_study(
    make: Callable[[dict[str, Any]], dict[str, Any]],
    studies: Sequence[dict[str, Any]],
    study_ids: Sequence[str | None],
    on_error: str,
) -> tuple[list[dict[str, Any]], list[int], list[StudyError]]:
    """`make` of every study: rows, the index of each row's study, and the studies left out.

    Raises:
        StudyError: a study that `make` refuses, with `on_error="raise"`.
    """
    rows, kept, skipped = [], [], []
    for index, study in enumerate(studies):
        try:
            rows.append(make(study))
            kept.append(index)
        except (RadiographError, PromptError) as error:
            bad = StudyError(index, study_ids[index], str(error))
            if on_error == "raise":
                raise bad from error
            skipped.append(bad)
    return rows, kept, skipped


def _is_nested(images) -> bool:
    return isinstance(images, (list, tuple)) and any(isinstance(study, (list, tuple)) for study in images)


def _as_views(study) -> list:
    return list(study) if isinstance(study, (list, tuple)) else [study]


def _split_by_prompt(images, prompts: Sequence[str], image_token: str) -> list[list]:
    """A flat list of images, as the pipeline passes it, in the order of the prompts' placeholders."""
    flat, counts = _as_views(images), [prompt.count(image_token) for prompt in prompts]
    if sum(counts) != len(flat):
        raise ValueError(f"images: {len(flat)} views for {sum(counts)} {image_token} in {len(counts)} texts")
    ends = [sum(counts[: row + 1]) for row in range(len(counts))]
    return [flat[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _check_column(name: str, column: Sequence) -> None:
    if name in ("text", "report", "clue_scores") and len({value is None for value in column}) > 1:
        raise ValueError(f"{name}: given for some studies of the batch only")


def list_sources(sources: Sequence[Any], max_views: int) -> list[Any]:
    """The views of one study, a folder's files in its place; nothing is read.

    Raises:
        RadiographError: none, or more than `max_views`.
    """
    views: list[Any] = []
    for source in sources:
        # os.path, unlike Path, answers False to what cannot be a path: a URL longer than any name, a NUL
        is_folder = isinstance(source, (str, os.PathLike)) and os.path.isdir(source)  # noqa: PTH112
        views.extend(list_views(source) if is_folder else [source])
    if not views:
        raise RadiographError("the study has no view")
    if len(views) > max_views:
        raise RadiographError(
            f"{len(views)} views, but the model was trained with at most {max_views} of a study; a folder, or a list "
            "of images, is one study"
        )
    return views


def check_words(study: Mapping[str, Any]) -> None:
    """
    Raises:
        PromptError: an argument of one study is of another type than text, names or scores, or is text that cannot be
            written.
    """
    kinds: dict[str, Any] = {"predicted_findings": (list, tuple), "clue_scores": Mapping, "clue_targets": Mapping}
    for name, value in study.items():
        if name != "images" and value is not None and not isinstance(value, kinds.get(name, str)):
            hint = "; a batch of studies is a list of lists of views" if isinstance(value, (list, tuple)) else ""
            raise PromptError(f"{name}: got {type(value).__name__} for one study{hint}")
        for text in [value] if isinstance(value, str) else value if name == "predicted_findings" and value else ():
            refuse_surrogates(name, text)


def scores_by_clue(scores: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Scores in the order of the clues; all of them, and no others.

    Raises:
        PromptError: a clue without a score, a score without a clue, or one outside 0..1.
    """
    missing, unknown = [name for name in names if name not in scores], [name for name in scores if name not in names]
    if missing or unknown:
        raise PromptError(f"clue_scores: expected one for every clue; missing {missing}, unknown {unknown}")
    for name, score in scores.items():
        if not isinstance(score, numbers.Real) or not 0 <= score <= 1:
            raise PromptError(f"clue_scores: {name!r} is {score!r}, expected 0 to 1")
    return [float(scores[name]) for name in names]


def labels_by_clue(labels: Mapping[str, int | None], names: Sequence[str]) -> list[int]:
    """Labels in the order of the clues, -100 where a clue is not mentioned.

    Raises:
        PromptError: a label without a clue, or one that is not 1, 0, -1 or None.
    """
    for name, label in labels.items():
        if name not in names or label not in (1, 0, -1, None):
            raise PromptError(f"clue_targets: {name!r} is {label!r}, expected one of the clues with 1, 0, -1 or None")
    values = [labels.get(name) for name in names]
    return [-100 if value is None else int(value) for value in values]


def clue_tensors(
    clues: Sequence[Mapping[str, str]], tokenizer: Any, kept: dict[tuple, dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """`clue_input_ids`, `clue_attention_mask` `[S, C, L]` and, where a clue has a parent, `clue_parents` `[C]` of a
    checked clue list; the last few lists stay tokenised in `kept`.

    Raises:
        ValueError: a sentence is longer than the tokenizer's limit.
    """
    signs = ("positive", "negative") if all("negative" in clue for clue in clues) else ("positive",)
    sentences = tuple(clue[sign] for sign in signs for clue in clues)
    key = (id(tokenizer), len(tokenizer), *sentences)
    if key not in kept:
        encoded = tokenizer(list(sentences), padding=True, return_tensors="pt")
        length, limit = encoded["input_ids"].shape[1], tokenizer.model_max_length
        if length > limit:
            raise ValueError(f"clues: a sentence is {length} tokens long, the clue tokenizer's limit is {limit}")
        while len(kept) >= MAX_KEPT_LISTS:
            del kept[next(iter(kept))]
        kept[key] = {
            f"clue_{name}": encoded[name].unflatten(0, (len(signs), -1)) for name in ("input_ids", "attention_mask")
        }
    tensors = dict(kept[key])
    if any("parent" in clue for clue in clues):
        index = {clue["name"]: row for row, clue in enumerate(clues)}
        tensors["clue_parents"] = torch.tensor([index[clue["parent"]] if "parent" in clue else -1 for clue in clues])
    return tensors


def text_tensors(
    rows: Sequence[Mapping[str, Any]], pad_token_id: int, padding_side: str | None
) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and, with targets, `labels`, all `[B, T]`."""
    training = any(row["target"] for row in rows)
    side = padding_side or ("right" if training else "left")
    if side not in ("left", "right"):
        raise ValueError(f"padding_side: expected 'left' or 'right', got {side!r}")
    length = max(len(row["prompt"]) + len(row["target"]) for row in rows)
    input_ids = torch.full((len(rows), length), pad_token_id)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    for index, row in enumerate(rows):
        ids = torch.tensor(row["prompt"] + row["target"])
        start = length - len(ids) if side == "left" else 0
        end = start + len(ids)
        input_ids[index, start:end] = ids
        attention_mask[index, start:end] = 1
        labels[index, start + len(row["prompt"]) : end] = ids[len(row["prompt"]) :]
    tensors = {"input_ids": input_ids, "attention_mask": attention_mask}
    return tensors | {"labels": labels} if training else tensors


def image_tensors(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """`pixel_values` `[B, V, 3, H, W]`, zeros where a study has fewer views, and `image_mask` `[B, V]`."""
    if rows[0]["views"] is None:
        return {}
    most = max(len(row["views"]) for row in rows)
    pixel_values = torch.zeros(len(rows), most, *rows[0]["views"].shape[1:])
    image_mask = torch.zeros(len(rows), most, dtype=torch.bool)
    for index, row in enumerate(rows):
        pixel_values[index, : len(row["views"])] = row["views"]
        image_mask[index, : len(row["views"])] = True
    return {"pixel_values": pixel_values, "image_mask": image_mask}
