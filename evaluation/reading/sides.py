"""Left and right in a report: which sides a text names, which of its findings they belong to, and the labels of sided
clues ("Left Pleural Effusion"), which the 14 labels do not have.

A clue is sided when its name is "Left" or "Right" and the name of another label. Without sides, a sentence of a left
effusion would count as true of every study with a right one. The rules for labels say less rather than something
wrong: a side counts only in a sentence with one positive finding, and what stays open is unknown.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

from evaluation.reading.observations import UNCERTAIN, Labels
from evaluation.reading.sentences import cut_sentences

UNSURE = UNCERTAIN
"""The finding is there, its side is not said."""

Sides = frozenset[str]
BOTH: Sides = frozenset(("left", "right"))

_SIDE = re.compile(r"\b(?:(left|right|l[ul]l|r[uml]l)|bilateral\w*|both|either|bibasilar|bibasal|biapical)\b")
_LEFT_RIGHT = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)
# Places named left or right that are not a side of the chest, and views: "both PA and lateral", "left lateral".
_NO_SIDE = re.compile(
    r"\b(?:both|either) (?:of )?(?:(?:the|these|upright|erect|portable|frontal|available|submitted|current|prior"
    r"|provided|and|or|pa|ap|lateral) )*(?:(?:and|or) (?:the )?(?:(?:left|right) )?(?:frontal|pa|ap|lateral)\b|views?"
    r"|projections?|images?|radiographs?|films?|exposures?|x-?rays?|studies|exam(?:ination)?s|scans?|inspir\w+|expir\w+)"
    r"|\b(?:left|right)[- ](?:(?:anterior|posterior) )?(?:lateral|oblique|decubitus)\b"
    r"(?= (?:decubitus|views?|projections?|images?|radiographs?|films?|position\w*|chest|and|exam\w*)|[.,;]?$)|"
    r"\b(?:left|right) (?:ventric\w+|atri\w+|heart|cardiac (?:border|silhouette|contour))\b|\bto the (?:left|right)\b"
)
_BREAK = re.compile(r"[,;:()]|\b(?:and|or|with|without|but|however|although|though|while|whereas|as well as|plus)\b")
_NORMAL = re.compile(r"\b(?:clear|normal|unremarkable|sharp|well expanded)\b")
# "small left" of "small left and large right effusion"; not the "on the left" that ends an earlier thought.
_BARE_SIDE = re.compile(r"(?<!on the )(?<!to the )(?<!in the )\b(?:left|right)(?:-sided)?\s*$")
# Words after which one named side does not deny the other.
_MORE = re.compile(r"\b(?:larger|largest|greater|greatest|worse|more|most|predominant\w*|multiple|several|numerous)\b")
_NO_PLACE = ("No Finding", "Lung Opacity")  # no finding, and the parent that comes with a finding


def find_sides(text: str) -> list[Sides]:
    """Every naming of a side of the chest, in text order: {left}, {right}, or both at once ("bilateral", "either")."""
    words = _SIDE.finditer(_NO_SIDE.sub(" ", text.lower()))
    return [frozenset(("left" if word.group(1)[0] == "l" else "right",)) if word.group(1) else BOTH for word in words]


def swap_sides(text: str) -> str:
    """The text with every left side of the chest right and every right one left; "right ventricle" stays."""
    kept = [match.span() for match in _NO_SIDE.finditer(text.lower())]

    def other(word: re.Match[str]) -> str:
        if any(start <= word.start() < end for start, end in kept):
            return word.group()
        swapped = {"left": "right", "right": "left"}[word.group().lower()]
        return swapped.capitalize() if word.group()[0].isupper() else swapped

    return _LEFT_RIGHT.sub(other, text)


def sides_of(sentence: str, starts: Sequence[int]) -> list[Sides]:
    """The sides of each finding of a sentence; empty where none is named for it.

    The sentence is cut at commas and conjunctions. The sides in a part without a finding belong to the part before it,
    or after it where they stand alone ("small left and large right effusion"); a finding without a side takes that of
    the part before it.

    Args:
        sentence: one sentence, as the labeler cuts them.
        starts: where the findings stand in it, in ascending order (`Mention.start`).
    """
    text = _NO_SIDE.sub(lambda match: " " * len(match.group()), sentence.lower())
    cuts = [0, *(cut.start() for cut in _BREAK.finditer(text)), len(text) + 1]
    parts: list[tuple[int, set[str]]] = []  # number of findings and sides of each part that has findings
    waiting: set[str] = set()
    for start, end in pairwise(cuts):
        part = text[start:end]
        named = {side for sides in find_sides(part) for side in sides}
        findings = bisect_left(starts, end) - bisect_left(starts, start)
        if findings:
            parts.append((findings, waiting | named))
            waiting = set()
        elif parts and not _BARE_SIDE.search(part):
            parts[-1][1].update(named)
        elif not _NORMAL.search(part):
            waiting |= named
    if parts:
        parts[-1][1].update(waiting)
    found: list[Sides] = []
    known: Sides = frozenset()
    for count, named in parts:
        known = frozenset(named) or known
        found += [known] * count
    return found


@lru_cache(10_000)
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
    named = find_sides(text)
    single = {side for sides in named if sides != BOTH for side in sides}
    both = BOTH in named
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
    for text in cut_sentences(report):
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
