"""The 14 observations of a chest X-ray report: their names, their tree, the values of a label and what they convert to.

| value | means | in JSON | in tensors |
|---|---|---|---|
| `PRESENT` | stated | 1 | 1 |
| `ABSENT` | denied | 0 | 0 |
| `UNCERTAIN` | doubted | -1 | -1 |
| `None` | not mentioned, or not known | null | `MISSING` (-100, what cross entropy ignores) |

`tensor_labels` is the way from one column to the other. Names, their order and the tree are those of Irvin et al.,
"CheXpert" (2019), figure 1. `processing_trrg/prompt_trrg.py` holds the only other copy of the names: it travels to the
Hub without this package, and this file travels to the Space of the metric without that one (`tests/test_laws.py`).
"""

from collections.abc import Iterable, Mapping

CHEXPERT_14 = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
NO_FINDING, SUPPORT_DEVICES = "No Finding", "Support Devices"

PARENT = {
    "Cardiomegaly": "Enlarged Cardiomediastinum",
    "Lung Lesion": "Lung Opacity",
    "Edema": "Lung Opacity",
    "Consolidation": "Lung Opacity",
    "Pneumonia": "Consolidation",
    "Atelectasis": "Lung Opacity",
}
"""The tree: what is present where a finding is present."""

Label = int | None
Labels = dict[str, Label]

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
MISSING = -100
"""`None` where a tensor holds the labels."""
LABEL_OF_CODE: tuple[Label, ...] = (None, PRESENT, ABSENT, UNCERTAIN)
"""By the class numbers of CheXbert's heads, which fit into two bits."""


def ancestors(name: str) -> tuple[str, ...]:
    """The observations that a finding is one of, the nearest first: Pneumonia -> Consolidation, Lung Opacity."""
    parent = PARENT.get(name)
    return () if parent is None else (parent, *ancestors(parent))


def descendants(name: str) -> tuple[str, ...]:
    """The observations that are one of `name`, in the order of the 14: Consolidation -> Pneumonia."""
    return tuple(other for other in CHEXPERT_14 if name in ancestors(other))


def check_label(value: float | None, where: str) -> Label:
    """A label as a file spells it -> 1, 0, -1 or None. NaN is not mentioned, as in CheXpert's CSV files.

    Raises:
        ValueError: another value; the message starts with `where`.
    """
    if value is None or value != value:
        return None
    if value not in (PRESENT, ABSENT, UNCERTAIN):
        raise ValueError(f"{where} is {value!r}; expected 1, 0, -1, None or NaN")
    return int(value)


def tensor_labels(labels: Iterable[Label]) -> list[int]:
    """Labels as a tensor holds them: `MISSING` in place of None."""
    return [MISSING if label is None else label for label in labels]


def certain(labels: Iterable[Label]) -> list[Label]:
    """The labels with None in place of what is uncertain."""
    return [None if label == UNCERTAIN else label for label in labels]


def positives(labels: Mapping[str, Label]) -> list[str]:
    """The names of what is present, in the order of the labels."""
    return [name for name, label in labels.items() if label == PRESENT]


def clue_score(label: Label) -> float:
    """The clue score that a label stands for: 1 present, 0.5 uncertain, 0 absent or not mentioned."""
    return {PRESENT: 1.0, UNCERTAIN: 0.5}.get(label, 0.0) if label is not None else 0.0
