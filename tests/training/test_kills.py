"""Kills and full disks: whatever a run was doing, the same command goes on as if nothing had happened.

A run is a forked process, which is killed, or gets no more bytes onto its disk, inside of one call of its own.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from evaluation import generate, score
from evaluation.predictions import prediction_parts
from processing_trrg import TRRGImageProcessor, TRRGProcessor
from tests.helpers.checkpoints import read
from tests.helpers.training_helpers import (
    ROOT,
    SCRIPTS,
    SIDE,
    assert_same_losses,
    environment,
    run_script,
    saved_state,
    stage_1,
    weights,
    write_config,
)
from training.data.images import ImageBank
from training.data.study import Studies

pytestmark = pytest.mark.usefixtures("one_thread")


def in_child(work: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> tuple[int | None, str]:
    """Run `work` in a forked process; its exit status (negative: the signal that ended it) and its last words."""

    def run(pipe: Any) -> None:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  pytest's are files, which a limit hits
        prepare()
        try:
            pipe.send(str(work() or ""))
        except (SystemExit, ValueError, OSError) as ended:
            pipe.send(str(ended))
            os._exit(1)

    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=run, args=(send,))
    child.start()
    send.close()
    child.join(120)
    return child.exitcode, receive.recv() if child.exitcode in (0, 1) else ""


def killed_at(owner: Any, name: str, when: Callable[..., bool], after: bool = False) -> Callable[[], None]:
    """What makes this process die before (or after) the first call of `owner.name` that `when` is true of."""

    def prepare() -> None:
        call = getattr(owner, name)

        def deadly(*args: Any, **kwargs: Any) -> Any:
            strikes = when(*args, **kwargs)
            if strikes and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if strikes:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)

    return prepare


def names(text: str) -> Callable[..., bool]:
    return lambda *args, **kwargs: any(text in str(arg) for arg in args if isinstance(arg, str | os.PathLike))


KILLS = [
    killed_at(Accelerator, "save_state", names("step-00000004"), after=True),  # before the counters
    killed_at(Path, "replace", names(".partial-step-00000004")),  # all is there, under the hidden name
    killed_at(Path, "replace", names(".partial-step-00000006"), after=True),  # before the old one is deleted
    killed_at(PreTrainedModel, "save_pretrained", names("model"), after=True),  # amid the export
    killed_at(TRRGProcessor, "save_pretrained", names("model"), after=True),
    killed_at(Path, "replace", names(".partial-model")),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_killed_at_every_turn_of_saving_and_exporting_ends_as_one_that_was_not(data, straight, tmp_path, script):
    config = SCRIPTS[script](data, tmp_path / "run")
    for number, kill in enumerate(KILLS):
        status, _ = in_child(lambda: run_script(script, config), kill)
        assert status == -signal.SIGKILL, number
        assert saved_state(tmp_path / "run")["step"] == (2, 2, 6, 6, 6, 6)[number]
        assert not (tmp_path / "run" / "model").exists(), number
    assert run_script(script, config) == 0
    assert_same_losses(straight[script], tmp_path / "run", tolerance=0)
    for name, tensor in weights(straight[script]).items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name]), name
    assert not list((tmp_path / "run").rglob(".partial*")) and not list((tmp_path / "run").rglob(".old*"))


def no_file_above(size: int) -> Callable[[], None]:
    """What makes the disk of this process seem full: no file can grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_says_so(data, tmp_path):
    config = stage_1(data, tmp_path / "run")
    config["data"]["validation"] = []
    config["run"]["stop_after"] = 2
    assert run_script("pretrain.py", config) == 0
    del config["run"]["stop_after"]
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "checkpoints").rglob("*") if file.is_file()}
    metrics = tmp_path / "run" / "metrics.jsonl"
    for file in ("checkpoints/step-00000004", "metrics.jsonl"):
        status, words = in_child(lambda: run_script("pretrain.py", config), no_file_above(60_000))
        assert status == 1 and words.startswith("error: ") and "\n" not in words
        assert f"{tmp_path / 'run' / file}" in words and "the same command goes on" in words
        assert {file: file.read_bytes() for file in before} == before
        assert not list((tmp_path / "run" / "checkpoints").glob(".partial*"))
        row = json.dumps({"step": 1}) + "\n"
        metrics.write_text(row * (60_000 // len(row)))  # for the next turn


def test_a_full_disk_amid_the_export_leaves_the_model_of_before(data, straight, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(straight["pretrain.py"], out)
    model = {file: file.read_bytes() for file in (out / "model").iterdir() if file.is_file()}
    monkeypatch.setattr(TRRGProcessor, "save_pretrained", full_disk)
    config = stage_1(data, straight["pretrain.py"])
    config["run"]["output_dir"] = str(out)
    with pytest.raises(SystemExit, match=f"^error: {out / 'model'} could not be written: .*No space left on device"):
        run_script("pretrain.py", config)
    assert {file: file.read_bytes() for file in model} == model and not list(out.glob(".*model"))


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


# --- two runs at once ---


def bank(data: Path, cache: Path) -> ImageBank:
    return ImageBank(Studies(data / "pairs", "train"), TRRGImageProcessor(size=SIDE), views=2, cache=str(cache))


def test_two_runs_that_prepare_one_cache_leave_every_image_whole(data, tmp_path):
    """Both begin before either ends; the second finds a finished file, which stays as it is."""
    inodes: list[int] = []

    def second(*args: Any) -> None:
        status, words = in_child(lambda: bank(data, tmp_path).prepare())
        assert status == 0, words
        inodes.extend(file.stat().st_ino for file in tmp_path.glob("*.npy"))

    first = bank(data, tmp_path)
    decode = first._decode

    def interrupted(index: int, view: int) -> np.ndarray:
        if index == 12 and not inodes:
            second()
        return decode(index, view)

    first._decode = interrupted  # type: ignore[method-assign]
    first.prepare()
    assert [file.stat().st_ino for file in tmp_path.iterdir()] == inodes  # no partial file is left either
    direct, cached = bank(data, tmp_path), bank(data, tmp_path)
    for index in range(24):
        assert np.array_equal(cached.get(index)[0], direct._decode(index, 0)) and cached.get(index)[0].any()


def test_a_full_disk_leaves_no_cache(data, tmp_path):
    status, words = in_child(lambda: bank(data, tmp_path).prepare(), no_file_above(20_000))
    assert status == 1 and f"{tmp_path}/pairs-train-" in words and not list(tmp_path.iterdir())


# --- generation and scoring ---

TURNS = [
    killed_at(os, "fsync", lambda descriptor: _is_part(descriptor), after=True),
    killed_at(Path, "replace", names("predictions.partial")),
    killed_at(prediction_parts.shutil, "rmtree", names("parts")),
]


def _is_part(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").readlink().parent.name == "parts"


def test_a_generation_killed_at_every_turn_writes_what_one_that_was_not_writes(data, straight, tmp_path):
    model = straight["finetune.py"] / "model"
    arguments = [
        "--checkpoint",
        str(model),
        "--data",
        str(data / "pairs"),
        "--split",
        "validation",
        "--batch-size",
        "4",
    ]
    generate.main([*arguments, "--out", str(tmp_path / "straight")])
    for number, kill in enumerate(TURNS):
        status, _ = in_child(lambda: generate.main([*arguments, "--out", str(tmp_path / "killed")]), kill)
        assert status == -signal.SIGKILL, number
    generate.main([*arguments, "--out", str(tmp_path / "killed")])
    assert read(tmp_path / "killed" / "predictions.jsonl") == read(tmp_path / "straight" / "predictions.jsonl")
    assert {file.name for file in (tmp_path / "killed").iterdir()} == {"predictions.jsonl", "settings.json"}


def test_a_generation_on_a_full_disk_keeps_what_it_wrote(data, straight, tmp_path):
    model = straight["finetune.py"] / "model"
    arguments = ["--checkpoint", str(model), "--data", str(data / "pairs"), "--split", "validation"]
    arguments += ["--batch-size", "2", "--out", str(tmp_path)]
    status, words = in_child(lambda: generate.main(arguments), no_file_above(5_000))
    assert status == 1 and str(tmp_path / "parts" / "rank-0.jsonl") in words and "the same command goes on" in words
    done = (tmp_path / "parts" / "rank-0.jsonl").read_text().count("\n")
    assert 0 < done < 8
    generate.main(arguments)
    assert len(read(tmp_path / "predictions.jsonl")) == 8


@pytest.mark.parametrize("turn", ["studies.partial", "metrics.partial"])
def test_a_killed_scoring_leaves_no_numbers_of_half_a_run(tmp_path, turn):
    file = tmp_path / "predictions.jsonl"
    write_predictions(file, "No effusion.")
    command = [str(file), "--out", str(tmp_path / "scores"), "--resamples", "0", "--processes", "1"]
    score.main(command)
    write_predictions(file, "Small effusion.")
    status, _ = in_child(lambda: score.main(command), killed_at(Path, "replace", names(turn)))
    assert status == -signal.SIGKILL
    assert not (tmp_path / "scores" / "metrics.json").exists()
    score.main(command)
    assert read(tmp_path / "scores" / "studies.jsonl")[0]["prediction_labels"]["Pleural Effusion"] == 1
    assert not list((tmp_path / "scores").glob("*.partial"))


def write_predictions(file: Path, text: str) -> None:
    lines = ({"study_id": str(i), "prediction": text, "reference": "Small effusion."} for i in range(4))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


# --- real kills ---


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_command_killed_again_and_again_while_it_writes_ends_as_one_that_was_not(data, straight, tmp_path, script):
    config = SCRIPTS[script](data, tmp_path / "run")
    config["run"]["save_every"] = 1
    command = [sys.executable, str(ROOT / "training" / script), "--config"]
    command.append(str(write_config(config, tmp_path / "run.yaml")))
    partials = [f"checkpoints/.partial-step-{step:08d}" for step in range(1, 7)] + [".partial-model"]
    for partial in partials:
        child = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL)
        while child.poll() is None and not (tmp_path / "run" / partial).exists():
            time.sleep(0.0005)
        child.kill()
        child.wait()
    assert run_script(script, config) == 0
    assert_same_losses(straight[script], tmp_path / "run")
    for name, tensor in weights(straight[script]).items():
        torch.testing.assert_close(tensor, weights(tmp_path / "run")[name], rtol=0, atol=1e-6)
