"""Whether features know where and how large a finding is: the measure itself, and the command on SYNTHETIC phantoms."""

import numpy as np

from tests.helpers.training_helpers import make_data, run_script, stage_1
from training.measure import details
from training.measure.details import Boxed, correlations, fit


def boxed(seed: int, known: bool) -> dict[str, Boxed]:
    """80 boxes of one clue, whose height and area the features hold or not; the map knows the height alone."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(80, 2))
    features = np.hstack([truth if known else rng.normal(size=(80, 2)), rng.normal(size=(80, 3))])
    evidence = np.stack([np.round(truth[:, 0] * 4), rng.normal(size=80)], 1)
    return {"Left Edema": Boxed(features, truth, evidence, [str(n // 2) for n in range(80)])}


def test_what_the_features_hold_is_found_and_nothing_else():
    ridges = fit(boxed(0, known=True))
    height, by_map, own, area, area_by_map, own_area = correlations(ridges, boxed(1, known=True), own=True)["Edema"]
    assert min(height["value"], area["value"]) > 0.8 and height["boxes"] == 80
    assert min(own["low"], own_area["low"]) > 0.2  # of 64 boxes, and a strong penalty
    assert by_map["value"] > 0.9 and area_by_map["low"] < 0 < area_by_map["high"]
    blind = correlations(fit(boxed(2, known=False)), boxed(3, known=False), own=True)["Edema"]
    assert len(blind) == 6 and all(blind[n]["low"] < 0 < blind[n]["high"] for n in (0, 3))
    assert all(blind[n]["value"] < 0.3 for n in (2, 5))  # a patient's other box tells nothing of this one


def test_few_boxes_and_clues_that_were_not_learned_are_left_out(monkeypatch):
    ridges = fit(boxed(0, known=True))
    monkeypatch.setattr(details, "FEWEST", 81)
    assert correlations(ridges, boxed(1, known=True), own=False) == {}
    monkeypatch.setattr(details, "FEWEST", 80)
    assert correlations({}, boxed(1, known=True), own=False) == {}


def test_the_command_on_phantoms(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(details, "FEWEST", 2)
    monkeypatch.setattr(details, "RESAMPLES", 20)
    data = make_data(tmp_path / "data")
    assert run_script("pretrain.py", stage_1(data, tmp_path / "run")) == 0
    capsys.readouterr()
    details.main([str(tmp_path / "run" / "model"), "--phantoms", str(data / "pairs"), "--real", str(data / "pairs")])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| pairs")]
    assert rows and all(len(row) == 9 for row in rows)
    values = [
        float(cell.split(" ")[0]) for row in rows for cell in row[3:] if not cell.startswith("- ") and cell != "-"
    ]
    assert all(-1 <= value <= 1 for value in values)
