"""A `StudySet` -> `datasets` shards that `training/data/study.py` reads: images decoded once, as grey PNG bytes.

    out/<split>/data-00000-<digest>.arrow   at most `STUDIES_A_SHARD` studies, written whole or not at all
    out/<split>/state.json, dataset_info.json, out/dataset_dict.json   written last: without them the set is not ready
    out/manifest.json, out/dropped.csv      counts, what was dropped and why, hashes

A shard's digest is that of its records, sizes of image files, and `size`: a build that was killed, or that stopped at
an unreadable image and got a --skip-file, makes only the shards that lack. Memory holds a few images at a time.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import torch
from datasets import DatasetInfo, Features, List, Value
from PIL import Image
from tqdm import tqdm

from evaluation.reading.observations import CHEXPERT_14
from processing_trrg import read_radiograph, stretch
from training.builders.builder import StudySet, TreeError
from training.builders.context_leaks import LeakCount
from training.data.study import Box, Study

STUDIES_A_SHARD = 128
STUDIES_A_BATCH = 8
"""Of an Arrow record batch, held in memory while it is written."""
FORMAT = 1
"""Of the records and pixels; part of every digest."""

_TEXT = ("study_id", "patient_id", "split", "indication", "technique", "comparison", "prior_report", "findings",
         "impression")  # fmt: skip
_VIEW = {"path": Value("string"), "view": Value("string")}
FEATURES = Features(
    {name: Value("string") for name in _TEXT}
    | {
        "images": List({**_VIEW, "bytes": Value("binary")}),
        "prior_images": List(_VIEW),
        "labels": {name: Value("int8") for name in CHEXPERT_14},
        "boxes": List(
            {"label": Value("string"), "source": Value("string")} | {side: Value("float64") for side in "xywh"}
        ),
    }
)


@dataclass(frozen=True)
class Shard:
    """One file to write: records without bytes, whose paths are relative to `root`."""

    file: Path
    root: Path
    records: list[Study]
    size: int


def write_set(found: StudySet, out: Path, size: int, workers: int, skipped: Set[str]) -> dict[str, Any]:
    """Write the shards that lack, then the files that make them a `DatasetDict`, and return the manifest.

    Raises:
        RadiographError: an image cannot be read; names its path.
        TreeError: `out` holds something else, or no study is left.
    """
    _open_folder(out, found.name)
    shards = _plan(found, out, size, skipped)
    if not shards:
        _write_dropped(found, out)
        reasons = "; ".join(f"{count:,}: {reason}" for reason, count in _reasons(found).items())
        raise TreeError(f"{found.root}: no study is left, see {out / 'dropped.csv'} ({reasons or 'there was none'})")
    (out / "dataset_dict.json").unlink(missing_ok=True)
    for partial in out.glob("*/*.partial"):
        partial.unlink()
    lacking = [shard for shard in shards if not shard.file.exists()]
    total = sum(len(shard.records) for shard in shards)
    with tqdm(
        total=total,
        initial=total - sum(len(shard.records) for shard in lacking),
        desc=f"decode {found.name}",
        unit="study",
    ) as bar:
        for count in _write(lacking, workers):
            bar.update(count)
    return _finish(found, out, size, shards, skipped)


def encode_view(path: Path, size: int) -> tuple[bytes, float]:
    """One radiograph as 8-bit grey PNG bytes, longer side at most `size` pixels, and the factor it was scaled by.

    The 8 bits go from the smallest to the largest value, whatever a model's image processor makes of them later: its
    rules do not depend on the unit. But a smaller image may lack the one brightest or darkest pixel, so grey values may
    differ slightly from those of the original.
    """
    grey = stretch(*read_radiograph(path), "min_max")
    scale = min(1.0, size / max(grey.shape))
    if scale < 1:
        sides = tuple(max(1, round(side * scale)) for side in grey.shape)
        smaller = torch.nn.functional.interpolate(
            torch.from_numpy(grey)[None, None], sides, mode="bicubic", align_corners=False, antialias=True
        )
        grey = smaller.clamp(0, 1)[0, 0].numpy()
    buffer = BytesIO()
    Image.fromarray((grey * 255).round().astype(np.uint8)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue(), scale


def write_shard(shard: Shard) -> int:
    """Decode and write one shard under a name that counts only when it is whole; returns its number of studies."""
    partial = shard.file.with_suffix(".partial")
    schema = FEATURES.arrow_schema
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for start in range(0, len(shard.records), STUDIES_A_BATCH):
            rows = [_with_bytes(record, shard) for record in shard.records[start : start + STUDIES_A_BATCH]]
            stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    partial.replace(shard.file)
    return len(shard.records)


def _write(shards: list[Shard], workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(write_shard, shards)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(write_shard, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _with_bytes(study: Study, shard: Shard) -> dict[str, Any]:
    images, boxes = [], study.boxes
    for image in study.images:
        data, scale = encode_view(shard.root / image["path"], shard.size)
        images.append({**image, "bytes": data})
        boxes = [_scaled(box, scale) for box in boxes]  # sets with boxes have one image a study
    return {**study, "images": images, "boxes": boxes}


def _scaled(box: Box, scale: float) -> Box:
    x, y, w, h = (round(box[side] * scale, 2) for side in ("x", "y", "w", "h"))
    return {**box, "x": x, "y": y, "w": w, "h": h}


def _open_folder(out: Path, name: str) -> None:
    mark = out / "build.json"
    if mark.is_file():
        there = json.loads(mark.read_text(encoding="utf-8"))["data_set"]
        if there != name:
            raise TreeError(f"{out}: holds a build of {there!r}, not of {name!r}; give another --out")
        return
    if out.exists() and any(path.suffix != ".partial" for path in out.iterdir()):
        raise TreeError(f"{out}: not empty and no build of this command; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    _write_json(mark, {"data_set": name})


def _plan(found: StudySet, out: Path, size: int, skipped: Set[str]) -> list[Shard]:
    """Shards are cut before anything is skipped, so that skipping an image changes only the shards that name it."""
    by_split: dict[str, list[Study]] = {}
    for record in found.studies:
        by_split.setdefault(str(record.split), []).append(record)
    shards = []
    for split, records in sorted(by_split.items()):
        (out / split).mkdir(exist_ok=True)
        for number, start in enumerate(range(0, len(records), STUDIES_A_SHARD)):
            kept = []
            for record in records[start : start + STUDIES_A_SHARD]:
                left, prior = (
                    [image for image in images if image["path"] not in skipped]
                    for images in (record.images, record.prior_images)
                )
                if left:
                    kept.append(replace(record, images=left, prior_images=prior))
                else:
                    found.dropped.append((record.study_id, "every image is in the skip file"))
            if kept:
                digest = _digest(kept, found.root, size)
                shards.append(Shard(out / split / f"data-{number:05d}-{digest}.arrow", found.root, kept, size))
    return shards


def _digest(records: list[Study], root: Path, size: int) -> str:
    sizes = [(root / image["path"]).stat().st_size for record in records for image in record.images]
    text = json.dumps([FORMAT, size, sizes, [dict(record) for record in records]], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _finish(found: StudySet, out: Path, size: int, shards: list[Shard], skipped: Set[str]) -> dict[str, Any]:
    hashes = {
        shard.file: _sha256(shard.file) for shard in tqdm(shards, desc=f"hash {found.name}", unit="shard", leave=False)
    }
    splits = sorted({shard.file.parent.name for shard in shards})
    for split in splits:
        files = [shard.file for shard in shards if shard.file.parent.name == split]
        DatasetInfo(features=FEATURES).write_to_directory(str(out / split))
        state: dict[str, Any] = {
            "_data_files": [{"filename": file.name} for file in files],
            "_fingerprint": _joined(hashes[file] for file in files)[:16],
            "_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False,
            "_split": split,
        }  # fmt: skip
        _write_json(out / split / "state.json", state)
    wanted = {shard.file for shard in shards}
    for old in out.glob("*/data-*.arrow"):
        if old not in wanted:
            old.unlink()
    _write_dropped(found, out)
    manifest = _manifest(found, size, shards, skipped, _joined(hashes.values()))
    _write_json(out / "manifest.json", manifest)
    _write_json(out / "dataset_dict.json", {"splits": splits})
    return manifest


def _manifest(found: StudySet, size: int, shards: list[Shard], skipped: Set[str], shards_hash: str) -> dict[str, Any]:
    by_split: dict[str, list[Study]] = {}
    for shard in shards:
        by_split.setdefault(shard.file.parent.name, []).extend(shard.records)
    counts = {}
    for split, records in by_split.items():
        counts[split] = {
            "studies": len(records),
            "patients": len({record.patient_id for record in records}),
            "images": sum(len(record.images) for record in records),
            "frontal": sum(image["view"] == "frontal" for record in records for image in record.images),
            **{part: sum(bool(record[part]) for record in records)
               for part in ("findings", "impression", "indication", "technique", "comparison", "prior_report")},
            "labelled": sum(any(v is not None for v in (record.labels or {}).values()) for record in records),
        }  # fmt: skip
    everything = [dict(record) for records in by_split.values() for record in records]
    return {
        "data_set": found.name,
        "choices": {**found.choices, "size": size},
        "splits": counts,
        "dropped": _reasons(found),
        "targets": dict(sorted(found.targets.items())),
        "context_leaks": LeakCount(record for records in by_split.values() for record in records).manifest(found.name),
        "skipped_images": sorted(skipped),
        "inputs_sha256": {path.name: _sha256(path) for path in found.inputs},
        "records_sha256": hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest(),
        "shards_sha256": shards_hash,
        "made_with": {"pillow": PIL.__version__, "pyarrow": pa.__version__, "torch": torch.__version__},
    }


def _write_dropped(found: StudySet, out: Path) -> None:
    with (out / "dropped.csv").open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["study_id", "reason"])
        rows.writerows(sorted(found.dropped))


def _reasons(found: StudySet) -> dict[str, int]:
    return dict(sorted(Counter(reason for _, reason in found.dropped).items()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _joined(hashes: Iterable[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
