"""The files that a visitor of the Space takes home: text, record, picture, and what a hospital's systems store."""

import copy
import json
from dataclasses import replace
from typing import Any

from PIL import Image

from hub_cards.space import page

ABOUT = (
    "The FHIR and DICOM files name no patient: nothing is copied from an uploaded DICOM but its pixels. report-sr.dcm "
    "refers to view-1.dcm, which holds them, and to the heat maps."
)
CHANGED = "Changed by a person on the page; a clue without a score was set by hand."


def report_as_text(visit: page.Visit) -> str:
    """The report, and what the image says to each of its sentences."""
    spans = [
        f"[{span.mark}] {span.text}" if span.mark else f"\n{span.text.strip()}"
        for span in page.report_spans(visit.report)
    ]
    return "\n".join([visit.report.text, *spans, "", page.differences(visit.report), page.MARKS, page.NOTICE, ""])


def report_of_the_model(visit: page.Visit) -> Any:
    """The report as a document of the model's may tell it: what was set by hand has no score, place or support."""
    report = copy.copy(visit.report)  # a plain `Report`
    report.clues = [
        replace(clue, score=None, evidence=None) if page.set_by_hand(visit, clue.name) else clue
        for clue in report.clues
    ]
    report.sentences = report.sentences and [
        replace(said, support="not checkable") if any(page.set_by_hand(visit, name) for name in said.clues) else said
        for said in report.sentences
    ]
    return report


def write_files(visit: page.Visit, checkpoint: str, image_processor: Any) -> list[str]:
    """The files to take home; every further format of a report is one more line here. Those of a hospital's systems are
    nobody's: no identity is read from a DICOM, and the DICOM SR refers to view-1.dcm, a copy of the pixels alone.

    Args:
        visit: with its report.
        checkpoint: its name, for the record.
        image_processor: of the checkpoint.
    """
    # Not above: its Auto* classes would take the place of the checkpoint's own, which are loaded by now.
    from hub_cards.hospital.__main__ import write_forms
    from hub_cards.hospital.fhir import Device
    from processing_trrg import __version__

    text, record, picture = (visit.folder / f"report.{kind}" for kind in ("txt", "json", "png"))
    text.write_text(report_as_text(visit), encoding="utf-8")
    told: dict[str, Any] = {
        "notice": page.NOTICE,
        "checkpoint": checkpoint,
        **visit.words,
        "operating_point": visit.dial,
    }
    told |= {"by_hand": visit.by_hand, **visit.report.to_dict()}
    record.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    views = [image for image, _ in page.draw_views(visit)]
    beside = Image.new("RGB", (page.SIDE * len(views), views[0].height))
    for place, image in enumerate(views):
        beside.paste(image, (page.SIDE * place, 0))
    beside.save(picture)
    device = Device(f"TRRG {checkpoint}", __version__)
    device = device._replace(notice=f"{device.notice} {CHANGED}") if visit.corrected else device
    forms = write_forms(visit.folder / "forms", report_of_the_model(visit), device, visit.views, image_processor)
    return [str(file) for file in (text, record, picture, *forms) if file.name != "report.json" or file == record]
