"""A card's numbers come from the files of its runs."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hub_cards import card_scores

CARD = """---
license: apache-2.0
# a remark that stays
model-index:
- name: tiny
  results:
  - task: {type: image-text-to-text}
    dataset: {type: phantoms, name: 9 phantoms}
    metrics:
    - type: f1
      name: macro F1
      value: 0.5
      args: {source: first.json f1/macro, interval: [0.4, 0.6]}
    - type: roc_auc
      name: AUROC
      value: 0
      args: {source: second.json auroc}
---

# Tiny

Macro F1 0.500 [0.400, 0.600], of 0.500 [0.400, 0.601] nothing is known.
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    row = {"value": 0.71449, "low": 0.6, "high": 0.8, "signature": "f1|n:9|version:0"}
    (tmp_path / "first.json").write_text(json.dumps({"n": 9, "scores": {"f1/macro": row, "f1/bare": {"value": 1}}}))
    single = row | {"low": None, "high": None}
    (tmp_path / "second.json").write_text(json.dumps({"auroc": row | {"value": 0.9}, "single": single}))
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "page.md").write_text("Here too: 0.500 [0.400, 0.600].\n")
    return [tmp_path / "first.json", tmp_path / "second.json"]


def test_value_interval_and_signature_come_from_the_files_and_the_pages_follow(files, tmp_path, capsys) -> None:
    card, page = tmp_path / "README.md", tmp_path / "page.md"
    words = [*map(str, files), "--card", str(card), "--pages", str(page)]
    card_scores.main(words)
    macro, auroc = ModelCard.load(card).data.eval_results
    assert (macro.metric_value, macro.metric_args["interval"], auroc.metric_value) == (0.714, [0.6, 0.8], 0.9)
    assert macro.metric_args["signature"] == auroc.metric_args["signature"] == "f1|n:9|version:0"
    text = card.read_text()
    assert "# a remark that stays\n" in text and page.read_text() == "Here too: 0.714 [0.600, 0.800].\n"
    assert "F1 0.714 [0.600, 0.800], of 0.500 [0.400, 0.601] nothing" in text
    assert f"{page}: 0.500 [0.400, 0.600] -> 0.714 [0.600, 0.800] (1)" in capsys.readouterr().out
    card_scores.main([*words, f"{tmp_path}/../{tmp_path.name}/README.md"])
    assert card.read_text() == text, "a second time, and the card among the pages, change nothing"


def test_a_number_that_may_be_any_score_is_left_in_the_words(files, tmp_path, capsys) -> None:
    card = tmp_path / "README.md"
    sure = CARD.replace("value: 0.5", "value: 1.0").replace("interval: [0.4, 0.6]", "interval: [1.0, 1.0]")
    card.write_text(sure.replace("0.500 [0.400, 0.600]", "1.000 [1.000, 1.000]"))
    card_scores.main([*map(str, files), "--card", str(card)])
    assert "Macro F1 1.000 [1.000, 1.000], of" in card.read_text() and "value: 0.714" in card.read_text()
    said = "macro F1: 1.000 [1.000, 1.000] -> 0.714 [0.600, 0.800]: replace it by hand"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("first.json f1/macro", "first.json f1/micro", "no file has the score 'first.json f1/micro'"),
        ("first.json f1/macro", "first.json f1/bare", "no file has the score 'first.json f1/bare'"),
        ("value: 0\n      args: {source: second.json auroc}",
         "value: 0.5\n      args: {source: second.json auroc, interval: [0.4, 0.6]}", "is told of two scores"),
        ("model-index", "index", "expected metadata that end with model-index"),
        ("\n---\n\n# Tiny", "\ntags: [x]\n---\n\n# Tiny", "expected metadata that end with model-index"),
        ("first.json f1/macro", "second.json single", "no file has the score 'second.json single'"),
    ],
)  # fmt: skip
def test_a_score_that_is_not_there_is_told_and_nothing_is_written(files, tmp_path, old, new, told) -> None:
    card = tmp_path / "README.md"
    card.write_text(spoiled := CARD.replace(old, new))
    with pytest.raises(SystemExit, match=told):
        card_scores.main([*map(str, files), "--card", str(card)])
    assert card.read_text() == spoiled
    with pytest.raises(SystemExit, match="two files have the same name"):
        card_scores.main([str(files[0]), str(files[0])])
