"""generate.py and score_phantoms.py through their entry points, with a tiny untrained model and SYNTHETIC phantoms."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from evaluation import generate, score_phantoms
from evaluation.predictions.prediction_parts import PartFile, RunError
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED, oracle_scores, shuffled
from processing_trrg import RadiologyReportPipeline
from tests.helpers.checkpoints import read, save_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import environment
from training.builders.small_data import PHANTOM_SEED, write_set
from training.config.run_config import ConfigError
from training.data.study import read_study
from training.phantoms.generate import generate_phantom

STUDIES = 7


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), "trrg")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Seven phantoms; the third has two views, the last two have no image."""
    folder = tmp_path_factory.mktemp("data")

    def records():
        for index in range(STUDIES):
            phantom = generate_phantom(5, index, 64)
            name = phantom.record["images"][0]["path"]
            Image.fromarray(phantom.image).save(folder / name)
            views = [{"path": name, "view": "frontal"}] * (2 if index == 2 else 1)
            extra = {"images": views, "split": "test", "indication": "pain " * index or None}
            yield dict(phantom.record) | extra | ({} if index < 5 else {"images": []})

    write_set(folder, records())
    return folder


def run(out: Path, *arguments: object) -> list[dict]:
    generate.main([*map(str, arguments), "--out", str(out), "--max-new-tokens", "12"])
    return read(out / "predictions.jsonl")


def of_data(checkpoint: Path, data: Path, *more: object) -> tuple:
    return ("--checkpoint", checkpoint, "--data", data, "--split", "test", *more)


def test_one_line_a_study_in_the_order_of_the_input(checkpoint, data, tmp_path, capsys):
    lines = run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--batch-size", 2))
    assert [line["study_id"] for line in lines] == [f"phantom-5-{index}" for index in range(STUDIES)]
    first = lines[0]
    assert set(first) == {
        "study_id", "patient_id", "prediction", "reference", "findings", "impression", "complete", "clue_scores",
        "selected_clues", "labels", "has_prior", "synthetic", "readable",
    }  # fmt: skip
    assert first["reference"].startswith("Findings: ") and first["synthetic"] and not first["has_prior"]
    assert first["labels"]["Pleural Effusion"] == first["clue_scores"]["Pleural Effusion"]
    assert len({line["prediction"] for line in lines}) > 1 and not (tmp_path / "parts").exists()
    assert f"{STUDIES} reports in" in capsys.readouterr().out


def test_batches_workers_and_order_do_not_change_a_report(checkpoint, data, tmp_path):
    whole = run(tmp_path / "a", *of_data(checkpoint, data, "--oracle-clues", "--batch-size", 16))
    ones = run(tmp_path / "b", *of_data(checkpoint, data, "--oracle-clues", "--batch-size", 1, "--workers", 1))
    assert whole == ones


def test_clues_given_decide_the_report(checkpoint, data, tmp_path):
    oracle = run(tmp_path / "oracle", *of_data(checkpoint, data, "--oracle-clues"))
    shuffle = run(tmp_path / "shuffled", *of_data(checkpoint, data, "--shuffle-clues", 1))
    none = run(tmp_path / "none", *of_data(checkpoint, data, "--no-clues"))
    assert sorted(map(str, (line["clue_scores"] for line in oracle))) == sorted(
        map(str, (line["clue_scores"] for line in shuffle))
    )
    assert [line["clue_scores"] for line in none] == [None] * STUDIES
    assert len({line["prediction"] for line in none[5:]}) <= 2  # no image and no clue: only the indication differs
    for other in (shuffle, none):
        assert [line["prediction"] for line in other] != [line["prediction"] for line in oracle]


def test_a_model_with_eyes_writes_what_it_saw(checkpoint, tmp_path):
    lines = run(tmp_path, "--checkpoint", checkpoint, "--phantoms", 3)
    assert [line["study_id"] for line in lines] == [f"phantom-{TEST_PHANTOM_SEED}-{index}" for index in range(3)]
    scores = [tuple(line["clue_scores"].values()) for line in lines]
    assert len(set(scores)) == 3 and all(0 <= score <= 1 for row in scores for score in row)


def test_phantoms_for_testing_are_not_those_of_training():
    assert TEST_PHANTOM_SEED != PHANTOM_SEED


