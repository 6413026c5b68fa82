"""A damaged checkpoint is never gone on from: one line names the file, the newest whole checkpoint and the way on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from tests.helpers.training_helpers import assert_same_losses, run_script, stage_1
from training.run import validation
from training.run.checkpoint import CheckpointError, CheckpointFolder

pytestmark = pytest.mark.usefixtures("one_thread")


def halted(data: Path, out: Path, steps: int) -> dict:
    config = stage_1(data, out)
    config["data"]["validation"] = []
    config["run"]["stop_after"] = steps
    return config


@pytest.fixture(scope="module")
def two_checkpoints(data, tmp_path_factory):
    """A run of four steps that has its checkpoints of steps 2 and 4."""
    out = tmp_path_factory.mktemp("two") / "run"
    assert run_script("pretrain.py", halted(data, out, 2)) == 0
    shutil.copytree(out / "checkpoints" / "step-00000002", out / "kept")
    assert run_script("pretrain.py", halted(data, out, 2)) == 0
    (out / "kept").rename(out / "checkpoints" / "step-00000002")
    return out


def flip_bits(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 64):
        content[place] ^= 0xFF
    file.write_bytes(content)


def spread_a_tensor(file: Path) -> None:
    weights = load_file(file)
    name = next(name for name, tensor in weights.items() if tensor.dim() == 2 and tensor.shape[0] > 1)
    save_file({**weights, name: weights[name][:1].contiguous()}, file)


def count_on(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"step": 5}))


DAMAGE = {
    "trained.safetensors, bits": ("trained.safetensors", flip_bits),
    "trained.safetensors, a row for a matrix": ("trained.safetensors", spread_a_tensor),
    "trained.safetensors, cut": ("trained.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-100])),
    "optimizer.bin, bits": ("optimizer.bin", flip_bits),
    "optimizer.bin, gone": ("optimizer.bin", Path.unlink),
    "state.json, of another step": (
        "state.json",
        lambda file: shutil.copy(file.parent.parent / "step-00000002" / "state.json", file),
    ),
    "state.json, a step never done": ("state.json", count_on),
    "state.json, empty": ("state.json", lambda file: file.write_text("")),
    "state.json, a list": ("state.json", lambda file: file.write_text("[1]")),
    "state.json, gone": ("state.json", Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_with_the_way_on(two_checkpoints, tmp_path, damage):
    name, strike = DAMAGE[damage]
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints / "checkpoints", folder)
    strike(folder / "step-00000004" / name)
    with pytest.raises(CheckpointError) as refused:
        CheckpointFolder(folder, Accelerator(cpu=True)).resume()
    message = str(refused.value)
    assert message.startswith(f"{folder / 'step-00000004' / name} is ") and "\n" not in message
    assert f"the newest whole checkpoint is {folder / 'step-00000002'}: to go on from it, delete " in message


def test_the_command_says_it_and_goes_on_as_it_said(data, two_checkpoints, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(two_checkpoints, out)
    flip_bits(out / "checkpoints" / "step-00000004" / "trained.safetensors")
    with pytest.raises(SystemExit, match=r"^error: .*step-00000004/trained.safetensors is damaged .*[^\n]*$"):
        run_script("pretrain.py", halted(data, out, 2))
    shutil.rmtree(out / "checkpoints" / "step-00000004")
    assert run_script("pretrain.py", halted(data, out, 2)) == 0
    assert_same_losses(two_checkpoints, out)


def test_without_a_whole_checkpoint_only_a_new_start_is_left(data, two_checkpoints, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(two_checkpoints, out)
    for checkpoint in (out / "checkpoints").iterdir():
        flip_bits(checkpoint / "optimizer.bin")
    with pytest.raises(SystemExit, match="no whole checkpoint is left: --restart starts the run anew"):
        run_script("pretrain.py", halted(data, out, 2))
    assert run_script("pretrain.py", halted(data, out, 2), "--restart") == 0


def test_weights_of_another_shape_are_refused_before_any_is_copied(tmp_path):
    accelerator = Accelerator(cpu=True)
    small, large = torch.nn.Linear(4, 1), torch.nn.Linear(4, 3)
    checkpoints = CheckpointFolder(tmp_path, accelerator)
    save_file(dict(small.state_dict()), tmp_path / "trained.safetensors")
    before = large.bias.detach().clone()
    with pytest.raises(CheckpointError, match=r"weight is \[1, 4\], this run's model has \[3, 4\]"):
        checkpoints._load_trained([large], str(tmp_path))
    assert torch.equal(large.bias, before)


def test_a_damaged_best_checkpoint_is_not_exported(data, tmp_path, monkeypatch):
    config = stage_1(data, tmp_path / "run")
    config["run"] |= {"export": "best", "validate_every": 2}
    measured = iter([0.1, 0.9, 0.9])
    monkeypatch.setattr(validation, "zero_shot", lambda *seen: {"loss": next(measured)})
    save = CheckpointFolder.save

    def damaging(self, progress):
        save(self, progress)
        if progress.step == 6:
            flip_bits(self.folder / "step-00000002" / "trained.safetensors")

    monkeypatch.setattr(CheckpointFolder, "save", damaging)
    with pytest.raises(SystemExit, match=r"step-00000002/trained.safetensors is damaged .* run.export=last exports"):
        run_script("pretrain.py", config)
    config["run"]["export"] = "last"
    monkeypatch.undo()
    assert run_script("pretrain.py", config) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
