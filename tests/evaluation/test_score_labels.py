"""Scores against labels alone: perfect, useless and always-normal systems get what they deserve."""

import json

import pytest

from evaluation.reading.observations import CHEXPERT_14
from evaluation.score_labels import main, score

TEXT = {1: "There is a left pleural effusion. Heart size is normal.", 0: "The lungs are clear. No pleural effusion."}


def write(tmp_path, rows):
    """rows: (effusion label, clue score, effusion claimed)."""
    lines = []
    for index, (label, clue, claimed) in enumerate(rows):
        labels = dict.fromkeys(CHEXPERT_14) | {"Pleural Effusion": label}
        if label in (0, 1):
            labels["No Finding"] = 1 - label
        lines.append(
            json.dumps(
                {
                    "study_id": str(index),
                    "prediction": TEXT[claimed],
                    "labels": labels,
                    "clue_scores": {"Pleural Effusion": clue, "No Finding": 1 - clue},
                }
            )
        )
    file = tmp_path / "predictions.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_perfect_system_beats_always_normal(tmp_path, capsys):
    file = write(tmp_path, [(1, 0.9, 1)] * 10 + [(0, 0.1, 0)] * 30)
    result = score(file, min_positives=10, resamples=20)
    assert result["scores"]["auroc/mean"]["value"] == 1
    assert result["scores"]["f1/micro"]["value"] == 1
    assert result["always_normal"]["f1/micro"] == pytest.approx(0.75)
    assert result["positives"] == {"Pleural Effusion": 10, "No Finding": 30}
    main([str(file), "--out", str(tmp_path / "out")])
    assert "always normal: macro F1" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "label_scores.json").read_text())["studies"] == 40


def test_a_system_that_sees_nothing_is_at_one_half_and_always_normal(tmp_path):
    result = score(write(tmp_path, [(1, 0.5, 0)] * 10 + [(0, 0.5, 0)] * 30), min_positives=10, resamples=20)
    assert result["scores"]["auroc/mean"]["value"] == 0.5
    assert result["scores"]["f1/macro"]["value"] == result["always_normal"]["f1/macro"]


def test_clues_that_were_told_are_judged_too_and_patients_are_drawn_whole(tmp_path):
    file = write(tmp_path, [(1, 0.9, 1)] * 10 + [(0, 0.1, 0)] * 30)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = ["Pleural Effusion", "No Finding"]  # all told everything: right of 10 and of 30, wrong of the others
    file.write_text("".join(json.dumps(line | {"selected_clues": told}) + "\n" for line in lines))
    apart = score(file, min_positives=10, resamples=50)
    assert apart["scores"]["clue_f1/micro"]["value"] == pytest.approx(2 / 3)
    assert apart["scores"]["clue_f1/macro"]["value"] == pytest.approx((20 / 50 + 60 / 70) / 2)
    low, high = (apart["scores"]["clue_f1/macro"][end] for end in ("low", "high"))
    assert low < high and apart["patients"] == 40
    whole = [line | {"selected_clues": told, "patient_id": "A"} for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in whole))
    one = score(file, min_positives=10, resamples=50)
    assert one["patients"] == 1 and one["scores"]["clue_f1/macro"]["low"] == one["scores"]["clue_f1/macro"]["high"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "clue_f1/macro" not in score(file, min_positives=10, resamples=5)["scores"]


def test_uncertain_and_unknown_labels_are_left_out(tmp_path):
    known = [(1, 0.9, 1)] * 10 + [(0, 0.1, 0)] * 10
    rows = [*known, (-1, 0.0, 1), (None, 1.0, 0)]
    with_unknown = score(write(tmp_path, rows), min_positives=10, resamples=5)
    assert with_unknown["scores"]["f1/Pleural Effusion"]["value"] == 1
    assert with_unknown["scores"]["auroc/Pleural Effusion"]["value"] == 1


def test_a_system_without_clues_is_judged_by_its_reports(tmp_path, capsys):
    file = write(tmp_path, [(1, 0.9, 1)] * 10 + [(0, 0.1, 0)] * 30)
    with_clues = score(file, min_positives=10, resamples=20)["scores"]
    lines = [json.loads(line) | {"clue_scores": None} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    without = score(file, min_positives=10, resamples=20)["scores"]
    assert without == {key: value for key, value in with_clues.items() if key.startswith("f1/")}
    main([str(file), "--out", str(tmp_path / "out")])
    assert "no clues" in capsys.readouterr().out
    lines[3]["clue_scores"] = {"Pleural Effusion": 0.5, "No Finding": 0.5}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"predictions.jsonl:4: some lines have clue_scores"):
        score(file, min_positives=10)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no label has 10 positives"):
        score(write(tmp_path, [(1, 0.9, 1)] * 3), min_positives=10)
    file = tmp_path / "p.jsonl"
    good = {"study_id": "a", "prediction": "x", "labels": {"Edema": 1}, "clue_scores": {"Edema": 0.1}}
    for name in ("labels", "clue_scores"):
        file.write_text(json.dumps({key: value for key, value in good.items() if key != name}))
        with pytest.raises(ValueError, match=r"p.jsonl:1: labels or clue_scores are missing"):
            score(file, min_positives=1)
