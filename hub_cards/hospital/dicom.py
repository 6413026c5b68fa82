"""A report as DICOM: a structured report of TID 1500, heat maps, and the pictures that both refer to.

The structured report is a Comprehensive 3D SR, preliminary, unverified, by a device. A finding is a group of
measurements without measurements: presence, and each evidence box as a region. Needs the extra `hospital`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import sr
from matplotlib import colormaps
from PIL import Image
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from hub_cards.hospital.codes import ANSWERS, CHEST_ONE_VIEW, EVALUATIONS, FINDINGS, PRESENCE, Code
from hub_cards.hospital.fhir import Device
from hub_cards.hospital.form import Row, form_rows, stated_rows
from hub_cards.hospital.source import IDENTITY, SIZE, Header
from processing_trrg import FindingBox, Report

LONG = 64
"""Characters of a long string (LO) of DICOM, at most."""
HEAT_SIDE = 1024
"""Pixels of a heat map's longer side, at most."""
HEAT = 0.6
"""Opacity of a heat map at its peak, for a score of 1."""
SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right, "both": codes.SCT.Bilateral}
SCALE = colormaps["inferno"]


def dicom_objects(
    report: Report, device: Device, headers: Sequence[Header], views: Sequence[np.ndarray],
    heats: dict[str, np.ndarray], stored: bool,
) -> dict[str, Dataset]:  # fmt: skip
    """
    Args:
        headers: of the views, of `source.read_headers` or `source.new_headers`.
        views: each `[H, W]`, uint8, air darker than bone.
        heats: finding -> heat `[h, w]`, 0 to 1, over the first view.
        stored: whether the views are in an archive under the UIDs of `headers`; if not, they are written too.

    Returns:
        File name -> object. A picture that the model cannot read has a structured report that says so.
    """
    with warnings.catch_warnings(action="ignore"):  # highdicom's quote names
        written = {} if stored else {
            f"view-{number}.dcm": _capture(view, header, device, number, "View as the model read it", 1)
            for number, (view, header) in enumerate(zip(views, headers, strict=True), 1)
        }  # fmt: skip
        maps: dict[str, Dataset] = {}
        series = generate_uid(prefix=None)
        for number, (finding, heat) in enumerate(heats.items(), 1):
            own = {**headers[0], "SeriesInstanceUID": series, "SOPInstanceUID": generate_uid(prefix=None)}
            picture = _capture(
                heat_picture(views[0], heat), own, device, number, f"Visual explanation: {finding}", 9001
            )
            picture.DerivationDescription = (
                f"Where the model's evidence for {finding} is. No segmentation. {device.notice}"
            )
            picture.DerivationCodeSequence = [sr.CodedConcept.from_code(codes.DCM.VisualExplanation)]
            maps[finding] = picture
        written |= {f"heat-{number}.dcm": picture for number, picture in enumerate(maps.values(), 1)}
        written["report-sr.dcm"] = _report(report, device, headers, views[0].shape, maps)
    return written


