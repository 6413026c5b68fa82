"""Whose study it is, from the headers of its files: copied when asked for, and otherwise nobody's.

A header's values are never quoted: an error names the element.
"""

import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.config import disable_value_validation
from pydicom.multival import MultiValue
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from processing_trrg import RadiographError
from processing_trrg.dicom_header_trrg import PYDICOM_ERRORS, VIEWS
from processing_trrg.dicom_trrg import is_dicom
from processing_trrg.picture_trrg import decoding

Header = dict[str, str]
"""DICOM keyword -> value; an element that the file lacks is empty."""
IDENTITY = {
    "PatientID": r"[^\\]{0,64}",
    "PatientName": r"[^\\]{0,200}",
    "PatientBirthDate": r"(\d{8})?",
    "PatientSex": r"[MFO]?",
    "StudyID": r"[^\\]{0,16}",
    "StudyDate": r"(\d{8})?",
    "StudyTime": r"(([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?)?",
    "AccessionNumber": r"[^\\]{0,16}",
    "ReferringPhysicianName": r"[^\\]{0,200}",
}
"""What is copied of patient and study, and how a value looks that may be (PS3.5 6.2)."""
DATES = ("PatientBirthDate", "StudyDate")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
SIZE = ("Rows", "Columns")


def new_headers(count: int) -> list[Header]:
    """Of views of one study of nobody: new UIDs, all else empty."""
    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    uids = [(study, series, generate_uid(prefix=None), SecondaryCaptureImageStorage) for _ in range(count)]
    return [dict.fromkeys(IDENTITY, "") | dict(zip(UIDS, map(str, view), strict=True)) for view in uids]


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Patient, study and image of each view, and its `Rows` and `Columns`.

    Raises:
        ValueError: a view is no DICOM, lacks a UID, has a value that its element cannot have, or is of another patient
            or study than the first.
    """
    headers = [_read_header(path) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        for name in ("StudyInstanceUID", "PatientID"):
            if header[name] != headers[0][name]:
                raise ValueError(f"{path}: {name} is not that of {paths[0]}; expected the views of one study")
    return headers


def check_one_study(paths: Sequence[Path]) -> None:
    """
    Raises:
        ValueError: the DICOM files among them are of several studies, or a header cannot be read. One that names no
            study is let through.
    """
    read = ((path, path.read_bytes()) for path in paths)
    named = {_elements(path, data, ["StudyInstanceUID"])["StudyInstanceUID"] for path, data in read if is_dicom(data)}
    if len(named - {""}) > 1:
        raise ValueError(f"the files are of {len(named - {''})} studies; expected the views of one")


def view_of(path: Path) -> str | None:
    """ "frontal" or "lateral", by the ViewPosition of a DICOM file; None where it names neither, and of other files.

    Raises:
        ValueError: a header that cannot be read.
    """
    data = path.read_bytes()
    return VIEWS.get(_elements(path, data, ["ViewPosition"])["ViewPosition"].upper()) if is_dicom(data) else None


def frontal_first(paths: Sequence[Path]) -> list[Path]:
    """Views in the order that a model takes them: frontal ones, those that are not named, lateral ones; each as given.

    Raises:
        ValueError: as `view_of`.
    """
    order = {"frontal": 0, None: 1, "lateral": 2}
    return sorted(paths, key=lambda path: order[view_of(path)])


def _elements(path: Path, data: bytes, names: list[str]) -> dict[str, str]:
    """Elements of a header as text; one that it lacks is empty, several values have DICOM's backslash between them."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            disable_value_validation(),
            decoding(" DICOM header", PYDICOM_ERRORS),
        ):
            read = pydicom.dcmread(BytesIO(data), force=True, stop_before_pixels=True, specific_tags=names)
            return {name: _text(read.get(name)) for name in names}
    except RadiographError as error:
        raise ValueError(f"{path}: {error}") from None


def _text(value: Any) -> str:
    several = value if isinstance(value, MultiValue) else () if value is None else (value,)
    return "\\".join(map(str, several)).strip(" \0")


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _read_header(path: Path) -> Header:
    data = path.read_bytes()
    if not is_dicom(data):
        raise ValueError(f"{path}: no DICOM, so it has no identity to copy; leave out --keep-identity")
    values = _elements(path, data, [*IDENTITY, *UIDS, *SIZE, "SpecificCharacterSet"])
    for name, looks in {**IDENTITY, **dict.fromkeys(UIDS, r"[0-9.]{1,64}"), **dict.fromkeys(SIZE, r"\d+")}.items():
        fits = re.fullmatch(looks, values[name], re.ASCII) and values[name].isprintable()
        if not fits or (name in DATES and values[name] and not _is_date(values[name])):
            told = "missing" if not values[name] else "not what this element can be"
            raise ValueError(f"{path}: {name} is {told}, so the identity cannot be copied")
    return {name: values[name] for name in (*IDENTITY, *UIDS, *SIZE)}
