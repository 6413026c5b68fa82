"""CheXpert Plus -> study records.

    python -m training.builders.chexpert_plus --table df_chexpert_plus_240401.csv --images PNG \\
        --out data/chexpert-plus [--labels impression_fixed.json] [--format png|jpg|dcm]

--images holds `train/patient1/study1/view1_frontal.png` and `valid/...`: the paths of the table's `path_to_image` with
the ending of --format. Splits are the official ones: train and valid. The sections are the table's own. --labels takes
one of the published label files (JSON Lines by `path_to_image`); without it the project's own labeler reads the report.
No priors: the table orders a patient's reports (`patient_report_date_order`) but gives no date to check it by.
Never for clinical use.
"""

import json
from pathlib import Path

from tqdm import tqdm

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, Labels
from evaluation.reading.sections import clean
from processing_trrg import report_text
from training.builders.builder import (
    StudySet,
    TreeError,
    label_value,
    need,
    read_table,
    sorted_views,
    why_dropped,
)
from training.builders.command import build, builder_arguments
from training.data.study import Study

SPLITS = ("train", "valid")
COLUMNS = (
    "path_to_image", "frontal_lateral", "deid_patient_id", "split", "section_clinical_history", "section_history",
    "section_comparison", "section_technique", "section_findings", "section_impression",
)  # fmt: skip


def read_chexpert_plus(
    table: Path, images: Path, labels: Path | None, suffix: str, findings_only: bool, frontal_only: bool
) -> StudySet:
    """The whole set; a study is the patient's and the study's folder of `path_to_image`. See the head of this file.

    Raises:
        TreeError: a column is missing, a path or split is not of this set, or an image has no row in `labels`.
    """
    found = StudySet("chexpert-plus", need(images), [], inputs=[path for path in (table, labels) if path])
    studies: dict[str, Study] = {}
    for row in tqdm(read_table(table, *COLUMNS), desc="read table", unit="image"):
        path = Path(row["path_to_image"])
        if len(path.parts) != 4 or path.parts[0] != row["split"] or row["split"] not in SPLITS:
            raise TreeError(
                f"{table}: path_to_image {str(path)!r} of split {row['split']!r}, "
                "expected train or valid and split/patient/study/view"
            )
        study_id = f"{path.parts[1]}_{path.parts[2]}"
        if study_id not in studies:
            studies[study_id] = Study(
                study_id,
                row["deid_patient_id"],
                row["split"],
                indication=clean(row["section_clinical_history"]) or clean(row["section_history"]),
                technique=clean(row["section_technique"]),
                comparison=clean(row["section_comparison"]),
                findings=clean(row["section_findings"]),
                impression=clean(row["section_impression"]),
            )
        view = row["frontal_lateral"].lower()
        if view not in ("frontal", "lateral"):
            raise TreeError(f"{table}: {path}: frontal_lateral is {row['frontal_lateral']!r}")
        studies[study_id].images.append({"path": path.with_suffix(f".{suffix}").as_posix(), "view": view})
    known = _read_labels(labels, suffix) if labels else None
    for study_id, study in tqdm(studies.items(), desc="label reports", unit="study"):
        study.images = sorted_views(study.images, frontal_only)
        if reason := why_dropped(study, findings_only):
            found.dropped.append((study_id, reason))
            continue
        if known is None:
            study.labels = label_report(report_text(study.findings, study.impression))
        elif (first := study.images[0]["path"]) in known:
            study.labels = known[first]
        else:
            raise TreeError(f"{labels}: no row for {first}")
        found.studies.append(study)
    found.choices = {
        "findings_only": findings_only, "frontal_only": frontal_only, "format": suffix,
        "labels": labels.name if labels else "evaluation.reading.labeler",
    }  # fmt: skip
    return found


def _read_labels(labels: Path, suffix: str) -> dict[str, Labels]:
    known = {}
    with need(labels).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                path = Path(row["path_to_image"]).with_suffix(f".{suffix}").as_posix()
                known[path] = {name: label_value(row[name], f"{labels}:{number}, {name}") for name in CHEXPERT_14}
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise TreeError(f"{labels}:{number}: no labels of an image ({type(error).__name__}: {error})") from None
    return known


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__)
    parser.add_argument("--table", type=Path, required=True, help="df_chexpert_plus_240401.csv")
    parser.add_argument("--images", type=Path, required=True, help="folder that holds train/ and valid/")
    parser.add_argument("--labels", type=Path, help="findings_fixed.json, impression_fixed.json or report_fixed.json")
    parser.add_argument("--format", choices=("png", "jpg", "dcm"), default="png", help="ending of the image files")
    arguments = parser.parse_args()
    build(
        arguments,
        lambda: read_chexpert_plus(
            arguments.table, arguments.images, arguments.labels, arguments.format, arguments.findings_only,
            arguments.frontal_only,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
