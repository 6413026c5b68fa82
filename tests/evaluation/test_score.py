"""score.py and compare.py by their real entry points: files, order, processes, bad input, plots, comparison."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluation.compare import compare, read_run
from evaluation.compare import main as compare_main
from evaluation.metrics.calibration import ClueReliability
from evaluation.metrics.clinical import CHEXPERT_14
from evaluation.metrics.truthfulness import TruthCounts, study_truth, truth_scores
from evaluation.predictions.records import Pair
from evaluation.reading.labeler import label_report
from evaluation.score import main as score_main
from evaluation.score import score_stream, with_chexbert

FINDINGS = [
    "Small left pleural effusion. No pneumothorax.",
    "The lungs are clear. Heart size is normal.",
    "Mild pulmonary edema with cardiomegaly.",
    "Right lower lobe pneumonia is possible.",
    "No acute disease.",
    "Left basilar atelectasis. Old rib fracture.",
]
EMPTY = dict.fromkeys(CHEXPERT_14)


def make_predictions(n: int = 60, shift: int = 0) -> list[dict]:
    """Reports whose prediction is right four times in five."""
    return [
        {
            "study_id": f"s{row}",
            "prediction": FINDINGS[(row + (shift if row % 5 == 0 else 0)) % 6],
            "reference": FINDINGS[row % 6],
            "clue_scores": {"Edema": 0.9 if row % 6 == 2 else 0.1, "Emphysema": 0.5},
            "has_prior": False,
        }
        for row in range(n)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict], str], Path]:
    def write_lines(records: list[dict], name: str = "predictions.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write_lines


def score(predictions: Path, out: Path, *options: str) -> dict:
    score_main([str(predictions), "--out", str(out), "--resamples", "20", "--processes", "1", *options])
    return json.loads((out / "metrics.json").read_text())


def test_files_and_table(write, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    metrics = score(write(make_predictions()), tmp_path / "out", "--treatments", "ptb", "r2gen_mimic")
    assert metrics["n"] == 60 and metrics["section"] == "given"
    names = set(metrics["scores"])
    assert {"r2gen/macro_14_f1", "maira/micro_5_f1", "ptb/bleu_4", "r2gen_mimic/cider_d"} <= names
    assert not any(name.startswith("raw/") or name.endswith("meteor") for name in names)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.count("\n") == len(names) + 2 and "convention:r2gen" in table
    assert "| ptb/distinct | 0.1000 |  | 6 of 60 | distinct" in table and metrics["scores"]["ptb/words"]["low"] > 4
    for picture in ("label_f1.png", "clue_reliability.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (tmp_path / "out" / "studies.jsonl").open()]
    assert [line["study_id"] for line in lines] == [f"s{row}" for row in range(60)]
    assert lines[2]["reference_labels"] == label_report(FINDINGS[2])
    printed = capsys.readouterr().out
    assert "r2gen/macro_14_f1" in printed and "Never for clinical use" in printed


def test_truthfulness_is_scored_too(write, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = make_predictions(12)
    records[0]["prediction"] = "Stable edema. No edema."
    records[1]["has_prior"] = None
    metrics = score(write(records), tmp_path / "out", "--treatments")
    lines = [json.loads(line) for line in (tmp_path / "out" / "studies.jsonl").open()]
    truths = [study_truth(r["prediction"], r["clue_scores"], r["has_prior"]) for r in records]
    assert [line["truthfulness"] for line in lines] == json.loads(json.dumps([truth.to_dict() for truth in truths]))
    expected = truth_scores(TruthCounts.from_studies(truths), resamples=20)
    assert {name: metrics["scores"][name] for name in expected} == expected
    counted = {name.split("/")[1]: (score["count"], score["of"]) for name, score in expected.items()}
    assert counted["clue_support"] == (2, 3) and counted["clue_omission"] == (0, 2)
    assert counted["contradiction"] == (1, 12) and counted["invented_comparison"] == (1, 11)
    nothing = metrics["scores"]["truthfulness/section_conflict"]
    assert nothing["value"] is None and nothing["of"] == 0
    assert "| truthfulness/section_conflict | - |  |" in (tmp_path / "out" / "table.md").read_text()
    assert [line.split() for line in capsys.readouterr().out.splitlines() if "section_conflict" in line] == [
        ["truthfulness/section_conflict", "-", "0", "of", "0"]
    ]


def test_own_labels_and_details_are_scored_and_compared(write, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: mine\nlabels: {Fluid: [effusion, edema], Bone: ['*rib fracture*']}\n")
    options = ("--treatments", "--label-set", str(own))
    better = score(write(make_predictions()), tmp_path / "better", *options)["scores"]
    worse = score(write(make_predictions(shift=1)), tmp_path / "worse", *options)["scores"]
    assert better["label_set/Fluid"]["value"] == better["label_set_average/macro"]["value"] == 1
    assert better["label_set/Fluid"]["support"] == 20 and worse["label_set/Fluid"]["value"] < 1
    assert worse["label_set/Bone"]["signature"].startswith("label-set/f1|labeler:rules-0.3.0|set:mine-")
    assert "|label:Bone|uncertain:0|n:60|bootstrap:20|seed:0|" in worse["label_set/Bone"]["signature"]
    line = json.loads((tmp_path / "worse" / "studies.jsonl").read_text().splitlines()[0])
    assert line["label_set"]["reference"] == {"Fluid": 1, "Bone": None}
    assert line["details"]["change"] == {"prediction": [], "reference": []}
    rows = compare(read_run(tmp_path / "worse"), read_run(tmp_path / "better"), resamples=20)["scores"]
    for name in ("label_set/Fluid", "label_set_average/micro", "details/temporal_f1", "details/severity_precision"):
        assert rows[name]["first"] == worse[name]["value"] and rows[name]["second"] == better[name]["value"]
    assert "details/size_agreement" not in rows  # nothing to count
    own.write_text("name: mine\nlabels: {Fluid: [effusion], Bone: ['*rib fracture*']}\n")
    score(write(make_predictions()), tmp_path / "other", *options)
    with pytest.raises(ValueError, match=r"label_set_average/macro: signature .*set:mine-"):
        compare(read_run(tmp_path / "better"), read_run(tmp_path / "other"))


def test_a_model_that_labels_reads_each_study_once() -> None:
    read: list[str] = []

    def label(texts: list[str]) -> list[dict]:
        read.extend(texts)
        return [{**EMPTY, "Edema": 1} for _ in texts]

    pairs = [Pair("a", "x", "y"), Pair("b", "z", "w")]
    result = score_stream(lambda: pairs, label=partial(with_chexbert, labeler=label), labeler="chexbert", resamples=0)
    assert sorted(read) == ["w", "x", "y", "z"]
    assert result["scores"]["r2gen/micro_14_f1"]["value"] == 1
    assert "labeler:chexbert" in result["scores"]["r2gen/micro_14_f1"]["signature"]


def test_order_and_processes_change_no_digit(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.score.CHUNK", 7)
    records = make_predictions(shift=1)
    first = score(write(records), tmp_path / "a")
    shuffled = [records[row] for row in np.random.default_rng(0).permutation(60)]
    second = score(write(shuffled, "shuffled.jsonl"), tmp_path / "b", "--processes", "2")
    monkeypatch.setattr("evaluation.score.CHUNK", 1024)
    third = score(write(shuffled, "shuffled.jsonl"), tmp_path / "c")
    assert first == second == third


def test_references_from_study_records(write, tmp_path: Path) -> None:
    records = make_predictions(12)
    predictions = write([{name: value for name, value in r.items() if name != "reference"} for r in records])
    studies = [
        {"study_id": r["study_id"], "split": "test", "findings": r["reference"], "impression": None} for r in records
    ]
    references = str(write([*reversed(studies), {"study_id": "other", "split": "train"}], "studies.jsonl"))
    options = ("--references", references, "--split", "test", "--section", "findings")
    metrics = score(predictions, tmp_path / "out", *options)
    inline = score(write(records, "inline.jsonl"), tmp_path / "inline")
    assert metrics["scores"] == inline["scores"] and metrics["section"] == "findings"
    with pytest.raises(ValueError, match="no study of split 'tset'"):
        score(predictions, tmp_path / "none", "--references", references, "--split", "tset")
    whole = score(predictions, tmp_path / "whole", "--references", references, "--split", "test")
    assert whole["scores"]["ptb/bleu_4"]["value"] < inline["scores"]["ptb/bleu_4"]["value"]  # "Findings: ..." is read


def test_labels_given(write, tmp_path: Path) -> None:
    records = make_predictions(6)
    for record in records:
        record["reference_labels"] = {**EMPTY, "Edema": 1}
        record["prediction_labels"] = {**EMPTY, "Edema": float("nan")}
    metrics = score(write(records), tmp_path / "out", "--labeler", "given", "--treatments")
    assert metrics["scores"]["r2gen/micro_14_recall"]["value"] == 0
    assert metrics["per_label"]["Edema"]["uncertain_0"]["support"] == 6
    assert "labeler:given" in metrics["scores"]["r2gen/micro_14_recall"]["signature"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.append(r[0]), "study 's0' is doubled"),
        (lambda r: r[1].pop("prediction"), r"predictions.jsonl:2 \(study 's1'\): prediction is None; expected text"),
        (lambda r: r[1].update(prediction=None), "prediction is None; expected text"),
        (lambda r: r[1].update(prediction=["a"]), r"prediction is \['a'\]"),
        (lambda r: r[1].pop("reference"), "reference is None"),
        (lambda r: r[1].pop("study_id"), "expected an object with a text study_id"),
        (lambda r: r[1].update(study_id=7), "expected an object with a text study_id"),
        (lambda r: r[1].update(clue_scores={"Edema": 1.5}), "clue score of 'Edema' is 1.5; expected a number from 0"),
        (lambda r: r[1].update(clue_scores=[0.5]), "clue_scores is"),
        (lambda r: r[1].update(labels={"Edema": 2}), "label 'Edema' is 2; expected"),
        (lambda r: r[1].update(has_prior="yes"), "has_prior is 'yes'; expected true, false or null"),
        (lambda r: r[1].update(has_prior=0), "has_prior is 0; expected"),
        (lambda r: r.clear(), "no study"),
        (lambda r: r[1].update(prediction="edema " * 30_000), "study 's1' has 30000 tokens; at most 20000 are scored"),
    ],
)
def test_bad_lines_stop_with_the_study(write, tmp_path: Path, change, message: str) -> None:
    records = make_predictions(3)
    change(records)
    with pytest.raises(ValueError, match=message):
        score(write(records), tmp_path / "out")


def test_bad_labels_stop_with_the_study(write, tmp_path: Path) -> None:
    records = [{**r, "reference_labels": EMPTY, "prediction_labels": EMPTY} for r in make_predictions(3)]
    records[1]["prediction_labels"] = {**EMPTY, "Oedema": 1}
    with pytest.raises(ValueError, match=r"study 's1': prediction_labels\[0\]: unknown names \['Oedema'\]"):
        score(write(records), tmp_path / "out", "--labeler", "given")
    with pytest.raises(ValueError, match="prediction_labels is None"):
        score(write(make_predictions(3)), tmp_path / "out", "--labeler", "given")


def test_broken_json_stops_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"study_id": "a", "prediction": "x", "reference": "y"}\n{"study_id"\n')
    with pytest.raises(ValueError, match=r"predictions.jsonl:2: not JSON"):
        score(path, tmp_path / "out")


def test_different_studies_stop(write, tmp_path: Path) -> None:
    predictions = write(make_predictions(3))
    studies = [{"study_id": f"s{row}", "findings": "x"} for row in (1, 2, 3)]
    with pytest.raises(ValueError, match=r"1 studies of .*predictions.jsonl are not in .*studies.jsonl, first 's0'"):
        score(predictions, tmp_path / "out", "--references", str(write(studies, "studies.jsonl")))
    studies.append({"study_id": "s0", "findings": None})
    with pytest.raises(ValueError, match=r"1 studies of .*studies.jsonl are not in .*predictions.jsonl, first 's3'"):
        score(predictions, tmp_path / "out", "--references", str(write(studies, "studies.jsonl")))
    del studies[2]
    with pytest.raises(ValueError, match=r"study 's0'\): findings is None; expected text"):
        score(
            predictions, tmp_path / "out", "--section", "findings", "--references", str(write(studies, "studies.jsonl"))
        )
    with pytest.raises(ValueError, match=r"s0.*needs findings or an impression"):
        score(predictions, tmp_path / "out", "--references", str(write(studies, "studies.jsonl")))


@pytest.mark.parametrize("text", ["", "   ", "XXXX XXXX XXXX", "<p>No effusion.</p>", "Kein Erguss.", "🫁🩻", "\u0000"])
def test_odd_texts_have_defined_values(text: str) -> None:
    pairs = [Pair("a", text, "No effusion."), Pair("b", "No effusion.", text), Pair("c", text, text)]
    scores = score_stream(lambda: pairs, resamples=5)["scores"]
    assert all(
        np.isfinite([score["value"], score["low"], score["high"]]).all()
        for name, score in scores.items()
        if score.get("of") != 0 and not name.endswith(("distinct", "commonest"))  # nothing to count; no interval
    )


def test_a_megabyte_is_labelled() -> None:
    pairs = [Pair("a", "No pleural effusion. " * 50_000, "Pleural effusion. " * 50_000)]
    per_label = score_stream(lambda: pairs, treatments=(), resamples=0)["per_label"]
    assert per_label["Pleural Effusion"]["uncertain_0"]["support"] == 1
    with pytest.raises(ValueError, match="study 'a' has 100000 tokens"):
        score_stream(lambda: pairs, treatments=("ptb",), resamples=0)


def test_impossible_options_stop(write, tmp_path: Path) -> None:
    predictions = str(write(make_predictions(3)))
    for options in (
        ["--labeler", "chexbert"],
        ["--chexbert", "x.pth"],
        ["--conventions", "r2gem"],
    ):
        with pytest.raises(SystemExit):
            score_main([predictions, "--out", str(tmp_path), *options])
    with pytest.raises(ValueError, match="split 'test' chooses among the references; there is no file"):
        score_main([predictions, "--out", str(tmp_path), "--split", "test"])
    with pytest.raises(ValueError, match="processes must be at least 1"):
        score_main([predictions, "--out", str(tmp_path), "--processes", "0"])


def test_reliability_by_hand_and_in_any_order() -> None:
    whole, first, second = ClueReliability(), ClueReliability(), ClueReliability()
    cases = [(0.92, 1), (0.98, 0), (0.05, None), (0.1, -1), (1.0, 1)]
    for row, (value, label) in enumerate(cases):
        for target in (whole, (first, second)[row % 2]):
            target.add({"Edema": value, "Emphysema": 0.3}, {**EMPTY, "Edema": label}, of_report=True)
    summary = whole.summary()
    assert summary == second.merge([first]).summary()
    assert summary["without_reference_label"] == ["Emphysema"]
    low, high = summary["clues"]["Edema"]["bins"]
    assert low == {"count": 1, "mean_score": pytest.approx(0.05), "share_present": 0.0}
    assert high["count"] == 3 and high["share_present"] == pytest.approx(2 / 3)
    expected = (0.05 + 3 * abs((0.92 + 0.98 + 1.0) / 3 - 2 / 3)) / 4
    assert summary["all"]["expected_calibration_error"] == pytest.approx(expected)


def test_reliability_against_the_labels_of_the_study(write, tmp_path: Path) -> None:
    """What the study's own labels do not know is left out; what a report does not mention is absent."""
    records = [{**record, "labels": {"Edema": 1, "Fracture": None}} for record in make_predictions(6)]
    for record in records:
        record["clue_scores"] = {"Edema": 0.9, "Fracture": 0.9, "Pneumonia": 0.9}
    clues = score(write(records), tmp_path / "study")["clue_reliability"]
    assert set(clues["clues"]) == {"Edema"} and clues["clues"]["Edema"]["bins"][0]["share_present"] == 1
    assert clues["studies_by_source_of_labels"] == {"report": 0, "study": 6}
    for record in records:
        del record["labels"]
    clues = score(write(records), tmp_path / "report")["clue_reliability"]
    assert set(clues["clues"]) == {"Edema", "Fracture", "Pneumonia"} and clues["all"]["n"] == 18 - 1  # one uncertain