def heat_picture(view: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A view `[H, W]`, uint8, under a heat `[h, w]`, 0 to 1: uint8 `[h', w', 3]`, at most `HEAT_SIDE` a side."""
    picture = Image.fromarray(view)
    picture.thumbnail((HEAT_SIDE, HEAT_SIDE))
    strength = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR))
    opacity = HEAT * strength.clip(0, 1)[..., None]
    colour = SCALE(strength)[..., :3] * 255
    return (np.asarray(picture)[..., None] * (1 - opacity) + colour * opacity).round().astype(np.uint8)


def _capture(pixels: np.ndarray, header: Header, device: Device, number: int, told: str, series_number: int) -> Dataset:
    """A secondary capture, of a derived picture in grey or RGB."""
    picture = hd.sc.SCImage(
        pixels, "MONOCHROME2" if pixels.ndim == 2 else "RGB", 8, "PATIENT",
        study_instance_uid=header["StudyInstanceUID"], series_instance_uid=header["SeriesInstanceUID"],
        series_number=series_number, sop_instance_uid=header["SOPInstanceUID"], instance_number=number,
        manufacturer=device.maker, manufacturer_model_name=device.name[:LONG], software_versions=device.version,
        patient_orientation=("L", "F"), series_description=told[:LONG], specific_character_set="ISO_IR 192",
    )  # fmt: skip
    picture["PatientOrientation"].value = None  # it is not known
    picture.BodyPartExamined = "CHEST"
    picture.ImageType = ["DERIVED", "SECONDARY"]
    picture.ImageComments = device.notice
    for name in IDENTITY:
        setattr(picture, name, header[name])
    return picture


def _reference(header: Header) -> Dataset:
    """What highdicom asks of a view."""
    view = Dataset()
    view.SpecificCharacterSet = "ISO_IR 192"
    for name, value in header.items():
        if name not in SIZE:
            setattr(view, name, value)
    return view


def _report(
    report: Report, device: Device, headers: Sequence[Header], shape: Sequence[int], maps: dict[str, Dataset]
) -> Dataset:
    """The structured report. highdicom wants a finding in it; without one its container is taken out again."""
    algorithm = sr.AlgorithmIdentification(device.name, device.version, manufacturer=device.maker)
    rows = stated_rows(form_rows(report))
    groups: list[Any] = [
        group for row in rows for group in _groups(row, report.boxes, algorithm, headers[0], shape, maps)
    ]
    empty = [sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(identifier="none"), algorithm_id=algorithm)]
    observer = sr.DeviceObserverIdentifyingAttributes(
        generate_uid(prefix=None), device.name, device.maker, f"{device.name} {device.version}"
    )
    procedure = _coded(CHEST_ONE_VIEW) if len(headers) == 1 else codes.DCM.RadiographicImaging
    content = sr.MeasurementReport(
        sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, observer)), procedure, groups or empty
    )
    parts = content[0].ContentSequence
    if not groups:
        del parts[-1]
    told = sr.ContainerContentItem(_coded(EVALUATIONS), relationship_type="CONTAINS")
    told.ContentSequence = sr.ContentSequence(
        [
            sr.TextContentItem(name, text, "CONTAINS")
            for name, text in (
                (codes.DCM.Findings, report.findings),
                (codes.DCM.Impression, report.impression),
                (codes.DCM.Comment, device.notice),
            )
            if text
        ]
    )
    parts.append(told)
    evidence = [*map(_reference, headers), *maps.values()]
    document = sr.Comprehensive3DSR(
        evidence, content[0], generate_uid(prefix=None), 9002, generate_uid(prefix=None), 1, device.maker,
        is_complete=True, is_final=False, is_verified=False, series_description="AI report, preliminary",
        manufacturer_model_name=device.name[:LONG], software_versions=device.version,
        specific_character_set="ISO_IR 192",
    )  # fmt: skip
    scheme = Dataset()  # DICOM registers none for it
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = "99OIDM", "Open Imaging Data Model"
    document.CodingSchemeIdentificationSequence = [scheme]
    return document


def _coded(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(code.value, code.scheme, code.meaning)


def _groups(
    row: Row, boxes: Sequence[FindingBox], algorithm: sr.AlgorithmIdentification, header: Header, shape: Sequence[int],
    maps: dict[str, Dataset],
) -> list[Any]:  # fmt: skip
    """A finding's groups: one for each box, one without a region where it has none. A finding that has no code of its
    own is named by its tracking identifier, and by the text beside it, alone."""
    assert row.presence is not None  # see `stated_rows`
    told = [sr.QualitativeEvaluation(_coded(PRESENCE), _coded(ANSWERS[row.presence][0]))]
    if row.side:
        told.append(sr.QualitativeEvaluation(codes.SCT.Laterality, SIDES[row.side]))
    common: dict[str, Any] = {"algorithm_id": algorithm, "qualitative_evaluations": told}
    if row.finding in FINDINGS:
        common["finding_type"] = _coded(FINDINGS[row.finding])
    places = [box for box in boxes if box.finding == row.clue and row.presence != "absent"]
    groups: list[Any] = [
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(identifier=f"{row.clue} {number}"), _region(box, header, shape), **common
        )
        for number, box in enumerate(places, 1)
    ] or [sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(identifier=row.clue), **common)]
    score = "" if row.confidence is None else f" Score of the model {row.confidence:.2f}, 0 to 1."
    change = f" Since an earlier study: {row.change}." if row.change else ""
    words = f"{row.clue}: {row.presence}.{score}{change}{f' The report: {row.sentence}' if row.sentence else ''}"
    for group in groups:
        items = group[0].ContentSequence
        items.append(sr.TextContentItem(codes.DCM.Comment, words, "CONTAINS"))
        if places and row.clue in maps:
            heat = maps[row.clue]
            name = codes.DCM.VisualExplanation
            items.append(sr.ImageContentItem(name, heat.SOPClassUID, heat.SOPInstanceUID, relationship_type="CONTAINS"))
    return groups


def _region(box: FindingBox, header: Header, shape: Sequence[int]) -> sr.ImageRegion:
    """A box in pixels of the view that was read -> a closed line on the stored picture, whose pixels may not be
    square."""
    rows, columns = (int(header.get(name, side)) for name, side in zip(SIZE, shape, strict=True))
    down, right = rows / shape[0], columns / shape[1]
    left, top, end, bottom = box.x * right, box.y * down, (box.x + box.w) * right, (box.y + box.h) * down
    corners = [(left, top), (end, top), (end, bottom), (left, bottom), (left, top)]
    source = sr.SourceImageForRegion(header["SOPClassUID"], header["SOPInstanceUID"])
    return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, np.array(corners), source)
