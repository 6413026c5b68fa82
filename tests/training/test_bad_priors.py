"""Priors and views that a record has wrong: one clear line, or no effect."""

import json

import pytest

from training.builders.builder import StudySet, clean_targets
from training.data.study import Studies, Study, record_fault, write_studies


def study(name: str, patient: str = "p", prior: str | None = None, **fields) -> Study:
    views = [{"path": f"{name}.png", "view": "frontal"}]
    before = [{"path": f"{prior}.png", "view": None}] if prior else []
    return Study(name, patient, "train", views, prior_images=before, **fields)


@pytest.mark.parametrize(
    ("studies", "message"),
    [
        ([study("a", "p"), study("b", "q", "a")], "study 'b': its prior image is of study 'a', of another patient"),
        (
            [study("a", prior="b"), study("b", prior="a")],
            "study 'a': .* 'b', whose prior image is of this one",
        ),
        ([study("a", prior="a")], "study 'a': its prior image is its own"),
    ],
)
def test_a_prior_of_another_patient_or_newer_is_refused(tmp_path, studies, message):
    write_studies(tmp_path / "studies.jsonl", studies)
    with pytest.raises(ValueError, match=message):
        Studies(tmp_path, "train")


def test_priors_of_a_patient_in_order_are_taken(tmp_path):
    write_studies(tmp_path / "studies.jsonl", [study("c", prior="b"), study("b", prior="a"), study("a", prior="older")])
    assert len(Studies(tmp_path, "train")) == 3


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (["lateral", "frontal"], "a lateral view stands before the frontal one, expected the frontal one first"),
        (["PA"], "view is 'PA', expected frontal, lateral or null"),
        ([["frontal"]], "view is ['frontal'], expected frontal, lateral or null"),
        ([None, "frontal", "lateral", "frontal"], None),
        (["lateral"], None),
    ],
)
def test_views_of_other_names_or_in_another_order_are_refused(views, message):
    record = Study("a", "p", "train", [{"path": f"{n}.png", "view": view} for n, view in enumerate(views)])
    assert record_fault(json.loads(json.dumps(dict(record)))) == (f"images: {message}" if message else None)


@pytest.mark.parametrize(
    ("prior", "findings"),
    [
        ({"prior_images": [{"path": "old.png", "view": None}]}, "Cardiomegaly."),
        ({"prior_report": "Cardiomegaly."}, "Stable cardiomegaly."),
    ],
)
def test_a_prior_image_without_a_report_lets_no_target_compare(prior, findings):
    """No model is shown a prior image, so a report that compares with one has nothing to compare with."""
    found = StudySet("a", None, [Study("a", "p", "train", findings="Stable cardiomegaly.", **prior)])
    clean_targets(found, compare=False)
    assert found.studies[0].findings == findings