def test_compare_two_runs(write, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    score(write(make_predictions(shift=1)), tmp_path / "worse")
    reversed_file = write(list(reversed(make_predictions())), "better.jsonl")
    score(reversed_file, tmp_path / "better")
    result = compare(read_run(tmp_path / "worse"), read_run(tmp_path / "better"), resamples=100)
    for name, row in result["scores"].items():
        metrics = json.loads((tmp_path / "better" / "metrics.json").read_text())
        assert row["second"] == pytest.approx(metrics["scores"][name]["value"], abs=1e-12)
    assert result["scores"]["ptb/bleu_4"]["difference"] > 0 and result["scores"]["ptb/bleu_4"]["p"] < 0.05
    assert result["sign_tests"]["ptb/rouge_l"]["losses"] == 0
    assert "truthfulness/section_conflict" not in result["scores"]  # nothing to count
    support = result["scores"]["truthfulness/clue_support"]
    assert support["second"] == 1 and support["low"] <= support["difference"] <= support["high"]
    out = tmp_path / "comparison"
    compare_main([str(tmp_path / "worse"), str(tmp_path / "better"), "--out", str(out), "--resamples", "20"])
    assert json.loads((out / "comparison.json").read_text())["n"] == 60
    assert "60 studies, 20 paired resamples" in capsys.readouterr().out


def test_runs_that_cannot_be_compared(write, tmp_path: Path) -> None:
    score(write(make_predictions(12)), tmp_path / "a", "--treatments")
    other = [{**record, "study_id": record["study_id"] + "x"} for record in make_predictions(12)]
    score(write(other), tmp_path / "ids", "--treatments")
    score(write(make_predictions(12)), tmp_path / "seed", "--treatments", "--seed", "1")
    changed = make_predictions(12)
    changed[0]["reference"] = FINDINGS[2]
    score(write(changed), tmp_path / "references", "--treatments")
    for name, message in (
        ("ids", "differ in 24 studies"),
        ("seed", r"seed:0.*against.*seed:1"),
        ("references", "1 references are labelled differently, first 's0'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(read_run(tmp_path / "a"), read_run(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="expected a folder written by"):
        read_run(tmp_path)
