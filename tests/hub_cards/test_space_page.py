"""What the Space shows of a study: marks, places, edits, files and refusals, without Gradio."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hub_cards.space import page, take_home
from processing_trrg import ClueScore, Placement, Report
from processing_trrg.report_trrg import UNREADABLE, Change
from processing_trrg.statements_trrg import Statement
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor


def evidence(views: int, row: int, column: int) -> np.ndarray:
    maps = np.zeros((views, 4, 4), np.float32)
    maps[-1, row, column] = 5
    return maps


@pytest.fixture
def visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> page.Visit:
    """Two views: a supported, an unsupported, a denying and an uncheckable sentence, and a clue left out."""
    monkeypatch.setattr(page, "SIDE", 64)
    clues = [
        ClueScore("Left Pleural Effusion", 0.9, evidence(2, 3, 3), True, "present"),
        ClueScore("Edema", 0.8, evidence(2, 0, 0), True, "present"),
        ClueScore("No Finding", 0.7, evidence(2, 1, 1), True, "present"),
        ClueScore("Pneumothorax", 0.1, evidence(2, 0, 3), False, "absent"),
    ]
    said = [
        Statement(
            "A left effusion.", "findings", {"Left Pleural Effusion": 1}, "left", 0.75, evidence(2, 3, 3), "supported"
        ),
        Statement("A pneumothorax.", "findings", {"Pneumothorax": 1}, None, 0.2, evidence(2, 0, 3), "unsupported"),
        Statement("No pneumothorax.", "impression", {"Pneumothorax": 0}, None, 0.8, evidence(2, 0, 3), "supported"),
        Statement("Follow-up.", "impression", {}, None),
    ]
    report = Report(
        "A left effusion. A pneumothorax.", "No pneumothorax. Follow-up.", "A left effusion. A pneumothorax.", clues,
        True, Placement(100, 100, 32), sentences=said, left_out=["Edema"], readable=True,
    )  # fmt: skip
    squares = np.full((2, page.SIDE, page.SIDE), 100, np.uint8)
    return page.Visit([b"", b""], squares, {"indication": "<script>alert(1)</script>"}, "balanced", tmp_path, report)


def test_every_sentence_is_marked_in_words_and_what_was_left_out_comes_last(visit: page.Visit) -> None:
    spans = page.report_spans(visit.report)
    assert [(span.mark, span.text) for span in spans if span.mark] == [
        ("supported", "A left effusion."),
        ("unsupported", "A pneumothorax."),
        ("supported", "No pneumothorax."),
        ("not checkable", "Follow-up."),
        ("left out", "Edema"),
    ]
    assert [span.text for span in spans if not span.mark] == ["Findings: ", "Impression: ", "Not in the report: "]
    assert {span.mark for span in spans if span.mark} == set(page.COLOURS)
    assert page.differences(visit.report).startswith("4 sentences: 2 supported, 1 unsupported, 1 not checkable.")
    assert "Edema" in page.differences(visit.report)


def test_pointing_at_a_sentence_names_its_clue_and_pointing_at_a_clue_its_sentences(visit: page.Visit) -> None:
    report = visit.report
    told = page.pointed(visit, "sentence 0")
    assert "score of 0.75" in told and "Left Pleural Effusion, stated: present, score 0.90, over" in told
    told = page.pointed(visit, "Pneumothorax")
    assert "stated: A pneumothorax." in told and "denied: No pneumothorax." in told
    assert "Left out" in page.pointed(visit, "Edema") and "No sentence speaks of it." in page.pointed(visit, "Edema")
    assert page.clue_at(report, "sentence 1") == "Pneumothorax" and page.clue_at(report, "sentence 3") is None
    keys = [key for _, key in page.places_to_point(report)]
    assert all(page.pointed(visit, key) for key in keys) and len(keys) == 8
    assert page.speaks_of(report.sentences[0], "Pleural Effusion") == "stated"  # the finding, by its side


def test_heat_is_scaled_by_the_score_and_there_is_none_under_the_threshold(visit: page.Visit) -> None:
    def changed(key: str | None) -> list[bool]:
        plain = np.asarray(page.draw_views(replace(visit, report=None))[0][0])
        return [bool((np.asarray(image)[: page.SIDE] != plain).any()) for image, _ in page.draw_views(visit, key)]

    assert changed("sentence 0") == [False, True]  # on every view, not on the first alone
    assert changed(None) == [False, True]
    for key in ("sentence 1", "sentence 2", "sentence 3", "Pneumothorax", "No Finding"):
        assert changed(key) == [False, False], key
        assert "place" in page.pointed(visit, key)
    strong = page.heat(visit.report.clues[0], 64, 64)
    assert strong.max() == pytest.approx(0.9, abs=0.02) and strong.min() == 0
    weak = page.heat(replace(visit.report.clues[0], score=0.3), 64, 64)
    np.testing.assert_allclose(weak * 3, strong, atol=1e-6)
    captions = [caption for _, caption in page.draw_views(visit, "sentence 0")]
    assert captions == ["View 1 of 2. Heat: A left effusion.", "View 2 of 2. Heat: A left effusion."]
    assert page.draw_views(visit, "sentence 0")[0][0].height > page.SIDE  # with the legend


def test_what_was_set_by_hand_has_no_place(visit: page.Visit) -> None:
    visit.by_hand["Pleural Effusion"] = "present"
    assert "set by hand" in page.pointed(visit, "sentence 0") and "set by hand" in page.pointed(
        visit, visit.report.clues[0].name
    )
    assert all("Left" not in caption for _, caption in page.draw_views(visit))
    assert all(caption.endswith("No heat.") for _, caption in page.draw_views(visit, "sentence 0"))


def test_html_in_the_chat_is_text() -> None:
    asked, answer = page.chat_turn("<script>x</script>", "a < b")
    assert asked == {"role": "user", "content": "&lt;script&gt;x&lt;/script&gt;"} and answer["content"] == "a &lt; b"


def test_the_colours_of_heat_grow_brighter_with_it() -> None:
    colours = page.colour(np.linspace(0, 1, 50))
    luminance = colours[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all() and (np.diff(colours[:, 3]) > 0).all() and colours[0, 3] == 0
    inferno = matplotlib.colormaps["inferno"](0.25 + 0.65 * np.linspace(0, 1, 50))[:, :3]
    np.testing.assert_allclose(colours[:, :3], inferno, atol=0.05)


def test_a_picture_that_cannot_be_read_is_said_to_be_so(visit: page.Visit) -> None:
    clues = [replace(clue, selected=False) for clue in visit.report.clues]
    report = Report(UNREADABLE, None, UNREADABLE, clues, sentences=[], left_out=[], readable=False)
    assert [span.text for span in page.report_spans(report)] == [UNREADABLE]
    assert page.differences(report) == "No report was written, so nothing was checked."
    assert all("No heat." in caption for _, caption in page.draw_views(replace(visit, report=report)))


def test_a_clue_edited_by_hand_gets_a_score_of_its_answer(visit: page.Visit) -> None:
    write = SimpleNamespace(
        processor=SimpleNamespace(clues=[{"name": "Edema"}, {"name": "Fracture"}]),
        model=SimpleNamespace(config=SimpleNamespace(clue_operating_points=[[0.6, 0.2, 0.1], []])),
    )
    assert [page.score_by_hand(write, "Edema", answer) for answer in ("present", "absent")] == [1.0, 0.0]
    assert page.score_by_hand(write, "Edema", "indeterminate") == pytest.approx(0.4)
    with pytest.raises(ValueError, match="Fracture is present or absent"):
        page.score_by_hand(write, "Fracture", "indeterminate")
    visit.by_hand["Edema"] = "absent"
    assert page.clue_rows(visit)[1] == ["Edema", "absent, by hand", "0.80", "over"]


def test_what_became_of_a_correction() -> None:
    changes = [Change("kept", "A.", "A."), Change("added", None, "B."), Change("removed", "C.", None)]
    assert page.correction_words(SimpleNamespace(changes=changes, not_done=["Edema"])) == "+ B.\n- C.\nNot done: Edema."
    unknown = page.correction_words(SimpleNamespace(changes=changes[:1], not_done=None))
    assert "stays as it is" in unknown and "not known" in unknown


def test_uploads_are_read_once_and_deleted(tmp_path: Path) -> None:
    names = [tmp_path / f"{number}^DOE^JANE.dcm" for number in range(3)]
    for name in names:
        name.write_bytes(b"x")
    assert page.read_uploads([str(name) for name in names[:2]], 2) == [b"x", b"x"]
    assert [name.exists() for name in names] == [False, False, True]
    assert page.read_uploads([str(names[2])], 1, kept=True) == [b"x"] and names[2].exists()
    with pytest.raises(ValueError, match=r"^0 files; this model reads studies of 1 to 4 views$"):
        page.read_uploads([], 4)
    names[0].write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^2 files; this model reads studies of 1 view$"):
        page.read_uploads([str(names[0]), str(names[2])], 1)
    assert not names[0].exists() and not names[2].exists()


def test_texts_are_bounded_and_empty_ones_left_out() -> None:
    assert page.read_words(indication=" Cough. ", technique=" ", prior_report=None) == {"indication": "Cough."}
    with pytest.raises(ValueError, match=r"^prior_report: 2,001 characters; at most 2,000 are read$"):
        page.read_words(prior_report="x" * 2_001)


def test_programs_send_images_not_paths(tmp_path: Path) -> None:
    assert page.in_base64(["data:image/png;base64,AAAA"]) == ["data:image/png;base64,AAAA"]
    with pytest.raises(ValueError, match=r"^images\[1\]: expected a data: URI"):
        page.in_base64(["data:,", str(tmp_path / "study.dcm")])


def test_words_of_the_last_study_are_not_those_of_the_next(visit: page.Visit) -> None:
    fields = {"indication": f" {visit.words['indication']}", "technique": "Portable.", "prior_report": ""}
    assert page.new_words(visit, fields) == {"indication": "", "technique": "Portable.", "prior_report": ""}
    assert page.new_words(None, fields) == fields


def test_the_files_to_take_home(visit: page.Visit) -> None:
    pytest.importorskip("highdicom", reason="needs the extra `space`")
    named = dicom_bytes(dicom_dataset(radiograph(), PatientName="Doe^Jane", PatientID="MRN-77"))
    visit.views = [named, picture_bytes(radiograph())]

    def files() -> dict[str, Path]:
        names = take_home.write_files(visit, "trrg-tiny", tiny_processor(size=64).image_processor)
        assert len({Path(name).name for name in names}) == len(names)
        return {Path(name).name: Path(name) for name in names}

    found = files()
    assert list(found)[:5] == ["report.txt", "report.json", "report.png", "form.json", "fhir.json"]
    assert {"report-sr.dcm", "view-1.dcm", "view-2.dcm"} <= set(found)
    text = found["report.txt"].read_text(encoding="utf-8")
    told = json.loads(found["report.json"].read_text(encoding="utf-8"))
    assert "[unsupported] A pneumothorax." in text
    assert told["checkpoint"] == "trrg-tiny" and told["left_out"] == ["Edema"] and told["indication"].startswith("<scr")
    assert told["notice"] == page.NOTICE and page.NOTICE in text and page.MARKS in text
    with Image.open(found["report.png"]) as image:
        assert image.size == (2 * page.SIDE, page.SIDE + page.LEGEND)
    fhir = found["fhir.json"].read_text(encoding="utf-8")
    assert '"preliminary"' in fhir and "Patient" not in [
        e["resource"]["resourceType"] for e in json.loads(fhir)["entry"]
    ]
    for name, file in found.items():
        assert b"Jane" not in file.read_bytes() and b"MRN-77" not in file.read_bytes(), name
    assert take_home.CHANGED not in fhir

    visit.by_hand, visit.corrected = {"Pleural Effusion": "present"}, True
    changed = files()
    rows = {row["clue"]: row for row in json.loads(changed["form.json"].read_text(encoding="utf-8"))["rows"]}
    assert [rows[name]["confidence"] for name in ("Left Pleural Effusion", "No Finding", "Edema")] == [None, None, 0.8]
    assert rows["Left Pleural Effusion"]["support"] == "not checkable"
    assert take_home.CHANGED in changed["fhir.json"].read_text(encoding="utf-8")
    assert take_home.CHANGED.encode() in changed["report-sr.dcm"].read_bytes()
    assert visit.report.clues[0].score == 0.9, "the page keeps what it had"


def test_the_page_says_what_the_checkpoint_is_worth(tmp_path: Path) -> None:
    assert "its card has no scores" in page.worth(str(tmp_path))
    card = """---
model-index:
- name: t
  results:
  - task: {type: image-text-to-text}
    dataset: {type: a, name: 12 patients, args: {images: real}}
    metrics: [{type: f1, name: micro F1, value: 0.125, args: {interval: [0.1, 0.25]}}]
---
"""
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    words = page.worth(str(tmp_path))
    assert "- Real images, 12 patients: micro F1 **0.125** [0.100, 0.250]" in words and page.NOTICE in words


def test_an_error_names_no_temporary_path_and_no_place_among_other_studies(tmp_path: Path) -> None:
    error = ValueError("study 0: view 0: no PNG")
    assert page.reason(error) == "study 0: view 0: no PNG"
    error.reason = "view 0: no PNG"  # type: ignore[attr-defined]
    assert page.reason(error) == "view 0: no PNG"
