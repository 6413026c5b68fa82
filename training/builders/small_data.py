"""The data of the small checkpoint: synthetic phantoms, labelled X-rays of three sources, Indiana University reports.

    python -m training.builders.small_data --out DIR [--data DIR] [--phantoms 8000]

Writes `phantoms/`, `followed/` (phantoms with a prior report; both with a card), `nih/`, `nih_128/`, `jsrt/`,
`wingspan_ctr/` and `iu/` (study records), the two tokenizers (of `phantoms/` and `iu/`), and `manifest.json` (counts a
split, what was left out and why, a hash). The real sets come from --data, $TRRG_DATA or ../shared/data (`small_sets.py`
says what is read of them); their images are linked, not copied. Splits: images by a fixed hash of the patient, the same
one in both NIH sets; IU by R2Gen's split (its test set, and reports without one, are not used); phantoms by index.
Never for clinical use.
"""

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from evaluation.reading.streaming import in_chunks, ordered_map
from training.builders.builder import NOTHING_LEFT
from training.builders.context_leaks import LeakCount
from training.builders.small_sets import iu_records, jsrt_records, nih_records, rows, wingspan_records
from training.builders.train_tokenizers import (
    texts_for_clues,
    texts_for_reports,
    train_clue_tokenizer,
    train_text_tokenizer,
)
from training.data.card import write_phantom_card
from training.data.study import Study, View, write_studies
from training.phantoms.follow_up import generate_followed
from training.phantoms.generate import Phantom, generate_phantom

ROOT = Path(__file__).resolve().parents[2]
PHANTOM_SEED = 2408
FOLLOWED_SEED = 2409
IMAGE_SETS = {
    "nih": nih_records, "nih_128": nih_records, "jsrt": jsrt_records, "wingspan_ctr": wingspan_records
}  # fmt: skip


def phantom_records(
    out: Path, generate: Callable[..., Phantom], seed: int, counts: Mapping[str, int], size: int, processes: int
) -> Iterator[Study]:
    """Draw the phantoms of each split, one after the other in index, and keep each as a PNG.

    Args:
        generate: `generate_phantom` or `generate_followed`.
        counts: split -> phantoms.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    splits = [split for split, count in counts.items() for _ in range(count)]
    draw = partial(_draw, out, generate, seed, size)
    with tqdm(total=len(splits), desc=out.name, unit="image") as bar:
        for studies in ordered_map(draw, in_chunks(enumerate(splits), 64), processes):
            yield from studies
            bar.update(len(studies))


def _draw(
    out: Path, generate: Callable[..., Phantom], seed: int, size: int, chunk: list[tuple[int, str]]
) -> list[Study]:
    studies = []
    for index, split in chunk:
        phantom = generate(seed, index, size)
        path = Path("images") / phantom.record.images[0]["path"]
        Image.fromarray(phantom.image).save(out / path, compress_level=1)
        images: list[View] = [{"path": str(path), "view": "frontal"}]
        studies.append(replace(phantom.record, split=split, images=images, boxes=phantom.boxes))
    return studies


def write_set(out: Path, studies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Write `studies.jsonl` and return its part of the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    splits, leaks = Counter[str](), LeakCount()

    def counted() -> Iterator[Mapping[str, Any]]:
        for study in studies:
            splits[study["split"]] += 1
            leaks.add(study)
            yield study

    file = out / "studies.jsonl"
    write_studies(file, counted())
    with file.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return {"studies": dict(splits), "sha256": digest, "context_leaks": leaks.manifest(out.name)}


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--phantoms", type=int, default=8000, help="training phantoms")
    parser.add_argument("--phantom-validation", type=int, default=400)
    parser.add_argument("--phantom-test", type=int, default=500)
    parser.add_argument(
        "--followed", type=int, nargs=3, default=(3000, 300, 400), metavar=("TRAIN", "VALIDATION", "TEST")
    )
    parser.add_argument("--processes", type=int, default=1, help="that draw phantoms")
    parser.add_argument("--size", type=int, default=224, help="side of a phantom in pixels")
    parser.add_argument("--text-vocab", type=int, default=2048)
    parser.add_argument("--clue-vocab", type=int, default=1024)
    arguments = parser.parse_args()
    iu = arguments.data / "iu_xray"
    needed = [arguments.data / name / part for name in IMAGE_SETS for part in ("studies.jsonl", "images")]
    missing = [str(path) for path in (*needed, iu / "reports.jsonl") if not path.exists()]
    if missing:
        parser.error(f"--data {arguments.data}: not there: {', '.join(missing)}")

    out = arguments.out
    manifest: dict[str, Any] = {
        "phantom_seed": PHANTOM_SEED,
        "followed_seed": FOLLOWED_SEED,
        "phantom_size": arguments.size,
    }
    for name, records in IMAGE_SETS.items():
        manifest[name] = write_set(out / name, records(arguments.data / name))
        _link(out / name / "images", arguments.data / name / "images")
    found = iu_records(iu)
    manifest["iu"] = {**write_set(out / "iu", found.studies), "targets": dict(found.targets)}
    reports = sum(1 for _ in rows(iu / "reports.jsonl"))
    manifest["iu"]["left_out"] = {
        "in R2Gen's test set, without an R2Gen split, or blank": reports - len(found.studies) - len(found.dropped),
        NOTHING_LEFT: len(found.dropped),
    }
    phantoms = (arguments.phantoms, arguments.phantom_validation, arguments.phantom_test)
    made = "python -m training.builders.small_data --out DIR --phantoms {} --phantom-validation {} --phantom-test {}"
    made = f"{made} --followed {{}} {{}} {{}} --size {arguments.size}".format(*phantoms, *arguments.followed)
    for name, generate, seed, numbers in (
        ("phantoms", generate_phantom, PHANTOM_SEED, phantoms),
        ("followed", generate_followed, FOLLOWED_SEED, arguments.followed),
    ):
        counts = dict(zip(("train", "validation", "test"), numbers, strict=True))
        studies = phantom_records(out / name, generate, seed, counts, arguments.size, arguments.processes)
        manifest[name] = write_set(out / name, studies)
        write_phantom_card(out / name, counts, arguments.size, made, name == "followed")

    folders = [out / "phantoms", out / "iu"]
    train_text_tokenizer(list(texts_for_reports(folders)), arguments.text_vocab).save_pretrained(out / "tokenizer")
    train_clue_tokenizer(list(texts_for_clues(folders)), arguments.clue_vocab).save_pretrained(out / "clue_tokenizer")
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(manifest, indent=1))


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
