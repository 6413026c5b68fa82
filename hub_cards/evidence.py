"""Draw what a report rests on, a row a study: what was planted, what is seen, what is said.

    python -m hub_cards.evidence --checkpoint hub_cards/trrg-small --out hub_cards/evidence.png

draws README's picture. Its two studies are chosen by a rule: of the test phantoms (seed 12141) with two findings or
more, in their order, the first whose report is right and the first whose report names something that was not planted
or leaves out what was. A report is right when it names exactly what was planted, each finding on its side and with no
wrong size or zone, a device by its kind, and says no sentence twice.

Shapes: V views, H, W pixels, h, w patches.
"""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from transformers import pipeline

from evaluation.predictions.study_sources import CONTEXT_FIELDS, TEST_PHANTOM_SEED
from evaluation.reading.observations import NO_FINDING
from evaluation.reading.sides import side_and_finding
from hub_cards.report_words import report_boxes, report_sections
from hub_cards.space.page import colour, heat
from training.phantoms.generate import Phantom, phantoms
from training.phantoms.scoring import report_faults, report_sides, report_slips

BACKGROUND, PANEL, TEXT, MUTED = "#0d1117", "#161b22", "#e6edf3", "#8b949e"
EMPTY, BELOW, PLANTED, RIGHT, WRONG = "#21262d", "#6e7681", "#56d4dd", "#3fb950", "#ff7b72"
NUM_HEAT_MAPS = 3
MAX_BARS = 14
MAX_VIEWS = 4
TEST_PHANTOMS = 500
NOTICE = "Research only, never for clinical use."
# Inches: the picture's width, a radiograph's side, the names and the bars of the clues, gaps, and the lines around.
WIDTH, SIDE, NAMES, BARS, GAP, LIST, LEGEND = 12.2, 2.75, 1.95, 0.8, 0.2, 0.68, 0.8
LINE, WRAP = 0.168, 36  # of the report: inches a line, characters a line
STRIP = 1.4  # inches of the report before
SYNTHETIC = "SYNTHETIC phantom, no patient"
ALL_NAMED = "The report names exactly what was planted, each finding on its side, and no wrong size or zone."
NO_KINDS = "No clue tells the kinds of device apart: the language model guesses the kind."
SCALE = matplotlib.colormaps["inferno"]


class Clue(Protocol):
    """What of processing_trrg.ClueScore is drawn: score in 0..1, evidence `[V, h, w]` or None, and whether it passed
    its threshold."""

    name: str
    score: float
    evidence: NDArray | None
    selected: bool


@dataclass(frozen=True)
class Case:
    """One study of the picture.

    Attributes:
        title: what the study is.
        views: `[V, H, W]`, the radiographs as the model saw them, in any range of grey values; four views are drawn.
        clues: scores and evidence.
        sections: (heading, words) of the report.
        planted: a phantom's findings, each with its box (x, y, w, h) in fractions of the image; None for a real study.
        faults: what a phantom's report says wrong; None where nobody knows.
        note: why, in a sentence.
        boxes: source ("evidence" or "text") and place (x, y, w, h) on the first view, in fractions of the image.
        before: (heading, words) of the report of an earlier study, and of what changed since.
    """

    title: str
    views: NDArray
    clues: Sequence[Clue]
    sections: Sequence[tuple[str, str]]
    planted: Sequence[tuple[str, tuple[float, ...]]] | None = None
    faults: Sequence[str] | None = None
    note: str = ""
    boxes: Sequence[tuple[str, tuple[float, ...]]] = ()
    before: Sequence[tuple[str, str]] = ()


def phantom_case(phantom: Phantom, report: Any, views: NDArray) -> Case:
    """A phantom with the report written of it, and what is wrong in that."""
    size = phantom.image.shape[0]
    planted = [(finding.words, tuple(length / size for length in finding.box)) for finding in phantom.findings]
    faults = report_faults(phantom.findings, report.text)
    sides_agree = report_sides(report.text) == {finding.pair for finding in phantom.findings}
    note = NO_KINDS if faults and sides_agree else ""
    faults += report_slips(phantom.findings, report.text)
    return Case(SYNTHETIC, views, report.clues, report_sections(report), planted, faults, note, report_boxes(report))


