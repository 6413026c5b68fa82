"""What a stage-1 checkpoint sees, measured after training with intervals, on SYNTHETIC phantoms."""

import json
import sys

import numpy as np
import pytest

from tests.helpers.training_helpers import make_data, run_script, stage_1, write_config
from training.measure import clues
from training.measure.clues import intervals
from training.run.tracking import read_metrics
from training.run.validation import Perceived


def test_the_command_repeats_what_training_printed_and_adds_intervals(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clues, "MIN_POSITIVES", 2)
    monkeypatch.setattr("training.run.validation.MIN_POSITIVES", 2)
    config = stage_1(make_data(tmp_path / "data"), tmp_path / "run")
    assert run_script("pretrain.py", config) == 0
    printed = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "validation/auroc" in row][-1]
    monkeypatch.setattr(sys, "argv", ["clues", "--config", str(write_config(config, tmp_path / "c.yaml"))])
    capsys.readouterr()
    clues.main()
    out = capsys.readouterr().out
    measured = json.loads(out[out.index("{") :])
    names = [key for key in measured if key != "checkpoint"]
    assert {f"validation/{name}" for name in names} == {
        key for key in printed if key.startswith(("validation/auroc", "validation/pointing"))
    }
    for name in names:
        assert measured[name]["value"] == pytest.approx(printed[f"validation/{name}"])
        assert 0 <= measured[name]["low"] <= measured[name]["value"] <= measured[name]["high"] <= 1
    assert measured["auroc"]["studies"] == 8


def test_intervals_know_certainty_and_chance():
    generator = np.random.default_rng(0)
    labels = np.stack([generator.permutation([1] * 40 + [0] * 60), np.full(100, -100)], axis=1)
    hits = [[True, True], [False], [True]] * 10
    perfect = intervals(Perceived(0.0, labels.astype(float), labels, hits), ["A", "B"])
    assert list(perfect) == ["auroc", "auroc/A", "pointing"]
    assert [perfect["auroc"][key] for key in ("value", "low", "high")] == [1, 1, 1]
    assert (perfect["auroc"]["studies"], perfect["auroc/A"]["positives"]) == (100, 40)
    assert perfect["pointing"]["value"] == 0.75 and perfect["pointing"]["low"] < 0.75 < perfect["pointing"]["high"]
    blind = intervals(Perceived(0.0, generator.random((100, 2)), labels, []), ["A", "B"])
    assert blind["auroc"]["low"] < 0.5 < blind["auroc"]["high"]
    assert "pointing" not in blind


def test_a_run_without_a_model_is_named(tmp_path, monkeypatch, capsys):
    config = stage_1(make_data(tmp_path / "data"), tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["clues", "--config", str(write_config(config, tmp_path / "c.yaml"))])
    with pytest.raises(SystemExit):
        clues.main()
    assert "holds no model" in capsys.readouterr().err


def test_nothing_to_judge_is_said(tmp_path, monkeypatch, capsys):
    data = make_data(tmp_path / "data")
    config = stage_1(data, tmp_path / "run")
    config["schedule"] = {"steps": 1}
    assert run_script("pretrain.py", config) == 0
    file = data / "pairs" / "studies.jsonl"
    lines = [json.loads(line) | {"boxes": []} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(sys, "argv", ["clues", "--config", str(write_config(config, tmp_path / "c.yaml"))])
    with pytest.raises(SystemExit):
        clues.main()
    assert "no clue with 10 studies of either value" in capsys.readouterr().err
