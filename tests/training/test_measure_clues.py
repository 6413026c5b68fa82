"""What a stage-1 checkpoint sees, measured after training with intervals, on SYNTHETIC phantoms."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from tests.helpers.tiny_processors import tiny_processor
from tests.helpers.training_helpers import make_data, run_script, stage_1, write_config
from training.config.run_config import DataSection, Source
from training.data.examples import Examples, SourceData
from training.data.study import write_studies
from training.measure import clues
from training.measure.clues import intervals
from training.run.tracking import read_metrics
from training.run.validation import Perceived, _pointing


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


ALONE = [f"P{number}" for number in range(100)]


def test_intervals_know_certainty_and_chance():
    generator = np.random.default_rng(0)
    labels = np.stack([generator.permutation([1] * 40 + [0] * 60), np.full(100, -100)], axis=1)
    hits = [[True, True], [False], [True]] * 10
    perfect = intervals(Perceived(0.0, labels.astype(float), labels, hits), ["A", "B"], ALONE)
    assert list(perfect) == ["auroc", "auroc/A", "pointing"]
    assert [perfect["auroc"][key] for key in ("value", "low", "high")] == [1, 1, 1]
    assert (perfect["auroc"]["studies"], perfect["auroc/A"]["positives"]) == (100, 40)
    assert perfect["pointing"]["value"] == 0.75 and perfect["pointing"]["low"] < 0.75 < perfect["pointing"]["high"]
    blind = intervals(Perceived(0.0, generator.random((100, 2)), labels, []), ["A", "B"], ALONE)
    one = intervals(Perceived(0.0, generator.random((100, 2)), labels, []), ["A", "B"], ["P"] * 100)["auroc"]
    assert one["low"] == one["high"] and one["patients"] == 1
    assert blind["auroc"]["low"] < 0.5 < blind["auroc"]["high"]
    assert "pointing" not in blind


def test_the_pointing_game_looks_at_each_boxed_study_of_a_balanced_source(tmp_path):
    """Each picture is brightest in its box, and the model sees what is bright."""
    places = [(0, 0), (40, 8), (16, 40), (48, 48), (24, 24)]
    for number, (x, y) in enumerate(places):
        pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
        pixels[y : y + 16, x : x + 16] = 255
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    labels = [{"Edema": 1}] + [{"Edema": 0, "Cardiomegaly": 1}] * 4  # the first is drawn four times
    write_studies(tmp_path / "studies.jsonl", [
        {"study_id": str(n), "patient_id": str(n), "split": "train", "labels": labels[n],
         "images": [{"path": f"{n}.png", "view": None}],
         "boxes": [{"label": next(iter(labels[n])), "x": x, "y": y, "w": 16, "h": 16}]}
        for n, (x, y) in enumerate(places)
    ])  # fmt: skip
    processor = tiny_processor(size=64, clues=["Edema", "Cardiomegaly"])
    data = DataSection(views=1)
    source = SourceData(
        Source(str(tmp_path), kind="image", balance=1.0), data, processor.clues, processor.image_processor
    )
    assert len(source) == 8

    class SeesBright(torch.nn.Module):
        def read_study(self, pixel_values, **_):
            grey = torch.nn.functional.avg_pool2d(pixel_values[:, :, :1].flatten(0, 1), 8)
            return SimpleNamespace(evidence_maps=grey[:, None].expand(-1, -1, 2, -1, -1))

    examples = Examples([source], data, seed=0, training=False)

    def collate(drawn):
        squares = processor.image_processor.normalise(np.stack([example.squares[0] for example in drawn]))
        return {"pixel_values": squares[:, None]}

    hits = _pointing(Accelerator(cpu=True), SeesBright(), source, collate, 2, 0, examples)
    assert hits == [[True]] * 5


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
