"""A clinic's own images and reports -> study records: from a table and a folder, or from a tree of folders.

    python -m training.builders.clinic --table reports.csv --images DIR --out data/clinic
    python -m training.builders.clinic --root DIR --out data/clinic

The table (CSV, UTF-8) has a row an image and these columns; `--columns patient=subject report=text` names yours:

    patient, file                   needed; `file` is an image below DIR, or a folder of images
    report                          the whole text, findings and impression under headings (`reading/sections.py`);
    findings, impression            or these two apart; rows of one study have the same text, or one has it
    study                           rows of one study have the same; without this column a file is a study
    indication, technique, comparison, view, date, split      as far as you have them

A view is PA, AP, frontal, lateral, LL or RL ("AP supine" too); others and blanks have no name. Given the date
(2026-11-05, with a time or without), a study's prior is its patient's latest one before it. A split is train,
validation or test.

    DIR/<patient>/<study>/report.txt                 the tree of --root: the report
    DIR/<patient>/<study>/*.dcm, *.png, *.jpg        and one file a view

Use pseudonyms of patients: they become the ids. Of a DICOM only the pixels and the view position are read; nothing else
of its header reaches the records, but text burnt into the pixels does, so look at the images first. Where no split is
given, one patient in ten is test and one in ten validation, by a hash of the patient that never changes. Labels are
those of the project's own labeler. Never for clinical use.
"""

import argparse
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from evaluation.reading.labeler import label_report
from evaluation.reading.sections import Sections, clean, split_sections, unheaded_text
from processing_trrg import report_text
from processing_trrg.dicom_header_trrg import VIEWS
from training.builders.builder import (
    NO_SECTION,
    StudySet,
    TreeError,
    hashed_split,
    need,
    read_report,
    read_table,
    set_priors,
    sorted_views,
    why_dropped,
)
from training.builders.command import build, builder_arguments
from training.data.study import IMAGE_FILES, PICTURES, Study, View

REPORT = "report.txt"
SECTIONS = tuple(Sections.__annotations__)
NEEDED = ("patient", "file")
OF_A_STUDY = ("report", *SECTIONS, "date", "split")
COLUMNS = (*NEEDED, "study", "view", *OF_A_STUDY)
VIEW_WORDS = VIEWS | {"FRONTAL": "frontal", "LAT": "lateral", "L": "lateral"}
SPLITS = {name: name for name in ("train", "validation", "test")} | dict.fromkeys(
    ("val", "valid", "validate"), "validation"
)


def read_tree(root: Path, arguments: argparse.Namespace) -> StudySet:
    """All studies of a tree; see the head of this file.

    Raises:
        TreeError: a folder is not of this shape, a study has no report or no image, or a file is of another kind.
    """
    found = _empty(root, arguments)
    studies = [study for patient in _folders(root) for study in _folders(patient)]
    for folder in tqdm(studies, desc="read studies", unit="study"):
        study = _study(folder.parent.name, folder.name)
        views = [path for path in sorted(folder.iterdir()) if path.name != REPORT and not path.name.startswith(".")]
        if not views:
            raise TreeError(f"{folder}: no image beside the report")
        images: list[View] = [{"path": path.relative_to(root).as_posix(), "view": _view(path)} for path in views]
        _keep(found, study, images, read_report(folder / REPORT), arguments)
    return found


def read_clinic_table(table: Path, root: Path, arguments: argparse.Namespace) -> StudySet:
    """All studies of a table; see the head of this file.

    Raises:
        TreeError: a column is missing, a row has no patient or file, or the rows of one study contradict each other.
    """
    found, given = _empty(root, arguments), _given_columns(arguments.columns)
    found.inputs = [table]
    studies: dict[tuple[str, str], list[dict[str, str]]] = {}
    needed = [given.get(name, name) for name in NEEDED]
    for row in read_table(table, *dict.fromkeys((*needed, *given.values()))):
        values = {name: (row.get(given.get(name, name)) or "").strip() for name in COLUMNS}
        if not values["patient"] or not values["file"]:
            raise TreeError(
                f"{table}: a row has patient {values['patient']!r} and file {values['file']!r}, both are needed"
            )
        if not {given.get(name, name) for name in ("report", "findings", "impression")} & row.keys():
            raise TreeError(f"{table}: no column 'report', 'findings' or 'impression' among {list(row)}; see --columns")
        file = Path(values["file"])
        name = values["study"] or (file.with_suffix("") if file.suffix.lower() in IMAGE_FILES else file).as_posix()
        studies.setdefault((values["patient"], name), []).append(values)
    times: dict[str, tuple[float, ...]] = {}
    given_splits: set[str] = set()
    for (patient, name), rows in tqdm(studies.items(), desc="read studies", unit="study"):
        study = _study(patient, name)
        said = {column: _one_value(rows, column, f"{table}: study {study.study_id!r}") for column in OF_A_STUDY}
        if said["split"]:
            given_splits.add(study.study_id)
            study.split = _split_of(said["split"], f"{table}: study {study.study_id!r}")
        if said["date"]:
            times[study.study_id] = (_time(said["date"], f"{table}: study {study.study_id!r}"),)
        for section in SECTIONS:
            setattr(study, section, clean(said[section]))
        _keep(found, study, [image for row in rows for image in _images(root, row)], said["report"], arguments)
    for column, have in (("date", times.keys()), ("split", given_splits)):
        lacking = [study.study_id for study in found.studies if have and study.study_id not in have]
        if lacking:
            raise TreeError(f"{table}: study {lacking[0]!r} has no {column}, others have; {len(lacking):,} lack one")
    if times:
        set_priors(found.studies, times)
    return found


