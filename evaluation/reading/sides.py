"""Labels of sided clues ("Left Pleural Effusion"), read from a report: the 14 labels know no sides.

A clue is sided when its name is "Left" or "Right" and the name of another label. Without sides, a sentence of a left
effusion would count as true of every study with a right one. The rules say less rather than something wrong: a side
counts only in a sentence with one positive finding, and what stays open is unknown.
"""

import re
from collections.abc import Callable, Sequence

from training.data.sentences import split_sentences

Labels = dict[str, int | None]

UNSURE = -1
"""The finding is there, its side is not said."""

_SIDE = re.compile(r"\b(?:(left|right)|bilateral\w*|both|either|bibasilar|bibasal)\b")
# Places named left or right that are not a side of the chest.
_ASIDE = re.compile(
    r"\b(?:left|right) (?:ventric\w+|atri\w+|heart|cardiac (?:border|silhouette|contour))\b|\bto the (?:left|right)\b"
)
# Words after which one named side does not deny the other.
_MORE = re.compile(r"\b(?:larger|largest|greater|greatest|worse|more|most|predominant\w*|multiple|several|numerous)\b")
_NO_PLACE = ("No Finding", "Lung Opacity")  # no finding, and the parent that comes with a finding


def side_and_finding(clue: str) -> tuple[str, str] | None:
    """("left", "Pleural Effusion") of the clue "Left Pleural Effusion", None of a clue without a side."""
    side, _, finding = clue.partition(" ")
    return (side.lower(), finding) if side in ("Left", "Right") and finding else None


def add_sentence_sides(text: str, labels: Labels, names: Sequence[str]) -> Labels:
    """`labels` of one sentence with those of the sided clues in `names`.

    A claimed side is 1 and says nothing of the other one. A denied finding is 0 on both sides, except that the denial
    of one side ("no right pleural effusion") denies that side alone and no longer the finding.
    """
    sided = _sided(names, labels)
    if not sided:
        return labels
    words = list(_SIDE.finditer(_ASIDE.sub(" ", text.lower())))
    single = {word.group(1) for word in words if word.group(1)}
    both = any(not word.group(1) for word in words)
    positives = [name for name, value in labels.items() if value == 1 and name not in _NO_PLACE]
    result = dict(labels)
    for name, (side, finding) in sided.items():
        value = labels[finding]
        if value == 1 and len(positives) == 1 and (both or single == {side}):
            result[name] = 1
        elif value == 0 and (both or not single or (not positives and side in single)):
            result[name] = 0
        if value == 0 and single and not both and (positives or len(single) == 1):
            result[finding] = None  # denied on one side, or the side is another finding's
    return result


def add_report_sides(report: str, labels: Labels, names: Sequence[str], labeler: Callable[[str], Labels]) -> Labels:
    """`labels` of a study with those of the sided clues in `names`, from its report.

    A report that places a finding on one side, each time it claims it, denies it on the other, unless it speaks of
    more ("the largest on the right"). Where the finding is there and a side stays open, that side is UNSURE.
    """
    sided = _sided(names, labels)
    if not sided:
        return labels
    read = []
    for text in split_sentences(report):
        found = labeler(text)
        read.append((text, found, add_sentence_sides(text, found, names)))
    result = dict(labels)
    for name, (side, finding) in sided.items():
        twin = f"{'Right' if side == 'left' else 'Left'} {finding}"
        claims = [(text, found) for text, plain, found in read if plain.get(finding) == 1]
        said = {found.get(name) for _, _, found in read}
        only_there = claims and all(
            found.get(twin) == 1 and found.get(name) != 1 and not _MORE.search(text.lower()) for text, found in claims
        )
        if labels[finding] == 1:
            result[name] = 1 if 1 in said else 0 if 0 in said or only_there else UNSURE
        elif labels[finding] == 0:
            result[name] = 0
    return result


def _sided(names: Sequence[str], labels: Labels) -> dict[str, tuple[str, str]]:
    places = {name: side_and_finding(name) for name in names}
    return {name: place for name, place in places.items() if place and place[1] in labels}
