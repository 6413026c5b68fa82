"""The real sets of the small checkpoint as study records: images with labels, reports without images.

The folders are those of `training/builders/small_data.py --data`. Splits go by patient, also across the two NIH sets.
Nothing that a set was not read for is called absent.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import ancestors
from processing_trrg import report_text
from training.builders.builder import StudySet, clean_targets, share_of
from training.builders.nih import VALIDATION_SHARE, labels_and_boxes, patient_split
from training.data.study import Box, Study

ENLARGED = 0.5
"""Cardiothoracic ratio above which a heart is enlarged."""
JSRT_PIXELS_A_MM = 512 / (2048 * 0.175)
"""JSRT's films are 2,048 pixels of 0.175 mm wide, here 512."""


def nih_records(folder: Path) -> Iterator[Study]:
    """One record an image, the boxes under their CheXpert names."""
    for row in rows(folder / "studies.jsonl"):
        labels, boxes = labels_and_boxes(row["nih_labels"], row["boxes"])
        split = patient_split(row["patient_id"])
        yield _image(row, f"nih-{row['patient_id']}", split, labels=labels, boxes=boxes)


def jsrt_records(folder: Path) -> Iterator[Study]:
    """Lung nodules with their side, and the size of the heart; nothing else was read."""
    for row in rows(folder / "studies.jsonl"):
        labels = _heart(row["ctr_from_masks"]) | {"Lung Lesion": int(row["nodule"])}
        boxes: list[Box] = []
        if row["nodule"]:
            side, other = ("Left", "Right") if row["location"].startswith("l") else ("Right", "Left")
            labels |= {f"{side} Lung Lesion": 1, f"{other} Lung Lesion": 0, "Lung Opacity": 1, "No Finding": 0}
            edge = row["nodule_mm"] * JSRT_PIXELS_A_MM
            x, y = row["nodule_x"] - edge / 2, row["nodule_y"] - edge / 2
            boxes = [{"source": "JSRT", "label": "Lung Lesion", "x": x, "y": y, "w": edge, "h": edge}]
        yield _image(row, f"jsrt-{row['patient_id']}", _split(f"jsrt/{row['patient_id']}"), labels=labels, boxes=boxes)


def wingspan_records(folder: Path) -> Iterator[Study]:
    """The size of the heart, as given or as measured on masks; nothing else was read."""
    for row in rows(folder / "studies.jsonl"):
        ratio = row["ctr_ground_truth"] or row["ctr_from_masks"]
        split = _split(f"wingspan/{row['patient_id']}")
        yield _image(row, f"wingspan-{row['patient_id']}", split, labels=_heart(ratio))


def iu_records(folder: Path) -> StudySet:
    """One record a report of R2Gen's training and validation splits, cleaned as `iu.py` does, labelled by the project's
    own labeler; images are not there."""
    splits, found = {"train": "train", "val": "validation"}, StudySet("iu", folder, [])
    for row in rows(folder / "reports.jsonl"):
        findings, impression = (row[part].strip() or None if row[part] else None for part in ("findings", "impression"))
        if row.get("r2gen_split") not in splits or not (findings or impression):
            continue
        study = Study(
            row["uid"],
            f"iu-{row['uid']}",
            splits[row["r2gen_split"]],
            indication=row["indication"] or None,
            findings=findings,
            impression=impression,
        )
        found.studies.append(study)
    clean_targets(found, compare=False)
    for study in found.studies:  # a clue that no sentence is left of would teach to leave a clue unsaid
        study.labels = label_report(report_text(study.findings, study.impression))
    return found


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _image(row: dict[str, Any], patient: str, split: str, **fields: Any) -> Study:
    name = Path(row["image"]).stem
    age = str(row.get("age") or "")
    return Study(
        name,
        patient,
        split,
        images=[{"path": row["image"], "view": "frontal"}],
        position=row.get("view_position"),
        sex=row.get("sex") or None,
        age=int(age) if age.isdigit() else None,
        **fields,
    )


def _heart(ratio: float) -> dict[str, int | None]:
    if ratio <= ENLARGED:
        return {"Cardiomegaly": 0}
    above: Sequence[str] = ancestors("Cardiomegaly")
    return {"Cardiomegaly": 1, "No Finding": 0, **dict.fromkeys(above, 1)}


def _split(key: str) -> str:
    return "validation" if share_of(key) < VALIDATION_SHARE else "train"
