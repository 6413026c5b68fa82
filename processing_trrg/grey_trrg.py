"""Which grey values of a radiograph become black and white. One home: `TRRGImageProcessor.grey_range` names the rule.

`percentiles`: from the 0.5th to the 99.5th percentile of the values inside the picture. Left out as outside are what a
DICOM header calls padding and, twice, what lies within 1/128 of the whole range of its darkest or brightest value: once
for what was burned in (a letter, a frame, a box over a name), once for what the picture itself clipped, so that the
latter is left out whether or not something was burned in. A letter of full brightness or a white frame so moves no
other pixel by more than 6 of 255, a black frame by no more than 16, a black box by no more than 28 beyond what it would
move as padding: where it hides the only dark corner of a picture, black is what is darkest without it. Nine of ten
pictures move by 3 at the most (`tests/test_grey.py`), beside what a box hides.

`min_max`: from the smallest to the largest value, as MAIRA-2 (arXiv 2406.04449) and RaDialog (arXiv 2311.18681, by
BioViL-T's reader) do; one burned-in letter takes the upper half of the range.

Of a DICOM both see what its first window or VOI LUT shows. What a window clips is an end of the range and left out by
`percentiles`; what it shows between is spread a little more, by 3 % of the range and never by more than 8 % on the
pictures tried. A window wider than its picture is narrowed to it. So a window is kept, and a careless one is mended.

Both were measured with the same weights: training/RESULTS.md.
"""

from typing import Literal, get_args

import numpy as np
import torch

GreyRange = Literal["percentiles", "min_max"]
GREY_RANGES: tuple[str, ...] = get_args(GreyRange)
PERCENTILE = 0.5
END = 1 / 128
"""Of the range: two of 256 levels, more than JPEG leaves of an even surface."""
LEVELS = 2**16
"""More than any detector has."""


def stretch(values: np.ndarray, valid: np.ndarray | None, grey_range: GreyRange) -> np.ndarray:
    """Grey values to 0..1 by a rule of `GREY_RANGES`; what lies beyond is black or white.

    Args:
        values: `[H, W]` of any real type and unit, finite, not all equal where they are valid.
        valid: `[H, W]`, False where a header says padding, which becomes 0; None for no padding.

    Returns:
        float32 `[H, W]`.
    """
    levels = to_levels(values, values if valid is None else values[valid])
    low, high = find_range(levels if valid is None else levels[valid], grey_range)
    grey = np.clip(levels, low, high).astype(np.float32)
    grey -= low
    grey /= high - low
    if valid is not None:
        grey[~valid] = 0
    return grey


def to_levels(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values of any unit as uint8 or uint16, in their order: those of 8 and 16 bits as they are, others in 65,536 equal
    steps from the smallest to the largest value `inside`."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype in (np.int8, np.int16):
        return (values.astype(np.int32) + 2**15).astype(np.uint16)
    first, last = float(inside.min()), float(inside.max())
    exact = values.astype(np.float64) if values.dtype == np.float16 else values
    steps = (exact - first) * ((LEVELS - 1) / (last - first))
    if inside is not values:
        steps = steps.clip(0, LEVELS - 1)  # padding may lie beyond
    steps += 0.5  # astype cuts off
    return steps.astype(np.uint16)


def find_range(levels: np.ndarray, grey_range: GreyRange) -> tuple[int, int]:
    """The levels, uint8 or uint16 of any shape, that become black and white.

    The order of the pixels does not matter, and a negative gives the negative range. `percentiles` falls back on the
    smallest and largest level where the percentiles meet: a picture of one grey value and a few spots.
    """
    if grey_range == "percentiles":
        copied = levels.ravel().astype(np.uint8 if levels.dtype == np.uint8 else np.int32)  # torch counts no uint16
        low, high = percentiles_inside(torch.bincount(torch.from_numpy(copied)).numpy())  # in a fifth of numpy's time
        if low < high:
            return low, high
    return int(levels.min()), int(levels.max())


def percentiles_inside(counts: np.ndarray) -> tuple[int, int]:
    """The levels of the two percentiles, of a histogram `[levels]` without its ends."""
    start, stop = 0, len(counts)
    for _ in range(2):
        filled = np.flatnonzero(counts[start:stop])
        if not len(filled):
            return 0, 0
        start, stop = start + filled[0], start + filled[-1] + 1
        end = int((stop - 1 - start) * END) + 1
        start, stop = start + end, stop - end
    inside = counts[start : max(start, stop)]
    tail = max(1.0, inside.sum() * PERCENTILE / 100)
    if inside.sum() < 2 * tail:
        return 0, 0
    low = start + np.searchsorted(inside.cumsum(), tail)
    high = stop - 1 - np.searchsorted(inside[::-1].cumsum(), tail)
    return int(low), int(high)
