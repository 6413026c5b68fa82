"""The mean of runs that went on from one checkpoint."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoModelForPreTraining

from processing_trrg import TRRGProcessor
from training import average_weights, extract_part

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def runs(straight, tmp_path):
    """A complete checkpoint with a calibration, and two runs of its stage 1, each weight of which is another."""
    complete = shutil.copytree(straight["finetune.py"] / "model", tmp_path / "complete")
    config = json.loads((complete / "config.json").read_text())
    config["clue_calibration"] = [[1.0, 0.5, 0.4]] * len(config["clue_token_ids"][0])
    (complete / "config.json").write_text(json.dumps(config))
    extract_part.extract("stage1", complete, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name, shift in (("a", 1.0), ("b", 3.0)):
        change(tmp_path / name, lambda weights, shift=shift: {key: one + shift for key, one in weights.items()})
    return complete, [tmp_path / "a", tmp_path / "b"]


def change(folder, how):
    file = folder / "model.safetensors"
    save_file(how(load_file(file)), file, metadata={"format": "pt"})


def test_weights_are_the_mean_of_the_runs_and_the_rest_is_the_checkpoints(runs, tmp_path, capsys):
    complete, (a, b) = runs
    average_weights.main([str(complete), str(a), str(b), "--out", str(tmp_path / "out")])
    assert "the mean of 2 runs" in capsys.readouterr().out
    before, after = (load_file(folder / "model.safetensors") for folder in (complete, tmp_path / "out"))
    held = load_file(a / "model.safetensors").keys()
    assert held and before.keys() - held and before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor + 2 if name in held else tensor)
    AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert not any(config.get(key) for key in ("clue_calibration", "clue_operating_points", "readable_weights"))
    names = [[clue["name"] for clue in TRRGProcessor.from_pretrained(f).clues] for f in (complete, tmp_path / "out")]
    assert names[0] == names[1]


def test_runs_of_sixteen_bits_are_summed_in_thirty_two(runs):
    complete, (a, b) = runs
    change(b, lambda weights: {key: one.to(torch.bfloat16) for key, one in weights.items()})
    mean = average_weights.average(complete, [a, b]).state_dict()
    ours, theirs = (AutoModelForPreTraining.from_pretrained(folder).state_dict() for folder in (a, b))
    for name, tensor in ours.items():
        torch.testing.assert_close(mean[name].float(), ((tensor + theirs[name].float()) / 2).float())


def test_runs_that_did_not_go_on_from_it_are_refused(runs, tmp_path, capsys):
    complete, (a, b) = runs

    def refused(*given):
        with pytest.raises(SystemExit) as ended:
            average_weights.main([*map(str, given), "--out", str(tmp_path / "out")])
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "1 given, expected two or more" in refused(complete, a)
    assert "expected each once" in refused(complete, a, a.parent / "." / "a")
    with pytest.raises(SystemExit):
        average_weights.main([str(complete), str(a), str(b), "--out", str(b)])
    assert "is one of the models that are read" in capsys.readouterr().err
    assert "none (no such folder) cannot be loaded" in refused(complete, a, tmp_path / "none")
    assert "is in this run or in those before" in refused(complete, complete, b)
    assert "has no weight" in refused(a, complete, b)
    config = json.loads((b / "config.json").read_text())
    config["projection_dim"] *= 2
    (b / "config.json").write_text(json.dumps(config))
    assert "error" in refused(complete, a, b)
    assert not (tmp_path / "out").exists()
