"""Reports that the language model's context has no room for: left out where a run starts, counted and named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.tiny_processors import tiny_processor
from tests.helpers.training_helpers import make_data, run_script, stage_2
from training.data.collate import FinetuneCollator
from training.data.dialogue import Exchange
from training.data.examples import Example
from training.data.study import Study

CONTEXT = 700  # tokens
LONG = "The left lung base is hazy. " * 60


def lengthen(folder, studies):
    """Give some training studies of a set a report that is too long; their ids."""
    file = folder / "studies.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    ids = [row["study_id"] for row in rows if row["split"] == "train"]
    ids = [ids[place] for place in studies]
    for row in rows:
        if row["study_id"] in ids:
            row["findings"] = f"{row['findings']} {LONG}"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ids


def test_stage_2_leaves_out_reports_longer_than_the_context(tmp_path, capsys):
    data = make_data(tmp_path / "data")
    pair, reports = lengthen(data / "pairs", [3, 5]), lengthen(data / "reports", [7])
    config = stage_2(data, tmp_path / "run")
    overrides = config["model"]["overrides"]
    overrides["text_config"] = overrides["text_config"] | {"max_position_embeddings": CONTEXT}
    config["data"]["validation"] = []
    config["data"]["dialogue"] = {"summary": 0.5}
    config["schedule"] = {"steps": 2, "warmup_steps": 1}
    assert run_script("finetune.py", config) == 0
    lines = capsys.readouterr().out.splitlines()
    told = "longer than the language model's context left out, e.g."
    assert sum(told in line for line in lines) == 3
    assert any("22 studies" in line and f"2 reports {told} {pair[0]}" in line for line in lines)
    assert any("23 studies" in line and f"1 reports {told} {reports[0]}" in line for line in lines)
    assert any("matched" in line and f"1 reports {told} {reports[0]}" in line for line in lines)


def test_a_run_of_nothing_but_long_reports_says_so(tmp_path):
    data = make_data(tmp_path / "data")
    lengthen(data / "reports", range(24))
    config = stage_2(data, tmp_path / "run")
    overrides = config["model"]["overrides"]
    overrides["text_config"] = overrides["text_config"] | {"max_position_embeddings": CONTEXT}
    config["data"] |= {"train": config["data"]["train"][1:2], "validation": []}
    with pytest.raises(SystemExit, match="no report fits the language model's context"):
        run_script("finetune.py", config)


def test_exchanges_without_room_are_left_out_the_last_ones_first_and_the_rest_learned():
    processor = tiny_processor()
    names = [clue["name"] for clue in processor.clues]
    example = Example(
        "a", 0, [], (None,) * len(names), Study("a", "a", "train", findings="Clear."), [], np.zeros(len(names)),
        exchanges=(Exchange("Clear.", "Why?", "It is."), Exchange("Clear.", "And now?", LONG)),
    )  # fmt: skip
    collate = FinetuneCollator(processor)
    plain = collate([replace(example, exchanges=())])
    asked = collate([replace(example, exchanges=example.exchanges[:1])])
    processor.max_length = len(asked["input_ids"][0])
    assert collate([example])["input_ids"].tolist() == asked["input_ids"].tolist()
    processor.max_length = len(plain["input_ids"][0])
    assert collate.is_too_long(example) and not collate.is_too_long(replace(example, exchanges=()))
    assert collate([example])["input_ids"].tolist() == plain["input_ids"].tolist()
    processor.max_length -= 1
    assert collate.is_too_long(replace(example, exchanges=()))
    processor.max_length = None
    assert len(collate([example])["input_ids"][0]) > len(plain["input_ids"][0])
