"""The card of a data set that this package makes: README.md beside the data, as the Hub reads it.

A set of real patients gets none: it is not ours to publish. One that is made of it says whose terms hold. Never for
clinical use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

PHANTOMS = "trrg-phantoms"
"""Its name in the cards of model, metric and Space."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Fewer rows than this -> what the Hub calls it."""
STUDY_COLUMNS = {
    "study_id, patient_id": "a name with the seed and the index that draw the same study again",
    "split": "train, validation or test",
    "images": 'the pictures: path relative to this folder, and view ("frontal")',
    "indication, technique, comparison, prior_report": "the words given with the study, or null",
    "findings, impression": "the report",
    "labels": 'the 14 CheXpert observations: 1 planted ("No Finding": nothing is), 0 not, null not told',
    "boxes": "label, side, and x, y, w, h in pixels of the picture",
    "synthetic": "always true",
}
"""Columns of `Study` that say something of a phantom; the others are empty."""
SYNTHETIC = """**SYNTHETIC.** Pictures and words are made by a program from a seed: no patient's are in them, and no
number measured on them says anything about patients."""
OF_OTHERS = "**Made of another data set, whose terms hold for this one too.** Do not publish it unless they let you."
CARD = """---
{metadata}
---

# {title}

**Research only, never for clinical use.**

{origin}

{told}

| split | {unit} |
|---|---|
{splits}

| column | what |
|---|---|
{columns}

Made by

    {command}

{load}

It belongs to the model [trrg-small](https://huggingface.co/trrg/trrg-small) (arXiv 2408.12141), which
[a Space](https://huggingface.co/spaces/trrg/trrg-small) shows; reports are scored with
[radiology-ce](https://huggingface.co/spaces/trrg/radiology-ce).
"""


def write_card(
    folder: Path, title: str, told: str, splits: Mapping[str, int], columns: Mapping[str, str], command: str,
    load: str, synthetic: bool = True, unit: str = "studies",
) -> None:  # fmt: skip
    """
    Args:
        folder: of the data; the card is its README.md.
        title, told: what it is, in a line and in a paragraph.
        splits: split -> rows.
        columns: column, or several -> what is in it.
        command: that makes it again.
        load: how it is read.
        synthetic: whether all of it is of phantoms, and so under this package's licence.
        unit: what a row is.
    """
    rows = sum(splits.values())
    licence: dict[str, Any] = (
        {"license": "apache-2.0"} if synthetic else {"license": "other", "license_name": "of-the-source-data"}
    )
    metadata = DatasetCardData(
        language="en",
        **licence,
        pretty_name=title.partition(":")[0],
        size_categories=next((name for most, name in SIZES if rows < most), "1M<n<10M"),
        task_categories=["image-to-text"],
        tags=["medical", "radiology", "chest-x-ray", *(["synthetic"] if synthetic else [])],
    )
    words = {
        "metadata": metadata.to_yaml(), "title": title, "told": told, "unit": unit, "command": command, "load": load,
        "origin": SYNTHETIC if synthetic else OF_OTHERS,
        "splits": "\n".join(f"| {split} | {count:,} |" for split, count in splits.items()),
        "columns": "\n".join(f"| {column} | {what} |" for column, what in columns.items()),
    }  # fmt: skip
    (folder / "README.md").write_text(CARD.format(**words), encoding="utf-8")


def write_phantom_card(
    folder: Path, splits: Mapping[str, int], size: int, command: str, followed: bool = False
) -> None:
    """The card of phantoms. followed: each has the report of a study before it."""
    title = "TRRG phantoms: SYNTHETIC chest X-rays with reports, labels and boxes"
    told = f"""Frontal views of {size} x {size} pixels, 8-bit grey PNG. An anatomy is drawn, findings are planted in it
(an enlarged heart; effusion, nodule, pneumothorax, consolidation and devices, with side, size and box), and the report
says what was planted."""
    if followed:
        title = "TRRG phantoms, followed: SYNTHETIC chest X-rays with a prior report"
        told += " Each study compares with its `prior_report`; no prior image is drawn."
    load = '`datasets.load_dataset("json", data_files="studies.jsonl")` reads the studies of all splits.'
    write_card(folder, title, told, splits, STUDY_COLUMNS, command, load)