def _empty(root: Path, arguments: argparse.Namespace) -> StudySet:
    names = ("findings_only", "frontal_only", "whole_text", "columns")
    return StudySet("clinic", need(root), [], choices={name: getattr(arguments, name) for name in names})


def _study(patient: str, name: str) -> Study:
    return Study(f"{patient}/{name}", patient, hashed_split(f"clinic/{patient}", 0.1, 0.1))


def _keep(found: StudySet, study: Study, images: list[View], report: str, arguments: argparse.Namespace) -> None:
    """Add a study with the sections of its report, or the reason why it is dropped."""
    for section, text in split_sections(report).items():
        setattr(study, section, getattr(study, section) or text)
    plain = None if study.findings or study.impression else unheaded_text(report)
    if arguments.whole_text:
        study.findings = study.findings or plain
    study.images = sorted_views(images, arguments.frontal_only)
    reason = why_dropped(study, arguments.findings_only)
    if reason == NO_SECTION and plain:
        reason = "its report has no heading (--whole-text: all of it is the findings)"
    if reason == NO_SECTION and not report.strip():
        reason = "no report"
    if reason:
        found.dropped.append((study.study_id, reason))
        return
    study.labels = label_report(report_text(study.findings, study.impression))
    found.studies.append(study)


def _given_columns(pairs: list[str]) -> dict[str, str]:
    given = dict(pair.partition("=")[::2] for pair in pairs)
    wrong = [f"{name}={column}" for name, column in given.items() if name not in COLUMNS or not column]
    if wrong:
        raise TreeError(f"--columns {wrong[0]}: expected NAME=COLUMN, NAME one of {', '.join(COLUMNS)}")
    return given


def _one_value(rows: list[dict[str, str]], column: str, where: str) -> str:
    values = {" ".join(row[column].split()): row[column] for row in rows if row[column]}
    if len(values) > 1:
        raise TreeError(f"{where}: its {len(rows)} rows have {len(values)} different values of {column!r}")
    return next(iter(values.values()), "")


def _split_of(value: str, where: str) -> str:
    if value.lower() not in SPLITS:
        raise TreeError(f"{where}: split is {value!r}, expected train, validation or test")
    return SPLITS[value.lower()]


def _time(value: str, where: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise TreeError(f"{where}: date is {value!r}, expected one like 2026-11-05 or 2026-11-05 14:30") from None


def _images(root: Path, row: Mapping[str, str]) -> list[View]:
    """The image of a row, or those of its folder; the view is the row's, else a DICOM's own."""
    path = Path(row["file"])
    path = path.relative_to(root) if path.is_relative_to(root) else path
    files = [path]
    if (root / path).is_dir():
        inside = sorted(file.name for file in (root / path).iterdir() if file.suffix.lower() in IMAGE_FILES)
        files = [path / name for name in inside]
    given = row["view"].upper().split()
    names = (
        [] if "DECUBITUS" in given or "OBLIQUE" in given else [VIEW_WORDS[word] for word in given if word in VIEW_WORDS]
    )
    view = names[0] if names else None
    return [{"path": file.as_posix(), "view": view if given else _view(root / file)} for file in files]


def _folders(folder: Path) -> list[Path]:
    inside = sorted(path for path in need(folder).iterdir() if not path.name.startswith("."))
    if not inside:
        raise TreeError(f"{folder}: empty, expected DIR/<patient>/<study>/{REPORT}")
    files = [path for path in inside if not path.is_dir()]
    if files:
        raise TreeError(
            f"{files[0]}: a file where a folder is expected: DIR/<patient>/<study>/{REPORT}; for a table of reports "
            "beside the images give --table and --images"
        )
    return inside


def _view(path: Path) -> str | None:
    if path.suffix.lower() in PICTURES or not path.is_file():  # what is not there is reported with all that is not
        return None
    if path.suffix.lower() not in IMAGE_FILES:
        raise TreeError(f"{path}: expected {', '.join(IMAGE_FILES)} or {REPORT}")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
    except InvalidDicomError:
        raise TreeError(f"{path}: no DICOM file") from None
    return VIEWS.get(str(header.get("ViewPosition", "")))


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__)
    shape = parser.add_mutually_exclusive_group(required=True)
    shape.add_argument("--root", type=Path, help="folder of patients' folders")
    shape.add_argument("--table", type=Path, help="CSV of reports, a row an image; needs --images")
    parser.add_argument("--images", type=Path, help="folder that the files of the table are below")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME=COLUMN", help="names of the table's columns")
    parser.add_argument("--whole-text", action="store_true", help="a report without headings is findings as a whole")
    arguments = parser.parse_args()
    if (arguments.table is None) != (arguments.images is None):
        parser.error("--table and --images go together")
    if arguments.table:
        build(arguments, lambda: read_clinic_table(arguments.table, arguments.images, arguments))
    else:
        build(arguments, lambda: read_tree(arguments.root, arguments))


if __name__ == "__main__":
    main()
