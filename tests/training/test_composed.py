"""Composed reports say what is injected and nothing else."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING
from evaluation.reading.sides import add_report_sides, side_and_finding
from processing_trrg import check_clues, report_text
from training.builders.small_sets import jsrt_records, nih_records, wingspan_records
from training.data.clue_labels import denied_sides
from training.data.clue_wordings import _WORDS, reworded, wordings, wordings_by_terms
from training.data.compose import WRITTEN, SentencePool, compose, draw_findings, known_findings
from training.data.given_scores import drawn_scores, moved
from training.data.study import Study

KINDS = _WORDS["kinds"]
NAMES = [*CHEXPERT_14, "Left Pleural Effusion", "Right Pleural Effusion", "Left Lung Lesion", "Right Lung Lesion"]
REPORT = Study(
    "a", "a", "train", indication="Cough.",
    findings="Heart size is normal. No effusion or pneumothorax. No edema since 2 days. Stable nodule. XXXX clear.",
)  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> SentencePool:
    return SentencePool([REPORT])


def read(text: str) -> dict[str, int]:
    return {name: value for name, value in label_report(text).items() if value is not None and name != NO_FINDING}


def test_written_sentences_are_read_as_what_they_stand_for():
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    for part, value in (("present", 1), ("impression", 1), ("absent", 0)):
        for name, texts in written[part].items():
            for text in texts:
                assert read(text) == ({} if name == NO_FINDING else {name: value}), text
    for part in ("sided", "sided_impression"):
        for name, texts in written[part].items():
            for side in ("left", "right"):
                for text in (text.format(side=side, Side=side.capitalize()) for text in texts):
                    found = add_report_sides(text, label_report(text), [f"Left {name}", f"Right {name}"], label_report)
                    assert read(text) == {name: 1} and found[f"{side.capitalize()} {name}"] == 1, text


def test_what_is_present_has_no_size_place_number_or_kind():
    """No clue tells one, so a report that did would be guessing."""
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    guesses = re.compile(
        r"\b(?:small|tiny|large|mild|mildly|moderate|moderately|severe|marked|minimal|diffuse|scattered|patchy|bilateral"
        r"|bi\w+ar|basilar|apical|upper|mid|lower|lob(?:e|ar)|interstitial|linear|nodules?|mass(?:es)?|catheters?|tubes?"
        r"|lines?|ports?|pacemakers?|ribs?|blunting|angles?|effusions|opacities|acute|chronic|healed|old|new)\b",
        re.IGNORECASE,
    )
    for part in ("present", "sided", "impression", "sided_impression"):
        for name, texts in written[part].items():
            for text in (text.replace("odule or mass", "") for text in texts if name != NO_FINDING):
                assert not guesses.search(text), text


def test_kinds_of_a_finding_are_other_words_for_its_clue():
    for name, texts in KINDS.items():
        finding = (side_and_finding(name) or ("", name))[1]
        for text in texts:
            assert read(text) == {finding: 1} and text in wordings(name, 1), text


@pytest.mark.parametrize("name", [name for name in NAMES if name != NO_FINDING])
def test_wordings_are_read_as_their_clue_and_nothing_else(name):
    finding = (side_and_finding(name) or ("", name))[1]
    for value in (1, 0):
        texts = [*wordings(name, value), *wordings_by_terms(name, value)]
        assert len(texts) > 5
        for text in texts:
            found = add_report_sides(text, label_report(text), NAMES, label_report)
            assert found[name] == value, text
            if value:
                assert read(text) == {finding: 1}, text


def test_of_reports_only_plain_denials_enter(pool):
    own = [text for text, _ in pool.denials[len(SentencePool().denials) :]]
    assert own == ["Heart size is normal.", "No effusion or pneumothorax."]
    assert pool.indications == ["Cough."]


def test_a_clue_without_a_sentence_is_named_before_a_run(pool):
    pool.check(NAMES)
    with pytest.raises(ValueError, match=r"composed_sentences.json says 'Right Rib Notching'; kind"):
        pool.check([*NAMES, "Right Rib Notching"])


def test_a_composed_report_says_each_clue_and_no_other(pool):
    reports = set()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        present = draw_findings({}, NAMES, pool, rng)
        findings, impression = compose(present, pool, rng)
        text = report_text(findings, impression)
        labels = add_report_sides(text, label_report(text), NAMES, label_report)
        said = {name for name, value in labels.items() if value in (1, -1)} - {NO_FINDING}
        sides = {name for name in said if (place := side_and_finding(name)) and labels[name] == -1 and place}
        assert said - sides == {name for name, value in present.items() if value and name != NO_FINDING}, text
        reports.add(text)
    assert len(reports) > 140


def test_labels_of_the_image_come_back(pool):
    labels = {"Edema": 1, "Pleural Effusion": 1, "Left Pleural Effusion": 1, "Right Pleural Effusion": 0}
    draws = [draw_findings(labels, NAMES, pool, np.random.default_rng(seed)) for seed in range(60)]
    wanted = {"Edema", "Pleural Effusion", "Left Pleural Effusion"}
    same = [draw for draw in draws if {name for name, value in draw.items() if value} == wanted]
    assert 12 <= len(same) < 60


def test_without_clues_what_is_unknown_is_neither_said_nor_denied(pool):
    known = {"Edema": 1, "Lung Opacity": 1, "Left Lung Lesion": None, "Pneumothorax": 0, "Atelectasis": -1}
    said = known_findings(known)
    assert said == dict.fromkeys((*known, *CHEXPERT_14)) | {"Edema": 1, "Pneumothorax": 0}  # an edema is an opacity
    for seed in range(60):
        text, impression = compose(said, pool, np.random.default_rng(seed))
        assert read(report_text(text, impression)) in ({"Edema": 1}, {"Edema": 1, "Pneumothorax": 0}), text
    for seed in range(60):  # nothing found, but not all was looked for: no "normal chest"
        text, impression = compose(known_findings({"Cardiomegaly": 0}), pool, np.random.default_rng(seed))
        assert read(text) == {"Cardiomegaly": 0} and impression is None
    with pytest.raises(ValueError, match="nothing else"):
        compose(known_findings({}), pool, np.random.default_rng(0))


def test_scores_select_what_is_present():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        present = {name: int(rng.random() < 0.3) for name in NAMES}
        for side in ("Left", "Right"):
            present["Pleural Effusion"] |= present[f"{side} Pleural Effusion"]
            present["Lung Lesion"] |= present[f"{side} Lung Lesion"]
        scores = dict(zip(NAMES, drawn_scores(present, 0.25, rng), strict=True))
        assert {name for name, score in scores.items() if score > 0.25} == {n for n, v in present.items() if v}
        assert all(0 <= score <= 1 for score in scores.values())
        assert scores["Pleural Effusion"] >= scores["Left Pleural Effusion"] * present["Left Pleural Effusion"]


def test_scores_move_with_their_thresholds():
    own, other = np.array([0.1, 0.25, 0.6]), np.array([0.25, 0.25, 0.25])
    for seed in range(20):
        scores = drawn_scores({"Edema": seed % 2, "Pneumonia": 1, "Fracture": 0}, own, np.random.default_rng(seed))
        there = moved(scores, own, other)
        assert ((scores > own) == (there > other)).all() and ((there >= 0) & (there <= 1)).all()
        np.testing.assert_allclose(moved(there, other, own), scores)
    assert moved(np.array([0.0, 1.0]), 0.0, 0.25).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("sentence", "denies"),
    [
        ("No focal consolidation or effusion.", {"Consolidation", "Pleural Effusion"}),
        ("The lungs are clear without effusion.", {"Pleural Effusion", "Lung Opacity", "Edema", "Consolidation"}),
        ("Heart size and pulmonary vascularity are normal.", {"Cardiomegaly", "Edema"}),
        ("Heart size is upper limits normal or mildly enlarged.", None),
        ("The heart size is normal with an ectatic tortuous aorta.", None),
        ("Mild degenerative changes of the thoracic spine without fracture.", None),
        ("No effusion since 2019.", None),
    ],
)
def test_denials_of_reports_state_nothing_else(sentence, denies):
    before = SentencePool()
    after = SentencePool([Study("a", "a", "train", findings=sentence)])
    new = after.denials[len(before.denials) :]
    assert [text for text, _ in new] == ([] if denies is None else [sentence])
    assert denies is None or denies <= new[0][1]


def test_a_finding_that_is_absent_is_absent_on_either_side():
    names = ["Edema", "Pleural Effusion", "Left Pleural Effusion", "Right Pleural Effusion"]
    assert denied_sides((1, 0, None, None), names) == (1, 0, 0, 0)
    assert denied_sides((0, 1, None, 1), names) == (0, 1, None, 1)


def test_sets_of_nodules_and_hearts_say_no_more_than_was_read(tmp_path):
    nodule = {
        "image": "images/a.jpg", "patient_id": "P1", "view_position": "PA", "nodule": True, "ctr_from_masks": 0.6,
        "location": "l.upper lobe", "nodule_mm": 35, "nodule_x": 100.0, "nodule_y": 50.0, "age": "61", "sex": "F",
    }  # fmt: skip
    none = {"image": "images/b.jpg", "patient_id": "P2", "nodule": False, "ctr_from_masks": 0.4}
    (tmp_path / "studies.jsonl").write_text(f"{json.dumps(nodule)}\n{json.dumps(none)}\n", encoding="utf-8")
    first, second = jsrt_records(tmp_path)
    assert first.labels == {
        "Cardiomegaly": 1, "Enlarged Cardiomediastinum": 1, "No Finding": 0, "Lung Lesion": 1, "Lung Opacity": 1,
        "Left Lung Lesion": 1, "Right Lung Lesion": 0,
    }  # fmt: skip
    assert (first.boxes[0]["w"], first.boxes[0]["x"]) == pytest.approx((50, 75))
    assert (first.age, first.sex, first.position) == (61, "F", "PA")
    assert second.labels == {"Cardiomegaly": 0, "Lung Lesion": 0} and (second.age, second.boxes) == (None, [])

    heart = {"image": "images/a.jpg", "patient_id": "P1", "ctr_ground_truth": None, "ctr_from_masks": 0.51}
    (tmp_path / "studies.jsonl").write_text(json.dumps(heart) + "\n", encoding="utf-8")
    (study,) = wingspan_records(tmp_path)
    assert study.labels == {"Cardiomegaly": 1, "Enlarged Cardiomediastinum": 1, "No Finding": 0}

    row = {"image": "images/c.jpg", "patient_id": "7", "nih_labels": ["Effusion"], "boxes": []}
    (tmp_path / "studies.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (study,) = nih_records(tmp_path)
    (again,) = nih_records(tmp_path)
    assert (study.labels or {})["Pleural Effusion"] == 1 and replace(study).split == again.split


def test_a_clue_in_other_words_says_the_same():
    clues = check_clues([*CHEXPERT_14, "Left Pleural Effusion"])
    said = [reworded(clues, 1.0, 3, np.random.default_rng(seed)) for seed in range(20)]
    for changed in said:
        assert [clue["name"] for clue in changed[:15]] == [clue["name"] for clue in clues] and len(changed) == 18
        for clue in changed[1:14]:
            assert read(clue["positive"]) == {clue["name"]: 1} and read(clue["negative"]) == {clue["name"]: 0}
        assert read(changed[14]["positive"]) == {"Pleural Effusion": 1} and "left" in changed[14]["negative"].lower()
        for clue in changed[15:]:
            assert read(clue["positive"]) == {} == read(clue["negative"])
    assert len({changed[2]["positive"] for changed in said}) > 4
    assert reworded(clues, 0.0, 0, np.random.default_rng(0)) == clues
