"""Notes of case reports become studies to test on: one frontal image each, its lateral view behind it."""

import json

import pytest

from training.builders import covid_notes
from training.builders.builder import TreeError
from training.data.study import Studies


def row(image, patient="1", view="PA", text="Right consolidation. No effusion.", **more):
    return {"image": f"images/{image}.jpg", "patient_id": patient, "view_position": view, "text": text, **more}


def write(root, *rows):
    (root / "images").mkdir(parents=True, exist_ok=True)
    for told in rows:
        (root / told["image"]).write_bytes(b"")
    (root / "studies.jsonl").write_text("".join(json.dumps(told) + "\n" for told in rows))


def test_a_study_is_a_note_with_its_frontal_and_lateral_image(tmp_path, capsys):
    root = tmp_path / "raw"
    write(
        root,
        row("side", view="L"), row("front", sex="F", age="55"),
        row("alone", patient="2", view="L"),
        row("before", patient="3", text="It slowly resolved."), row("after", patient="3", text="It slowly resolved."),
        row("supine", patient="1", view="AP Supine", text="Clear lungs.", age="old"),
    )  # fmt: skip
    covid_notes.main(["--root", str(root), "--out", str(tmp_path / "out")])
    first, second = Studies(tmp_path / "out", "test").records
    assert [view["view"] for view in first["images"]] == ["frontal", "lateral"] and first["study_id"] == "front"
    assert first["patient_id"] == second["patient_id"] and (first["age"], second["age"]) == (55, None)
    assert first["labels"]["Consolidation"] == 1 and first["labels"]["Pleural Effusion"] == 0
    assert second["findings"] == "Clear lungs." and second["position"] == "AP"
    assert all((tmp_path / "out" / view["path"]).exists() for view in first["images"])
    assert "2 studies" in (said := capsys.readouterr().out) and "1 with a lateral view" in said
    assert f"'{covid_notes.SEVERAL}': 1" in said and f"'{covid_notes.NO_FRONTAL}': 1" in said


@pytest.mark.parametrize("line", ["[1]", '{"image": ', '{"image": "images/a.jpg", "text": " "}'])
def test_a_line_that_is_no_row_is_named(tmp_path, line, capsys):
    write(tmp_path, row("a"))
    with (tmp_path / "studies.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TreeError, match=r"studies\.jsonl:2: "):
        covid_notes.read_covid_notes(tmp_path)
    write(tmp_path, row("a", view="Oblique"))
    with pytest.raises(TreeError, match="view_position is 'Oblique', expected one of"):
        covid_notes.read_covid_notes(tmp_path)
    with pytest.raises(SystemExit):
        covid_notes.main(["--root", str(tmp_path), "--out", str(tmp_path)])
    assert "is --root, whose studies.jsonl would be lost" in capsys.readouterr().err
    write(tmp_path, row("a"))
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(SystemExit):
        covid_notes.main(["--root", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "a.jpg: not there" in capsys.readouterr().err
