"""What is drawn of a report: its sections, its boxes, and what it says has changed. Research only."""

from typing import Any

from evaluation.reading.changes import FindingChange, finding_changes
from processing_trrg.compared_trrg import NOT_READ, SEEN_AGAIN


def report_boxes(report: Any) -> list[tuple[str, tuple[float, ...]]]:
    """The boxes of a report as they are drawn on the square that the model saw."""
    place = report.frontal
    return [
        (box.source, tuple(length / place.size for length in place.box_on_square((box.x, box.y, box.w, box.h))))
        for box in report.boxes
    ]


def sections_before(prior_report: str | None, report: Any) -> list[tuple[str, str]]:
    """(heading, words) of the report of the study before, and of what a report says became of each finding."""
    if not prior_report:
        return []
    told = [" ".join((*sorted(f.sides), f.observation.lower(), _change(f))) for f in finding_changes(report.text)]
    changed = ", ".join(dict.fromkeys(told)) or "the report compares no finding with the one before"
    return [("The report before", prior_report), ("What changed, by the report", changed)]


def _change(found: FindingChange) -> str:
    said = found.sentence.lower()
    if NOT_READ in said:
        return f"{found.change}, or {NOT_READ}"
    return SEEN_AGAIN if SEEN_AGAIN in said else found.change  # which is not that it is unchanged


def report_sections(report: Any) -> list[tuple[str, str]]:
    """(heading, words) of a report."""
    return [("Findings", report.findings or "-"), ("Impression", report.impression or "-")]
