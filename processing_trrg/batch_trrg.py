"""The arguments of a call -> one dict a study; the studies' rows -> padded tensors."""

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature

from .image_trrg import list_views
from .options_trrg import NO_PADDING
from .picture_trrg import RadiographError
from .prompt_trrg import FINDINGS_FIELDS, PromptError, check_clues, count_images, refuse_surrogates

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
        clues: in the order of the clue tensors; `clue_names` are their names.
        studies: for each row, its words by argument, `num_views`, and `compared_with` (`compares`).
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        kept: Sequence[int] = (),
        skipped: Sequence[StudyError] = (),
        clues: Sequence[Mapping[str, str]] = (),
        studies: Sequence[dict[str, Any]] = (),
    ):
        super().__init__(data)
        self.kept, self.skipped = list(kept), list(skipped)
        self.clues, self.studies = list(clues), list(studies)

    @property
    def clue_names(self) -> list[str]:
        """In the order of the clue tensors."""
        return [clue["name"] for clue in self.clues]

    def __getstate__(self):
        names = ("data", "kept", "skipped", "clues", "studies")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state):
        StudyBatch.__init__(self, **state)


def group_studies(images, text, image_token: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each study by name; `images` is a list of views, or None for a study known by its clues.

    Raises:
        ValueError: nothing to see, or arguments whose counts or types do not fit together.
    """
    if not isinstance(text, str | None) and not (
        isinstance(text, (list, tuple)) and all(isinstance(prompt, str | None) for prompt in text)
    ):
        raise ValueError(f"text: expected a prompt or a list of prompts, got {text!r:.80}")
    if images is None and fields["clue_scores"] is None:
        prompts = [text] if isinstance(text, str) else text or ()
        if not prompts or any(not (prompt or "").strip() or count_images(prompt, image_token) for prompt in prompts):
            raise ValueError("no view: give images, or clue_scores for studies known by their clues only")
        images = [[] for _ in prompts]  # text alone
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
    flat, counts = _as_views(images), [count_images(prompt, image_token) for prompt in prompts]
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
    kinds: dict[str, Any] = dict.fromkeys((*FINDINGS_FIELDS, "turns"), (list, tuple))
    kinds |= {"clue_scores": Mapping, "clue_targets": Mapping}
    for name, value in study.items():
        if name != "images" and value is not None and not isinstance(value, kinds.get(name, str)):
            hint = "; a batch of studies is a list of lists of views" if isinstance(value, (list, tuple)) else ""
            raise PromptError(f"{name}: got {type(value).__name__} for one study{hint}")
        for text in [value] if isinstance(value, str) else value if name in FINDINGS_FIELDS and value else ():
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


class ClueLists:
    """The clue lists of the last calls, checked and tokenised: a thousand clues take as long as a look at the image."""

    def __init__(self) -> None:
        self._checked: list[tuple[list[Any], list[dict[str, str]]]] = []
        self._tokenised: list[tuple[Any, Any, dict[str, torch.Tensor]]] = []

    def checked(self, clues: Any) -> list[dict[str, str]]:
        """`check_clues`; the last few lists are not checked again."""
        if not isinstance(clues, list):
            return check_clues(clues)
        for given, checked in self._checked:
            if clues == given:
                return checked
        checked = check_clues(clues)
        self._checked.append(([clue if isinstance(clue, str) else dict(clue) for clue in clues], checked))
        del self._checked[:-MAX_KEPT_LISTS]
        return checked

    def tensors(self, clues: Sequence[Mapping[str, str]], tokenizer: Any) -> dict[str, torch.Tensor]:
        """`clue_input_ids`, `clue_attention_mask` `[S, C, L]` and, where a clue has a parent, `clue_parents` `[C]` of a
        checked clue list; the last few stay tokenised.

        Raises:
            ValueError: a sentence is longer than the tokenizer's limit.
        """
        given, whose = [*clues], (id(tokenizer), len(tokenizer))
        for known, owner, tensors in self._tokenised:
            if owner == whose and known == given:
                return dict(tensors)
        signs = ("positive", "negative") if all("negative" in clue for clue in clues) else ("positive",)
        encoded = tokenizer([clue[sign] for sign in signs for clue in clues], padding=True, return_tensors="pt")
        length, limit = encoded["input_ids"].shape[1], tokenizer.model_max_length
        if length > limit:
            raise ValueError(f"clues: a sentence is {length} tokens long, the clue tokenizer's limit is {limit}")
        names = ("input_ids", "attention_mask")
        tensors = {f"clue_{name}": encoded[name].unflatten(0, (len(signs), -1)) for name in names}
        if any("parent" in clue for clue in clues):
            rows = {clue["name"]: row for row, clue in enumerate(clues)}
            tensors["clue_parents"] = torch.tensor([rows[clue["parent"]] if "parent" in clue else -1 for clue in clues])
        self._tokenised.append(([dict(clue) for clue in clues], whose, tensors))
        del self._tokenised[:-MAX_KEPT_LISTS]
        return dict(tensors)


def cut_row(row: dict[str, Any], limit: int, side: str, image_token_id: int) -> dict[str, Any]:
    """A row of at most `limit` tokens, cut on the `side` where the tokenizer cuts.

    Raises:
        PromptError: image tokens would be cut away.
    """
    length = len(row["prompt"])
    surplus = length + len(row["target"]) - limit
    if surplus <= 0:
        return row
    first = surplus if side == "left" else 0
    prompt, target = slice(first, first + limit), slice(max(0, first - length), max(0, first + limit - length))
    if image_token_id in row["prompt"][: prompt.start] + row["prompt"][prompt.stop :]:
        raise PromptError(f"text: cut to {limit} tokens it loses image tokens; allow more, or shorten the text")
    cut = {"prompt": row["prompt"][prompt], "target": row["target"][target], "spans": row["spans"][prompt]}
    return {**row, **cut}


def text_tensors(
    rows: Sequence[Mapping[str, Any]], pad_token_id: int, image_token_id: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """`input_ids`, `attention_mask` and, with targets, `labels`, all `[B, T]`; what else of a text the `options` ask.

    Raises:
        ValueError: an unknown `padding_side`, or texts of several lengths that shall not be padded.
    """
    training = any(row["target"] for row in rows)
    side = options.get("padding_side") or ("right" if training else "left")
    if side not in ("left", "right"):
        raise ValueError(f"padding_side: expected 'left' or 'right', got {side!r}")
    lengths = [len(row["prompt"]) + len(row["target"]) for row in rows]
    length = max(lengths)
    if options.get("padding") in NO_PADDING and min(lengths) < length:
        raise ValueError(f"padding: texts of {min(lengths)} to {length} tokens make no tensor without it")
    if options.get("padding") == "max_length":
        length = max(length, options["max_length"])
    multiple = options.get("pad_to_multiple_of") or 1
    length = -(-length // multiple) * multiple
    input_ids = torch.full((len(rows), length), pad_token_id)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    spans = [[(0, 0)] * length for _ in rows]
    for index, row in enumerate(rows):
        ids = torch.tensor(row["prompt"] + row["target"], dtype=torch.long)
        start = length - len(ids) if side == "left" else 0
        end, told = start + len(ids), start + len(row["prompt"])
        input_ids[index, start:end] = ids
        attention_mask[index, start:end] = 1
        labels[index, told:end] = ids[len(row["prompt"]) :]
        spans[index][start:told] = row["spans"] or spans[index][start:told]
    tensors: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if options.get("return_mm_token_type_ids"):
        tensors["mm_token_type_ids"] = (input_ids == image_token_id).long()
    if options.get("return_offsets_mapping"):
        tensors["offset_mapping"] = spans
    if options.get("return_text_replacement_offsets"):
        tensors["text_replacement_offsets"] = [row["replacements"] for row in rows]
    return tensors | {"labels": labels} if training else tensors


def image_tensors(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """`pixel_values` `[B, V, 3, H, W]`, zeros where a study has fewer views, and `image_mask` `[B, V]`."""
    if rows[0]["views"] is None or (most := max(len(row["views"]) for row in rows)) == 0:
        return {}
    pixel_values = torch.zeros(len(rows), most, *rows[0]["views"].shape[1:])
    image_mask = torch.zeros(len(rows), most, dtype=torch.bool)
    for index, row in enumerate(rows):
        pixel_values[index, : len(row["views"])] = row["views"]
        image_mask[index, : len(row["views"])] = True
    return {"pixel_values": pixel_values, "image_mask": image_mask}
