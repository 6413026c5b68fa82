"""Labels of sided clues ("Left Pleural Effusion"), read from a report: the 14 labels know no sides.

A clue is sided when its name is "Left" or "Right" and the name of a finding that `report_sides` can read the side of.
Without sides, a sentence of a left effusion would count as true of every study with a right one.
"""

import re
from collections.abc import Sequence

from training.phantom_report import LABEL_OF
from training.phantom_scoring import report_sides

Labels = dict[str, int | None]

_READ_AS = {label: finding for finding, label in LABEL_OF.items() if finding != "cardiomegaly"}
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def side_and_finding(clue: str) -> tuple[str, str] | None:
    """("left", "Pleural Effusion") of the clue "Left Pleural Effusion", None of a clue without a readable side."""
    side, _, finding = clue.partition(" ")
    return (side.lower(), finding) if side in ("Left", "Right") and finding in _READ_AS else None


def add_sentence_sides(text: str, labels: Labels, names: Sequence[str]) -> Labels:
    """`labels` of one sentence with those of the sided clues in `names`.

    A claimed side is 1 and says nothing of the other one. A denied finding is 0 on both sides, except that the denial
    of one side ("no right pleural effusion") denies that side alone and no longer the finding.
    """
    sided = {name: place for name in names if (place := side_and_finding(name))}
    if not sided:
        return labels
    claims, said = report_sides(text), {word.lower() for word in _SIDE.findall(text)}
    result = dict(labels)
    for name, (side, finding) in sided.items():
        if (_READ_AS[finding], side) in claims:
            result[name] = 1
        elif labels.get(finding) == 0 and (len(said) != 1 or side in said):
            result[name] = 0
        if labels.get(finding) == 0 and len(said) == 1:
            result[finding] = None
    return result


def add_report_sides(text: str, labels: Labels, names: Sequence[str]) -> Labels:
    """`labels` of a study with those of the sided clues in `names`, from its report: a report that claims a finding on
    one side alone denies it on the other; one that names no side leaves both unknown."""
    sided = {name: place for name in names if (place := side_and_finding(name))}
    if not sided:
        return labels
    claims = report_sides(text)
    result = dict(labels)
    for name, (side, finding) in sided.items():
        sides = {place for read, place in claims if read == _READ_AS[finding]}
        if side in sides:
            result[name] = 1
        elif labels.get(finding) == 0 or sides - {None}:
            result[name] = 0
    return result
