"""How right the boxes of findings are: IoU, and RadFact's pixel precision and recall.

RadFact compares areas, not boxes: what a report says of a finding's place is right when at least half of its pixels lie
in the finding's true boxes, and a true place is found when half of it lies in what is said. Here a finding is its name,
without a side; RadFact has a language model judge whether sentences say the same.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.metrics.resampling import patient_bootstrap, with_interval

PIXELS = 224
"""Of the grid's side, as in RadFact."""
ENTAILED = 0.5
FIGURES = (
    "found", "iou", "pixel_precision", "pixel_recall", "spatial_precision", "spatial_recall", "grounding_precision",
    "grounding_recall",
)  # fmt: skip
"""Of the findings that have true boxes, the share that has one, mean IoU and mean pixel recall (0 for no box) and the
share with a pixel recall of half (spatial recall); the same share and pixel precision of those that have a box
(grounding). Spatial precision is of all findings with a box, where all true places are known."""

Boxes = Sequence[tuple[float, float, float, float]]
"""x, y, width and height in pixels of the image."""


def area(boxes: Boxes, height: int, width: int) -> np.ndarray:
    """Boxes of an image of `height` x `width` pixels on the grid, bool `[PIXELS, PIXELS]`; each has a cell at least."""
    grid = np.zeros((PIXELS, PIXELS), bool)
    for x, y, w, h in boxes:
        (left, right), (top, bottom) = (
            (low := min(round(first * PIXELS / side), PIXELS - 1), max(round(last * PIXELS / side), low + 1))
            for first, last, side in ((x, x + w, width), (y, y + h, height))
        )
        grid[max(top, 0) : bottom, max(left, 0) : right] = True
    return grid


def judge(
    said: Mapping[str, Boxes], true: Mapping[str, Boxes], height: int, width: int, complete: bool
) -> list[list[float]]:
    """`FIGURES` of each finding of a study, NaN where one does not count.

    Args:
        said, true: boxes by finding.
        height, width: of the image.
        complete: whether all true places are known, so that any other finding with a box is wrong.
    """
    rows = []
    for finding, boxes in true.items():
        there, here = area(boxes, height, width), area(said.get(finding, ()), height, width)
        both = int((there & here).sum())
        precision, recall = both / here.sum() if here.any() else np.nan, both / there.sum()
        right = float(precision >= ENTAILED) if here.any() else np.nan
        found = float(recall >= ENTAILED)
        spatial = right if complete else np.nan
        iou, grounded = both / (there | here).sum(), found if here.any() else np.nan
        rows.append([float(here.any()), iou, precision, recall, spatial, found, right, grounded])
    nowhere = [0.0 if name == "spatial_precision" else np.nan for name in FIGURES]
    return rows + [nowhere for finding, boxes in said.items() if complete and boxes and finding not in true]


def means(rows: Sequence[Sequence[float]], patients: Sequence[str], resamples: int, seed: int = 0) -> list[dict]:
    """The mean of each column of `[n, K]`, NaN left out, with its interval over patients and `n`, what it counts.

    patients: `[n]`, of each row.
    """
    table = np.array(rows, float)
    known = ~np.isnan(table)
    values = np.where(known, table, 0.0)

    def mean(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ values) / (weights @ known)

    value = mean(np.ones(len(table)))
    draws = patient_bootstrap(patients, mean, resamples, seed) if resamples else None
    counts = known.sum(0)
    return [
        with_interval(value[k], None if draws is None else draws[:, k]) | {"n": int(counts[k])}
        if counts[k]
        else {"value": None, "low": None, "high": None, "n": 0}
        for k in range(table.shape[1])
    ]
