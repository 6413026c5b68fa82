"""The DICOM and FHIR documents, read back by highdicom and fhir.resources; the command and the container's entry."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="needs the extra `hospital`")

from highdicom import sr

from hub_cards.docker.mercure import run_module
from hub_cards.hospital import __main__ as command
from hub_cards.hospital.codes import FINDINGS
from hub_cards.hospital.fhir import Device, fhir_bundle
from hub_cards.hospital.source import new_headers, read_headers
from processing_trrg import Report
from tests.helpers.hospital_reports import SHAPE, UNREAD, report_of
from tests.helpers.paths import ROOT
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor
from tests.hub_cards.test_hospital import DEVICE, IDENTITY, dicom_file
from training.phantoms.generate import generate_phantom

SECRETS = [IDENTITY[name].encode("latin-1") for name in ("PatientName", "PatientID", "PatientBirthDate")]
REPORT = "There is a left pleural effusion and a right nodule. The heart is not enlarged."


def written(folder: Path, report: Report, headers=None, views: int = 1) -> dict[str, pydicom.Dataset]:
    """The DICOM objects of a report, from their files."""
    pictures = [radiograph(*SHAPE, seed=view) for view in range(views)]
    heats = command.heat_maps(report, tiny_processor(size=64).image_processor, SHAPE)
    named = headers is not None
    paths = command.write_documents(folder, report, DEVICE, headers or new_headers(views), pictures, heats, named)
    return {path.name: pydicom.dcmread(path) for path in paths if path.suffix == ".dcm"}


def groups(document: pydicom.Dataset) -> list:
    """All groups of a structured report, as highdicom reads it."""
    read = sr.Comprehensive3DSR.from_dataset(document).content
    return [*read.get_image_measurement_groups(), *read.get_planar_roi_measurement_groups()]


def test_the_structured_report_is_a_draft_of_a_device_with_regions(tmp_path) -> None:
    report = report_of(REPORT, impression="Left effusion.")
    files = written(tmp_path, report)
    document = files["report-sr.dcm"]
    assert document.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert (document.PreliminaryFlag, document.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500" and document.PatientName == ""
    text = document.to_json()
    for words in (DEVICE.name, "Algorithm Name", "Algorithm Version", "Left effusion.", "The heart is not enlarged."):
        assert words in text
    found = groups(document)
    assert len(found) == 6, "one for each clue that answers, and none for `No Finding`"
    regions = {str(g.finding_type.meaning): g.roi for g in found if hasattr(g, "roi")}
    assert set(regions) == {FINDINGS["Pleural Effusion"].meaning, FINDINGS["Lung Lesion"].meaning}
    (box,) = (box for box in report.boxes if box.finding == "Pleural Effusion")
    corners = regions["Pleural effusion"].value
    assert corners.min(0).tolist() == [box.x, box.y] and corners.max(0).tolist() == [box.x + box.w, box.y + box.h]
    picture = files["view-1.dcm"]
    assert regions["Pleural effusion"].ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        picture.SOPInstanceUID
    )
    assert (picture.Rows, picture.Columns) == SHAPE and picture.StudyInstanceUID == document.StudyInstanceUID
    values = [e.value.value for g in found for e in g.get_qualitative_evaluations() if e.name.value == "705057003"]
    assert sorted(values) == sorted(["52101004"] * 2 + ["82334004"] + ["272519000"] * 3)


def test_heat_maps_are_visual_explanations_of_findings_with_a_place(tmp_path) -> None:
    files = written(tmp_path, report_of(REPORT))
    heats = [files[name] for name in files if name.startswith("heat")]
    assert len(heats) == 2, "of the two that the report states"
    for heat in heats:
        assert heat.SOPClassUID.name == "Secondary Capture Image Storage" and heat.PhotometricInterpretation == "RGB"
        assert (heat.DerivationCodeSequence[0].CodeValue, heat.ImageType[0]) == ("130401", "DERIVED")
        assert heat.SOPInstanceUID in files["report-sr.dcm"].to_json()
        assert np.ptp(heat.pixel_array.astype(int), axis=-1).max() > 20, "colour where the evidence is"


def test_without_a_finding_and_of_a_picture_that_cannot_be_read(tmp_path) -> None:
    absent = written(tmp_path / "absent", report_of("Normal chest.", {"Edema": "absent", "Fracture": "absent"}))
    assert set(absent) == {"view-1.dcm", "report-sr.dcm"} and len(groups(absent["report-sr.dcm"])) == 2
    for name, report in (("unread", UNREAD), ("empty", Report("", None, "")), ("bare", report_of("Normal.", {}))):
        files = written(tmp_path / name, report)
        document = sr.Comprehensive3DSR.from_dataset(files["report-sr.dcm"])
        assert set(files) == {"view-1.dcm", "report-sr.dcm"} and "Imaging Measurements" not in document.to_json()
        assert report.findings in document.to_json()
    assert json.loads((tmp_path / "unread" / "form.json").read_text())["rows"] == []


def test_pixels_that_are_not_square_keep_the_regions_in_their_place(tmp_path) -> None:
    headers = read_headers([dicom_file(tmp_path)])
    headers[0] |= {"Rows": str(SHAPE[0] // 2), "Columns": str(SHAPE[1])}
    report = report_of(REPORT)
    document = written(tmp_path / "out", report, headers)["report-sr.dcm"]
    box = report.boxes[0]
    corners = next(g for g in groups(document) if hasattr(g, "roi")).roi.value
    assert corners.min(0).tolist() == [box.x, box.y / 2]


def test_identity_comes_with_the_flag_alone(tmp_path) -> None:
    headers = read_headers([dicom_file(tmp_path)])
    kept = written(tmp_path / "kept", report_of(REPORT), headers)
    assert not any(name.startswith("view") for name in kept), "the archive has it"
    for picture in kept.values():
        assert picture.PatientName == "Müller^Jörg" and picture.StudyInstanceUID == "1.2.3.4"
        assert picture.AccessionNumber == "A-1" and picture.SeriesInstanceUID != "1.2.3.4.5"
    assert "1.2.3.4.5.6" in kept["report-sr.dcm"].to_json()
    two = written(tmp_path / "nobody", report_of(REPORT), views=2)["report-sr.dcm"].to_json()
    assert "36554-4" not in two and "Radiographic imaging" in two, "LOINC's code is that of a single view"
    for path in (tmp_path / "nobody").iterdir():
        assert not any(secret in path.read_bytes() for secret in SECRETS), path.name


def test_a_name_that_is_longer_than_dicom_has_it(tmp_path) -> None:
    device = Device("TRRG " + "x" * 80, "0.0")
    objects = command.write_documents(
        tmp_path, report_of(REPORT), device, new_headers(1), [radiograph(*SHAPE)], {}, False
    )
    picture = pydicom.dcmread(next(path for path in objects if path.name == "view-1.dcm"))
    assert picture.ManufacturerModelName == device.name[:64]


def test_the_bundle_is_valid_fhir_r4() -> None:
    bundle = pytest.importorskip("fhir.resources.R4B.bundle", reason="needs fhir.resources").Bundle
    for report in (report_of(REPORT, impression="Effusion."), UNREAD, Report("", None, "")):
        bundle.model_validate(fhir_bundle(report, Device("TRRG tiny", "0.0"), new_headers(1)))


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs Debian's dicom3tools")
def test_dciodvfy_finds_no_error(tmp_path) -> None:
    for name, report in (("one", report_of(REPORT)), ("unread", UNREAD)):
        written(tmp_path / name, report)
        for path in sorted((tmp_path / name).glob("*.dcm")):
            told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in told.stderr + told.stdout, f"{path.name}\n{told.stderr}"


class Written:
    """In place of the pipeline: a report of any study, whose views it keeps."""

    image_processor = tiny_processor(size=64).image_processor

    def __call__(self, views: list[Path], **_: object) -> Report:
        self.views = views
        return report_of(REPORT)


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Written:
    fake = Written()
    monkeypatch.setattr("transformers.pipeline", lambda *_, **__: fake)
    return fake


def test_a_dicom_without_pixel_spacing_and_with_a_name(tmp_path, write, capfd) -> None:
    """Many public files lack ImagerPixelSpacing, StudyInstanceUID and the patient's elements."""
    pixels = radiograph(*SHAPE)
    bare = dict.fromkeys(("PatientName", "PatientID"))
    for name, tags in (("named", IDENTITY), ("bare", bare)):
        (tmp_path / f"{name}.dcm").write_bytes(dicom_bytes(dicom_dataset(pixels, **tags)))
        (out := tmp_path / name).mkdir()
        (out / "heat-9.dcm").write_bytes(b"of an earlier study, with more findings")
        paths = command.main([str(tmp_path / f"{name}.dcm"), f"--checkpoint={tmp_path}", f"--out={out}"])
        assert {path.name for path in out.iterdir()} == {path.name for path in paths} >= {"view-1.dcm", "fhir.json"}
        told = capfd.readouterr()
        for data in (told.out.encode(), told.err.encode(), *(path.read_bytes() for path in paths)):
            assert not any(secret in data for secret in SECRETS)
    command.main([str(tmp_path / "named.dcm"), f"--checkpoint={tmp_path}", f"--out={out}", "--keep-identity"])
    assert pydicom.dcmread(out / "report-sr.dcm").PatientID == "MRN-77" and "MRN-77" in (out / "fhir.json").read_text()
    with pytest.raises(SystemExit, match="StudyInstanceUID is missing"):
        command.main([str(tmp_path / "bare.dcm"), f"--checkpoint={tmp_path}", f"--out={out}", "--keep-identity"])
    (tmp_path / "a.png").write_bytes(picture_bytes(pixels))
    with pytest.raises(SystemExit, match="no DICOM"):
        command.main([str(tmp_path / "a.png"), f"--checkpoint={tmp_path}", f"--out={out}", "--keep-identity"])


