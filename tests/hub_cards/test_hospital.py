"""What a hospital's systems store of a report: the form, the schema and FHIR. Nothing to install; no model."""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hub_cards.hospital.codes import FINDINGS
from hub_cards.hospital.fhir import Device, fhir_bundle
from hub_cards.hospital.form import form_rows
from hub_cards.hospital.source import frontal_first, new_headers, read_headers
from processing_trrg import CHEXPERT_14, ClueScore, Report
from tests.helpers.hospital_reports import NAMES, UNREAD, report_of
from tests.helpers.paths import ROOT
from tests.helpers.tiny_dicom import PATIENT, dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph

SCHEMA = json.loads((ROOT / "hub_cards" / "hospital" / "report.schema.json").read_text(encoding="utf-8"))
DEVICE = Device("TRRG tiny", "0.0")
IDENTITY = {
    "PatientName": "Müller^Jörg", "PatientID": "MRN-77", "PatientBirthDate": "19520701", "PatientSex": "M",
    "StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5", "SOPInstanceUID": "1.2.3.4.5.6",
    "StudyDate": "20260102", "AccessionNumber": "A-1", "SpecificCharacterSet": "ISO_IR 100",
}  # fmt: skip


def resources(report: Report, **options) -> dict[str, list[dict]]:
    """Kind -> the resources of a report's bundle."""
    bundle = fhir_bundle(report, DEVICE, options.pop("headers", new_headers(1)), **options)
    json.dumps(bundle)
    found: dict[str, list[dict]] = {}
    for entry in bundle["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


def dicom_file(folder: Path, name: str = "a.dcm", **tags) -> Path:
    folder.joinpath(name).write_bytes(dicom_bytes(dicom_dataset(radiograph(), **{**IDENTITY, **tags})))
    return folder / name


def test_frontal_views_come_before_unnamed_and_lateral_ones(tmp_path) -> None:
    positions = {"a.dcm": "LL", "b.dcm": "RLO", "c.dcm": "pa ", "d.dcm": "AP", "f.dcm": None}
    files = [dicom_file(tmp_path, name, **({"ViewPosition": p} if p else {})) for name, p in positions.items()]
    (tmp_path / "e.png").write_bytes(picture_bytes(radiograph()))
    ordered = frontal_first([*files, tmp_path / "e.png"])
    assert [path.name for path in ordered] == ["c.dcm", "d.dcm", "b.dcm", "f.dcm", "e.png", "a.dcm"]


@pytest.mark.parametrize(
    "report", [report_of("There is a left effusion."), UNREAD, Report("", None, "")], ids=["one", "unread", "none"]
)
def test_a_report_has_the_fields_of_the_published_schema(report) -> None:
    for evidence in (False, True):
        told = json.loads(json.dumps(report.to_dict(evidence)))
        assert set(told) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
        for part, kind in (("clues", "clue"), ("boxes", "box"), ("sentences", "sentence")):
            for item in told[part] or ():
                known, needed = set(SCHEMA["$defs"][kind]["properties"]), set(SCHEMA["$defs"][kind]["required"])
                assert needed <= set(item) <= known
        try:
            import jsonschema
        except ImportError:
            continue  # the extra `hospital`; the fields were compared
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        jsonschema.validate(told, SCHEMA)


def test_the_form_has_a_row_a_clue_with_what_is_known_of_it() -> None:
    report = report_of(
        "There is a left pleural effusion, larger than before, and a right nodule. The heart is not enlarged."
    )
    rows = {row.clue: row for row in form_rows(report)}
    assert list(rows) == [clue.name for clue in report.clues]
    effusion = rows["Pleural Effusion"]
    assert (effusion.presence, effusion.side, effusion.change) == ("present", "left", "grown")
    assert effusion.sentence == report.sentences[0].text and 0 < effusion.confidence < 1
    assert rows["Lung Lesion"].side == "right"
    assert (rows["Cardiomegaly"].presence, rows["Cardiomegaly"].side) == ("absent", None)
    assert rows["Cardiomegaly"].sentence == "The heart is not enlarged."
    assert (rows["Edema"].presence, rows["Edema"].sentence) == ("indeterminate", None)


@pytest.mark.parametrize(
    ("text", "side", "change"),
    [
        ("Small left effusion. Small right effusion.", "both", None),
        ("Left effusion is larger. Right effusion is smaller.", "both", None),
        ("Left effusion is larger. Right effusion is larger.", "both", "grown"),
        ("Left effusion is larger. No right effusion.", "left", "grown"),
        ("Left effusion. Possible right effusion.", "left", None),
        ("The effusion is larger.", None, "grown"),
        ("The left effusion is unchanged.", "left", "unchanged"),
        ("The left effusion is seen again.", "left", None),  # it may have changed
        ("The left effusion is new, or not read in the prior report.", "left", None),
        ("The left effusion is new.", "left", "new"),
    ],
)
def test_what_two_sentences_say_of_two_sides_is_not_that_of_the_first(text, side, change) -> None:
    (row,) = form_rows(report_of(text, {"Pleural Effusion": "present"}))
    assert (row.side, row.change) == (side, change)


def test_a_side_that_is_a_clue_has_its_own_row() -> None:
    names = {"Left Pleural Effusion": "present", "Right Pleural Effusion": "absent", "Pleural Effusion": "present"}
    rows = {row.clue: row for row in form_rows(report_of("There is a left pleural effusion.", names))}
    assert {name: row.presence for name, row in rows.items()} == names
    assert [rows[name].side for name in names] == ["left", "right", "left"]
    assert [rows[name].sentence is None for name in names] == [False, True, False]
    rows = {row.clue: row for row in form_rows(report_of("No pleural effusion.", dict.fromkeys(names, "absent")))}
    assert all(row.sentence == "No pleural effusion." and row.presence == "absent" for row in rows.values())


def test_what_is_absent_is_not_new() -> None:
    names = {"Left Pleural Effusion": "present", "Right Pleural Effusion": "absent", "Pneumothorax": "absent"}
    text = "A pleural effusion is new. The pneumothorax is no longer seen."
    rows = {row.clue: row.change for row in form_rows(report_of(text, names))}
    assert rows == {"Left Pleural Effusion": "new", "Right Pleural Effusion": None, "Pneumothorax": "resolved"}


def test_without_operating_points_the_report_says_what_is_present() -> None:
    report = report_of("There may be edema. No fracture.", dict.fromkeys(NAMES))
    report.left_out = ["Cardiomegaly"]
    presence = {row.clue: row.presence for row in form_rows(report)}
    told = ("Edema", "Fracture", "Cardiomegaly", "Pneumothorax")
    assert [presence[name] for name in told] == ["indeterminate", "absent", "indeterminate", None]


def test_a_model_without_clues_has_a_form_of_its_words() -> None:
    rows = {row.clue: row for row in form_rows(report_of("There is pneumonia.", {}))}
    assert list(rows) == list(CHEXPERT_14)
    assert (rows["Pneumonia"].presence, rows["Pneumonia"].confidence) == ("present", None)


def test_fhir_is_a_draft_of_a_named_device_with_pertinent_negatives() -> None:
    found = resources(report_of("There is a left pleural effusion, larger than before. No pneumothorax."))
    (report,), (device,), (study,) = (found[kind] for kind in ("DiagnosticReport", "Device", "ImagingStudy"))
    assert report["status"] == "preliminary" and not {"resultsInterpreter", "performer"} & set(report)
    assert report["code"]["coding"][0]["code"] == "36554-4" and device["deviceName"][0]["name"] == DEVICE.name
    page = base64.b64decode(report["presentedForm"][0]["data"])
    assert len(page) == report["presentedForm"][0]["size"]
    assert base64.b64decode(report["presentedForm"][0]["hash"]) == hashlib.sha1(page).digest()
    values = {}
    for observation in found["Observation"]:
        assert observation["status"] == "preliminary" and DEVICE.name in observation["device"]["display"]
        assert observation["code"]["coding"][0]["code"] == "705057003" and observation["note"]
        (place,) = observation["contained"]
        values[place["morphology"]["text"]] = observation["valueCodeableConcept"]["coding"][0]["code"]
    assert values["Pleural Effusion"] == "52101004" and values["Edema"] == "82334004"
    assert values["Pneumothorax"] == values["Cardiomegaly"] == "272519000"
    assert "No Finding" not in values and len(report["result"]) == len(values) == len(found["Observation"])
    effusion = next(o for o in found["Observation"] if o["code"]["text"].startswith("Pleural Effusion"))
    assert effusion["contained"][0]["locationQualifier"] == [{"text": "left"}]
    assert "RID36043" in json.dumps(effusion["component"])
    assert "Patient" not in found and study["subject"] == {"display": "not named"}


def test_a_clue_without_a_code_is_text() -> None:
    (observation,) = resources(report_of("", {"Deviated trachea": "present"}))["Observation"]
    assert observation["contained"][0]["morphology"] == {"text": "Deviated trachea"}
    assert set(FINDINGS) == set(CHEXPERT_14)


def test_a_study_without_a_finding_says_so_by_what_is_absent() -> None:
    names = dict.fromkeys(NAMES, "absent") | {"No Finding": "present"}
    found = resources(report_of("Normal chest.", names))
    codes = [o["valueCodeableConcept"]["coding"][0]["code"] for o in found["Observation"]]
    assert codes == ["272519000"] * (len(NAMES) - 1) + ["52101004"]
    assert "276800000" in json.dumps(found["Observation"][-1])
    names["Edema"] = "present"  # then "no finding" is no statement
    assert "276800000" not in json.dumps(resources(report_of("Edema.", names)))


def test_of_a_picture_that_cannot_be_read_nothing_is_stated() -> None:
    assert form_rows(UNREAD) == []
    found = resources(UNREAD)
    assert "Observation" not in found and "result" not in found["DiagnosticReport"][0]
    assert found["DiagnosticReport"][0]["conclusion"] == UNREAD.text
    found = resources(Report("", None, ""))  # nor of an empty report
    assert "Observation" not in found and "conclusion" not in found["DiagnosticReport"][0]


def test_what_a_model_writes_is_text_in_the_page() -> None:
    report = report_of("<script>alert(1)</script> & effusion.")
    page = base64.b64decode(resources(report)["DiagnosticReport"][0]["presentedForm"][0]["data"]).decode()
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; effusion." in page


def test_identity_is_written_only_when_asked_for(tmp_path) -> None:
    headers = read_headers([dicom_file(tmp_path)])
    report = report_of("There is edema.")
    told = json.dumps(resources(report, headers=new_headers(1)), ensure_ascii=False)
    assert not any(
        value in told for name, value in IDENTITY.items() if name != "SpecificCharacterSet" and len(value) > 1
    )
    found = resources(report, headers=headers, named=True)
    (patient,) = found["Patient"]
    assert patient["name"] == [{"text": "Müller Jörg"}] and patient["birthDate"] == "1952-07-01"
    assert patient["gender"] == "male" and patient["identifier"] == [{"value": "MRN-77"}]
    assert found["ImagingStudy"][0]["identifier"][0]["value"] == "urn:oid:1.2.3.4"
    headers[0]["PatientName"] = "=王^小東=おう^しょうとう"
    (patient,) = resources(report, headers=headers, named=True)["Patient"]
    assert patient["name"] == [{"text": "王 小東"}], "a name without Latin letters"
    assert found["Observation"][0]["effectiveDateTime"] == "2026-01-02"
    two = resources(report, headers=new_headers(2))["DiagnosticReport"][0]
    assert two["code"] == {"text": "Chest X-ray"}, "no code of the table is one of two views"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PatientBirthDate": "1.7.1952 SECRET"}, "PatientBirthDate is not what this element can be"),
        ({"PatientSex": "SECRET"}, "PatientSex is not"),
        ({"StudyInstanceUID": ""}, "StudyInstanceUID is missing"),
        ({"PatientName": "SECRET\x07"}, "PatientName is not"),
        ({"PatientID": "SECRET\\MRN-78"}, "PatientID is not"),  # two values
        ({"PatientName": ["SECRET", "Other"]}, "PatientName is not"),
        ({"PatientBirthDate": "00000000"}, "PatientBirthDate is not"),
        ({"StudyDate": "20260230"}, "StudyDate is not"),
        ({"StudyTime": "256100"}, "StudyTime is not"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_copied_is_refused_without_its_value(tmp_path, tags, reason) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_headers([dicom_file(tmp_path, **tags)])
    assert "SECRET" not in str(caught.value) and PATIENT not in str(caught.value)


def test_views_of_two_patients_and_pictures_have_no_identity(tmp_path) -> None:
    first, other = dicom_file(tmp_path), dicom_file(tmp_path, "b.dcm", PatientID="SECRET")
    with pytest.raises(ValueError, match=r"b\.dcm: PatientID is not that of .*a\.dcm") as caught:
        read_headers([first, other])
    assert "SECRET" not in str(caught.value)
    (tmp_path / "c.png").write_bytes(picture_bytes(radiograph()))
    with pytest.raises(ValueError, match="no DICOM, so it has no identity"):
        read_headers([tmp_path / "c.png"])


def test_scores_are_those_of_the_report() -> None:
    clue = ClueScore("Edema", 0.25, np.zeros((1, 2, 2)), True, "present")
    (row,) = form_rows(Report("", None, "", [clue]))
    assert row.confidence == 0.25
