"""The arguments of a call -> one dict a study; the studies' rows -> padded tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature

from .prompt_trrg import PromptError


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
        return f"study {self.index}{f' ({self.study_id})' if self.study_id else ''}: {self.reason}"


class StudyBatch(BatchFeature):
    """The tensors of a batch, and which of the caller's studies its rows are.

    Attributes:
        kept: for each row, the index of its study in the caller's batch.
        skipped: the studies left out with `on_error="skip"`, and why.
    """

    def __init__(self, data: dict[str, Any], kept: list[int], skipped: list[StudyError]):
        super().__init__(data)
        self.kept, self.skipped = kept, skipped

    def __getstate__(self):
        return {"data": self.data, "kept": self.kept, "skipped": self.skipped}

    def __setstate__(self, state):
        StudyBatch.__init__(self, **state)


def refuse_ignored(padding, truncation, add_special_tokens, return_tensors, videos, audio) -> None:
    """What callers of Transformers' processors pass by habit: legal with the only value it can have here.

    Raises:
        ValueError: another value, which would be ignored.
    """
    if padding not in (True, "longest"):
        raise ValueError(f"padding: a batch is always padded to its longest text, got {padding!r}")
    if truncation:
        raise ValueError("truncation: a text is never cut; set the processor's max_length or shorten the text")
    if add_special_tokens:
        raise ValueError("add_special_tokens: special tokens are written by the chat template only")
    if return_tensors != "pt":
        raise ValueError(f"return_tensors: expected 'pt', got {return_tensors!r}")
    if videos is not None or audio is not None:
        raise ValueError("videos, audio: a study has images only")


def group_studies(images, text, image_token: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each study by name; `images` is a list of views, or None for a study known by its clues.

    Raises:
        ValueError: nothing to see, or arguments whose counts or types do not fit together.
    """
    if images is None and fields["clue_scores"] is None:
        raise ValueError("no view: give images, or clue_scores for studies known by their clues only")
    if _is_nested(images) and len(images) == 1 and isinstance(text, str):
        images = images[0]  # a chat's images come nested, its prompt does not
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
            raise ValueError(f"{name}: a batch of {count} studies needs a list of {count}, got {value!r:.80}")
        columns[name] = value if batched and value is not None else [value] * count
        _check_column(name, columns[name], batched)
    return [{"images": views[row]} | {name: column[row] for name, column in columns.items()} for row in range(count)]


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


def _check_column(name: str, column: Sequence, batched: bool) -> None:
    kinds: dict[str, Any] = {"predicted_findings": (list, tuple), "clue_scores": Mapping, "clue_labels": Mapping}
    for value in column:
        if value is not None and not isinstance(value, kinds.get(name, str)):
            hint = "" if batched else " for one study; a batch of studies is a list of lists of views"
            raise ValueError(f"{name}: got {type(value).__name__}{hint}")
    if name in ("text", "report", "clue_scores") and len({value is None for value in column}) > 1:
        raise ValueError(f"{name}: given for some studies of the batch only")


def scores_by_clue(scores: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Scores in the order of the clues; all of them, and no others.

    Raises:
        PromptError: a clue without a score, a score without a clue, or one outside 0..1.
    """
    missing, unknown = [name for name in names if name not in scores], [name for name in scores if name not in names]
    if missing or unknown:
        raise PromptError(f"clue_scores: expected one for every clue; missing {missing}, unknown {unknown}")
    for name, score in scores.items():
        if not 0 <= score <= 1:
            raise PromptError(f"clue_scores: {name!r} is {score!r}, expected 0 to 1")
    return [float(scores[name]) for name in names]


def labels_by_clue(labels: Mapping[str, int | None], names: Sequence[str]) -> list[int]:
    """Labels in the order of the clues, -100 where a clue is not mentioned.

    Raises:
        PromptError: a label without a clue, or one that is not 1, 0, -1 or None.
    """
    for name, label in labels.items():
        if name not in names or label not in (1, 0, -1, None):
            raise PromptError(f"clue_labels: {name!r} is {label!r}, expected one of the clues with 1, 0, -1 or None")
    values = [labels.get(name) for name in names]
    return [-100 if value is None else int(value) for value in values]


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
