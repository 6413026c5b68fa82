"""Invented reports with their clues, for the documents of a hospital."""

from collections.abc import Mapping

import numpy as np

from processing_trrg import ClueScore, Placement, Report, report_text
from processing_trrg.report_trrg import UNREADABLE, Answer
from processing_trrg.statements_trrg import read_statements

NAMES: dict[str, Answer | None] = {
    "Pleural Effusion": "present", "Lung Lesion": "present", "Edema": "indeterminate", "Cardiomegaly": "absent",
    "Pneumothorax": "absent", "Fracture": "absent", "No Finding": "absent",
}  # fmt: skip
SHAPE = (90, 60)
"""Height and width of the view of these reports."""


def report_of(findings: str, names: Mapping[str, Answer | None] = NAMES, impression: str | None = None) -> Report:
    """A report with these findings and clues; the evidence of each is low on the right of the picture."""
    evidence = np.zeros((1, 8, 8), np.float32)
    evidence[0, 5:7, 4:6] = 4
    clues = [
        ClueScore(name, 0.9 - 0.05 * number, evidence, answer == "present", answer)
        for number, (name, answer) in enumerate(names.items())
    ]
    text = report_text(findings, impression) if findings or impression else ""
    report = Report(findings, impression, text, clues, True, Placement(*SHAPE, 64), left_out=[])
    report.sentences = read_statements(report, list(names))
    return report


UNREAD = Report(
    UNREADABLE, None, UNREADABLE, report_of("").clues, True, Placement(*SHAPE, 64), sentences=[], left_out=[],
    readable=False, readable_score=0.1,
)  # fmt: skip
