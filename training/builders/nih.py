"""NIH ChestX-ray14 -> study records: images with labels and boxes, no reports.

    python -m training.builders.nih --root CXR8 --out data/nih

--root holds `Data_Entry_2017_v2020.csv` (or `Data_Entry_2017.csv`), `BBox_List_2017.csv`, `train_val_list.txt`,
`test_list.txt` and the PNGs, in `images/` or as unpacked in `images_001/images/` to `images_012/images/`. The test set
is the official one; one patient in five of the official train_val list is validation, by a hash that never changes.
The mined labels are noisy. Never for clinical use.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluation.reading.observations import CHEXPERT_14, Labels, ancestors
from training.builders.builder import StudySet, TreeError, need, number_of, only_one, read_table, share_of
from training.builders.command import build, builder_arguments
from training.data.study import Box, Study

VALIDATION_SHARE = 0.2
"""Of the patients."""

NIH_TO_CHEXPERT = {
    "Effusion": "Pleural Effusion",
    "Infiltration": "Lung Opacity",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Fibrosis": "Pleural Other",
    "Pleural_Thickening": "Pleural Other",
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
    "No Finding": "No Finding",
}
WITHOUT_CHEXPERT = ("Emphysema", "Hernia")
BOX_NAMES = {"Infiltrate": "Infiltration"}
"""The box list spells one label in its own way."""
BOX_COLUMNS = ("Bbox [x", "y", "w", "h]")
"""The header "Bbox [x,y,w,h]" is not quoted, so a CSV reader sees four columns."""


def nih_labels(found: Sequence[str]) -> Labels:
    """NIH's mined labels as CheXpert's. A label not mined is 0, as NIH users do, with two exceptions: unknown are names
    that NIH does not have, and what CheXpert's tree puts over a mined finding (an edema is an opacity, a pneumonia a
    consolidation, while NIH mined each word for itself)."""
    labels: Labels = dict.fromkeys(CHEXPERT_14)
    labels |= dict.fromkeys(NIH_TO_CHEXPERT.values(), 0)
    labels |= {NIH_TO_CHEXPERT[name]: 1 for name in found if name in NIH_TO_CHEXPERT}
    for parent in {parent for name, value in labels.items() if value == 1 for parent in ancestors(name)}:
        labels[parent] = labels[parent] or None
    return labels


def labels_and_boxes(found: Sequence[str], boxes: Sequence[Box]) -> tuple[Labels, list[Box]]:
    """CheXpert labels of an image and its boxes under their CheXpert names. Where radiologists boxed what the mined
    "No Finding" denies, their boxes are believed and nothing else is."""
    labels = nih_labels(found)
    named: list[Box] = [{**box, "label": NIH_TO_CHEXPERT.get(box["label"], box["label"])} for box in boxes]
    if named and labels["No Finding"] == 1:
        labels = dict.fromkeys(CHEXPERT_14) | dict.fromkeys((box["label"] for box in named), 1) | {"No Finding": 0}
    return labels, named


def patient_split(patient_id: str) -> str:
    """ "train" or "validation", by a hash of the patient that never changes."""
    return "validation" if share_of(f"nih/{patient_id}") < VALIDATION_SHARE else "train"


def read_nih(root: Path) -> StudySet:
    """The whole set, one study an image; see the head of this file.

    Raises:
        TreeError: a table or list is missing, an image is in no list or in both, or a label is unknown.
    """
    table = only_one(need(root), "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    box_table, train_list, test_list = (
        need(root / name) for name in ("BBox_List_2017.csv", "train_val_list.txt", "test_list.txt")
    )
    train, test = ({line.strip() for line in _lines(path)} for path in (train_list, test_list))
    files = {path.name: path for path in root.glob("images*/**/*.png")}
    boxes = _read_boxes(box_table)
    found = StudySet("nih-chestxray14", root, [], inputs=[table, box_table, train_list, test_list])
    for row in read_table(table, "Image Index", "Finding Labels", "Patient ID"):
        name, patient = row["Image Index"], row["Patient ID"]
        if (name in train) == (name in test):
            raise TreeError(f"{root}: {name} must be in one of {train_list.name} and {test_list.name}")
        labels = row["Finding Labels"].split("|")
        unknown = [label for label in labels if label not in NIH_TO_CHEXPERT and label not in WITHOUT_CHEXPERT]
        if unknown:
            raise TreeError(f"{table}: {name}: unknown label {unknown[0]!r}")
        study = Study(Path(name).stem, f"nih-{patient}", "test" if name in test else patient_split(patient))
        study.images = [
            {"path": files.get(name, root / "images" / name).relative_to(root).as_posix(), "view": "frontal"}
        ]
        study.labels, study.boxes = labels_and_boxes(labels, boxes.pop(name, []))
        found.studies.append(study)
    if boxes:
        raise TreeError(f"{box_table}: {next(iter(boxes))} is not in {table.name}")
    return found


def _read_boxes(table: Path) -> dict[str, list[Box]]:
    """Image -> its boxes in pixels."""
    boxes: dict[str, list[Box]] = {}
    for row in read_table(table, "Image Index", "Finding Label", *BOX_COLUMNS):
        label = BOX_NAMES.get(row["Finding Label"], row["Finding Label"])
        where = f"{table}: box of {row['Image Index']}"
        x, y, w, h = (number_of(row[name], where) for name in BOX_COLUMNS)
        boxes.setdefault(row["Image Index"], []).append(
            {"source": "NIH", "label": label, "x": x, "y": y, "w": w, "h": h}
        )
    return boxes


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def main() -> None:
    """The command at the top of this file."""
    parser = builder_arguments(__doc__, reports=False)
    parser.add_argument("--root", type=Path, required=True, help="folder of the official tables, lists and images")
    arguments = parser.parse_args()
    build(arguments, lambda: read_nih(arguments.root))


if __name__ == "__main__":
    main()