def test_the_study_itself_is_never_taken_for_documents_of_an_earlier_one(tmp_path, write) -> None:
    view = dicom_file(tmp_path, "view-1.dcm")
    data, checkpoint = view.read_bytes(), f"--checkpoint={tmp_path}"
    for study in (view, tmp_path):
        with pytest.raises(SystemExit, match=r"view-1\.dcm is of the study itself"):
            command.main([str(study), checkpoint, f"--out={tmp_path}/../{tmp_path.name}"])
    assert view.read_bytes() == data and [path.name for path in tmp_path.iterdir()] == ["view-1.dcm"]
    with pytest.raises(SystemExit, match="one folder, or files"):
        command.main([str(tmp_path), str(view), checkpoint, f"--out={tmp_path / 'out'}"])


def test_a_report_that_was_cut_says_so_in_every_document(tmp_path) -> None:
    report = report_of(REPORT)
    report.complete = False
    document = written(tmp_path, report)["report-sr.dcm"].to_json()
    told = [document, *((tmp_path / name).read_text(encoding="utf-8") for name in ("form.json", "fhir.json"))]
    assert all("cut at the length limit" in text for text in told)
    written(tmp_path, report_of(REPORT))
    assert "cut" not in (tmp_path / "form.json").read_text(encoding="utf-8")


