"""Who is served worse: invented studies whose measures can be done in the head."""

import json

import pytest

from evaluation.reading.observations import CHEXPERT_14
from evaluation.subgroups import AXES, Answers, age_band, main, score_axis
from training.data.study import Studies, Study

SAID = {True: "There is a left pleural effusion.", False: "The lungs are clear. No acute disease."}


def write(tmp_path, rows):
    """rows: (sex, age, position, effusion label, said, clue score), a patient each."""
    studies, lines = [], []
    for n, (sex, age, position, label, said, score) in enumerate(rows):
        ids = {"study_id": f"s{n}", "patient_id": f"p{n}"}
        labels = dict.fromkeys(CHEXPERT_14) | {"Pleural Effusion": label, "No Finding": 1 - label}
        studies.append({**ids, "split": "validation", "images": [], "sex": sex, "age": age, "position": position})
        scores = {"Pleural Effusion": score, "No Finding": 1 - score}
        lines.append({**ids, "prediction": SAID[said], "labels": labels, "clue_scores": scores})
    for name, some in (("studies.jsonl", studies), ("predictions.jsonl", lines)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in some))
    return tmp_path / "predictions.jsonl"


def rows_of(sex, said, age=50, position="PA"):
    """Ten sick studies, of which `said` are reported, and twenty healthy ones; the clue is right of those only."""
    sick = [(sex, age, position, 1, n < said, 0.9 if n < said else 0.1) for n in range(10)]
    return sick + [(sex, age, position, 0, False, 0.2)] * 20


def test_the_worst_group_and_its_gap(tmp_path, capsys):
    file = write(
        tmp_path, [*rows_of("F", 4), *rows_of("M", 9, age=70, position="AP"), ("X", None, None, 1, False, 0.0)]
    )
    main([str(file), "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--resamples", "50"])
    result = json.loads((tmp_path / "out" / "subgroups.json").read_text())
    sex = result["sex"]
    assert sex["groups"]["F"]["sensitivity"]["value"] == 0.4 and sex["groups"]["M"]["sensitivity"]["value"] == 0.9
    assert sex["groups"]["F"]["no finding"]["value"] == pytest.approx(0.6)
    assert sex["groups"]["M"]["AUROC"]["value"] == pytest.approx(0.9)
    assert {m: row["worst"] for m, row in sex["worst"].items()} == dict.fromkeys(sex["worst"], "F")
    gap = sex["worst"]["sensitivity"]["gap"]
    assert gap["value"] == pytest.approx(0.5) and 0 < gap["low"] < 0.5 < gap["high"] < 1
    assert sex["groups"]["X"]["small"] and result["age"]["unknown"] == result["view"]["unknown"] == 1
    assert set(result["age"]["groups"]) == {"40 to 59", "60 to 79"} and (tmp_path / "out" / "subgroups.png").is_file()
    assert "| sex X (small) | 1 | 1 | 1 | 0.00" in capsys.readouterr().out

    main([str(file), "--data", str(tmp_path), "--out", str(tmp_path / "none"), "--resamples", "0"])
    again = json.loads((tmp_path / "none" / "subgroups.json").read_text())["sex"]["groups"]["F"]["sensitivity"]
    assert again == {"value": 0.4, "low": None, "high": None} and "| 0.40 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--data: nowhere does not exist"):
        main([str(file), "--data", "nowhere", "--out", str(tmp_path / "none")])


def test_a_small_group_is_never_the_worst_and_patients_are_drawn_whole(tmp_path):
    file = write(tmp_path, [*rows_of("F", 5), *rows_of("M", 6), *rows_of("O", 0)[:12]])
    answers = Answers(file, Studies(tmp_path, "validation").records)
    assert score_axis(answers, "sex", 10)["worst"]["sensitivity"]["worst"] == "F"
    answers.patients = ["one"] * len(answers.patients)
    result = score_axis(answers, "sex", 10)
    assert all(row["small"] for row in result["groups"].values()) and result["worst"] == {}
    cell = result["groups"]["F"]["sensitivity"]
    assert cell["low"] == cell["value"] == cell["high"]


def test_a_system_without_clues_has_no_auroc_and_an_unknown_study_stops(tmp_path):
    file = write(tmp_path, rows_of("F", 5))
    lines = [json.loads(line) | {"clue_scores": None} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    studies = Studies(tmp_path, "validation").records
    assert score_axis(Answers(file, studies), "sex", 5)["groups"]["F"]["AUROC"]["value"] is None
    with pytest.raises(ValueError, match="study 's29' is not in --data"):
        Answers(file, studies[:-1])


@pytest.mark.parametrize(("age", "band"), [(0, "0 to 17"), (39, "18 to 39"), (120, "80 to 120"), (None, None)])
def test_age_bands(age, band):
    assert age_band(Study("s", "p", None, age=age)) == band
    assert AXES["view"](Study("s", "p", None, position="AP")) == "AP"
