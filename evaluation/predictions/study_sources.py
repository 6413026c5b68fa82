"""What reports are generated for: study records on disk or synthetic phantoms, and clue scores made from labels."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from evaluation.reading.observations import check_label, clue_score
from evaluation.reading.sides import side_and_finding
from training.phantoms.generate import MIN_SIZE, generate_phantom

TEST_PHANTOM_SEED = 12141
"""Of phantoms that are only tested on. Another seed gives other phantoms at every index; training draws from 2408
(`training/builders/small_data.py`)."""

CONTEXT_FIELDS = ("indication", "technique", "comparison", "prior_report")


class StudySource(Protocol):
    """Study records in the order of the input, and their images."""

    records: list[dict[str, Any]]

    def open_image(self, index: int, view: int) -> Any:
        """One view of a study, as the processor reads it: a path, bytes or an array."""


class PhantomStudies:
    """The first `count` SYNTHETIC phantoms of a seed, drawn when they are looked at."""

    def __init__(self, count: int, seed: int, size: int = 224):
        self.seed, self.size = seed, size
        # findings and words do not depend on the size of the image
        self.records = [generate_phantom(seed, index, MIN_SIZE).record for index in range(count)]

    def open_image(self, index: int, view: int) -> np.ndarray:
        return generate_phantom(self.seed, index, self.size).image


def records_digest(records: Sequence[dict[str, Any]]) -> str:
    """Of all studies in their order: a run is not resumed on other data."""
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def record_fault(record: dict[str, Any]) -> str | None:
    """Why a record cannot be given to the processor, or None."""
    for name in CONTEXT_FIELDS:
        if not isinstance(record.get(name), str | None):
            return f"{name} is {record[name]!r:.80}, expected text or null"
    images = record["images"]
    if not isinstance(images, list) or not all(isinstance(image, dict) and image.get("path") for image in images):
        return f"images is {images!r:.80}, expected a list of objects with a path"
    return None


def oracle_scores(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, float]]:
    """The clue scores of a perfect eye, from the labels of each study: 1 present, 0.5 uncertain, 0 absent or not
    mentioned; what stage 2 learns from where a report has no image (there with the sides that a report names, in a
    share of the draws). Sided clues score 0 unless a study is labelled by side: the 14 labels know no sides.

    Raises:
        ValueError: a study without labels, a clue that no study has a label for, or a label that is none.
    """
    known: set[str] = set()
    for record in records:
        labels = record.get("labels")
        if not labels:
            raise ValueError(f"study {record['study_id']!r} has no labels to make oracle clues from")
        for name, label in labels.items():
            check_label(label, f"study {record['study_id']!r}: label {name!r}")
        known |= labels.keys()
    missing = [name for name in names if name not in known and side_and_finding(name) is None]
    if missing:
        raise ValueError(f"no study has a label for the clues {missing}; labels: {sorted(known)}")
    return [{name: clue_score(record["labels"].get(name)) for name in names} for record in records]


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
