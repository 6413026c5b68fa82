"""The study record: one type, one reader, one writer, whatever data set a study came from.

On disk a study is one JSON object: a line of `studies.jsonl`, or a row of `datasets` shards, which hold the pictures'
bytes beside their paths. Builders write it; training, generation and scoring read it and nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

from evaluation.reading.observations import Label, Labels, check_label
from processing_trrg.prompt_trrg import PromptError, refuse_surrogates

REPORT_PARTS = ("findings", "impression")
CONTEXT_FIELDS = ("indication", "technique", "comparison", "prior_report")
VIEWS = ("frontal", "lateral", None)
PICTURES = (".png", ".jpg", ".jpeg")
IMAGE_FILES = (".dcm", *PICTURES)
"""Endings of the files that are taken for images where a folder is searched."""


class View(TypedDict):
    """One picture: its path relative to the set's folder, and "frontal", "lateral" or None."""

    path: str
    view: str | None


class Box(TypedDict, total=False):
    """Where a finding is, in pixels of the first view."""

    label: str
    source: str
    side: str | None
    x: float
    y: float
    w: float
    h: float


@dataclass(eq=False)
class Study(Mapping[str, Any]):
    """A study. It also reads as its JSON object, `study["findings"]`, for what takes any such object.

    Attributes:
        split: None where that is the caller's choice (phantoms).
        images, prior_images: views, the best one first.
        labels: by observation; None where nobody labelled the study.
        boxes: of findings, as `labels` names them.
        synthetic: whether it is a phantom.
        position, sex, age: how the (first) frontal view was taken, "AP" or "PA"; "F" or "M"; years. None where it is
            not known. No model reads them: scores are told apart by them.
    """

    study_id: str
    patient_id: str
    split: str | None
    images: list[View] = field(default_factory=list)
    indication: str | None = None
    technique: str | None = None
    comparison: str | None = None
    prior_report: str | None = None
    prior_images: list[View] = field(default_factory=list)
    findings: str | None = None
    impression: str | None = None
    labels: Labels | None = None
    boxes: list[Box] = field(default_factory=list)
    synthetic: bool = False
    position: str | None = None
    sex: str | None = None
    age: int | None = None

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


FIELDS = tuple(part.name for part in fields(Study))
LISTS = ("images", "prior_images", "boxes")


def read_study(row: Mapping[str, Any], where: str) -> Study:
    """A JSON object as a study; what it does not have is None, or an empty list.

    Raises:
        ValueError: it is no object, a field that every study has is missing, or a label is none; the message starts
            with `where`.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("labels"), Mapping | None):
        raise ValueError(f"{where}: no study record: expected an object, and labels as an object or null")
    missing = [name for name in ("images", "patient_id", "split", "study_id") if name not in row]
    if missing:
        raise ValueError(f"{where}: no study record, {', '.join(missing)} missing")
    values = {name: row[name] for name in FIELDS if row.get(name) is not None}
    for name in ("study_id", "patient_id", "split"):
        values[name] = row[name]
        if not isinstance(row[name], str if name == "study_id" else str | None):
            raise ValueError(f"{where}: {name} is {row[name]!r:.80}, expected text")
    for name in LISTS:
        if not isinstance(values.get(name, []), list):
            raise ValueError(f"{where}: {name} is {row[name]!r:.80}, expected a list")
    if (labels := values.get("labels")) is not None:
        place = f"{where}: study {row['study_id']!r}: label"
        values["labels"] = {name: check_label(label, f"{place} {name!r}") for name, label in labels.items()}
    return Study(**values)


def write_studies(file: Path, studies: Iterable[Mapping[str, Any]]) -> None:
    """Write `studies.jsonl`, whole or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(dict(study)) + "\n" for study in studies)
    partial.replace(file)


def record_fault(study: Mapping[str, Any]) -> str | None:
    """Why the processor cannot take a study, or None: a text that is none, images without a path, views of other names
    or in another order (models with one view take the first)."""
    for name in (*CONTEXT_FIELDS, *REPORT_PARTS):
        if not isinstance(study[name], str | None):
            return f"{name} is {study[name]!r:.80}, expected text or null"
        try:
            refuse_surrogates(name, study[name] or "")
        except PromptError as error:
            return str(error)
    images = study["images"]
    if not isinstance(images, list) or not all(isinstance(image, dict) and image.get("path") for image in images):
        return f"images is {images!r:.80}, expected a list of objects with a path"
    views = [image.get("view") for image in images]
    if strange := [view for view in views if view not in VIEWS]:
        return f"images: view is {strange[0]!r:.80}, expected frontal, lateral or null"
    if "frontal" in views and "lateral" in views[: views.index("frontal")]:
        return "images: a lateral view stands before the frontal one, expected the frontal one first"
    return None


