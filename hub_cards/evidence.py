"""Draw what a report rests on: the radiograph, the heat maps of its leading clues, a bar for each clue, the words.

Shapes: V views, H, W pixels, h, w patches.
"""

import textwrap
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

BACKGROUND, PANEL, TEXT, MUTED, ACCENT = "#0d1117", "#161b22", "#e6edf3", "#8b949e", "#f78166"
NUM_HEAT_MAPS = 3
MAX_BARS = 24
MAX_VIEWS = 4
WRAP = 80  # characters a line of the report panel
WIDTH, VIEW_SIDE, BOTTOM = 13.0, 3.15, 3.9  # inches: the picture, a view with its gap, bars and words
MAX_LINES = 15


class Clue(Protocol):
    """What of processing_trrg.ClueScore is drawn: score in 0..1, evidence `[V, h, w]` or None."""

    name: str
    score: float
    evidence: NDArray | None


def short(name: str) -> str:
    """A clue's name in at most 30 characters."""
    return textwrap.shorten(name, 30, placeholder="...")


def heat(evidence: NDArray, height: int, width: int) -> NDArray:
    """Evidence maps `[V, h, w]` to colours `[V, H, W, 4]`: clear up to the median of all views, full at the largest."""
    low, high = float(np.median(evidence)), float(evidence.max())
    relative = (evidence - low) / max(high - low, 1e-6)
    smooth = [
        np.asarray(Image.fromarray(view.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for view in relative
    ]
    strength = np.clip(np.stack(smooth), 0, 1)
    colours = matplotlib.colormaps["inferno"](0.35 + 0.5 * strength)
    colours[..., 3] = 0.7 * strength
    return colours


def draw_views(rows: list[list[Axes]], views: NDArray, leading: list[Clue]) -> None:
    """One row a view: the radiograph, then the same under the heat map of each leading clue."""
    height, width = views.shape[1:]
    titles = [("What the model sees", TEXT), *((f"{short(clue.name)}  {clue.score:.2f}", ACCENT) for clue in leading)]
    maps = [heat(np.asarray(clue.evidence), height, width) for clue in leading]
    for v, axes in enumerate(rows):
        for column, axis in enumerate(axes):
            axis.set_axis_off()
            if column < len(titles):
                axis.imshow(views[v], cmap="gray", interpolation="bilinear")
            if 0 < column < len(titles):
                axis.imshow(maps[column - 1][v])
    for axis, (title, colour) in zip(rows[0], titles, strict=False):
        axis.set_title(title, color=colour, fontsize=12, pad=8, loc="left")


def draw_bars(axis: Axes, clues: list[Clue]) -> None:
    """One bar a clue, its score beside it."""
    scores = [clue.score for clue in clues]
    positions = range(len(clues))
    size = 10 if len(clues) <= 14 else 7.5
    axis.barh(positions, np.ones(len(clues)), color="#21262d", height=0.62)
    axis.barh(positions, scores, color=[ACCENT if score >= 0.5 else "#6e7681" for score in scores], height=0.62)
    for position, score in zip(positions, scores, strict=True):
        axis.text(1.02, position, f"{score:.2f}", va="center", color=TEXT if score >= 0.5 else MUTED, fontsize=size)
    axis.axvline(0.5, color=BACKGROUND, linewidth=1.2)
    axis.set_yticks(positions, [short(clue.name) for clue in clues], color=TEXT, fontsize=size)
    axis.set_xlim(0, 1.12)
    axis.set_xticks([])
    axis.set_frame_on(False)
    axis.invert_yaxis()
    axis.tick_params(length=0, pad=8)
    axis.set_title("Clue scores", color=TEXT, fontsize=12, pad=8, loc="left")


def draw_words(axis: Axes, sections: list[tuple[str, str]]) -> None:
    """The report, section by section, at most MAX_LINES lines."""
    axis.set_facecolor(PANEL)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title("Report", color=TEXT, fontsize=12, pad=8, loc="left")
    lines = [
        (line, MUTED if number == 0 else TEXT)
        for heading, words in sections
        for number, line in enumerate([heading.upper(), *textwrap.wrap(words, WRAP), ""])
    ]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], ("... (all of it in report.json)", MUTED)]
    for number, (line, colour) in enumerate(lines):
        axis.text(0.03, 0.91 - 0.062 * number, line, color=colour, fontsize=10.5, va="center", transform=axis.transAxes)


def draw_evidence(path: Path, views: NDArray, clues: list[Clue], sections: list[tuple[str, str]], caption: str) -> None:
    """Write the picture to `path`.

    Args:
        path: PNG file to write.
        views: `[V, H, W]`, the radiographs as the model saw them, in any range of grey values; four views are drawn.
        clues: scores and evidence; the leading ones get a heat map, the first MAX_BARS by score a bar.
        sections: (heading, words) of the report.
        caption: what the study is, and what this must not be used for.
    """
    views = views[:MAX_VIEWS]
    ranked = sorted(clues, key=lambda clue: clue.score, reverse=True)
    leading = [clue for clue in ranked if clue.evidence is not None][:NUM_HEAT_MAPS]
    num_views = len(views)

    height = VIEW_SIDE * num_views + BOTTOM + 0.95
    figure = plt.figure(figsize=(WIDTH, height), facecolor=BACKGROUND)

    def axes(left: float, bottom: float, width: float, tall: float) -> Axes:
        """Axes at a place given in inches."""
        return figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, tall / height))

    rows = [
        [axes(0.25 + 3.15 * c, height - 0.45 - VIEW_SIDE * (v + 1), 3.05, 3.05) for c in range(1 + NUM_HEAT_MAPS)]
        for v in range(num_views)
    ]
    draw_views(rows, views, leading)
    draw_bars(axes(2.5, 0.5, 3.4, BOTTOM - 0.5), ranked[:MAX_BARS])
    draw_words(axes(6.55, 0.5, WIDTH - 6.55 - 0.25, BOTTOM - 0.5), sections)
    figure.text(0.25 / WIDTH, 0.17 / height, caption, color=MUTED, fontsize=10)
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)
    plt.close(figure)
