"""The data of the small checkpoint: synthetic phantoms, NIH X-rays with labels, Indiana University reports.

    python -m training.builders.small_data --out DIR [--data DIR] [--phantoms 8000]

Writes `phantoms/`, `nih/` and `iu/` (study records), the two tokenizers, and `manifest.json` (counts a split, what was
left out and why, a hash). The real sets come from --data, $TRRG_DATA or ../shared/data; their images are linked, not
copied. Splits: NIH by a fixed hash of the patient; IU by R2Gen's split (its test set, and reports without one, are not
used); phantoms by index. Never for clinical use.
"""

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from evaluation.reading.labeler import label_report
from processing_trrg import report_text
from training.builders.builder import NOTHING_LEFT, StudySet, clean_targets
from training.builders.nih import labels_and_boxes, patient_split
from training.builders.train_tokenizers import (
    texts_for_clues,
    texts_for_reports,
    train_clue_tokenizer,
    train_text_tokenizer,
)
from training.data.study import Study, write_studies
from training.phantoms.generate import generate_phantom

ROOT = Path(__file__).resolve().parents[2]
PHANTOM_SEED = 2408


def nih_records(folder: Path) -> Iterator[Study]:
    """One record an image, the boxes under their CheXpert names."""
    for row in _rows(folder / "studies.jsonl"):
        labels, boxes = labels_and_boxes(row["nih_labels"], row["boxes"])
        yield Study(
            Path(row["image"]).stem,
            f"nih-{row['patient_id']}",
            patient_split(row["patient_id"]),
            images=[{"path": row["image"], "view": "frontal"}],
            labels=labels,
            boxes=boxes,
        )


def iu_records(folder: Path) -> StudySet:
    """One record a report, cleaned as `iu.py` does, labelled by the project's own labeler; images are not there."""
    splits, found = {"train": "train", "val": "validation"}, StudySet("iu", folder, [])
    for row in _rows(folder / "reports.jsonl"):
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
            labels=label_report(report_text(findings, impression)),
        )
        found.studies.append(study)
    clean_targets(found, compare=False)
    return found


def phantom_records(out: Path, counts: dict[str, int], size: int) -> Iterator[Study]:
    """Draw the phantoms of each split, one after the other in index, and keep each as a PNG."""
    index = 0
    (out / "images").mkdir(parents=True, exist_ok=True)
    with tqdm(total=sum(counts.values()), desc="phantoms", unit="image") as bar:
        for split, count in counts.items():
            for _ in range(count):
                phantom = generate_phantom(PHANTOM_SEED, index, size)
                path = Path("images") / phantom.record.images[0]["path"]
                Image.fromarray(phantom.image).save(out / path, compress_level=1)
                yield replace(
                    phantom.record, split=split, images=[{"path": str(path), "view": "frontal"}], boxes=phantom.boxes
                )
                index += 1
                bar.update()


def write_set(out: Path, studies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Write `studies.jsonl` and return its part of the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    splits = Counter[str]()

    def counted() -> Iterator[Mapping[str, Any]]:
        for study in studies:
            splits[study["split"]] += 1
            yield study

    file = out / "studies.jsonl"
    write_studies(file, counted())
    with file.open("rb") as written:
        return {"studies": dict(splits), "sha256": hashlib.file_digest(written, "sha256").hexdigest()}


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--phantoms", type=int, default=8000, help="training phantoms")
    parser.add_argument("--phantom-validation", type=int, default=400)
    parser.add_argument("--phantom-test", type=int, default=500)
    parser.add_argument("--size", type=int, default=224, help="side of a phantom in pixels")
    parser.add_argument("--text-vocab", type=int, default=2048)
    parser.add_argument("--clue-vocab", type=int, default=1024)
    arguments = parser.parse_args()
    nih, iu = arguments.data / "nih", arguments.data / "iu_xray"
    missing = [str(path) for path in (nih / "studies.jsonl", nih / "images", iu / "reports.jsonl") if not path.exists()]
    if missing:
        parser.error(f"--data {arguments.data}: not there: {', '.join(missing)}")

    out = arguments.out
    manifest: dict[str, Any] = {"phantom_seed": PHANTOM_SEED, "phantom_size": arguments.size}
    manifest["nih"] = write_set(out / "nih", nih_records(nih))
    _link(out / "nih" / "images", nih / "images")
    found = iu_records(iu)
    manifest["iu"] = {**write_set(out / "iu", found.studies), "targets": dict(found.targets)}
    reports = sum(1 for _ in _rows(iu / "reports.jsonl"))
    manifest["iu"]["left_out"] = {
        "in R2Gen's test set, without an R2Gen split, or blank": reports - len(found.studies) - len(found.dropped),
        NOTHING_LEFT: len(found.dropped),
    }
    counts = {
        "train": arguments.phantoms, "validation": arguments.phantom_validation, "test": arguments.phantom_test
    }  # fmt: skip
    manifest["phantoms"] = write_set(out / "phantoms", phantom_records(out / "phantoms", counts, arguments.size))

    folders = [out / "phantoms", out / "iu"]
    train_text_tokenizer(list(texts_for_reports(folders)), arguments.text_vocab).save_pretrained(out / "tokenizer")
    train_clue_tokenizer(list(texts_for_clues(folders)), arguments.clue_vocab).save_pretrained(out / "clue_tokenizer")
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(manifest, indent=1))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
