"""The section splitter of the data builders, on invented reports of the shapes that hospitals write."""

import pytest

from evaluation.reading.sections import split_sections
from tests.helpers.fake_trees import FINDINGS, IMPRESSION, mimic_report


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (mimic_report(), {"findings": FINDINGS, "impression": IMPRESSION, "comparison": "None."}),
        ("nothing under a heading\n", {}),
        ("FINDINGS: LUNGS: Clear.\n HEART: Normal.\n", {"findings": "LUNGS: Clear. HEART: Normal."}),
        (
            "HISTORY: Fever.\nPA AND LATERAL VIEWS OF THE CHEST: Clear.\nIMPRESSION: AP chest compared to ___:\n Same.",
            {"indication": "Fever.", "findings": "Clear.", "impression": "AP chest compared to ___: Same."},
        ),
        ("CHEST, TWO VIEWS: 2 images.\nFINDINGS: Clear.", {"findings": "Clear."}),
        ("INDICATION: cough. TECHNIQUE: PA. FINDINGS AND IMPRESSION: Clear.",
         {"indication": "cough.", "technique": "PA.", "findings": "Clear."}),
        ("WET READ: ___ 5 PM\n No PTX.\n FINAL REPORT\n REASON FOR EXAM: line\n IMPRESSION: Line in place.",
         {"indication": "line", "impression": "Line in place."}),
        ("IMPRESSION: One.\n RECOMMENDATION(S): CT.\n ADDENDUM: x\n IMPRESSION: Two.", {"impression": "One. Two."}),
        ("Findings: clear. No prior study: none.\nConclusion: normal", {"findings": "clear. No prior study: none.",
         "impression": "normal"}),
        ("FINDINGS: ___\nIMPRESSION:\n", {}),
    ],
)  # fmt: skip
def test_sections(report, expected):
    assert {name: text for name, text in split_sections(report).items() if text} == expected | (
        {"indication": "___F with cough // pneumonia?", "technique": "Chest PA and lateral"}
        if report == mimic_report()
        else {}
    )