def distinct(clues: Sequence[Clue]) -> list[Clue]:
    """The clues without a finding and its side twice, highest score first: selected sides stand for their finding, any
    other side is left out where its finding is a clue of its own."""
    names = {clue.name for clue in clues}
    sides = {clue.name: place[1] for clue in clues if (place := side_and_finding(clue.name))}
    told_by_side = {sides[clue.name] for clue in clues if clue.selected and clue.name in sides}
    kept = [
        clue
        for clue in clues
        if (clue.selected or sides[clue.name] not in names if clue.name in sides else clue.name not in told_by_side)
    ]
    return sorted(kept, key=lambda clue: clue.score, reverse=True)


def leading(clues: Sequence[Clue]) -> list[Clue]:
    """The clues that get heat: distinct, over their threshold, a finding, the highest first."""
    return [
        clue
        for clue in distinct(clues)
        if clue.selected and clue.evidence is not None and side_free(clue.name) != NO_FINDING
    ][:NUM_HEAT_MAPS]


def side_free(name: str) -> str:
    """A clue's finding, without its side."""
    place = side_and_finding(name)
    return place[1] if place else name


def spot(x: float, y: float, taken: list[tuple[float, float]], side: float) -> tuple[float, float]:
    """A place for a tag near x, y that covers no other tag and lies inside the picture; it is added to `taken`."""
    apart = 0.1 * side
    x, y = (min(max(value, 0.06 * side), 0.94 * side) for value in (x, y))
    steps = [(dx * apart, dy * apart) for dx in (0, 1, -1) for dy in (0, -1, 1)]
    for dx, dy in steps:
        place = x + dx, y + dy
        free = all(abs(place[0] - a) >= apart or abs(place[1] - b) >= apart for a, b in taken)
        if free and 0 < place[0] < side and 0 < place[1] < side:
            break
    taken.append(place)
    return place


def tag(axis: Axes, x: float, y: float, words: str, face: str) -> None:
    """A small round label at x, y in data units."""
    axis.text(
        x, y, words, color=BACKGROUND, fontsize=8.5, fontweight="bold", ha="center", va="center",
        bbox={"boxstyle": "circle,pad=0.22", "facecolor": face, "edgecolor": BACKGROUND, "linewidth": 0.8},
    )  # fmt: skip


def outline(axis: Axes, box: Sequence[float], edge: str, style: Any) -> None:
    """A box (x, y, w, h) in data units."""
    x, y, w, h = box
    axis.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=edge, linewidth=1.3, linestyle=style))


def draw_study(axes: Sequence[Axes], case: Case) -> None:
    """The radiographs, a phantom's with the boxes of what was planted."""
    side = case.views.shape[1]
    for axis, view in zip(axes, case.views, strict=False):
        axis.imshow(view, cmap="gray", interpolation="bilinear")
        taken: list[tuple[float, float]] = []
        for letter, (_, box) in zip("ABCDEF", case.planted or [], strict=False):
            x, y, w, h = (length * side for length in box)
            outline(axis, (x, y, w, h), PLANTED, (0, (4, 2)))
            tag(axis, *spot(x, y, taken, side), letter, PLANTED)


def draw_heat(axes: Sequence[Axes], case: Case) -> None:
    """The radiographs under the heat of the leading clues, each with its number where it is strongest, and the boxes of
    the report, those that the model wrote dotted."""
    height, width = case.views.shape[1:]
    maps = [heat(clue, height, width) for clue in leading(case.clues)]
    for axis, view in zip(axes, case.views, strict=False):
        axis.imshow(view, cmap="gray", interpolation="bilinear")
    for v, axis in enumerate(axes):
        if maps:
            axis.imshow(colour(np.max([strength[v] for strength in maps], axis=0)))
    taken: dict[int, list[tuple[float, float]]] = {}
    for number, strength in enumerate(maps, start=1):
        shown = strength[: len(axes)]
        place, y, x = map(int, np.unravel_index(shown.argmax(), shown.shape))
        tag(axes[place], *spot(x, y, taken.setdefault(place, []), width), str(number), TEXT)
    for source, box in case.boxes:
        outline(axes[0], [length * width for length in box], TEXT, ":" if source == "text" else "-")


