"""Indiana University (Open-i) chest X-rays -> study records.

    python -m training.builders.iu --xml ecgen-radiology --images NLMCXR_png --out data/iu-xray \\
        [--annotation annotation.json] [--projections indiana_projections.csv]
    python -m training.builders.iu --annotation annotation.json --images iu_xray/images --out data/iu-xray

With --xml: the official reports (one XML a report, 3,955 in all) and the folder of PNGs. --annotation gives R2Gen's
split and drops the reports R2Gen does not have; without it one report in five is test and one in ten validation, by a
hash of its id (every report is another patient's). The XML does not name the views: --projections does.
Without --xml: R2Gen's own folder (`CXR1000_IM-0003/0.png`), whose reports are findings only and whose views have no
name. Labels are those of the project's own labeler, of the report as it was written.

A target holds no blank ("XXXX"), date, name or message, and, as the set has no earlier studies, compares with none:
`evaluation/reading/targets.py`, `comparison_rewriting.py`; the manifest counts. --as-written keeps all, as published
test references do. Never for clinical use.
"""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tqdm import tqdm

from evaluation.reading.labeler import label_report
from evaluation.reading.sections import Sections, clean
from processing_trrg import report_text
from training.builders.builder import (
    StudySet,
    TreeError,
    hashed_split,
    need,
    read_table,
    sorted_views,
    why_dropped,
)
from training.builders.command import build, builder_arguments
from training.data.study import Study, View

SPLITS = {"train": "train", "val": "validation", "test": "test"}
MAX_XML_BYTES = 1_000_000


