"""Training: what must stay true of both stages, driven through their real entry points."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForPreTraining, AutoTokenizer

from configuration_trrg import TRRGConfig
from hub_cards.publish import run_clean_process
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor
from tests.helpers.training_helpers import (
    ROOT,
    SCRIPTS,
    assert_same_losses,
    environment,
    run_script,
    saved_state,
    stage_1,
    stage_2,
    weights,
    write_config,
)
from training import extract_part
from training.config.run_config import ConfigError, ModelSection
from training.phantoms.generate import generate_phantom
from training.run.initial_model import build_processor
from training.run.loop import STOPPED
from training.run.tracking import read_metrics
from training.run.trained_parts import freeze

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def in_double_precision():
    """Adam turns the last digit of a near-zero gradient into a full step, so sums in another order drift in float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


KILL_IN_BACKWARD = """
import os, signal, sys, runpy
import accelerate
calls, backward = 0, accelerate.Accelerator.backward
def count(self, *args, **kwargs):
    global calls
    calls += 1
    if calls == 8:  # second of two passes of step 4, whose checkpoint is that of step 2
        os.kill(os.getpid(), signal.SIGKILL)
    return backward(self, *args, **kwargs)
accelerate.Accelerator.backward = count
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KILL_IN_SAVE = """
import os, signal, sys, runpy
import accelerate
save_state = accelerate.Accelerator.save_state
def cut(self, folder, **kwargs):
    save_state(self, folder, **kwargs)
    if "00000004" in folder:
        os.remove(os.path.join(folder, "optimizer.bin"))
        os.kill(os.getpid(), signal.SIGKILL)
accelerate.Accelerator.save_state = cut
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def killing(killer: str, script: str) -> str:
    """A program that runs a training script until `killer` strikes."""
    return f"import sys; sys.argv[:] = [{str(ROOT / 'training' / script)!r}, *sys.argv[1:]]\n{killer}"


