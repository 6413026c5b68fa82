"""Report on one study, in the forms that a hospital's systems store.

    python -m hub_cards.hospital STUDY --checkpoint demo/trrg-small --out DIR

STUDY is a DICOM, PNG or JPEG file, several views, or a folder of them, whose frontal views (by ViewPosition) are taken
first. Writes report.json, form.json, fhir.json, report-sr.dcm, a heat-*.dcm for each finding with a place, and
view-*.dcm, to which these refer; those of an earlier study go. The documents are nobody's, with new UIDs, unless
--keep-identity copies patient and study from the DICOM files; then they refer to these files. Needs `pip install
"trrg[hospital]"`. Research only, never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hub_cards.hospital.fhir import Device, fhir_bundle
from hub_cards.hospital.form import NOTICE, form_rows
from hub_cards.hospital.source import check_one_study, frontal_first, new_headers, read_headers
from processing_trrg import Report, __version__, list_views, read_radiograph, stretch

CUT = "The report was cut at the length limit."
DOCUMENTS = ("heat-*.dcm", "view-*.dcm", "report-sr.dcm")
"""DICOM files that are written; those of an earlier study go."""


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """The command at the top of this file; returns what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="+", type=Path, help="the views' files, the frontal one first, or their folder")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a published folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--indication", help="why the study was made")
    parser.add_argument("--keep-identity", action="store_true", help="copy patient and study from the DICOM files")
    args = parser.parse_args(arguments)
    for path in (*args.study, args.checkpoint):
        if not path.exists():
            raise SystemExit(f"{path} does not exist")
    try:
        import highdicom  # noqa: F401 - before seconds are spent on the report
    except ImportError:
        raise SystemExit('DICOM documents need: pip install "trrg[hospital]"') from None
    from transformers import pipeline

    folder = args.study[0] if args.study[0].is_dir() else None
    if any(path.is_dir() for path in args.study) and len(args.study) > 1:
        raise SystemExit("expected one folder, or files")
    try:
        paths = frontal_first(list_views(folder)) if folder else args.study
        for path in paths:
            if path.parent.resolve() == args.out.resolve() and any(map(path.match, DOCUMENTS)):
                raise SystemExit(f"{path} is of the study itself and would be written over; choose another --out")
        check_one_study(paths)
        headers = read_headers(paths) if args.keep_identity else None
    except ValueError as error:
        raise SystemExit(f"This study cannot be read: {error}") from error
    try:
        write: Any = pipeline("radiology-report", model=str(args.checkpoint), trust_remote_code=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f"This checkpoint cannot be read: {error}") from error
    try:
        report = write(paths, indication=args.indication)
    except ValueError as error:
        raise SystemExit(f"This study cannot be read: {error}") from error
    device = Device(f"TRRG {args.checkpoint.resolve().name}", __version__)
    written = write_forms(args.out, report, device, paths, write.image_processor, headers)
    print(f"Wrote {', '.join(path.name for path in written)} to {args.out}. {NOTICE}")
    return written


def heat_maps(report: Report, image_processor: Any, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Clue -> heat `[H, W]` over the first view, for each clue that has a box: 0 at the median, its score at the
    peak."""
    boxed = {box.finding for box in report.boxes if box.source == "evidence"}
    heats = {}
    for clue in report.clues:
        if clue.name in boxed and clue.evidence is not None:
            evidence = image_processor.evidence_on_image(clue.evidence[0], *shape)
            low = np.median(evidence)
            heats[clue.name] = clue.score * ((evidence - low) / max(evidence.max() - low, 1e-6)).clip(0, 1)
    return heats


def write_forms(
    out: Path, report: Report, device: Device, views: Sequence[Any], image_processor: Any,
    headers: Sequence[dict[str, str]] | None = None,
) -> list[Path]:  # fmt: skip
    """Write all forms of a report of `views`, which `read_radiograph` reads. `headers`: of the DICOM files, whose
    identity is written then; without them the documents are nobody's."""
    radiographs = [read_radiograph(view) for view in views]
    greys = [(stretch(*view, "percentiles") * 255).round().astype(np.uint8) for view in radiographs]
    heats = heat_maps(report, image_processor, greys[0].shape)
    return write_documents(out, report, device, headers or new_headers(len(views)), greys, heats, headers is not None)


def write_documents(
    out: Path, report: Report, device: Device, headers: Sequence[dict[str, str]], views: Sequence[np.ndarray],
    heats: dict[str, np.ndarray], named: bool,
) -> list[Path]:  # fmt: skip
    """Write all forms of a report. `named`: whether `headers` are those of the DICOM files, and may be written."""
    from hub_cards.hospital.dicom import dicom_objects

    if report.complete is False:
        device = device._replace(notice=f"{device.notice} {CUT}")
    told = {"notice": device.notice, "model": device.name, "version": device.version, "readable": report.readable}
    documents = {
        "report.json": report.to_dict(),
        "form.json": {**told, "rows": [asdict(row) for row in form_rows(report)]},
        "fhir.json": fhir_bundle(report, device, headers, named),
    }
    objects = dicom_objects(report, device, headers, views, heats, stored=named)
    out.mkdir(parents=True, exist_ok=True)
    for old in (path for kind in DOCUMENTS for path in out.glob(kind)):  # of another study, which may have had more
        old.unlink()
    for name, document in documents.items():
        (out / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, picture in objects.items():
        picture.save_as(out / name)
    return [out / name for name in (*documents, *objects)]


if __name__ == "__main__":
    main()
