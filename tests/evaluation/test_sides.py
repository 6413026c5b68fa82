"""Sides of findings in reports: what stage 1 learns left from right by."""

import pytest

from evaluation.reading.labeler import label_report
from evaluation.reading.sides import UNSURE, add_report_sides, add_sentence_sides, find_sides, side_and_finding
from training.phantoms.generate import generate_phantom
from training.phantoms.report import LABEL_OF

SIDED = [f"{side} {label}" for label in LABEL_OF.values() if label != "Cardiomegaly" for side in ("Left", "Right")]


def of_sentence(text, finding="Pleural Effusion"):
    labels = add_sentence_sides(text, label_report(text), SIDED)
    return labels[finding], labels.get(f"Left {finding}"), labels.get(f"Right {finding}")


def of_report(text, finding="Pleural Effusion"):
    labels = add_report_sides(text, label_report(text), SIDED, label_report)
    return labels[finding], labels.get(f"Left {finding}"), labels.get(f"Right {finding}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a small left pleural effusion.", (1, 1, None)),
        ("Bilateral pleural effusions.", (1, 1, 1)),
        ("RLL atelectasis with pleural effusion.", (1, None, None)),  # two findings
        ("Pleural effusion beside the LLL.", (1, 1, None)),
        ("Effusion on the left, the right atrium is normal.", (1, 1, None)),
        ("No pleural effusion.", (0, 0, 0)),
        ("No left or right pleural effusion is seen.", (0, 0, 0)),
        ("No right pleural effusion.", (None, None, 0)),  # the other side may have one
        ("Pleural effusion is present.", (1, None, None)),
        ("The heart is enlarged.", (None, None, None)),
        # a side that may be another finding's is nobody's
        ("Small left pleural effusion and right basilar atelectasis.", (1, None, None)),
        ("Left lower lobe atelectasis, small pleural effusion.", (1, None, None)),
        ("Left pleural effusion with elevation of the right hemidiaphragm.", (1, None, None)),
        ("Right rib fracture, no pleural effusion.", (None, None, None)),
        # neither a hedge nor what is gone is a claim
        ("Possible small left pleural effusion.", (-1, None, None)),
        ("Interval resolution of the left pleural effusion.", (None, 0, None)),
    ],
)
def test_what_a_sentence_asserts(text, expected):
    assert of_sentence(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a right pleural effusion. The heart is normal.", (1, 0, 1)),
        ("Right pleural effusion. Small left pleural effusion.", (1, 1, 1)),
        ("No pleural effusion.", (0, 0, 0)),
        ("There are pleural effusions, larger on the right.", (1, UNSURE, 1)),
        ("Right pleural effusion. The pleural effusion has grown.", (1, UNSURE, 1)),
        ("There is a pleural effusion.", (1, UNSURE, UNSURE)),
        ("Possible left pleural effusion.", (-1, None, None)),
        ("The heart is normal.", (None, None, None)),
    ],
)
def test_what_a_report_says_of_a_study(text, expected):
    assert of_report(text) == expected


def test_a_device_that_is_gone_has_no_side():
    assert of_report("The left PICC has been removed.", "Support Devices")[1] != 1


def test_labels_without_sided_clues_stay_as_they_are():
    labels = label_report("No right pleural effusion.")
    names = [*labels, "Left Shoulder"]
    assert add_sentence_sides("No right pleural effusion.", labels, names) == labels
    assert add_report_sides("No right pleural effusion.", labels, names, label_report) == labels
    assert side_and_finding("Shoulder Left") is None


def test_reports_of_phantoms_give_the_planted_sides():
    for index in range(300):
        phantom = generate_phantom(seed=7, index=index, size=64)
        text = f"{phantom.record['findings']} {phantom.record['impression']}"
        labels = add_report_sides(text, phantom.record["labels"], SIDED, label_report)
        planted = {f"{finding.side} {LABEL_OF[finding.name]}".lower() for finding in phantom.findings if finding.side}
        assert {name.lower() for name in SIDED if labels.get(name) == 1} == planted, text
        assert not any(labels.get(name) == UNSURE for name in SIDED), text


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Seen on both frontal and lateral projections.", []),
        ("Nodule on both of the submitted films, right base.", [{"right"}]),
        ("Effusion on both the AP and left lateral images.", []),
        ("Layering on the right lateral decubitus view, left effusion.", [{"left"}]),
        ("Both lateral costophrenic angles are blunted.", [{"left", "right"}]),
        ("Left lateral rib fracture.", [{"left"}]),
        ("Both lungs on both radiographs.", [{"left", "right"}]),
    ],
)
def test_views_are_no_sides(text, sides):
    assert find_sides(text) == sides