def test_a_checkpoint_that_is_none_is_no_fault_of_the_study(tmp_path) -> None:
    (view := tmp_path / "a.png").write_bytes(picture_bytes(radiograph(*SHAPE)))
    with pytest.raises(SystemExit, match="This checkpoint cannot be read: Unrecognized model"):
        command.main([str(view), f"--checkpoint={tmp_path}", f"--out={tmp_path / 'out'}"])


def test_two_studies_make_no_report(tmp_path, write) -> None:
    (tmp_path / "processor_config.json").write_text('{"max_views": 1}')
    (tmp_path / "task.json").write_text("{}")
    views = [dicom_file(tmp_path, f"{uid}.dcm", StudyInstanceUID=uid) for uid in ("1.2", "1.3")]
    with pytest.raises(SystemExit, match="2 studies; expected the views of one"):
        command.main([*map(str, views), f"--checkpoint={tmp_path}", f"--out={tmp_path / 'out'}"])
    with pytest.raises(ValueError, match="2 studies; expected the views of one"):
        run_module(tmp_path, tmp_path, tmp_path)


def test_mercure_gives_a_folder_and_settings_and_gets_dicom(tmp_path, write) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir(), target.mkdir()
    (tmp_path / "processor_config.json").write_text('{"max_views": 1}')
    dicom_file(source, "1.2.3.4.5#1.2.3.4.5.6.dcm").with_suffix(".tags").write_text("{}")
    (source / "task.json").write_text(json.dumps({"process": {"settings": {"keep_identity": True}}}))
    run_module(source, target, tmp_path)
    assert [path.name for path in write.views] == ["1.2.3.4.5#1.2.3.4.5.6.dcm"]
    found = [pydicom.dcmread(path) for path in target.iterdir()]
    assert sorted(picture.Modality for picture in found) == ["OT", "OT", "SR"]
    assert {picture.StudyInstanceUID for picture in found} == {"1.2.3.4"}
    for path, picture in ((path, pydicom.dcmread(path)) for path in target.iterdir()):
        assert path.name == f"{picture.SeriesInstanceUID}#{picture.SOPInstanceUID}.dcm"


