"""A report as a FHIR R4 Bundle: DiagnosticReport, an Observation a finding, the device, and the study.

As IHE's draft Imaging Diagnostic Report has it, without claiming to conform: what it needs of R5 comes as HL7's
extension for R4. Preliminary, and no interpreter: that must be a human. Plain dictionaries, nothing to install.
"""

import base64
import hashlib
import html
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from hub_cards.hospital.codes import ANSWERS, CHANGES, CHEST_ONE_VIEW, FINDINGS, PRESENCE, SYSTEMS, Code
from hub_cards.hospital.form import NOTICE, Row, form_rows, stated_rows
from hub_cards.hospital.source import Header
from processing_trrg import Report

BODY_STRUCTURE = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.bodyStructure"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
GENDERS = {"M": "male", "F": "female", "O": "other"}
NOBODY = {"display": "not named"}


class Device(NamedTuple):
    """What wrote the report; `notice` stands in every document."""

    name: str
    version: str
    maker: str = "TRRG package authors"
    notice: str = NOTICE


def fhir_bundle(report: Report, device: Device, headers: Sequence[Header], named: bool = False) -> dict[str, Any]:
    """
    Args:
        report: of one study.
        device: that wrote it.
        headers: of its views, of `source.read_headers` or `source.new_headers`.
        named: whether the patient's and the study's identity is written.

    Returns:
        A Bundle of type "collection", ready for `json.dumps`. A picture that the model cannot read has no Observation,
        and the conclusion says so.
    """
    header = headers[0]
    urls = {name: f"urn:uuid:{uuid4()}" for name in ("report", "device", "study", "patient")}
    subject = {"reference": urls["patient"]} if named else NOBODY
    now = datetime.now(UTC).isoformat(timespec="seconds")
    common = {
        "subject": subject, "issued": now, "status": "preliminary",
        **({"effectiveDateTime": _date(header["StudyDate"])} if named and header["StudyDate"] else {}),
    }  # fmt: skip
    findings = {
        f"urn:uuid:{uuid4()}": _observation(row, device, urls, common) for row in stated_rows(form_rows(report))
    }
    study = {
        "resourceType": "ImagingStudy", "status": "available", "subject": subject, "numberOfInstances": len(headers),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{header['StudyInstanceUID']}"}],
    }  # fmt: skip
    page = _page(report, device).encode()
    code = _concept("Chest X-ray", *([CHEST_ONE_VIEW] if len(headers) == 1 else []))
    document = {
        "resourceType": "DiagnosticReport", **common, "code": code, "imagingStudy": [{"reference": urls["study"]}],
        "result": [{"reference": url} for url in findings],
        "conclusion": (report.impression or report.findings).strip(),
        "presentedForm": [{
            "contentType": "text/html", "language": "en", "title": device.notice, "size": len(page),
            "data": base64.b64encode(page).decode(),
            "hash": base64.b64encode(hashlib.sha1(page, usedforsecurity=False).digest()).decode(),
        }],
    }  # fmt: skip
    model = {
        "resourceType": "Device", "status": "active", "manufacturer": device.maker,
        "deviceName": [{"name": device.name, "type": "model-name"}], "version": [{"value": device.version}],
        "note": [{"text": device.notice}],
    }  # fmt: skip
    entries = {urls["report"]: document, **findings, urls["device"]: model, urls["study"]: study}
    if named:
        entries[urls["patient"]] = _patient(header)
    written = [
        {"fullUrl": url, "resource": {name: value for name, value in resource.items() if value not in ("", [])}}
        for url, resource in entries.items()
    ]
    return {"resourceType": "Bundle", "type": "collection", "timestamp": now, "entry": written}


def _concept(text: str, *codes: Code | None) -> dict[str, Any]:
    coding = [{"system": SYSTEMS[code.scheme], "code": code.value, "display": code.meaning} for code in codes if code]
    return {"coding": coding, "text": text} if coding else {"text": text}


def _observation(row: Row, device: Device, urls: dict[str, str], common: dict[str, Any]) -> dict[str, Any]:
    """One statement: whether one finding is there."""
    assert row.presence is not None  # see `stated_rows`
    place: dict[str, Any] = {
        "resourceType": "BodyStructure", "id": "finding", "patient": common["subject"],
        "morphology": _concept(row.finding, FINDINGS.get(row.finding)),
    }  # fmt: skip
    told: list[dict[str, Any]] = []
    if row.side:
        place["locationQualifier"] = [{"text": row.side}]
        told.append({"code": {"text": "Side"}, "valueCodeableConcept": {"text": row.side}})
    if row.change:
        value = _concept(row.change, CHANGES.get(row.change))
        told.append({"code": {"text": "Change since an earlier study"}, "valueCodeableConcept": value})
    if row.confidence is not None:
        value = {"value": round(row.confidence, 4)}
        told.append({"code": {"text": "Score of the model, 0 to 1"}, "valueQuantity": value})
    notes = [device.notice] + ([f"The report: {row.sentence}"] if row.sentence else [])
    if row.support == "unsupported":
        notes.append("The image does not support this sentence of the report.")
    return {
        "resourceType": "Observation", "contained": [place],
        "extension": [{"url": BODY_STRUCTURE, "valueReference": {"reference": "#finding"}}],
        "category": [{"coding": [{"system": CATEGORY, "code": "imaging", "display": "Imaging"}]}],
        "code": _concept(f"{row.clue}: presence", PRESENCE), **common,
        "valueCodeableConcept": _concept(row.presence, *ANSWERS[row.presence]),
        "note": [{"text": note} for note in notes], "derivedFrom": [{"reference": urls["study"]}],
        "device": {"reference": urls["device"], "display": f"{device.name} {device.version}"}, "component": told,
    }  # fmt: skip


def _page(report: Report, device: Device) -> str:
    """The report as a page of HTML, to be read by a human; what the model wrote is text in it, never markup."""
    parts = [("Findings", report.findings), ("Impression", report.impression)]
    words = "".join(f"<h2>{name}</h2><p>{html.escape(text)}</p>" for name, text in parts if text)
    told = f"<p>{html.escape(f'Preliminary. {device.name} {device.version}. {device.notice}')}</p>"
    head = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Chest X-ray</title></head>'
    return f"{head}<body><h1>Chest X-ray</h1>{told}{words}</body></html>"


def _patient(header: Header) -> dict[str, Any]:
    written = next((part for part in header["PatientName"].split("=") if part.strip("^ ")), "")  # the first alphabet
    name = " ".join(written.replace("^", " ").split())
    gender = GENDERS.get(header["PatientSex"], "")
    return {
        "resourceType": "Patient", "gender": gender, "birthDate": _date(header["PatientBirthDate"]),
        "identifier": [{"value": header["PatientID"]}] if header["PatientID"] else [],
        "name": [{"text": name}] if name else [],
    }  # fmt: skip


def _date(written: str) -> str:
    """DICOM's 19520701 -> 1952-07-01; empty stays empty."""
    return f"{written[:4]}-{written[4:6]}-{written[6:]}" if written else ""
