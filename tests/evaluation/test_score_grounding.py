"""How right boxes are: areas by hand, and the command on a random checkpoint."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import score_grounding
from evaluation.metrics.grounding import FIGURES, PIXELS, area, judge, means
from processing_trrg import ClueScore, Placement, Report, read_grounded
from tests.helpers.checkpoints import save_checkpoint
from training.data.study import Study, write_studies


def judged(said, true, complete=True, height=100, width=200):
    rows = judge(said, true, height, width, complete)
    return [{name: value for name, value in zip(FIGURES, row, strict=True) if not math.isnan(value)} for row in rows]


def test_areas_are_counted_on_the_grid():
    assert area([(0, 0, 200, 100)], 100, 200).all() and not area([], 100, 200).any()
    half = area([(0, 0, 100, 100), (50, 0, 50, 100)], 100, 200)  # one lies in the other
    assert half.sum() == PIXELS * PIXELS / 2 and half[:, 0].all()
    assert area([(3, 3, 0.1, 0.1), (4999.9, 4999.9, 0.1, 0.1)], 5000, 5000).sum() == 2
    assert area([(-50, -50, 60, 60)], 100, 200).sum() == round(0.1 * PIXELS) * round(0.05 * PIXELS)


def test_boxes_are_judged_by_area():
    (row,) = judged({"Edema": [(0, 0, 100, 100)]}, {"Edema": [(50, 0, 50, 100), (100, 0, 100, 100)]})
    assert row["iou"] == pytest.approx(0.25) and row["found"] == 1
    assert row["pixel_precision"] == pytest.approx(0.5) and row["pixel_recall"] == pytest.approx(1 / 3, abs=0.01)
    assert (row["spatial_precision"], row["grounding_precision"]) == (1, 1)
    assert (row["spatial_recall"], row["grounding_recall"]) == (0, 0)


def test_a_finding_without_a_box_is_not_found_and_an_invented_one_is_wrong_where_all_is_known():
    rows = judged({"Fracture": [(0, 0, 9, 9)], "Pneumonia": []}, {"Edema": [(0, 0, 9, 9)]})
    assert rows == [{"found": 0, "iou": 0, "pixel_recall": 0, "spatial_recall": 0}, {"spatial_precision": 0}]
    rows = judged({"Fracture": [(0, 0, 9, 9)], "Edema": [(0, 0, 9, 9)]}, {"Edema": [(0, 0, 9, 9)]}, complete=False)
    assert len(rows) == 1 and rows[0].keys() == set(FIGURES) - {"spatial_precision"} and rows[0]["iou"] == 1


def test_means_leave_out_what_does_not_count_and_draw_patients():
    nan = float("nan")
    first, second, third = means([[1, nan, nan], [0, 0.5, nan], [1, nan, nan]], ["a", "b", "a"], 200)
    assert first["value"] == pytest.approx(2 / 3) and (first["low"], first["high"], first["n"]) == (0, 1, 3)
    assert (second["value"], second["n"]) == (0.5, 1) and third == {"value": None, "low": None, "high": None, "n": 0}
    assert means([[1.0]], ["a"], 0) == [{"value": 1, "low": None, "high": None, "n": 1}]


def test_each_source_is_scored_against_the_records_boxes():
    """Evidence on the spot, words on the other side."""
    evidence = np.zeros((1, 10, 10))
    evidence[0, 2, 2] = 1.0
    clues = [ClueScore("Right Lung Lesion", 0.9, evidence, True), ClueScore("Lung Lesion", 0.9, evidence, True)]
    report = Report("A nodule.", None, "A nodule.", clues, frontal=Placement(100, 100, 100))
    report.grounded = read_grounded("A nodule. [80 80 90 90]")
    box = {"label": "Lung Lesion", "x": 20, "y": 20, "w": 10, "h": 10}
    studies = {"s": Study("s", "p", "test", boxes=[box])}
    line = json.loads(json.dumps(score_grounding.grounding_line(studies["s"], report)))
    assert line["pointing"] == {"Lung Lesion": True} and {b["finding"] for b in line["evidence"]} == {
        "Right Lung Lesion"
    }
    result = score_grounding.score([line], studies, score_grounding.SOURCES, 0)
    assert result["asked"]["all"]["pointing"]["value"] == 1 and result["asked"]["all"]["iou"]["value"] > 0.5
    assert result["evidence"]["Lung Lesion"] == result["evidence"]["all"]
    assert result["evidence"]["all"]["grounding_precision"]["value"] == 1
    assert result["text"]["all"]["found"]["value"] == 1 and result["text"]["all"]["iou"]["value"] == 0
    assert "pointing" not in result["text"]["all"] and "spatial_precision" not in result["evidence"]["all"]
    assert "grounding_recall" in score_grounding.table(result)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), "trrg")


def run(checkpoint, out, *arguments):
    score_grounding.main(
        ["--checkpoint", str(checkpoint), "--out", str(out), "--resamples", "20", "--max-new-tokens", "8", *arguments]
    )
    return json.loads((out / "grounding_scores.json").read_text(encoding="utf-8"))


def test_the_command_scores_phantoms_and_records(checkpoint, tmp_path, capsys):
    written = run(checkpoint, tmp_path / "phantoms", "--phantoms", "5", "--text")
    assert written["studies"] >= 3 and set(written["scores"]) == {"asked", "evidence", "text"}
    pointing = written["scores"]["asked"]["all"]["pointing"]
    assert 0 <= pointing["low"] <= pointing["value"] <= pointing["high"] <= 1 and pointing["n"] >= 3
    assert "studies with boxes" in capsys.readouterr().out

    Image.fromarray(np.tile(np.arange(90, dtype=np.uint8), (70, 1))).save(tmp_path / "a.png")
    boxes = [{"label": name, "x": 10, "y": 10, "w": 20, "h": 20} for name in ("Edema", "Infiltrate")]
    records = [Study(str(n), "p", "test", [{"path": "a.png", "view": None}], boxes=boxes * n) for n in range(2)]
    write_studies(tmp_path / "studies.jsonl", records)
    of_record = run(checkpoint, tmp_path / "records", "--data", str(tmp_path), "--split", "test")
    assert of_record["studies"] == 1 and of_record["scores"]["asked"]["all"]["pointing"]["n"] == 1
    assert of_record["scores"]["evidence"]["all"]["found"]["n"] == 2  # no clue is called Infiltrate
    write_studies(tmp_path / "studies.jsonl", records[:1])
    with pytest.raises(ValueError, match="no study has a box"):
        run(checkpoint, tmp_path / "none", "--data", str(tmp_path), "--split", "test")