def test_mercures_frontal_view_is_read_whatever_its_file_is_called(tmp_path, write, capsys) -> None:
    (source := tmp_path / "in").mkdir()
    (source / "task.json").write_text("{}")
    lateral = dicom_file(source, "1#1.dcm", ViewPosition="LL")
    (tmp_path / "processor_config.json").write_text('{"max_views": 2}')
    with pytest.raises(ValueError, match="lateral views alone"):
        run_module(source, tmp_path, tmp_path)
    frontal = dicom_file(source, "1#2.dcm", ViewPosition="PA")
    run_module(source, tmp_path, tmp_path)
    assert list(write.views) == [frontal, lateral]
    (tmp_path / "processor_config.json").write_text('{"max_views": 1}')
    run_module(source, tmp_path, tmp_path)
    assert list(write.views) == [frontal] and "takes 1 of the 2 views" in capsys.readouterr().out


@pytest.mark.slow
def test_the_containers_entry_in_a_shell_that_plays_mercure(tmp_path) -> None:
    """The line of the Dockerfile, with the small checkpoint. No Docker."""
    (line,) = (line for line in (ROOT / "hub_cards/docker/Dockerfile").read_text().splitlines() if "ENTRYPOINT" in line)
    entry = shlex.join([sys.executable, *json.loads(line.removeprefix("ENTRYPOINT "))[1:]])
    phantom = generate_phantom(2024, 0, size=512).image
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.2.3.4.5#1.2.3.4.5.6.dcm").write_bytes(dicom_bytes(dicom_dataset(phantom, **IDENTITY)))
    (tmp_path / "in" / "task.json").write_text('{"process": {"settings": {}}}')
    script = f"set -e; mkdir out; export MERCURE_IN_DIR=in MERCURE_OUT_DIR=out; {entry}; ls out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    found = [pydicom.dcmread(path) for path in (tmp_path / "out").iterdir()]
    assert "SR" in [picture.Modality for picture in found] and len(told.stdout.split(".dcm")) > len(found)
    for text in (
        told.stdout,
        told.stderr,
        *(path.read_bytes().decode("latin-1") for path in (tmp_path / "out").iterdir()),
    ):
        assert not any(secret.decode("latin-1") in text for secret in SECRETS)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="needs hadolint")
def test_hadolint_finds_nothing() -> None:
    command_line = ["hadolint", str(ROOT / "hub_cards/docker/Dockerfile")]
    told = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (None, "task.json cannot be read"),
        ('["x"]', "task.json cannot be read"),
        ('{"process": {"settings": ["indication"]}}', "task.json cannot be read"),
        ('{"process": {"settings": {"identity": true}}}', r"unknown settings \['identity'\]"),
        ('{"process": {"settings": {"keep_identity": "no"}}}', "keep_identity is str, expected bool"),
        ('{"process": {}}', "holds no .dcm file"),
    ],
)
def test_a_task_that_cannot_be_done_says_why(tmp_path, task, reason) -> None:
    if task is not None:
        (tmp_path / "task.json").write_text(task)
    with pytest.raises(ValueError, match=reason):
        run_module(tmp_path, tmp_path, tmp_path)
