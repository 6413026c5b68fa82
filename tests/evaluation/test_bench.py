"""What `make bench` compares: reading by hand and reading with checks give one picture."""

import numpy as np
import pytest

from evaluation.benchmark_pictures import cases, least_times
from processing_trrg import read_radiograph

CASES = cases(120, 96)


@pytest.mark.parametrize("name", CASES)
def test_both_ways_read_the_same_picture(name: str):
    data, by_hand = CASES[name]
    ours, theirs = read_radiograph(data).values.astype(np.float64), by_hand(data).astype(np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(np.diff([(grey - grey.min()) / np.ptp(grey) for grey in (ours, theirs)], axis=0)).max() < 0.02
    assert least_times({"by_hand": by_hand}, data, 0)["by_hand"] > 0
