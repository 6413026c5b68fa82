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
    """A complete checkpoint, and two runs of its stage 1, each weight of which is another."""
    complete = straight["finetune.py"] / "model"
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
    assert "mean of 2 runs" in capsys.readouterr().out
    before, after = (load_file(folder / "model.safetensors") for folder in (complete, tmp_path / "out"))
    held = load_file(a / "model.safetensors").keys()
    assert held and before.keys() - held and before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor + 2 if name in held else tensor)
    AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    names = [[clue["name"] for clue in TRRGProcessor.from_pretrained(f).clues] for f in (complete, tmp_path / "out")]
    assert names[0] == names[1]


def test_the_order_of_the_runs_does_not_matter_and_a_run_with_itself_is_itself(runs):
    complete, (a, b) = runs
    one, other = (average_weights.average(complete, order).state_dict() for order in ([a, b], [b, a]))
    alone = average_weights.average(complete, [a, a]).state_dict()
    held = AutoModelForPreTraining.from_pretrained(a).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(alone[name], tensor) for name, tensor in held.items())


def test_runs_that_did_not_go_on_from_it_are_refused(runs, tmp_path, capsys):
    complete, (a, b) = runs

    def refused(*given):
        with pytest.raises(SystemExit) as ended:
            average_weights.main([*map(str, given), "--out", str(tmp_path / "out")])
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "1 given, expected two or more" in refused(complete, a)
    assert "none (no such folder) cannot be loaded" in refused(complete, a, tmp_path / "none")
    assert "is in this run or in those before" in refused(complete, complete, b)
    assert "has no weight" in refused(a, complete, complete)
    config = json.loads((b / "config.json").read_text())
    config["projection_dim"] *= 2
    (b / "config.json").write_text(json.dumps(config))
    assert "error" in refused(complete, a, b)
    assert not (tmp_path / "out").exists()
