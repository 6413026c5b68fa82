"""predictions.jsonl and studies.jsonl: read, checked and joined, one study at a time.

A prediction is one JSON line: `study_id`, `prediction` and, unless a references file is given, `reference`; optional
`clue_scores` {name: 0..1}, `selected_clues`, `labels` of the study and `has_prior`; with `--labeler given` also
`prediction_labels` and `reference_labels`. A references file holds the project's study records (`study_id`, `split`,
`findings`, `impression`, ...). What is missing, doubled or of the wrong type stops with file, line and study.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.reading.observations import Labels, check_label

SECTIONS = ("findings", "impression", "report")


class Pair(NamedTuple):
    """One study to score."""

    study_id: str
    prediction: str
    reference: str
    clue_scores: dict[str, float] | None = None
    study_labels: Labels | None = None
    has_prior: bool | None = None
    prediction_labels: dict[str, Any] | None = None
    reference_labels: dict[str, Any] | None = None
    selected_clues: list[str] | None = None


def digest(study_id: str) -> int:
    """64 bits that stand for a study id in tables and give studies one order, whatever the order of the file."""
    return int.from_bytes(hashlib.blake2b(study_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(line number, byte offset, record) of a JSON-lines file; blank lines are skipped.

    Raises:
        ValueError: a line is not a JSON object with a text `study_id`.
    """
    with path.open("rb") as file:
        offset = 0
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, offset, parse(line, f"{path}:{number}")
            offset += len(line)


def parse(line: bytes, where: str) -> dict[str, Any]:
    """One line as an object with a text `study_id`."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("study_id"), str):
        raise ValueError(f"{where}: expected an object with a text study_id, got {line[:80]!r}")
    return record


class StudyIndex:
    """Where each study of a JSON-lines file stands, so that a reference is read when its prediction comes.

    Raises:
        ValueError: the file holds no study, or a study id stands twice; which of the two should count is not ours to
            choose.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        self.path = path
        self.offsets: dict[str, int] = {}
        for number, offset, record in read_lines(path):
            if split is None or record.get("split") == split:
                if record["study_id"] in self.offsets:
                    raise ValueError(f"{path}:{number}: study {record['study_id']!r} is doubled; expected it once")
                self.offsets[record["study_id"]] = offset
        if not self.offsets:
            chosen = "" if split is None else f" of split {split!r}"
            raise ValueError(f"{path}: no study{chosen}")

    def __len__(self) -> int:
        return len(self.offsets)

    def require_same_studies(self, other: "StudyIndex") -> None:
        """Stop unless both files hold the same studies.

        Raises:
            ValueError: one lacks a study of the other; names the first.
        """
        for one, two in ((self, other), (other, self)):
            missing = [study_id for study_id in one.offsets if study_id not in two.offsets]
            if missing:
                raise ValueError(f"{len(missing)} studies of {one.path} are not in {two.path}, first {missing[0]!r}")

    def find(self, study_id: str) -> dict[str, Any]:
        """The record of a study that is known to be here (`require_same_studies`)."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[study_id])
            return parse(file.readline(), f"{self.path} (study {study_id!r})")


def open_studies(predictions: Path, references: Path | None, split: str | None) -> tuple[StudyIndex, StudyIndex | None]:
    """Indices of a predictions file and, where one is given, of the references file with the same studies.

    Raises:
        ValueError: the files hold different studies, or there is a split to choose but no references file.
    """
    index = StudyIndex(predictions)
    if references is None:
        if split is not None:
            raise ValueError(f"split {split!r} chooses among the references; there is no file of references")
        return index, None
    chosen = StudyIndex(references, split)
    index.require_same_studies(chosen)
    return index, chosen


def text_field(record: Mapping[str, Any], name: str, where: str) -> str:
    """A text of a record, which must be there."""
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f'{where}: {name} is {value!r:.80}; expected text ("" for an empty report)')
    return value


def section_text(study: Mapping[str, Any], section: str, where: str) -> str:
    """The reference text of a study: one section, or the whole report as `Findings: ... Impression: ...`.

    Raises:
        ValueError: the section, or for the whole report both, is missing; the message starts with `where`.
    """
    from processing_trrg import report_text  # here: it brings torch, which scoring texts alone does not need

    if section != "report":
        return text_field(study, section, where)
    try:
        return report_text(study.get("findings"), study.get("impression"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def clue_scores_field(record: dict[str, Any], where: str) -> dict[str, float] | None:
    """The clue scores of a record, each from 0 to 1; None where it has none."""
    scores = record.get("clue_scores")
    if scores is None:
        return None
    if not isinstance(scores, dict):
        raise ValueError(f"{where}: clue_scores is {scores!r:.80}; expected an object of name: score")
    for name, value in scores.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{where}: clue score of {name!r} is {value!r}; expected a number from 0 to 1")
    return scores


def selected_clues_field(record: dict[str, Any], where: str) -> list[str] | None:
    """The clues that reached the language model; None where that is not told."""
    names = record.get("selected_clues")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{where}: selected_clues is {names!r:.80}; expected a list of names")
    return names


def study_labels_field(record: dict[str, Any], where: str) -> Labels | None:
    """The labels of a study; None where nobody labelled it."""
    labels = record.get("labels")
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise ValueError(f"{where}: labels is {labels!r:.80}; expected an object of name: 1, 0, -1 or null")
    return {name: check_label(value, f"{where}: label {name!r}") for name, value in labels.items()}


def prior_field(record: dict[str, Any], where: str) -> bool | None:
    """Whether the system was given an earlier study; None where that is not known."""
    value = record.get("has_prior")
    if not isinstance(value, bool | None):
        raise ValueError(f"{where}: has_prior is {value!r:.80}; expected true, false or null")
    return value


def read_pairs(predictions: Path, references: StudyIndex | None, section: str, given_labels: bool) -> Iterator[Pair]:
    """Every study of a predictions file, in the file's order, with its reference.

    Args:
        predictions: the predictions file.
        references: index of a study file, or None when each line carries its own `reference`.
        section: of the study record that is the reference, one of `SECTIONS`.
        given_labels: whether each line must carry `prediction_labels` and `reference_labels`.
    """
    for number, _, record in read_lines(predictions):
        study_id = record["study_id"]
        where = f"{predictions}:{number} (study {study_id!r})"
        if references is None:
            reference = text_field(record, "reference", where)
        else:
            reference = section_text(references.find(study_id), section, f"{references.path} (study {study_id!r})")
        labels: dict[str, Any] = {}
        for name in ("prediction_labels", "reference_labels") if given_labels else ():
            if not isinstance(record.get(name), dict):
                raise ValueError(f"{where}: {name} is {record.get(name)!r:.80}; expected an object of name: label")
            labels[name] = record[name]
        prediction = text_field(record, "prediction", where)
        clues, study_labels = clue_scores_field(record, where), study_labels_field(record, where)
        labels["selected_clues"] = selected_clues_field(record, where)
        yield Pair(study_id, prediction, reference, clues, study_labels, prior_field(record, where), **labels)
