"""The measurement of stretches, on what can be known beforehand."""

import numpy as np
import pytest

from tests.helpers.tiny_processors import radiograph
from training.measure.grey_levels import STRETCHES, Measured, largest_moves, mean_auroc
from training.run.initial_model import GREY_RANGES


@pytest.mark.parametrize("name", STRETCHES)
def test_each_stretch_goes_from_black_to_white(name: str):
    stretched = STRETCHES[name](radiograph(200, 160, top=180) + np.uint8(20))
    assert stretched.dtype == np.float32 and (stretched.min(), stretched.max()) == (0, 1)


def test_moves_are_counted_in_grey_levels():
    """The brightest of 0 to 127 becomes 127 of 255 beside a letter or a frame; a black box changes nothing."""
    picture = radiograph(200, 160, top=127)
    picture[-1, -1] = 0
    moves = largest_moves(STRETCHES["min-max (`min_max`)"], picture)
    assert moves == pytest.approx((128, 128, 0), abs=1e-3)


def test_the_interval_is_over_patients():
    generator = np.random.default_rng(0)
    labels = np.repeat(generator.permutation([1] * 20 + [0] * 20), 5)[:, None]
    scores = labels + np.repeat(generator.normal(0, 1.5, 40), 5)[:, None]
    one_each = Measured([], labels, np.arange(200), [])
    five_each = Measured([], labels, np.repeat(np.arange(40), 5), [])
    widths = []
    for source in (one_each, five_each):
        value, low, high = (float(part.strip("[],")) for part in mean_auroc(scores, source, [0]).split())
        assert low < value < high
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_the_published_systems_keep_their_own_way():
    assert GREY_RANGES == {"maira1": "min_max", "radialog": "min_max"}
