"""MIMIC-CXR-JPG and the reports of MIMIC-CXR -> study records.

    python -m training.builders.mimic --jpg mimic-cxr-jpg/2.1.0 --reports mimic-cxr-reports --out data/mimic-cxr
    python -m training.builders.mimic ... --findings-only --frontal-only --out data/mimic-cxr-findings

The second is what MAIRA-1 and RaDialog learn from.
--jpg holds `files/` and the official tables `mimic-cxr-2.0.0-{metadata,split,chexpert}.csv.gz` (gzipped or not);
--reports holds `files/p10/p10000032/s50414267.txt` (mimic-cxr-reports.zip). The split is the official one, with its
names: train, validate, test. Labels are the official CheXpert labels. A study's prior is its patient's latest study
before it, by StudyDate and StudyTime, among the studies kept. Never for clinical use.
"""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.reading.observations import CHEXPERT_14
from evaluation.reading.sections import split_sections
from processing_trrg.dicom_header_trrg import VIEWS
from training.builders.builder import (
    StudySet,
    TreeError,
    label_value,
    need,
    number_of,
    only_one,
    read_report,
    read_table,
    set_priors,
    sorted_views,
    why_dropped,
)
from training.builders.command import build, builder_arguments
from training.data.study import Study, View

SPLITS = ("train", "validate", "test")


def read_mimic(jpg: Path, reports: Path, findings_only: bool, frontal_only: bool) -> StudySet:
    """The whole set; see the head of this file.

    Raises:
        TreeError: a table, a report, a column or an image's split is missing, or a study lies in two splits.
    """
    metadata, split_table, chexpert = (
        only_one(need(jpg), f"mimic-cxr-2.0.0-{name}.csv.gz", f"mimic-cxr-2.0.0-{name}.csv")
        for name in ("metadata", "split", "chexpert")
    )
    for tree in (jpg, reports):
        need(tree / "files")
    splits = {row["dicom_id"]: row["split"] for row in read_table(split_table, "dicom_id", "study_id", "split")}
    labels = {
        row["study_id"]: {
            name: label_value(row[name], f"{chexpert}: study {row['study_id']}, {name}") for name in CHEXPERT_14
        }
        for row in read_table(chexpert, "study_id", *CHEXPERT_14)
    }
    found = StudySet("mimic-cxr", jpg, [], inputs=[metadata, split_table, chexpert])
    studies = _studies(metadata, splits, split_table)
    times: dict[str, tuple[float, ...]] = {}
    for (subject, study), rows in tqdm(sorted(studies.items()), desc="read reports", unit="report"):
        study_id, folder = f"s{study}", f"files/p{subject[:2]}/p{subject}"
        sections = split_sections(read_report(reports / folder / f"{study_id}.txt"))
        read = Study(study_id, f"p{subject}", rows[0]["split"], **sections)
        times[study_id] = min(row["time"] for row in rows)
        paths: list[View] = [
            {"path": f"{folder}/{study_id}/{row['dicom_id']}.jpg", "view": row["view"]} for row in rows
        ]
        read.images = sorted_views(paths, frontal_only)
        read.labels = labels.get(study, dict.fromkeys(CHEXPERT_14))
        if reason := why_dropped(read, findings_only):
            found.dropped.append((study_id, reason))
        else:
            found.studies.append(read)
    set_priors(found.studies, times)
    found.choices = {"findings_only": findings_only, "frontal_only": frontal_only}
    return found


def _studies(metadata: Path, splits: dict[str, str], split_table: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(subject, study) -> its images."""
    studies: dict[tuple[str, str], list[dict[str, Any]]] = {}
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    for row in tqdm(read_table(metadata, *columns), desc="read metadata", unit="image"):
        dicom_id, study = row["dicom_id"], (row["subject_id"], row["study_id"])
        split = splits.get(dicom_id)
        if split not in SPLITS:
            raise TreeError(f"{split_table}: image {dicom_id} has split {split!r}, expected one of {', '.join(SPLITS)}")
        rows = studies.setdefault(study, [])
        if rows and rows[0]["split"] != split:
            raise TreeError(f"{split_table}: study {study[1]} lies in the splits {rows[0]['split']} and {split}")
        time = tuple(number_of(row[name], f"{metadata}: {name} of {dicom_id}") for name in ("StudyDate", "StudyTime"))
        rows.append({"dicom_id": dicom_id, "split": split, "view": VIEWS.get(row["ViewPosition"]), "time": time})
    return studies


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__)
    parser.add_argument("--jpg", type=Path, required=True, help="folder of MIMIC-CXR-JPG: files/ and the tables")
    parser.add_argument("--reports", type=Path, required=True, help="folder of the unpacked mimic-cxr-reports.zip")
    arguments = parser.parse_args()
    build(
        arguments,
        lambda: read_mimic(arguments.jpg, arguments.reports, arguments.findings_only, arguments.frontal_only),
    )


if __name__ == "__main__":
    main()
