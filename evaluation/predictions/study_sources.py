"""What reports are generated for: study records on disk or synthetic phantoms, and clue scores made from labels."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from evaluation.reading.observations import clue_score
from evaluation.reading.sides import side_and_finding
from training.data.study import CONTEXT_FIELDS as CONTEXT_FIELDS
from training.data.study import IMAGE_FILES, Study
from training.data.study import record_fault as record_fault
from training.phantoms.generate import MIN_SIZE, Phantom, generate_phantom

TEST_PHANTOM_SEED = 12141
"""Of phantoms that are only tested on. Another seed gives other phantoms at every index; training draws from 2408
(`training/builders/small_data.py`)."""


class StudySource(Protocol):
    """Studies in the order of the input, and their images."""

    records: list[Any]  # of Study, which generate.py reads as JSON objects

    def open_image(self, index: int, view: int) -> Any:
        """One view of a study, as the processor reads it: a path, bytes or an array."""


class PhantomStudies:
    """The first `count` SYNTHETIC phantoms of a seed, drawn by `draw` when they are looked at."""

    def __init__(self, count: int, seed: int, size: int = 224, draw: Callable[..., Phantom] = generate_phantom):
        self.seed, self.size, self.draw = seed, size, draw
        # findings and words do not depend on the size of the image
        self.records = [draw(seed, index, MIN_SIZE).record for index in range(count)]

    def open_image(self, index: int, view: int) -> np.ndarray:
        """The phantom, `[H, W]` uint8; it has one view."""
        return self.draw(self.seed, index, self.size).image


class ImageFolder:
    """Images without reports. A file directly in the folder is a study, and so is every folder below it that holds
    images: its files are the study's views, in the order of their names. Ids are paths relative to the folder.

    Attributes:
        left_out: files of other kinds.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: it holds no image.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: not a folder of images")
        self.folder = folder
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
        images = [path for path in paths if path.suffix.lower() in IMAGE_FILES]
        self.left_out = len(paths) - len(images)
        if not images:
            raise ValueError(f"{folder}: no image among {len(paths):,} files, expected {', '.join(IMAGE_FILES)}")
        studies: dict[str, Study] = {}
        for path in images:
            name = (path if path.parent == Path() else path.parent).as_posix()
            study = studies.setdefault(name, Study(name, name, None))
            study.images.append({"path": path.as_posix(), "view": None})
        self.records = list(studies.values())

    def open_image(self, index: int, view: int) -> Path:
        """The file of one view."""
        return self.folder / self.records[index].images[view]["path"]


def in_batches(source: StudySource, indices: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of studies of about the same length, longest first; studies with and without image are not mixed."""

    def length(index: int) -> tuple[int, int]:
        record = source.records[index]
        return len(record["images"]), sum(len(record.get(name) or "") for name in CONTEXT_FIELDS)

    ordered = sorted(indices, key=length, reverse=True)  # stable: equal lengths keep the order of the input
    batches = []
    for seen in (True, False):
        chosen = [index for index in ordered if bool(source.records[index]["images"]) == seen]
        batches += [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    return batches


def records_digest(records: Sequence[Study]) -> str:
    """Of all studies in their order: a run is not resumed on other data."""
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(json.dumps(dict(record), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def oracle_scores(records: Sequence[Study], names: Sequence[str]) -> list[dict[str, float]]:
    """The clue scores of a perfect eye, from the labels of each study: 1 present, 0.5 uncertain, 0 absent or not
    mentioned; what stage 2 learns from where a report has no image (there with the sides that a report names, in a
    share of the draws). Sided clues score 0 unless a study is labelled by side: the 14 labels know no sides.

    Raises:
        ValueError: a study without labels, or a clue that no study has a label for.
    """
    known: set[str] = set()
    for record in records:
        if not record.labels:
            raise ValueError(f"study {record.study_id!r} has no labels to make oracle clues from")
        known |= record.labels.keys()
    missing = [name for name in names if name not in known and side_and_finding(name) is None]
    if missing:
        raise ValueError(f"no study has a label for the clues {missing}; labels: {sorted(known)}")
    return [{name: clue_score((record.labels or {}).get(name)) for name in names} for record in records]


def shuffled(scores: Sequence[dict[str, float]], seed: int) -> list[dict[str, float]]:
    """Every study gets the scores of another one: a random cycle through all studies.

    Raises:
        ValueError: there are fewer than two studies.
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} study: clues are shuffled between two studies or more")
    cycle = np.random.default_rng(seed).permutation(len(scores))
    given = list(scores)
    for here, there in zip(cycle, np.roll(cycle, 1), strict=True):
        given[here] = scores[there]
    return given