@pytest.mark.parametrize("system", ["maira1", "radialog"])
def test_the_other_systems_generate_too(system, tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoint", system)
    lines = run(tmp_path / "seen", "--checkpoint", folder, "--phantoms", 2)
    assert (lines[0]["clue_scores"] is None) == (system == "maira1")
    if system == "maira1":
        with pytest.raises(ValueError, match="this checkpoint reads none"):
            run(tmp_path / "given", "--checkpoint", folder, "--phantoms", 2, "--oracle-clues")
    else:
        given = run(tmp_path / "given", "--checkpoint", folder, "--phantoms", 2, "--oracle-clues")
        assert set(given[0]["clue_scores"].values()) <= {0.0, 1.0}


def test_the_dial_of_a_checkpoint_without_points_is_refused_in_one_line(checkpoint, data, tmp_path):
    with pytest.raises(ValueError, match=r"operating_point is 0\.1, but these clues have none"):
        run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--operating-point", "0.1"))


def test_bfloat16_runs(checkpoint, data, tmp_path):
    assert len(run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--bf16"))) == STUDIES


def test_shards_are_read_as_training_reads_them(checkpoint, data, tmp_path):
    records = read(data / "studies.jsonl")[:3]
    for record in records:
        for image in record["images"]:
            image["bytes"] = (data / image["path"]).read_bytes()
    DatasetDict({"test": Dataset.from_list(records)}).save_to_disk(str(tmp_path / "shards"))
    of_shards = run(tmp_path / "a", *of_data(checkpoint, tmp_path / "shards"))
    assert of_shards == run(tmp_path / "b", *of_data(checkpoint, data, "--max-studies", 3))


def test_images_without_reports_are_a_study_a_file_and_a_study_a_folder(checkpoint, data, tmp_path, capsys):
    folder = tmp_path / "images"
    names = ("b.png", "a.png", "patient/first/front.PNG", "patient/first/side.png", ".hidden.png", "notes.txt")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((data / read(data / "studies.jsonl")[0]["images"][0]["path"]).read_bytes())
    lines = run(tmp_path / "run", "--checkpoint", checkpoint, "--images", folder)
    assert [line["study_id"] for line in lines] == ["a.png", "b.png", "patient/first"]
    assert all(line["reference"] is None and line["labels"] is None and line["prediction"] for line in lines)
    assert "1 files are no images by their endings" in capsys.readouterr().out
    assert len(run(tmp_path / "one", "--checkpoint", checkpoint, "--images", folder, "--max-studies", 1)) == 1
    with pytest.raises(ValueError, match=r"no image among \d files"):
        run(tmp_path / "none", "--checkpoint", checkpoint, "--images", tmp_path / "one")


def test_section_chooses_what_is_compared(checkpoint, data, tmp_path):
    lines = run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--section", "findings"))
    record = read(data / "studies.jsonl")[0]
    assert lines[0]["reference"] == record["findings"] and lines[0]["prediction"] == lines[0]["findings"]


def test_the_checkpoints_own_code_writes_the_same(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    ours = run(tmp_path / "ours", "--checkpoint", checkpoint, "--phantoms", 2)
    theirs = run(tmp_path / "theirs", "--checkpoint", checkpoint, "--phantoms", 2, "--trust-remote-code")
    assert ours == theirs


# --------------------------------------------------------------------------------------------------------- bad studies


@pytest.fixture
def bad_data(data, tmp_path) -> Path:
    """The same studies: the second one's image is a text file, the third one's is missing, the fourth types <image>."""
    folder = tmp_path / "bad"
    folder.mkdir()
    records = read(data / "studies.jsonl")[:5]
    for record in records:
        for image in record["images"]:
            (folder / image["path"]).write_bytes((data / image["path"]).read_bytes())
    (folder / records[1]["images"][0]["path"]).write_text("not an image")
    (folder / records[2]["images"][0]["path"]).unlink()
    records[3]["indication"] = "<image> chest pain"
    records[4]["technique"] = 3
    write_set(folder, records)
    return folder


def test_a_bad_study_is_named(checkpoint, bad_data, tmp_path):
    with pytest.raises(ValueError, match=r"first 'phantom-5-4': technique is 3, expected text or null"):
        run(tmp_path / "out", *of_data(checkpoint, bad_data))


def test_a_bad_study_loses_none_of_the_others(checkpoint, data, bad_data, tmp_path):
    lines = run(tmp_path / "out", *of_data(checkpoint, bad_data, "--on-error", "skip"))
    good = run(tmp_path / "good", *of_data(checkpoint, data, "--on-error", "skip"))
    scores, expected = lines[0].pop("clue_scores"), good[0].pop("clue_scores")
    assert scores == pytest.approx(expected, abs=2e-6)  # other neighbours in the batch, other rounding
    assert lines == good[:1]
    skipped = {line["study_id"]: line["skipped"] for line in read(tmp_path / "out" / "skipped.jsonl")}
    assert list(skipped) == [f"phantom-5-{index}" for index in range(1, 5)]
    for index, reason in enumerate(("phantom-5-1.png", "phantom-5-2.png", "<image>", "technique"), 1):
        assert reason in skipped[f"phantom-5-{index}"]
    blind = {line["study_id"]: line["skipped"] for line in read(tmp_path / "good" / "skipped.jsonl")}
    assert list(blind) == ["phantom-5-5", "phantom-5-6"] and "no image" in blind["phantom-5-5"]


@pytest.mark.parametrize("missing", ["--checkpoint", "--data"])
def test_a_missing_path_is_told_before_anything_heavy_is_imported(data, tmp_path, missing):
    paths = {"--checkpoint": data, "--data": data} | {missing: tmp_path / "no" / "where"}
    command = [sys.executable, "-X", "importtime", ROOT / "evaluation" / "generate.py", "--split", "test", "--out", "x"]
    command += [word for pair in paths.items() for word in pair]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.endswith(f"{missing}: {tmp_path}/no/where does not exist\n")
    assert "torch" not in done.stderr and not (tmp_path / "x").exists()


def test_half_a_character_in_a_record_skips_its_study(checkpoint, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    first, *others = read(folder / "studies.jsonl")
    lines = [first | {"indication": "cough \ud83d", "findings": "clear \ud83d"}, *others]
    (folder / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=rf"'{first['study_id']}': indication: character 6 is a lone surrogate"):
        run(tmp_path / "raise", *of_data(checkpoint, folder, "--oracle-clues"))
    written = run(tmp_path / "skip", *of_data(checkpoint, folder, "--oracle-clues", "--on-error", "skip"))
    assert first["study_id"] not in {line["study_id"] for line in written} and written


def test_oracle_clues_need_labels(checkpoint, data, tmp_path):
    lines = read(data / "studies.jsonl")
    records = [read_study(line, "here") for line in (*lines[:2], lines[5] | {"labels": None})]
    with pytest.raises(ValueError, match="'phantom-5-5' has no labels"):
        oracle_scores(records, ["Edema"])
    with pytest.raises(ValueError, match=r"no study has a label for the clues \['Gout'\]"):
        oracle_scores(records[:2], ["Edema", "Gout"])
    with pytest.raises(ValueError, match="here: study 'phantom-5-0': label 'Edema' is 2"):
        read_study(lines[0] | {"labels": {"Edema": 2}}, "here")


def test_shuffled_clues_are_always_another_study_s():
    scores = [{"Edema": float(number)} for number in range(6)]
    for seed in range(20):
        moved = shuffled(scores, seed)
        assert all(a != b for a, b in zip(moved, scores, strict=True)) and sorted(map(str, moved)) == list(
            map(str, scores)
        )
    assert shuffled(scores, 3) == shuffled(scores, 3) != shuffled(scores, 4)
    with pytest.raises(ValueError, match="two studies or more"):
        shuffled(scores[:1], 0)


# ----------------------------------------------------------------------------------------------------- killed, resumed


class Killed(Exception):
    pass


def stop_after(monkeypatch, batches: int) -> None:
    """As a kill would: no line of the batch that was running reaches the disk."""
    original = RadiologyReportPipeline.write_batch
    calls = iter(range(batches))

    def write_batch(self, batch, **options):
        if next(calls, None) is None:
            raise Killed
        return original(self, batch, **options)

    monkeypatch.setattr(RadiologyReportPipeline, "write_batch", write_batch)


def test_a_killed_run_goes_on_and_loses_nothing(checkpoint, data, tmp_path, monkeypatch, capsys):
    arguments = of_data(checkpoint, data, "--oracle-clues")
    straight = run(tmp_path / "straight", *arguments, "--batch-size", 2)
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            run(out, *arguments, "--batch-size", 2)
    part = out / "parts" / "rank-0.jsonl"
    whole = part.read_bytes()
    assert not (out / "predictions.jsonl").exists() and whole.count(b"\n") == 4
    part.write_bytes(whole[:-9])  # the last line cut short
    (out / "parts" / "rank-1.jsonl").write_bytes(b'{"study_id": "phantom-5-')  # another process got no line out
    assert run(out, *arguments, "--batch-size", 3) == straight
    assert "4 reports in" in capsys.readouterr().out
    run(out, *arguments)
    assert "is complete" in capsys.readouterr().out and not (out / "parts").exists()


def test_another_run_is_not_mixed_in(checkpoint, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Killed):
            run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--batch-size", 2))
    with pytest.raises(RunError, match="oracle_clues: True, now False"):
        run(tmp_path, *of_data(checkpoint, data, "--no-clues"))
    assert len(run(tmp_path, *of_data(checkpoint, data, "--no-clues", "--restart"))) == STUDIES


def test_a_folder_that_another_process_writes_to_is_refused(checkpoint, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Killed):
            run(tmp_path, *of_data(checkpoint, data, "--oracle-clues", "--batch-size", 2))
    with closing(PartFile(tmp_path, 0)), pytest.raises(RunError, match="another process is writing"):
        run(tmp_path, *of_data(checkpoint, data, "--oracle-clues"))


COMMAND = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
           "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


def test_two_processes_killed_and_resumed_write_what_one_writes(checkpoint, data, tmp_path):
    arguments = of_data(checkpoint, data, "--oracle-clues", "--batch-size", 1)
    one = run(tmp_path / "one", *arguments)
    out = tmp_path / "two"
    command = [*COMMAND, str(ROOT / "evaluation" / "generate.py"), *map(str, arguments), "--out", str(out)]
    command += ["--max-new-tokens", "12"]
    child = subprocess.Popen(command, env=environment(), cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 400
    while not any(part.stat().st_size for part in out.glob("parts/*")) and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read(out / "predictions.jsonl") == one


# ------------------------------------------------------------------------------------------------------ score_phantoms


def test_phantoms_are_scored_by_finding_and_side():
    left, right = ("effusion", "left"), ("effusion", "right")
    scores = score_phantoms.score([{left}, {left, right}, set()], [{left}, {right}, {right, ("effusion", None)}], 0, 0)
    pairs = scores["pairs"]
    assert pairs["left effusion"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "planted": 2, "predicted": 1}
    assert pairs["right effusion"] == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "planted": 1, "predicted": 2}
    assert pairs["cardiomegaly"]["f1"] is None and pairs["cardiomegaly"]["precision"] == 0.0
    assert scores["macro_f1"]["value"] == pytest.approx(2 / 3) and scores["claimed_without_side"] == 1
    assert score_phantoms.score([{left}], [set()], 0, 0)["macro_f1"]["value"] == 0.0


def phantom_predictions(file: Path, count: int, prediction) -> Path:
    lines = []
    for index in range(count):
        phantom = generate_phantom(TEST_PHANTOM_SEED, index, 64)
        lines.append({"study_id": phantom.record["study_id"], "prediction": prediction(phantom)})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def scored(file: Path, out: Path, *more: str) -> dict:
    score_phantoms.main(["--predictions", str(file), "--out", str(out), "--resamples", "50", *more])
    return json.loads((out / "phantom_scores.json").read_text())


def test_the_phantoms_own_reports_score_one(tmp_path, capsys):
    file = phantom_predictions(tmp_path / "p.jsonl", 60, lambda phantom: phantom.record["findings"])
    result = scored(file, tmp_path)
    assert result["macro_f1"].items() >= {"value": 1.0, "low": 1.0, "high": 1.0}.items()
    assert result["claimed_without_side"] == result["with_other_findings"] == 0
    assert all(row["right"] == row["told"] > 9 for row in result["details"].values())
    assert "macro F1 over findings and sides: 1.000" in capsys.readouterr().out


def test_sides_count(tmp_path):
    def mirrored(phantom) -> str:
        return phantom.record["findings"].replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")

    result = scored(phantom_predictions(tmp_path / "p.jsonl", 60, mirrored), tmp_path)
    assert result["pairs"]["cardiomegaly"]["f1"] == 1.0
    assert 1 / 11 <= result["macro_f1"]["low"] <= result["macro_f1"]["value"] <= result["macro_f1"]["high"] < 0.6
    f1 = [row["f1"] for row in result["pairs"].values() if row["f1"] is not None]
    assert result["macro_f1"]["value"] == pytest.approx(sum(f1) / len(f1), abs=1e-12)


def test_a_checkpoint_is_scored_by_one_command(checkpoint, tmp_path):
    score_phantoms.main(
        ["--checkpoint", str(checkpoint), "--count", "3", "--out", str(tmp_path), "--", "--max-new-tokens", "4"]
    )
    assert json.loads((tmp_path / "phantom_scores.json").read_text())["phantoms"] == 3
    (tmp_path / "other.jsonl").write_text('{"study_id": "CXR1", "prediction": ""}\n')
    with pytest.raises(ValueError, match="'CXR1' is no phantom"):
        scored(tmp_path / "other.jsonl", tmp_path)


def test_a_checkpoint_that_cannot_be_loaded_leaves_no_run_behind(data, checkpoint, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "config.json").write_text("{")
    arguments = ["--phantoms", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(ConfigError):
        generate.main(["--checkpoint", str(broken), *arguments])
    generate.main(["--checkpoint", str(checkpoint), *arguments])
    assert (tmp_path / "run" / "predictions.jsonl").is_file()
