"""The labels of a study in the order of its clues, those of sides, how often each study is drawn by them; and what the
clues see in their place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import Label
from evaluation.reading.sides import add_report_sides, side_and_finding
from training.data.study import Study, target_text

ClueLabels = tuple[Label, ...]


@dataclass(frozen=True)
class Seen:
    """What the frozen clues see in an image.

    Attributes:
        findings: `seen_findings`, which the prompt names: predicted, likely and possible ones.
        chances: clue -> of an answer that says yes: a half at the clue's threshold, else by the odds of its score.
    """

    findings: tuple[list[str], list[str], list[str]]
    chances: dict[str, float]


def balanced_rows(
    labels: Sequence[ClueLabels], balance: float, chosen: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """What an epoch draws, as (study, repetition): each of the `chosen` studies (None: all) as often as
    `Source.balance` says, one without a positive label as often as one of the most frequent label."""
    indices = list(range(len(labels)) if chosen is None else chosen)
    counts = Counter(c for i in indices for c, label in enumerate(labels[i]) if label == 1)
    most = max(counts.values(), default=1)

    def times(i: int) -> int:
        rarest = min((counts[c] for c, label in enumerate(labels[i]) if label == 1), default=most)
        return round((most / rarest) ** balance)

    return [(i, repetition) for i in indices for repetition in range(times(i))]


def report_labels(record: Study, labels: ClueLabels, names: Sequence[str]) -> ClueLabels:
    """The labels of a study with a report, those of sided clues read from it."""
    known = add_report_sides(target_text(record), dict(zip(names, labels, strict=True)), names, label_report)
    return tuple(known[name] for name in names)


def denied_sides(labels: ClueLabels, names: Sequence[str]) -> ClueLabels:
    """The labels of an image, with a finding that is absent absent on either side too."""
    known = dict(zip(names, labels, strict=True))
    places = {name: side_and_finding(name) for name in names}
    return tuple(
        0 if label is None and (place := places[name]) and known.get(place[1]) == 0 else label
        for name, label in known.items()
    )


def names_no_side(labels: ClueLabels, names: Sequence[str]) -> bool:
    """Whether the mirrored image has the same labels: none says that a finding is on a side, or not on it alone."""
    known = dict(zip(names, labels, strict=True))
    places = {name: side_and_finding(name) for name in names}
    return all(
        label is None or (place := places[name]) is None or (label == 0 and known.get(place[1]) == 0)
        for name, label in known.items()
    )
