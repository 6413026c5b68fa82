"""Studies to look at: the rule that chooses them, the table, the picture."""

import json

import pytest
from PIL import Image

from evaluation.examples import choose, main, study_f1
from tests.helpers.tiny_processors import radiograph


def line(name, said, **labels):
    return {
        "study_id": name,
        "prediction": said,
        "labels": labels,
        "selected_clues": ["Edema"],
        "clue_scores": {"Edema": 0.7},
    }


def test_a_report_is_judged_by_what_is_known():
    assert study_f1(line("a", "There is edema.", Edema=1)) == 1
    assert study_f1(line("a", "There is edema. Small effusion.", Edema=1)) == 1  # nobody knows of the effusion
    assert study_f1(line("a", "There is edema. Small effusion.", Edema=1, **{"Pleural Effusion": 0})) == pytest.approx(
        2 / 3
    )
    assert study_f1(line("a", "No edema.", Edema=0, **{"No Finding": 1})) == 1
    assert study_f1(line("a", "No edema.", Edema=1)) == 0


def test_the_best_the_worst_and_what_lies_between_in_any_order():
    lines = [line(f"s{i}", "There is edema.", Edema=int(i < 3)) for i in range(6)]
    chosen = [one["study_id"] for one in choose(lines[::-1], 3)]
    assert chosen == ["s0", "s2", "s5"] == [one["study_id"] for one in choose(lines, 3)]
    with pytest.raises(ValueError, match="6 studies have labels, 7 are wanted"):
        choose([*lines, line("none", "Clear.") | {"labels": None}, line("nobody knows", "Clear.", Edema=None)], 7)


def test_the_command_writes_table_and_picture(tmp_path, capsys):
    records = []
    for name in ("one", "two"):
        Image.fromarray(radiograph()).save(tmp_path / f"{name}.png")
        records.append({
            "study_id": name, "patient_id": name, "split": "validation", "findings": None, "impression": None,
            "images": [{"path": f"{name}.png", "view": "frontal"}], "labels": {"Edema": 1},
        })  # fmt: skip
    lines = [line("one", "There is edema.", Edema=1), line("two", "Clear |\nlungs. $\\x$", Edema=1)]
    for name, rows in (("studies.jsonl", records), ("predictions.jsonl", lines)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        str(tmp_path / "predictions.jsonl"),
        "--data",
        str(tmp_path),
        "--count",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    main(command)
    table = (tmp_path / "out" / "examples.md").read_text()
    assert "| one | 1.00 | Edema | Edema 0.70 | There is edema. |" in table and "| Clear / lungs. $\\x$ |" in table
    assert Image.open(tmp_path / "out" / "examples.png").width > 500 and table in capsys.readouterr().out
    records[1]["images"] = []
    (tmp_path / "studies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    with pytest.raises(ValueError, match=r"study .two. has no image"):
        main(command)
    (tmp_path / "predictions.jsonl").write_text('{"study_id": "one", "report": "of a dialogue"}\n')
    with pytest.raises(ValueError, match=r"study 'one'\): prediction is None"):
        main(command)
