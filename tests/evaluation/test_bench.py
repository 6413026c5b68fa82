"""What `make bench` compares is the same work, and every row of it runs."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

from evaluation.bench import memory, reports, steps
from evaluation.bench.__main__ import SUBJECTS, main
from evaluation.bench.pictures import GOALS, cases
from evaluation.bench.turns import Row, by_turns, settled
from processing_trrg import read_radiograph
from tests.helpers.training_helpers import make_data, stage_1, stage_2, write_config

CASES = cases(120, 96)


@pytest.mark.parametrize("name", CASES)
def test_both_ways_read_the_same_picture(name: str):
    data, by_hand = CASES[name]
    ours, theirs = read_radiograph(data).values.astype(np.float64), by_hand(data).astype(np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(np.diff([(grey - grey.min()) / np.ptp(grey) for grey in (ours, theirs)], axis=0)).max() < 0.02


def test_turns_alternate_and_a_row_has_the_least_and_the_median():
    seen: list[str] = []
    times = by_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 1e-6)
    assert seen[:10] == list("ab" + "abba" * 2) and len(times["a"]) == len(times["b"]) >= 5  # the first ones warm up
    row = Row("s", "w", "b", "", "").measured([2.0, 3.0, 8.0], [4.0, 2.0, 4.0])
    assert (row.ours, row.theirs, row.ratio, row.spread) == (2, 2, 1.5, (1.0, 1.75))
    assert settled({"a": [1.0, 1.01] * 3, "b": [1.0] * 6}) and not settled({"a": [1.0, 1.5] * 3, "b": [1.0] * 6})


def test_a_subject_writes_table_numbers_and_plot(tmp_path, capsys):
    main(["--quick", "--only", "pictures", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert {"processor", "torch", "command", "date"} <= written["machine"].keys()
    assert written["machine"]["command"] == "python -m evaluation.bench --only pictures --quick", "no path of a machine"
    assert [row["what"] for row in written["rows"]] == list(CASES)
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in written["rows"])
    table = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    printed = capsys.readouterr().out.splitlines()
    assert table[:-2] == [line for line in printed if line in table] and len(table) == 4 + len(GOALS)
    assert len({line.count("|") for line in printed}) == 1 and len(printed) == 2 + len(CASES)
    explained = (tmp_path / "explained.md").read_text(encoding="utf-8").splitlines()
    assert len(explained) == len(CASES) and (tmp_path / "ratios.png").is_file()


def test_a_report_is_measured_as_it_is_written_first(monkeypatch):
    """One that is revised is written up to four times: no baseline of its first token, and no report a second."""
    write, calls = reports.load(), []
    generate = write.model.generate
    monkeypatch.setattr(write.model, "generate", lambda *ids, **how: calls.append(how) or generate(*ids, **how))
    monkeypatch.setattr(reports, "load", lambda: write)
    reports.second_turn(write, reports.images(1)[0], 1)
    cached = [how for how in calls if {"cache", "past_key_values"} & how.keys()]
    assert len(calls) == 3 * len(cached) == 24, "chats, their questions from the cache, and as many reports"
    calls.clear()
    reports.growth(quick=True)
    assert len(calls) == 3 * 2, "one a step of each curve with reports"


def test_memory_is_not_what_the_process_that_measures_held():
    held = b"x" * (400 << 20)
    asked = f"import re\nfrom pathlib import Path\n{inspect.getsource(memory.peak)}\nprint(peak())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < 200 << 20 < len(held)


@pytest.mark.slow
def test_every_row_runs(tmp_path):
    main(["--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["rows"]
    assert {row["subject"] for row in rows} == set(SUBJECTS)
    assert all(row["why"] and row["what"] for row in rows) and (tmp_path / "growth.png").is_file()
    assert all(row["ours"] is None for row in rows if row["subject"] == "device")  # no number from a dry run


def test_both_stages_wait_for_data_each_in_its_own_precision(tmp_path, monkeypatch):
    data = make_data(tmp_path / "data")
    for stage, config, precision in ((1, stage_1, "no"), (2, stage_2, "bf16")):
        made = config(data, tmp_path / "run")
        made["run"]["mixed_precision"] = precision
        made["model"] = made["model"] if stage == 1 else {"checkpoint": str(steps.SMALL)}
        write_config(made, tmp_path / f"trrg-small-stage{stage}.yaml")
    monkeypatch.setattr(steps, "CONFIGS", tmp_path)
    monkeypatch.setattr(steps, "DATA", data)
    for stage, name in (("1", "pretrain"), ("2", "finetune")):
        row = steps.waiting(stage, name, quick=False)
        assert row.ours > 0 and row.theirs > 0