def read_official(
    xml: Path, images: Path, annotation: Path | None, projections: Path | None, findings_only: bool, frontal_only: bool
) -> StudySet:
    """The official reports with their images; see the head of this file."""
    files = sorted(need(xml).glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
    if not files:
        raise TreeError(f"{xml / '1.xml'}: not there, and no other report")
    splits = _r2gen_splits(annotation) if annotation else None
    views = _views(projections) if projections else {}
    found = StudySet("iu-xray", need(images), [], inputs=[path for path in (annotation, projections) if path])
    for file in tqdm(files, desc="read reports", unit="report"):
        uid, sections, names = _read_xml(file)
        study = Study(uid, f"iu-{uid}", hashed_split(f"iu/{uid}", validation=0.1, test=0.2), **sections)
        if splits is not None:
            known = {splits[name] for name in {name.rpartition("-")[0] for name in names} if name in splits}
            if len(known) != 1:
                found.dropped.append((uid, "not in R2Gen's annotation"))
                continue
            study.split = known.pop()
        paths: list[View] = [{"path": f"{name}.png", "view": views.get(name)} for name in names]
        study.images = sorted_views(paths, frontal_only)
        _keep(found, study, findings_only)
    if splits is not None and not found.studies:
        raise TreeError(f"{annotation}: none of its ids is an image of {xml}")
    return found


def read_r2gen(annotation: Path, images: Path, findings_only: bool, frontal_only: bool) -> StudySet:
    """R2Gen's annotation and its own image folder; see the head of this file."""
    found = StudySet("iu-xray", need(images), [], inputs=[annotation])
    for row in _r2gen_rows(annotation):
        study = Study(row["id"], f"iu-{row['id'].split('_')[0]}", SPLITS[row["split"]], findings=clean(row["report"]))
        study.images = sorted_views([{"path": path, "view": None} for path in row["image_path"]], frontal_only)
        _keep(found, study, findings_only)
    return found


def _keep(found: StudySet, study: Study, findings_only: bool) -> None:
    reason = why_dropped(study, findings_only)
    if reason:
        found.dropped.append((study.study_id, reason))
        return
    study.labels = label_report(report_text(study.findings, study.impression))
    found.studies.append(study)


def _read_xml(file: Path) -> tuple[str, Sections, list[str]]:
    """(id, sections, image ids) of one report. Entities are refused: nothing may expand."""
    data = file.read_bytes()
    if len(data) > MAX_XML_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise TreeError(f"{file}: no report of this set: larger than {MAX_XML_BYTES:,} bytes, or it declares entities")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise TreeError(f"{file}: damaged or cut short ({error})") from None
    node = root.find(".//uId")
    if node is None or not node.get("id"):
        raise TreeError(f"{file}: no element uId with an id")
    texts = {str(part.get("Label")).lower(): clean("".join(part.itertext())) for part in root.iter("AbstractText")}
    if not texts:
        raise TreeError(f"{file}: no element AbstractText")
    names = [str(image.get("id")) for image in root.iter("parentImage")]
    wrong = [name for name in names if not re.fullmatch(r"CXR[\w-]+", name)]
    if wrong:
        raise TreeError(f"{file}: parentImage {wrong[0]!r} is no image id, expected CXR...")
    sections: Sections = {
        "findings": texts.get("findings"),
        "impression": texts.get("impression"),
        "indication": texts.get("indication"),
        "technique": None,
        "comparison": texts.get("comparison"),
    }
    return str(node.get("id")), sections, names


def _views(projections: Path) -> dict[str, str]:
    """Image id -> view, from the table of the Kaggle copy: "1_IM-0001-4001.dcm.png,Frontal"."""
    return {
        f"CXR{row['filename'].removesuffix('.dcm.png')}": row["projection"].lower()
        for row in read_table(projections, "filename", "projection")
    }


def _r2gen_rows(annotation: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(need(annotation).read_text(encoding="utf-8"))
        rows = [row for split in SPLITS for row in content[split]]
        wrong = [row for row in rows if not _is_r2gen_row(row)]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TreeError(f"{annotation}: no annotation of R2Gen ({type(error).__name__}: {error})") from None
    if wrong:
        kinds = {name: type(value).__name__ for name, value in sorted(wrong[0].items())}
        raise TreeError(
            f"{annotation}: expected id and report as texts, image_path as a list of them and split as one of "
            f"{', '.join(SPLITS)}, got {kinds} (id {wrong[0].get('id')!r:.40}, split {wrong[0].get('split')!r:.40})"
        )
    splits: dict[str, str] = {}
    for row in rows:
        if row["id"] in splits:
            raise TreeError(f"{annotation}: id {row['id']!r} stands in {splits[row['id']]} and in {row['split']}")
        splits[row["id"]] = row["split"]
    return rows


def _is_r2gen_row(row: dict[str, Any]) -> bool:
    paths = row.get("image_path")
    texts = (row.get("id"), row.get("report"), *(paths if isinstance(paths, list) else [None]))
    return all(isinstance(text, str) for text in texts) and row.get("split") in SPLITS


def _r2gen_splits(annotation: Path) -> dict[str, str]:
    return {row["id"]: SPLITS[row["split"]] for row in _r2gen_rows(annotation)}


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__)
    parser.add_argument("--xml", type=Path, help="folder of the official reports, NLMCXR_reports/ecgen-radiology")
    parser.add_argument("--images", type=Path, required=True, help="NLMCXR_png, or R2Gen's iu_xray/images")
    parser.add_argument("--annotation", type=Path, help="R2Gen's annotation.json")
    parser.add_argument("--projections", type=Path, help="indiana_projections.csv, the views of the official images")
    parser.set_defaults(no_comparisons=True)
    arguments = parser.parse_args()
    if not (arguments.xml or arguments.annotation):
        parser.error("give --xml, --annotation or both")
    if arguments.projections and not arguments.xml:
        parser.error("--projections names official images: it needs --xml")
    if not arguments.xml and arguments.frontal_only:
        parser.error("--frontal-only: R2Gen's folder does not name the views; give --xml and --projections")
    if arguments.frontal_only and not arguments.projections:
        parser.error("--frontal-only: the official XML does not name the views; give --projections")

    def read() -> StudySet:
        options = (arguments.findings_only, arguments.frontal_only)
        if arguments.xml:
            found = read_official(
                arguments.xml, arguments.images, arguments.annotation, arguments.projections, *options
            )
        else:
            found = read_r2gen(arguments.annotation, arguments.images, *options)
        found.choices |= {"findings_only": options[0], "frontal_only": options[1], "official_xml": bool(arguments.xml)}
        return found

    build(arguments, read)


if __name__ == "__main__":
    main()
