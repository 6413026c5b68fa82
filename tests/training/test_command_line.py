"""How the commands speak and end: one line for what they were given, the exit status, nothing of other libraries."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import generate
from processing_trrg import StudyError
from tests.helpers.training_helpers import ROOT, environment, run_script, stage_1, stage_2, write_config
from training.config.command_line import run_command
from training.config.run_config import ConfigError, PretrainConfig, load_config
from training.data.workers import read_batches

pytestmark = pytest.mark.usefixtures("one_thread")


def with_record(data: Path, folder: Path, **fields: object) -> Path:
    """The set `data/pairs` with other fields in its third record; `line=` replaces the record."""
    shutil.copytree(data / "pairs", folder)
    lines = (folder / "studies.jsonl").read_text().splitlines()
    lines[2] = str(fields["line"]) if "line" in fields else json.dumps(json.loads(lines[2]) | fields)
    (folder / "studies.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "noise.png").write_bytes(b"no picture")
    return folder


NOISE = [{"path": "noise.png", "view": "frontal"}]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"line": "17"}, r"studies.jsonl:3: no study record"),
        ({"labels": ["Edema"]}, r"studies.jsonl:3: no study record"),
        ({"findings": 5}, r"phantom-7-2.*findings is 5, expected text or null"),
        ({"impression": "Clear.\udc80"}, r"phantom-7-2.*impression: character 6 is a lone surrogate"),
        ({"images": ["a.png"]}, r"phantom-7-2.*images is \['a.png'\], expected a list of objects with a path"),
        ({"images": NOISE}, r"noise.png: neither a PNG"),
    ],
)
def test_a_bad_record_ends_training_with_one_line(data, tmp_path, record, words):
    config = stage_1(data, tmp_path / "run")
    config["data"] |= {"train": [{"path": str(with_record(data, tmp_path / "set", **record))}], "validation": []}
    with pytest.raises(SystemExit, match=rf"^error: .*{words}[^\n]*$"):
        run_script("pretrain.py", config)


def test_a_bad_image_read_by_another_process_is_named_in_one_line_too(data, tmp_path):
    bad = with_record(data, tmp_path / "set", images=NOISE)
    config = stage_1(data, tmp_path / "run")
    config["data"] |= {"train": [{"path": str(bad)}], "validation": [], "image_cache": None, "num_workers": 1}
    with pytest.raises(SystemExit, match=r"^error: [^\n]*noise.png: neither a PNG[^\n]*$"):
        run_script("pretrain.py", config)


def test_generation_names_the_study_that_another_process_could_not_read(data, straight, tmp_path):
    bad = with_record(data, tmp_path / "set", images=NOISE, split="bad")
    command = ["--checkpoint", str(straight["finetune.py"] / "model"), "--data", str(bad), "--split", "bad"]
    with pytest.raises(StudyError, match=r"^study 0 \(phantom-7-2\): [^\n]*noise.png[^\n]*$"):
        generate.main([*command, "--workers", "1", "--out", str(tmp_path / "out")])


def refuse(key: int) -> int:
    raise StudyError(key, "A", "it is blank")


@pytest.mark.slow
def test_an_error_survives_a_process_that_was_started_anew(monkeypatch):
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with pytest.raises(StudyError, match=r"^study 3 \(A\): it is blank$"):
            next(read_batches(refuse, [3], workers=1))
    finally:
        multiprocessing.set_start_method("fork", force=True)


def without(name: str):
    return lambda folder: (folder / name).unlink()


def with_text(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        without("model.safetensors"),
        with_text("model.safetensors", "no weights"),
        with_text("config.json", "{"),
        with_text("config.json", '{"model_type": "bert"}'),
        with_text("config.json", '{"architectures": ["BertModel"]}'),
        with_text("tokenizer.json", "{"),
    ],
)
def test_a_wrong_checkpoint_ends_training_with_one_line(data, straight, tmp_path, damage):
    shutil.copytree(straight["pretrain.py"] / "model", tmp_path / "model")
    damage(tmp_path / "model")
    config = stage_2(data, tmp_path / "run")
    config["model"] = {"checkpoint": str(tmp_path / "model")}
    with pytest.raises(SystemExit, match=rf"^error: model.checkpoint: [^\n]*{tmp_path / 'model'}[^\n]*$"):
        run_script("finetune.py", config)
    refused = rf"^--checkpoint: {tmp_path / 'model'} (cannot be loaded: [^\n]*|does not exist)$"
    with pytest.raises((ConfigError, SystemExit), match=refused):
        generate.main(["--checkpoint", str(tmp_path / "model"), "--phantoms", "1", "--out", str(tmp_path / "out")])


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ValueError, match="invalid literal"):
        run_command(lambda: int("one"))


def test_yamls_no_is_the_word_no(data, tmp_path):
    file = write_config(stage_1(data, tmp_path / "run"), tmp_path / "run.yaml")
    assert load_config(PretrainConfig, file, ["run.mixed_precision=no"]).run.mixed_precision == "no"
    file.write_text(file.read_text().replace("run:\n", "run:\n  mixed_precision: no\n"))
    assert load_config(PretrainConfig, file, []).run.mixed_precision == "no"
    with pytest.raises(ConfigError, match=r"^[^\n]*'data.train=\[\{': the value is not YAML[^\n]*$"):
        load_config(PretrainConfig, file, ["data.train=[{"])


def test_a_run_that_was_told_to_stop_ends_well_under_the_launcher_and_says_nothing_of_other_libraries(data, tmp_path):
    config = stage_1(data, tmp_path / "run")
    launch = ["-m", "accelerate.commands.launch", "--config_file", "training/accelerate/cpu_1.yaml"]
    file = str(write_config(config, tmp_path / "run.yaml"))
    ended = subprocess.run(
        [sys.executable, *launch, "training/pretrain.py", "--config", file, "run.stop_after=1"],
        env=environment(), cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("stopped after step 1 of 6; the same command goes on")
    said = [line for line in ended.stderr.replace("\r", "\n").splitlines() if line.strip()]
    assert said and all(line.startswith(("decode pairs: ", "train: ")) for line in said), ended.stderr
