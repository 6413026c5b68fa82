"""context_matters.py and score_change.py through their entry points, with a tiny untrained model and SYNTHETIC
phantoms."""

import json
from collections import Counter

import pytest

from evaluation import context_matters, score_change
from evaluation.context_matters import CONDITIONS, ChangedContext, lent
from evaluation.predictions.study_sources import PhantomStudies
from evaluation.reading.changes import CHANGES
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.checkpoints import never_reads, read, save_checkpoint
from training.builders.small_data import phantom_records, write_set
from training.data.study import Study
from training.phantoms.follow_up import generate_followed


def test_a_row_for_every_condition(tmp_path):
    folder, data, out = save_checkpoint(tmp_path / "checkpoint", "trrg"), tmp_path / "data", tmp_path / "out"
    write_set(data, phantom_records(data, generate_followed, 0, {"test": 30}, 64, 1))
    arguments = ["--checkpoint", folder, "--data", data, "--split", "test", "--max-studies", 2, "--out", out]
    arguments += ["--contexts", data, "--resamples", 5, "--", "--max-new-tokens", 4]
    context_matters.main(list(map(str, arguments)))
    results = json.loads((out / "metrics.json").read_text())["conditions"]
    assert set(results) == set(CONDITIONS)
    assert results["none"]["same_labels"] == results["none"]["same_text"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "context_matters" in (out / "table.md").read_text()
    told = {name: [line["has_prior"] for line in read(out / name / "predictions.jsonl")] for name in CONDITIONS}
    assert {name for name, priors in told.items() if all(priors)} == {"prior_report", "all"}
    assert not any(told["comparison"] + told["none"])


def test_a_condition_tells_its_words_and_no_others():
    source = PhantomStudies(40, 1, 64, generate_followed)
    words = lent(source.records, source.records)
    assert lent(source.records, source.records) == words
    for condition in CONDITIONS:
        [first, *_] = ChangedContext(source, words, condition).records
        told = {name for name in ("indication", "technique", "comparison", "prior_report") if first[name]}
        assert told == {"none": set(), "all": set(words[0])}.get(condition, {condition})
        assert (first.findings, first.images) == (source.records[0].findings, source.records[0].images)


def test_words_are_lent_by_other_patients_only():
    studies = [Study(str(n), "ab"[n % 2], None, indication=f"of {'ab'[n % 2]}", impression="Clear.") for n in range(9)]
    for study, context in zip(studies, lent(studies, studies), strict=True):
        assert context["indication"] == f"of {'b' if study.patient_id == 'a' else 'a'}"
    with pytest.raises(ValueError, match="no two patients have a text to lend as indication"):
        lent(studies, [study for study in studies if study.patient_id == "a"])


def test_change_is_scored_by_class():
    left, right = ("effusion", "left"), ("effusion", "right")
    planted = [{(left, "new"), (right, "resolved")}, {(left, "unchanged")}]
    true = ["New left effusion. The right effusion has resolved.", "Unchanged left effusion."]
    scores = score_change.score(planted, true, 10)
    occurring = {name: row for name, row in scores.items() if row.get("planted")}
    assert {name for name, row in occurring.items() if row["value"] == 1} == {
        "new",
        "resolved",
        "unchanged",
        "still there",
    }
    assert scores["macro"]["value"] == pytest.approx(3 / 5) and scores["macro"]["by_chance"] == 0
    again = score_change.score(planted, ["New left effusion.", "The left effusion is larger."], 0)
    assert again["unchanged"]["value"] == 0 and again["still there"]["value"] == 1  # how it changed is another question
    wrong = score_change.score(planted, ["New left effusion. The right effusion is larger.", "New left effusion."], 0)
    assert wrong["new"]["value"] == pytest.approx(2 / 3) and wrong["grown"]["claimed"] == 1
    assert wrong["resolved"]["value"] == wrong["unchanged"]["value"] == 0


def test_the_reports_of_followed_phantoms_score_one():
    followed = [generate_followed(6, index, 64) for index in range(120)]
    planted = [{(finding.pair, finding.change) for finding in phantom.followed} for phantom in followed]
    assert Counter(change for some in planted for _, change in some).keys() == set(CHANGES)
    scores = score_change.score(planted, [phantom.record["findings"] for phantom in followed], 10)
    assert all(row["value"] == 1 for row in scores.values())
    assert scores["macro"]["by_chance"] < 0.3


def test_a_checkpoint_is_scored_with_and_without_the_prior(tmp_path, capsys):
    folder, out = never_reads(save_checkpoint(tmp_path / "checkpoint", "trrg")), tmp_path / "out"
    arguments = ["--checkpoint", folder, "--count", 3, "--out", out, "--resamples", 5, "--", "--max-new-tokens", 4]
    score_change.main(list(map(str, arguments)))
    result = json.loads((out / "change_scores.json").read_text())
    assert result["with_prior"].keys() == result["without_prior"].keys() == {"compares", "named_f1"}
    lines = read(out / "with_prior" / "predictions.jsonl")
    assert all(line["has_prior"] and line["readable"] is False for line in lines)
    assert UNREADABLE not in {line["prediction"] for line in lines}, "a score needs the model's words"
    assert not any(line["has_prior"] for line in read(out / "without_prior" / "predictions.jsonl"))
    assert "SYNTHETIC" in capsys.readouterr().out
    score_change.main(["--resamples", "0", *map(str, arguments[:6]), "--", "--max-new-tokens", "4"])
    again = json.loads((out / "change_scores.json").read_text())
    assert again["change"]["macro"]["low"] is again["without_prior"]["compares"]["low"] is None
