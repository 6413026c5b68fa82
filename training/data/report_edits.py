"""A report with one change: a finding put in, denied, taken out or moved to the other side; all other sentences stay
word for word.

What is put in stands behind the last sentence that claims something, in the findings and in the impression. What
contradicts it goes, and of a sentence that says more than the finding ("no pneumothorax or effusion") the rest stays.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from evaluation.reading.attributes import finding_attributes
from evaluation.reading.contradictions import inconsistencies
from evaluation.reading.labeler import CACHED_SENTENCES, explain_report
from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.observations import NO_FINDING, SUPPORT_DEVICES, Label, Labels, ancestors, descendants
from evaluation.reading.sides import find_sides, swap_sides
from processing_trrg import report_text

NORMAL = "No acute cardiopulmonary abnormality."
Report = dict[str, list[str]]
"""Sentences by section."""
Clues = Mapping[str, Mapping[str, str]]
"""By name: the sentences that claim and deny it."""
_ITEMS = re.compile(
    r"(?P<lead>(?:there (?:is|are) |with )?(?:no|without)\b(?: (?:definite |radiographic )?(?:evidence|signs?) of)? )?"
    r"(?P<items>.+?)\.",
    re.IGNORECASE,
)
_COMMA = re.compile(r",? (?:or|and|nor) |, ")


class SentenceSays(NamedTuple):
    """What a sentence says: its labels without None and "No Finding", the words that name them, whether it speaks of
    other abnormalities, and whether it claims or suspects anything."""

    labels: dict[str, int]
    words: dict[str, str]
    others: bool
    claims: bool


@lru_cache(maxsize=CACHED_SENTENCES)
def says(sentence: str) -> SentenceSays:
    """Read one sentence."""
    read = explain_report(sentence)
    labels = {name: value for name, value in read.labels.items() if value is not None and name != NO_FINDING}
    others = any(mention.observation == OTHER and mention.polarity for mention in read.mentions)
    words = {mention.observation: mention.phrase for mention in read.mentions}
    return SentenceSays(labels, words, others, others or any(labels.values()))


@dataclass(frozen=True)
class Change:
    """One change: "add" or "deny" the finding, "drop" what is said of it, or move it to the other "side".

    Attributes:
        name: of the finding.
        side: the one that is added, taken out, or moved to; None where the change is of no side.
        word: how the user names the finding, with its article.
        sentence: what is put in.
        partly: the finding stays on the other side.
    """

    act: Literal["add", "deny", "drop", "side"]
    name: str
    word: str
    side: str | None = None
    sentence: str = ""
    partly: bool = False


def as_text(report: Report) -> str:
    """The report as a model writes it."""
    return report_text(**{part: " ".join(lines) or None for part, lines in report.items()})


def apply(report: Report, change: Change, clues: Clues) -> Report | None:
    """The report with one change; None where other statements would change with it."""
    if change.act == "side":
        return _moved(report, change)
    if change.act == "add":
        denied = sides_named(change.sentence)
        left = _take_out(
            report, change.name, (0,), clues, lambda line: sides_named(line).isdisjoint(denied) and bool(denied)
        )
        if left is None:
            return None
        for part in _parts_for(left):
            left = {**left, part: _placed(left[part], change.sentence)}
        return _settled(left, change, clues)
    taken = _take_out(
        report,
        change.name,
        (1, -1),
        clues,
        lambda line: change.partly and change.side not in claimed_sides(line, change.name),
    )
    if taken is None:
        return None
    if change.act == "deny" and change.sentence and not _mentioned(taken, change.name):
        part = "findings" if report["findings"] else "impression"
        taken = {**taken, part: _placed(taken[part], change.sentence)}
    claims = [line for line in taken["findings"] if says(line).claims and set(says(line).labels) != {SUPPORT_DEVICES}]
    if report["findings"] and report["impression"] and not taken["impression"] and not claims:
        taken["impression"] = [NORMAL]
    return taken


def _mentioned(report: Report, name: str) -> bool:
    return any(name in says(line).labels for lines in report.values() for line in lines)


def _parts_for(report: Report) -> list[str]:
    """Where a new finding is named: in both sections of a report that has both."""
    return [part for part, lines in report.items() if lines] or ["findings"]


def _placed(lines: list[str], sentence: str) -> list[str]:
    """The sentence behind the last that claims something, so that what is positive comes first."""
    last = max((place for place, line in enumerate(lines, 1) if says(line).claims), default=0)
    return [*lines[:last], sentence, *lines[last:]]


def _settled(report: Report, change: Change, clues: Clues) -> Report | None:
    """The report without sentences that contradict what was put in."""
    found = inconsistencies(as_text(report))
    for one in (*found.within, *found.between):
        if one.claim == change.sentence.rstrip("."):
            denial = f"{one.denial}."
            rest = _rest(denial, change.name, clues)
            if rest is None or any(says(denial).labels.values()):
                return None
            for part, lines in report.items():
                report = {**report, part: [new for line in lines for new in (rest if line == denial else [line])]}
    return report


def _take_out(
    report: Report,
    name: str,
    values: tuple[int, ...],
    clues: Clues,
    stays: Callable[[str], bool],
) -> Report | None:
    """The report without what gives a finding one of these values."""
    left: Report = {}
    for part, lines in report.items():
        left[part] = []
        for line in lines:
            if says(line).labels.get(name) not in values or stays(line):
                left[part].append(line)
                continue
            rest = _rest(line, name, clues)
            if rest is None:
                return None
            left[part] += rest
    return left


def _rest(sentence: str, name: str, clues: Clues) -> list[str] | None:
    """What a sentence says beside a finding: nothing, its list without the finding, or the denials of the others."""
    said = says(sentence)
    others = {other: value for other, value in said.labels.items() if other != name}
    if not others and not (said.others and _COMMA.search(sentence)):
        return []
    if shorter := _shorter(sentence, name):
        return [shorter]
    others = {other: value for other, value in others.items() if other not in ancestors(name)}
    if said.others or any(others.values()):
        return None if others or _COMMA.search(sentence) else []
    denials = [clues[other].get("negative", "") if other in clues else "" for other in others]
    return denials if all(denials) else None


@lru_cache(maxsize=CACHED_SENTENCES)
def _shorter(sentence: str, name: str) -> str | None:
    """A list ("No A, B or C.") without the item that names the finding."""
    match = _ITEMS.fullmatch(sentence)
    if match is None:
        return None
    lead, said = match["lead"] or "", says(sentence)
    items = _COMMA.split(match["items"])
    word = said.words.get(name, "")
    kept = [item for item in items if word not in item.lower()]
    if not word or len(kept) == len(items) or not kept:
        return None
    joint = " or " if re.search(r"\b(?:or|nor)\b", match["items"]) else " and "
    text = lead + (", ".join(kept[:-1]) + joint if len(kept) > 1 else "") + kept[-1] + "."
    text = text[0].upper() + text[1:]
    now = says(text)
    same = all(now.labels.get(o) == v for o, v in said.labels.items() if o != name and o not in ancestors(name))
    before, after = finding_attributes(sentence), finding_attributes(text)
    before.pop(name, None)
    return text if same and set(now.labels) <= set(said.labels) - {name} and before == after else None


def _moved(report: Report, change: Change) -> Report | None:
    """The report with the finding on the other side wherever it is named."""
    moved: Report = {}
    for part, lines in report.items():
        moved[part] = []
        for line in lines:
            said = says(line)
            if change.name in said.labels and find_sides(line):
                if said.others and _COMMA.search(line):
                    return None
                if any(v for n, v in said.labels.items() if n != change.name and n not in ancestors(change.name)):
                    return None
                line = swap_sides(line)
            moved[part].append(line)
    return moved


def claimed_sides(line: str, name: str) -> frozenset[str]:
    """The sides on which a sentence claims a finding."""
    found = finding_attributes(line).get(name)
    return found.side if found else frozenset()


def one_side(claims: Sequence[str]) -> str | None:
    """The one side that each of these sentences names, or None."""
    named = [side for line in claims for side in (sides_named(line) or {""})]
    return named[0] if named and set(named) == {named[0]} and named[0] else None


def sides_named(text: str) -> frozenset[str]:
    """The sides that a text names."""
    return frozenset(side for sides in find_sides(text) for side in sides)


def family(name: str) -> set[str]:
    """A finding, what it is one of, and what is one of it."""
    return {name, *ancestors(name), *descendants(name)}


def as_asked(before: Report, after: Report, changes: Sequence[Change], labeler: Callable[[str], Labels]) -> bool:
    """Whether the labeler reads the asked changes, no other one, and no new contradiction."""
    texts = as_text(before), as_text(after)
    old, new = map(labeler, texts)
    free = {NO_FINDING, *(n for change in changes for n in ancestors(change.name))}
    changed = {name for name in old if old[name] != new[name]}
    wanted: dict[str, tuple[Label, ...]] = {"add": (1,), "deny": (0,), "drop": (0, None)}
    for change in changes:
        if change.partly or change.act == "side":
            sides = [finding_attributes(text).get(change.name) for text in texts]
            if None in sides or sides[0] == sides[1] or new[change.name] != 1:
                return False
        elif change.name not in changed or new[change.name] not in wanted[change.act]:
            return False
    if not changed <= free | {change.name for change in changes}:
        return False
    now = inconsistencies(texts[1])
    if not now.within and not now.between:
        return True
    was = inconsistencies(texts[0])
    return len(now.within) + len(now.between) <= len(was.within) + len(was.between)