@pytest.mark.parametrize(("script", "killer"), [("finetune.py", KILL_IN_BACKWARD), ("pretrain.py", KILL_IN_SAVE)])
def test_a_killed_run_goes_on_as_if_nothing_happened(data, straight, tmp_path, script, killer):
    config = SCRIPTS[script](data, tmp_path / "run")
    file = write_config(config, tmp_path / "run.yaml")
    ended = subprocess.run(
        [sys.executable, "-c", killing(killer, script), "--config", str(file)],
        env=environment(), cwd=ROOT, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert saved_state(tmp_path / "run")["step"] == 2
    assert run_script(script, config) == 0
    assert_same_losses(straight[script], tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob(".partial*"))
    for name, tensor in weights(straight[script]).items():
        torch.testing.assert_close(tensor, weights(tmp_path / "run")[name], rtol=0, atol=1e-6)


def test_stop_after_ends_with_a_checkpoint_and_the_same_command_goes_on(data, straight, tmp_path):
    config = stage_2(data, tmp_path / "run")
    config["run"]["stop_after"] = 3
    assert run_script("finetune.py", config) == 0
    assert saved_state(tmp_path / "run")["step"] == 3
    assert run_script("finetune.py", config) == 0
    assert_same_losses(straight["finetune.py"], tmp_path / "run")


def test_one_pass_of_8_equals_8_passes_of_1(data, tmp_path, in_double_precision):
    for micro in (8, 1):
        config = stage_2(data, tmp_path / str(micro))
        config["optimizer"] |= {"micro_batch_size": micro, "batch_size": 8}
        config["data"]["validation"] = []
        assert run_script("finetune.py", config) == 0
    assert_same_losses(tmp_path / "8", tmp_path / "1", tolerance=2e-6)
    for name, tensor in weights(tmp_path / "8").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "1")[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("script", ["finetune.py", pytest.param("pretrain.py", marks=pytest.mark.slow)])
def test_two_processes_equal_one(data, straight, tmp_path, script):
    config = SCRIPTS[script](data, tmp_path / "run")
    config["optimizer"]["micro_batch_size"] = 4
    ended = launch_two(ROOT / "training" / script, write_config(config, tmp_path / "run.yaml"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "2 process(es)" in ended.stdout
    assert_same_losses(straight[script], tmp_path / "run")
    one, two = (validated(out) for out in (straight[script], tmp_path / "run"))
    if script == "pretrain.py":  # losses of the contrast differ with what a forward pass holds
        one, two = ({"pointing": found["validation/pointing"]} for found in (one, two))
    assert one == pytest.approx(two, abs=1e-5)


def validated(out: Path) -> dict[str, float]:
    return {
        key: value
        for row in read_metrics(out / "metrics.jsonl")
        for key, value in row.items()
        if key.startswith("validation/")
    }


@pytest.mark.slow
@pytest.mark.parametrize(("script", "killer"), [("finetune.py", KILL_IN_BACKWARD), ("pretrain.py", KILL_IN_SAVE)])
def test_two_killed_processes_go_on_as_if_nothing_happened(data, straight, tmp_path, script, killer):
    config = SCRIPTS[script](data, tmp_path / "run")
    config["optimizer"]["micro_batch_size"] = 4
    file = write_config(config, tmp_path / "run.yaml")
    (tmp_path / "killer.py").write_text(killing(killer, script))
    assert launch_two(tmp_path / "killer.py", file).returncode != 0
    assert saved_state(tmp_path / "run")["step"] == 2
    ended = launch_two(ROOT / "training" / script, file)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "after step 2 of 6" in ended.stdout
    assert_same_losses(straight[script], tmp_path / "run")


def launch_two(program: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as two processes, as a user does."""
    return subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--config_file", "training/accelerate/cpu_2.yaml",
            str(program), "--config", str(config),
        ],
        env=environment(), cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_frozen_parts_stay_bit_equal_and_trained_parts_all_move(data, straight, tmp_path):
    config = stage_2(data, tmp_path / "run")
    del (
        config["model"]["preset"],
        config["model"]["overrides"],
        config["model"]["tokenizer"],
        config["model"]["clue_tokenizer"],
    )
    config["model"]["checkpoint"] = str(straight["finetune.py"] / "model")
    config["trained"] = ["multi_modal_projector", "report_projection", "language_model"]
    assert run_script("finetune.py", config) == 0
    before, after = weights(straight["finetune.py"]), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        frozen = not any(part in name for part in (*config["trained"], "lm_head"))
        assert torch.equal(tensor, after[name]) == frozen, name


def test_stage_2_starts_from_what_stage_1_sees(data, straight, tmp_path, capsys):
    config = stage_2(data, tmp_path / "run")
    for key in ("preset", "overrides", "tokenizer", "clue_tokenizer"):
        del config["model"][key]
    config["model"]["checkpoint"] = str(straight["pretrain.py"] / "model")
    config["trained"] = ["multi_modal_projector", "report_projection", "language_model"]
    assert run_script("finetune.py", config) == 0
    table = capsys.readouterr().out
    assert "frozen, eval mode" in table and "language_model           new" in table
    assert "training studies labelled for it" in table and "never present: not learned" in table
    before, after = weights(straight["pretrain.py"]), weights(tmp_path / "run")
    assert before
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_stage_1_of_a_complete_checkpoint_is_what_it_was(straight, tmp_path):
    complete = straight["finetune.py"] / "model"
    extract_part.extract("stage1", complete, tmp_path / "stage1")
    whole, stage1 = weights(straight["finetune.py"]), load_file(tmp_path / "stage1" / "model.safetensors")
    assert stage1 and all(torch.equal(tensor, whole[name]) for name, tensor in stage1.items())
    AutoModelForPreTraining.from_pretrained(tmp_path / "stage1")


@pytest.mark.parametrize("part", ["stage1", "language_model"])
def test_a_part_of_no_checkpoint_is_one_line(part, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        extract_part.main([part, str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and "none (no such folder) cannot be loaded" in capsys.readouterr().err


def test_the_language_model_of_a_checkpoint_starts_another_system(data, straight, tmp_path, capsys):
    extract_part.extract("language_model", straight["finetune.py"] / "model", tmp_path / "words")
    whole, alone = weights(straight["finetune.py"]), load_file(tmp_path / "words" / "model.safetensors")
    assert alone and all(
        torch.equal(t, whole[n.replace("model.", "model.language_model.", 1)]) for n, t in alone.items()
    )
    config = stage_2(data, tmp_path / "run")
    for key in ("preset", "overrides", "tokenizer", "clue_tokenizer"):
        del config["model"][key]
    config["model"] |= {"checkpoint": str(straight["pretrain.py"] / "model"), "language_model": str(tmp_path / "words")}
    config["trained"] = ["multi_modal_projector", "report_projection"]  # what is frozen is as it was given
    assert run_script("finetune.py", config) == 0
    assert f"language_model           {tmp_path / 'words'}" in capsys.readouterr().out
    after = weights(tmp_path / "run")
    assert all(torch.equal(t, after[n.replace("model.", "model.language_model.", 1)]) for n, t in alone.items())


def test_a_language_model_brings_its_own_tokenizer(data, straight, tmp_path):
    """Behind a stage 1 whose tokenizer numbers the words otherwise, and has fewer."""
    extract_part.extract("language_model", straight["finetune.py"] / "model", tmp_path / "words")
    path = tmp_path / "words" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    numbers = tokenizer["model"]["vocab"]
    first, second = list(numbers)[-2:]
    numbers[first], numbers[second] = numbers[second], numbers[first]
    path.write_text(json.dumps(tokenizer))
    config = stage_2(data, tmp_path / "run")
    for key in ("preset", "overrides", "tokenizer", "clue_tokenizer"):
        del config["model"][key]
    config["model"] |= {"checkpoint": str(straight["pretrain.py"] / "model"), "language_model": str(tmp_path / "words")}
    assert run_script("finetune.py", config) == 0
    given = AutoTokenizer.from_pretrained(path.parent)
    before, after = (
        TRRGProcessor.from_pretrained(run / "model") for run in (straight["pretrain.py"], tmp_path / "run")
    )
    assert before.tokenizer.get_vocab() != after.tokenizer.get_vocab() == given.get_vocab()
    assert before.clue_tokenizer.get_vocab() == after.clue_tokenizer.get_vocab() and before.clues == after.clues
    config["model"]["tokenizer"] = str(tmp_path / "words")
    with pytest.raises(ConfigError, match=r"model\.tokenizer: expected none beside model\.checkpoint"):
        run_script_raising("finetune.py", config)


def test_a_clue_encoder_brings_its_own_tokenizer(straight, tmp_path):
    folder = straight["pretrain.py"] / "model"
    before = TRRGProcessor.from_pretrained(folder)
    before.tokenizer.save_pretrained(tmp_path)  # any other than that of the clues
    section = ModelSection(checkpoint=str(folder), clue_model=str(tmp_path))
    after = build_processor(section, TRRGConfig.from_pretrained(folder))
    assert after.clue_tokenizer.get_vocab() == before.tokenizer.get_vocab() != before.clue_tokenizer.get_vocab()
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab() and after.clues == before.clues


def test_what_training_writes_loads_where_the_project_is_not_installed(straight, tmp_path):
    (tmp_path / "home").mkdir()
    Image.fromarray(generate_phantom(2, 0, 64).image).save(tmp_path / "phantom.png")
    study = ("--image", str(tmp_path / "phantom.png"), "--indication", "Cough.", "--max-new-tokens", "4")
    folder = straight["finetune.py"] / "model"
    assert run_clean_process(str(folder), tmp_path / "home", tmp_path / "results", *study)["logits"].isfinite().all()


def test_a_frozen_part_with_random_weights_is_refused(data, tmp_path):
    config = stage_2(data, tmp_path / "run")
    config["trained"].remove("vision_tower")
    with pytest.raises(ConfigError, match="vision_tower would stay frozen at new"):
        run_script_raising("finetune.py", config)


def run_script_raising(script, config):
    """The message a script exits with, as the error it came from."""
    try:
        run_script(script, config)
    except SystemExit as error:
        raise ConfigError(str(error)) from error


def test_weights_that_come_in_16_bits_are_trained_in_32(tiny_config):
    model = TRRGForConditionalGeneration(tiny_config("maira1")).to(torch.bfloat16)
    freeze(model, ["language_model"])
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_run_folder_of_another_configuration_is_refused(data, straight):
    config = stage_1(data, straight["pretrain.py"])
    config["optimizer"]["lr"] = 0.5
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.001 -> 0\.5"):
        run_script_raising("pretrain.py", config)


def test_nan_stops_with_the_studies(data, tmp_path, monkeypatch):
    forward = TRRGForConditionalGeneration.forward

    def broken(self, **inputs):
        out = forward(self, **inputs)
        out.loss = out.loss * float("nan")
        return out

    monkeypatch.setattr(TRRGForConditionalGeneration, "forward", broken)
    with pytest.raises(SystemExit, match=r"^error: the loss of step 1 is not finite.*phantom-7-\d+"):
        run_script("finetune.py", stage_2(data, tmp_path / "run"))


def test_sigterm_saves_and_ends(data, tmp_path, monkeypatch):
    backward, calls = accelerate.Accelerator.backward, []

    def terminated(self, loss, **kwargs):
        calls.append(loss)
        if len(calls) == 5:  # the first of two passes of step 3
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(self, loss, **kwargs)

    monkeypatch.setattr(accelerate.Accelerator, "backward", terminated)
    assert run_script("finetune.py", stage_2(data, tmp_path / "run")) == STOPPED
    assert saved_state(tmp_path / "run")["step"] == 3


def test_the_run_leaves_what_it_should(straight):
    for out in straight.values():
        assert json.loads((out / "config.json").read_text())["run"]["seed"] == 42
        assert (out / "loss.png").stat().st_size > 1000
        assert list((out / "tensorboard").iterdir())
        row = next(r for r in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in r)
        assert {"lr", "grad_norm", "tokens_per_s", "memory_gib"} <= row.keys()
        assert "auroc" not in row
    written = json.loads((straight["finetune.py"] / "model" / "generation_config.json").read_text())
    assert written["max_new_tokens"] == 8, "the checkpoint does not say how long a report may be"