def draw_bars(axis: Axes, clues: Sequence[Clue]) -> None:
    """A bar for each distinct clue; those that reached the language model coloured by their score."""
    shown = distinct(clues)[:MAX_BARS]
    numbers = {clue.name: number for number, clue in enumerate(leading(clues), start=1)}
    for row, clue in enumerate(shown):
        bright = TEXT if clue.selected else MUTED
        axis.barh(row, 1, color=EMPTY, height=0.5)
        axis.barh(row, clue.score, color=SCALE(0.25 + 0.65 * clue.score) if clue.selected else BELOW, height=0.5)
        axis.text(1.06, row, f"{clue.score:.2f}", va="center", color=bright, fontsize=8)
        words = textwrap.shorten(clue.name, 27, placeholder="...")
        axis.text(-(NAMES - 0.27) / BARS, row, words, va="center", color=bright, fontsize=8)
        if clue.name in numbers:
            tag(axis, -(NAMES - 0.12) / BARS, row, str(numbers[clue.name]), TEXT)
    axis.set_xlim(0, 1)
    axis.set_ylim(MAX_BARS - 0.4, -0.6)
    axis.set_axis_off()


def draw_words(axis: Axes, sections: Sequence[tuple[str, str]], height: float, wrap: int = WRAP) -> None:
    """The report, wrapped at so many characters; height of the panel in inches."""
    axis.set_facecolor(PANEL)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_frame_on(True)
    for spine in axis.spines.values():
        spine.set_visible(False)
    lines = [
        (line, MUTED if number == 0 else TEXT)
        for heading, words in sections
        for number, line in enumerate([heading, *textwrap.wrap(words, wrap), ""])
    ]
    room = int((height - 0.2) / LINE)
    if len(lines) > room:
        lines = [*lines[: room - 1], ("... (all of it in report.json)", MUTED)]
    for number, (line, shade) in enumerate(lines):
        y = 1 - (0.2 + LINE * number) / height
        axis.text(1.8 / wrap, y, line, color=shade, fontsize=8.7, va="center", transform=axis.transAxes)


def draw_legend(figure: Figure, cases: Sequence[Case], caption: str, height: float) -> None:
    """What colours and marks mean, below everything; height of the figure in inches."""
    axis = figure.add_axes((0, 0, 1, LEGEND / height))
    axis.set_xlim(0, WIDTH)
    axis.set_ylim(0, LEGEND)
    axis.set_axis_off()
    entries: list[tuple[str, float]] = [
        ("where it was planted", 1.95 if any(case.planted is not None for case in cases) else 0),
        (f"heat: support by a patch above the median, times the score; {NUM_HEAT_MAPS} leading clues", 5.55),
        ("reached the language model", 2.3),
        ("under its threshold", 1.0),
    ]
    x, y = GAP, 0.5
    for number, (words, wide) in enumerate(entries):
        if not wide:
            continue
        if number == 0:
            axis.add_patch(Rectangle((x, y - 0.07), 0.3, 0.14, fill=False, edgecolor=PLANTED, linestyle=(0, (4, 2))))
        elif number == 1:
            axis.imshow(colour(np.linspace(0, 1, 64)[None]), extent=(x, x + 0.3, y - 0.07, y + 0.07), aspect="auto")
        else:
            axis.add_patch(Rectangle((x, y - 0.05), 0.3, 0.1, color=SCALE(0.9) if number == 2 else BELOW))
        axis.text(x + 0.38, y, words, color=MUTED, fontsize=8.5, va="center")
        x += wide
    axis.text(GAP, 0.18, caption, color=MUTED, fontsize=8.5, va="center")
    axis.set_xlim(0, WIDTH)
    axis.set_ylim(0, LEGEND)


def told(case: Case) -> list[str]:
    """Why a phantom's report is right or wrong, in lines."""
    if case.faults is None:
        return []
    reason = f"The report {' and '.join(case.faults)}. {case.note}" if case.faults else ALL_NAMED
    return textwrap.wrap(reason, 130, max_lines=3, placeholder="...")


def header(case: Case) -> float:
    """Inches above a row's pictures."""
    return 0.55 + 0.2 * max(len(told(case)), 1)


