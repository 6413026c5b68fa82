"""Chest X-rays of public case reports with the radiographic sentences of their notes -> study records, to test on.

    python -m training.builders.covid_notes --root ../shared/data/covid_notes --out runs/covid-notes

--root holds `studies.jsonl` (image, patient_id, view_position, sex, age, text, a line an image) and `images/`. A study
is a patient's note with its one frontal image, and its lateral one where there is one. A note of several frontal images
does not say which it describes, and one of a lateral alone is of a view that no checkpoint here knows: both are left
out and counted. The note stays as it was written and its labels are the labeler's; all studies are of the split
"test". They are few, of a pandemic, and some say what came before or after the image. Never for clinical use.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.reading.labeler import label_report
from training.builders.builder import TreeError, need
from training.builders.small_data import write_set
from training.data.study import Study, View

VIEWS = {"PA": "PA", "AP": "AP", "AP Supine": "AP", "L": None}
"""`view_position` of the table -> how a frontal view was taken; None: lateral."""
SEVERAL, NO_FRONTAL = "several frontal images of one note", "no frontal image"


def read_covid_notes(root: Path) -> tuple[list[Study], Counter[str]]:
    """The studies, and why others were left out.

    Raises:
        TreeError: the table or an image is not there, or a line is no JSON or has no image, patient, view or text.
    """
    table = need(root / "studies.jsonl")
    notes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TreeError(f"{table}:{number}: no JSON ({error})") from None
        told = (
            [row.get(name) for name in ("image", "patient_id", "view_position", "text")]
            if isinstance(row, dict)
            else []
        )
        if not told or not all(isinstance(text, str) and text.strip() for text in told):
            raise TreeError(f"{table}:{number}: image, patient_id, view_position and text are {told}, expected text")
        if row["view_position"] not in VIEWS:
            raise TreeError(f"{table}:{number}: view_position is {row['view_position']!r}, expected one of {[*VIEWS]}")
        need(root / row["image"])
        notes.setdefault((row["patient_id"], row["text"].strip()), []).append(row)
    studies, left_out = [], Counter[str]()
    for (patient, text), images in notes.items():
        frontal = [row for row in images if VIEWS[row["view_position"]]]
        if len(frontal) != 1:
            left_out[SEVERAL if frontal else NO_FRONTAL] += 1
            continue
        laterals = [row for row in images if not VIEWS[row["view_position"]]]
        views: list[View] = [{"path": frontal[0]["image"], "view": "frontal"}]
        views += [{"path": row["image"], "view": "lateral"} for row in laterals]
        age = str(frontal[0].get("age") or "")
        study = Study(
            Path(frontal[0]["image"]).stem, f"covid-notes-{patient}", "test",
            images=views, findings=text, labels=label_report(text), position=VIEWS[frontal[0]["view_position"]],
            sex=frontal[0].get("sex") or None, age=int(age) if age.isdigit() else None,
        )  # fmt: skip
        studies.append(study)
    return studies, left_out


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of studies.jsonl and images/")
    parser.add_argument("--out", type=Path, required=True, help="folder for studies.jsonl and a link to the images")
    options = parser.parse_args(arguments)
    if options.out.resolve() == options.root.resolve():
        parser.error(f"--out {options.out} is --root, whose studies.jsonl would be lost")
    try:
        studies, left_out = read_covid_notes(options.root)
    except TreeError as error:
        parser.error(str(error))
    write_set(options.out, studies)
    link = options.out / "images"
    link.unlink(missing_ok=True)
    link.symlink_to((options.root / "images").resolve())
    laterals = sum(len(study.images) > 1 for study in studies)
    print(f"{len(studies)} studies in {options.out}, {laterals} with a lateral view; left out: {dict(left_out)}.")
    print("Never for clinical use.")


if __name__ == "__main__":
    main()
