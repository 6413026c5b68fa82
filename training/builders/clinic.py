"""A clinic's own folder of images and report texts -> study records.

    python -m training.builders.clinic --root DIR --out data/clinic

    DIR/<patient>/<study>/report.txt                 findings and impression under headings (`reading/sections.py`)
    DIR/<patient>/<study>/*.dcm, *.png, *.jpg        one file a view

Name the folders by pseudonyms: they become the ids. Of a DICOM only the pixels and the view position are read; nothing
else of its header reaches the records, but text burnt into the pixels does, so look at the images first. Pictures
have no view. One patient in ten is test and one in ten validation, by a hash of the patient's folder that never
changes. Labels are those of the project's own labeler. Never for clinical use.
"""

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from evaluation.reading.labeler import label_report
from evaluation.reading.sections import split_sections
from processing_trrg import report_text
from training.builders.builder import (
    VIEWS,
    StudySet,
    TreeError,
    hashed_split,
    need,
    read_report,
    sorted_views,
    why_dropped,
)
from training.builders.command import build, builder_arguments
from training.data.study import Study, View

REPORT = "report.txt"
PICTURES = (".png", ".jpg", ".jpeg")


def read_clinic(root: Path, findings_only: bool, frontal_only: bool) -> StudySet:
    """All studies; see the head of this file.

    Raises:
        TreeError: a folder is not of this shape, a study has no report or no image, or a file is of another kind.
    """
    found = StudySet("clinic", root, [], choices={"findings_only": findings_only, "frontal_only": frontal_only})
    studies = [study for patient in _folders(root) for study in _folders(patient)]
    for folder in tqdm(studies, desc="read studies", unit="study"):
        patient = folder.parent.name
        sections = split_sections(read_report(folder / REPORT))
        study = Study(f"{patient}/{folder.name}", patient, hashed_split(f"clinic/{patient}", 0.1, 0.1), **sections)
        views = [path for path in sorted(folder.iterdir()) if path.name != REPORT and not path.name.startswith(".")]
        if not views:
            raise TreeError(f"{folder}: no image beside the report")
        images: list[View] = [{"path": path.relative_to(root).as_posix(), "view": _view(path)} for path in views]
        study.images = sorted_views(images, frontal_only)
        if reason := why_dropped(study, findings_only):
            found.dropped.append((study.study_id, reason))
            continue
        study.labels = label_report(report_text(study.findings, study.impression))
        found.studies.append(study)
    return found


def _folders(folder: Path) -> list[Path]:
    inside = sorted(path for path in need(folder).iterdir() if not path.name.startswith("."))
    if not inside:
        raise TreeError(f"{folder}: empty, expected DIR/<patient>/<study>/{REPORT}")
    files = [path for path in inside if not path.is_dir()]
    if files:
        raise TreeError(f"{files[0]}: a file where a folder is expected: DIR/<patient>/<study>/{REPORT}")
    return inside


def _view(path: Path) -> str | None:
    if path.suffix.lower() in PICTURES:
        return None
    if path.suffix.lower() != ".dcm":
        raise TreeError(f"{path}: expected .dcm, {', '.join(PICTURES)} or {REPORT}")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
    except InvalidDicomError:
        raise TreeError(f"{path}: no DICOM file") from None
    return VIEWS.get(str(header.get("ViewPosition", "")))


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of patients' folders")
    arguments = parser.parse_args()
    build(arguments, lambda: read_clinic(arguments.root, arguments.findings_only, arguments.frontal_only))


if __name__ == "__main__":
    main()