def draw_case(figure: Figure, case: Case, top: float, height: float) -> None:
    """One row, `top` inches above the figure's lower edge; `height` is the figure's."""
    above = header(case)
    tall = SIDE * len(case.views)

    def axes(left: float, below: float, width: float, high: float) -> Axes:
        """Axes at a place given in inches from the row's upper left corner."""
        return figure.add_axes((left / WIDTH, (top - below - high) / height, width / WIDTH, high / height))

    def write(left: float, below: float, words: str, shade: str, size: float, weight: str = "normal") -> None:
        x, y = left / WIDTH, (top - below) / height
        figure.text(x, y, words, color=shade, fontsize=size, fontweight=weight, va="center")

    second, third = GAP + SIDE + GAP, GAP + SIDE + GAP + SIDE + 0.1 + NAMES + BARS + 0.45
    mark, shade = ("✗ Wrong", WRONG) if case.faults else ("✓ Right", RIGHT)
    if case.faults is None:
        mark, shade = case.title, TEXT
    write(GAP, 0.25, mark, shade, 11, "bold")
    for number, line in enumerate(told(case)):
        write(GAP + 0.95, 0.25 + 0.2 * number, line, TEXT, 9.5)
    headings = ("What was planted" if case.planted is not None else "The radiograph", "What is seen", "What is said")
    if any(source == "text" for source, _ in case.boxes):
        headings = (headings[0], "What is seen; dotted: as the model says", headings[2])
    for left, heading in zip((GAP, second, third), headings, strict=True):
        write(left, above - 0.17, heading, MUTED, 9.5, "bold")

    studies, maps = (
        [axes(left, above + SIDE * v, SIDE, SIDE - 0.06) for v in range(len(case.views))] for left in (GAP, second)
    )
    draw_study(studies, case)
    draw_heat(maps, case)
    for axis in (*studies, *maps):
        axis.set_anchor("NW")
        axis.set_axis_off()
    for number, (letter, (words, _)) in enumerate(zip("ABCDEF", case.planted or [], strict=False)):
        write(GAP, above + tall + 0.1 + 0.19 * number, f"{letter}  {words}", PLANTED, 8.7)
    if case.planted == []:
        write(GAP, above + tall + 0.1, "nothing", PLANTED, 8.7)
    draw_bars(axes(second + SIDE + 0.1 + NAMES, above, BARS, SIDE + 0.3), case.clues)
    draw_words(axes(third, above, WIDTH - third - GAP, tall + 0.5), case.sections, tall + 0.5)
    if case.before:
        draw_words(axes(GAP, above + tall + LIST, WIDTH - 2 * GAP, STRIP), case.before, STRIP, 160)


def draw_evidence(path: Path, cases: Sequence[Case], caption: str) -> None:
    """Write the picture of some studies, a row each, to the PNG file `path`."""
    cases = [replace(case, views=case.views[:MAX_VIEWS]) for case in cases]
    rows = [header(case) + SIDE * len(case.views) + LIST + (STRIP + GAP) * bool(case.before) for case in cases]
    height = sum(rows) + LEGEND
    figure = plt.figure(figsize=(WIDTH, height), facecolor=BACKGROUND)
    top = height
    for case, row in zip(cases, rows, strict=True):
        draw_case(figure, case, top, height)
        top -= row
    draw_legend(figure, cases, caption, height)
    figure.savefig(path, dpi=130, facecolor=BACKGROUND)
    plt.close(figure)


def right_and_wrong(write: Any, size: int = 224, most: int = TEST_PHANTOMS) -> list[tuple[Phantom, Case]]:
    """The two studies of README's picture, by the rule at the top of this file; one where the other does not occur.

    Args:
        write: the pipeline "radiology-report".
        size: of the phantoms, in pixels.
        most: phantoms that are looked at.
    """
    found: dict[bool, tuple[Phantom, Case]] = {}
    for phantom in phantoms(TEST_PHANTOM_SEED, most, size):
        if len(phantom.findings) >= 2:
            context = {name: getattr(phantom.record, name) for name in CONTEXT_FIELDS}
            report = write(phantom.image, **context)
            case = phantom_case(phantom, report, write.image_processor.squares([phantom.image]))
            faults = report_faults(phantom.findings, report.text)
            if faults or not case.faults:
                found.setdefault(not faults, (phantom, case))
        if len(found) == 2:
            break
    return [found[right] for right in (True, False) if right in found]


def main() -> None:
    """Draw the README's picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint with clues")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    args = parser.parse_args()
    write = pipeline("radiology-report", model=str(args.checkpoint), trust_remote_code=True)
    cases = [case for _, case in right_and_wrong(write)]
    draw_evidence(args.out, cases, f"SYNTHETIC phantoms, no patients. {args.checkpoint.name}. {NOTICE}")
    print(f"Wrote {args.out}: {', '.join('wrong' if case.faults else 'right' for case in cases)}. {NOTICE}")


if __name__ == "__main__":
    main()