def prior_fault(studies: Sequence[Study]) -> str | None:
    """Which prior is none, or None. Records hold no dates; what their ids say is that a prior image belongs to the
    study itself, to another patient, or to a study that has this one as its own prior, so that one of them is newer."""

    def paths(images: Iterable[Any]) -> set[str]:
        return {str(image.get("path")) for image in images if isinstance(image, Mapping)}

    owners = {path: study for study in studies for path in paths(study.images)}
    for study in studies:
        for owner in (owners[path] for path in paths(study.prior_images) if path in owners):
            told = f"study {study.study_id!r}: its prior image is of study {owner.study_id!r}"
            if owner is study:
                return f"study {study.study_id!r}: its prior image is its own"
            if owner.patient_id != study.patient_id:
                return f"{told}, of another patient"
            if paths(owner.prior_images) & paths(study.images):
                return f"{told}, whose prior image is of this one; a prior is older"
    return None


def target_text(study: Mapping[str, Any]) -> str:
    """The findings, then the impression, without headings: for cutting into sentences. Empty where there is no report.
    With headings, as a model writes it, a report is `processing_trrg.report_text`."""
    return " ".join(part.strip() for part in map(study.get, REPORT_PARTS) if part and part.strip())


class Studies:
    """The studies of one split of one set, in the order of the file.

    `studies.jsonl` names image files relative to its folder; shards (`datasets.Dataset.save_to_disk`, one folder per
    split or a `DatasetDict`) hold the same record with `bytes` beside `path` in each image.

    Attributes:
        records: the studies.

    Raises:
        FileNotFoundError: neither form is at `path`.
        ValueError: a line is no study record, two studies share an id, a prior cannot be one (`prior_fault`), or the
            split is empty; names file and line.
    """

    def __init__(self, path: str | Path, split: str, max_studies: int | None = None):
        self.path, self.split = Path(path), split
        if (self.path / "studies.jsonl").is_file():
            self.records = _read_jsonl(self.path / "studies.jsonl", split)
            self._shards = None
        elif (self.path / "dataset_dict.json").is_file() or (self.path / "state.json").is_file():
            self.records, self._shards = _read_shards(self.path, split)
        else:
            raise FileNotFoundError(f"{self.path}: neither studies.jsonl nor datasets shards (dataset_dict.json) there")
        self.records = self.records[:max_studies]
        if not self.records:
            raise ValueError(f"{self.path}: no study of split {split!r}")
        ids = [study.study_id for study in self.records]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ValueError(f"{self.path}: study_id {twice!r} stands there twice")
        if (fault := prior_fault(self.records)) is not None:
            raise ValueError(f"{self.path}: {fault}")

    def __len__(self) -> int:
        return len(self.records)

    def open_image(self, index: int, view: int) -> bytes | Path:
        """What the image processor reads for one view: the shard's bytes or the file's path."""
        if self._shards is not None:
            return self._shards[index]["images"][view]["bytes"]
        return self.path / self.records[index].images[view]["path"]

    def image_key(self, index: int, view: int) -> str:
        """What changes when the image may have: the file's size and time, or the hash that the shards came with."""
        if self._shards is not None:
            return f"{self._shards._fingerprint}/{index}/{view}"
        file = self.path / self.records[index].images[view]["path"]
        status = file.stat()
        return f"{file}/{status.st_size}/{status.st_mtime_ns}"

    def num_views(self, index: int) -> int:
        """Pictures of a study."""
        return len(self.records[index].images)

    def labels(self, index: int, names: Sequence[str]) -> list[Label]:
        """The study's labels in the order of `names`: 1 present, 0 absent, -1 uncertain, None not mentioned."""
        return [(self.records[index].labels or {}).get(name) for name in names]


def _read_jsonl(file: Path, split: str) -> list[Study]:
    studies = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{file}:{number}: not JSON ({error.msg})") from error
            study = read_study(row, f"{file}:{number}")
            if study.split == split:
                studies.append(study)
    return studies


def _read_shards(path: Path, split: str) -> tuple[list[Study], Any]:
    from datasets import Dataset, DatasetDict, load_from_disk

    loaded = load_from_disk(str(path))
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise ValueError(f"{path}: no split {split!r}; splits: {', '.join(map(str, loaded))}")
        loaded = loaded[split]
    assert isinstance(loaded, Dataset)
    light = loaded.remove_columns("images").to_list()
    views = loaded.select_columns("images")
    rows = zip(light, _without_bytes(views), strict=True)
    return [read_study({**row, "images": images}, str(path)) for row, images in rows], loaded


def _without_bytes(views: Any) -> list[list[View]]:
    column = views.with_format("arrow")[:]["images"]
    return [[{"path": image["path"].as_py(), "view": image["view"].as_py()} for image in images] for images in column]
