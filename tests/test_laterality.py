"""Sides of findings in reports: what stage 1 learns left from right by."""

import pytest

from evaluation.labeler import label_report
from training.laterality import add_report_sides, add_sentence_sides, side_and_finding
from training.phantom_report import LABEL_OF
from training.phantoms import generate_phantom

SIDED = [f"{side} {label}" for label in LABEL_OF.values() if label != "Cardiomegaly" for side in ("Left", "Right")]


def of_sentence(text):
    return add_sentence_sides(text, label_report(text), SIDED)


@pytest.mark.parametrize(
    ("text", "finding", "left", "right"),
    [
        ("There is a small left pleural effusion.", 1, 1, None),
        ("Bilateral pleural effusions.", 1, 1, 1),
        ("No pleural effusion.", 0, 0, 0),
        ("No left or right pleural effusion is seen.", 0, 0, 0),
        ("No right pleural effusion.", None, None, 0),  # the other side may have one
        ("Pleural effusion is present.", 1, None, None),
        ("The heart is enlarged.", None, None, None),
    ],
)
def test_what_a_sentence_asserts(text, finding, left, right):
    labels = of_sentence(text)
    assert (
        labels["Pleural Effusion"], labels.get("Left Pleural Effusion"), labels.get("Right Pleural Effusion")
    ) == (finding, left, right)  # fmt: skip


def test_a_report_that_names_one_side_denies_the_other():
    report = "There is a right pneumothorax. No pleural effusion. There is a consolidation."
    labels = add_report_sides(report, label_report(report), SIDED)
    assert (labels["Right Pneumothorax"], labels["Left Pneumothorax"]) == (1, 0)
    assert (labels["Right Pleural Effusion"], labels["Left Pleural Effusion"]) == (0, 0)
    assert "Left Consolidation" not in labels and "Right Consolidation" not in labels


def test_labels_without_sided_clues_stay_as_they_are():
    labels = label_report("No right pleural effusion.")
    names = [*labels, "Left Shoulder"]
    assert add_sentence_sides("No right pleural effusion.", labels, names) == labels
    assert add_report_sides("No right pleural effusion.", labels, names) == labels
    assert side_and_finding("Left Shoulder") is None


def test_reports_of_phantoms_give_the_planted_sides():
    for index in range(200):
        phantom = generate_phantom(seed=7, index=index, size=64)
        text = f"{phantom.record['findings']} {phantom.record['impression']}"
        labels = add_report_sides(text, phantom.record["labels"], SIDED)
        planted = {f"{finding.side} {LABEL_OF[finding.name]}".capitalize() for finding in phantom.findings}
        claimed = {name.capitalize() for name in SIDED if labels.get(name) == 1}
        assert claimed == {name for name in planted if not name.startswith("None")}, text
