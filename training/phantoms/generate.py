"""Phantoms: SYNTHETIC chest radiographs with planted findings, their report, labels and boxes. Never for clinical use.

A phantom is drawn, not learned: `generate_phantom(seed, index)` draws an anatomy, plants findings in it and words the
report. It is what tests, CI and the README run on where no patient's image may be shipped. No number measured on
phantoms says anything about patients.

    python -m training.phantoms.generate --count 12 --out DIR
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin
from tqdm import tqdm

from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, Labels, ancestors
from training.data.card import write_phantom_card
from training.data.study import Box, Study, write_studies
from training.phantoms.drawing import Anatomy, Array
from training.phantoms.findings import Plan, draw_phantom, plan_findings
from training.phantoms.report import (
    LABEL_OF,
    PlantedFinding,
    write_report,
)

MIN_SIZE = 64  # pixels; below it a small nodule is a pixel or two


@dataclass(frozen=True)
class Phantom:
    """A SYNTHETIC study.

    Attributes:
        image: uint8 [H, W].
        record: its study, without boxes, which depend on the size.
    """

    image: Array
    record: Study
    findings: tuple[PlantedFinding, ...]

    @property
    def boxes(self) -> list[Box]:
        """Where each finding is, in pixels of the image, under its CheXpert name."""
        return [
            {"label": LABEL_OF[finding.name], "side": finding.side, "x": x, "y": y, "w": w, "h": h}
            for finding in self.findings
            for x, y, w, h in (finding.box,)
        ]


def generate_phantom(seed: int, index: int, size: int = 224) -> Phantom:
    """Phantom `index` of `seed`, the same whatever was generated before. Findings and words do not depend on `size`.

    The record's split is None: which seeds or indices are train and which are test is the caller's choice.

    Args:
        seed, index: 0 or more.
        size: side of the square image in pixels, at least `MIN_SIZE`.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: a number is out of range.
    """
    anatomy = phantom_anatomy(seed, index, size)
    plans = plan_findings(anatomy, np.random.default_rng((seed, index, 1)))
    text = write_report([plan.finding for plan in plans], np.random.default_rng((seed, index, 3)))
    return draw_study(f"phantom-{seed}-{index}", anatomy, plans, size, (seed, index, 2), text)


def phantom_anatomy(seed: int, index: int, size: int) -> Anatomy:
    """The anatomy of phantom `index` of `seed`. Raises as `generate_phantom`."""
    _check("seed", seed, 0)
    _check("index", index, 0)
    _check("size", size, MIN_SIZE)
    return Anatomy.sample(np.random.default_rng((seed, index, 0)))


def draw_study(
    study_id: str,
    anatomy: Anatomy,
    plans: Sequence[Plan],
    size: int,
    stream: tuple[int, int, int],
    text: Mapping[str, str],
) -> Phantom:
    """The phantom of a plan, with its report; `stream` as for `draw_phantom`."""
    image, boxes = draw_phantom(anatomy, plans, size, stream)
    findings = tuple(replace(plan.finding, box=box) for plan, box in zip(plans, boxes, strict=True))
    record = Study(
        study_id,
        study_id,
        None,
        images=[{"path": f"{study_id}.png", "view": "frontal"}],
        technique="Synthetic phantom, single frontal view.",
        indication=text["indication"],
        findings=text["findings"],
        impression=text["impression"],
        labels=_labels(findings),
        synthetic=True,
    )
    return Phantom(image, record, findings)


def phantoms(seed: int, count: int, size: int = 224, start: int = 0) -> Iterator[Phantom]:
    """Phantoms `start` to `start + count - 1` of `seed`. Raises as `generate_phantom`, before the first one."""
    _check("seed", seed, 0)
    _check("count", count, 0)
    _check("size", size, MIN_SIZE)
    _check("start", start, 0)
    return (generate_phantom(seed, index, size) for index in range(start, start + count))


def _check(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")


def _labels(findings: tuple[PlantedFinding, ...]) -> Labels:
    """Nothing but what is planted is drawn, so all else is absent. Not known is what a planted finding is a kind of (a
    nodule of an opacity), which no report of ours says, and whether a mediastinum counts as enlarged."""
    planted = {LABEL_OF[f.name] for f in findings}
    labels: Labels = {label: int(label in planted) for label in CHEXPERT_14}
    labels |= dict.fromkeys((kind for label in planted for kind in ancestors(label)), None)
    return labels | {NO_FINDING: int(not planted), "Enlarged Cardiomediastinum": None}


def contact_sheet(batch: list[Phantom], columns: int = 4) -> Image.Image:
    """The phantoms side by side with their boxes drawn, under a line that calls them synthetic."""
    size, line = batch[0].image.shape[0], 40
    rows = -(-len(batch) // columns)
    sheet = Image.new("RGB", (columns * size, line + rows * (size + line)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((4, 4), "SYNTHETIC phantoms, never for clinical use", fill="black")
    for i, phantom in enumerate(batch):
        left, top = (i % columns) * size, line + (i // columns) * (size + line)
        sheet.paste(Image.fromarray(phantom.image).convert("RGB"), (left, top + line))
        names = "\n".join(finding.words for finding in phantom.findings)
        pen.text((left + 2, top + 1), names, fill="black", font_size=9)
        for x, y, w, h in (f.box for f in phantom.findings):
            pen.rectangle([left + x, top + line + y, left + x + w - 1, top + line + y + h - 1], outline="yellow")
    return sheet


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description="Write SYNTHETIC chest radiographs with reports, labels and boxes.")
    parser.add_argument("--count", type=int, required=True, help="number of phantoms, at least 1")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for PNGs, studies.jsonl, card and contact sheet"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", help="the split that studies.jsonl names")
    parser.add_argument("--size", type=int, default=224, help="side of the image in pixels")
    args = parser.parse_args()
    try:
        _check("--count", args.count, 1)
        source = phantoms(args.seed, args.count, args.size)
    except ValueError as error:
        parser.error(str(error))
    args.out.mkdir(parents=True, exist_ok=True)
    note = PngImagePlugin.PngInfo()
    note.add_text("Description", "SYNTHETIC chest radiograph (TRRG phantom), never for clinical use")
    shown: list[Phantom] = []
    seconds = 0.0

    def drawn() -> Iterator[Study]:
        nonlocal seconds
        begin = time.process_time()
        for phantom in tqdm(source, total=args.count, unit="image"):
            seconds += time.process_time() - begin
            Image.fromarray(phantom.image).save(args.out / phantom.record.images[0]["path"], pnginfo=note)
            shown.extend([phantom] if len(shown) < 48 else [])
            yield replace(phantom.record, split=args.split, boxes=phantom.boxes)
            begin = time.process_time()

    write_studies(args.out / "studies.jsonl", drawn())
    contact_sheet(shown).save(args.out / "contact_sheet.png", pnginfo=note)
    command = f"python -m training.phantoms.generate --count {args.count} --seed {args.seed} --size {args.size}"
    write_phantom_card(args.out, {args.split: args.count}, args.size, f"{command} --split {args.split} --out DIR")
    rate = args.count / seconds
    print(f"{args.count} synthetic phantoms of {args.size} px in {args.out}: {rate:.0f} images a second of one core")


if __name__ == "__main__":
    main()
