"""What a report claims of what can be planted in a phantom: findings with their sides, by the project's own readers."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from evaluation.reading.changes import Change, finding_changes
from evaluation.reading.labeler import explain_report, label_report
from evaluation.reading.observations import ABSENT, NO_FINDING, ancestors, positives
from evaluation.reading.sentences import cut_sentences
from evaluation.reading.sides import sides_of
from processing_trrg import split_report
from training.phantoms.report import LABEL_OF, SIDED, Pair, PlantedFinding

_NAME_OF = {label: name for name, label in LABEL_OF.items()}
_KINDS = {
    "pacemaker": re.compile(r"pacemaker"),
    "port": re.compile(r"\bport\b"),
    "central line": re.compile(r"central (?:venous )?(?:line|catheter)"),
}
"""How a sentence names the kinds of device."""
_SIZES = {
    "small": re.compile(r"\b(?:small|mild(?:ly)?)\b"),
    "moderate": re.compile(r"\b(?:moderate(?:ly)?|medium)\b"),
    "large": re.compile(r"\b(?:large|severe(?:ly)?|extensive)\b"),
}
_ZONES = {
    "upper": re.compile(r"\bupper\b"),
    "mid": re.compile(r"\bmid\b"),
    "lower": re.compile(r"\b(?:lower|base)\b"),
}


def report_sides(text: str) -> set[Pair]:
    """Findings and sides that a report claims, from English text in the generator's style or plain radiology English.

    Returns:
        Pairs (name, side) as in `PAIRS`. A finding on both sides gives two, a denied one nothing, a doubted one counts
        as claimed, and a sided finding without any side gives (name, None).
    """
    return {(name, side) for name, side, _ in _claims(text)}


def report_changes(text: str) -> set[tuple[Pair, Change]]:
    """What a report claims became of findings since an earlier study; a finding on both sides gives two."""
    said: set[tuple[Pair, Change]] = set()
    for found in finding_changes(text):
        if (name := _name(found.observation, found.phrase)) is not None:
            sides = found.sides if name in SIDED and found.sides else (None,)
            said |= {((name, side), found.change) for side in sides}
    return said


def other_findings(text: str) -> list[str]:
    """The observations that a report states and nobody plants: not those of `LABEL_OF`, and not what these are kinds
    of."""
    drawn = {*_NAME_OF, *(kind for label in _NAME_OF for kind in ancestors(label)), NO_FINDING}
    return sorted({*positives(label_report(text))} - drawn)


def report_faults(planted: Sequence[PlantedFinding], text: str) -> list[str]:
    """What a phantom's report says wrong: planted findings that it does not name, and named ones that were not planted,
    each with its side, a device by its kind, and `other_findings`. Sizes and zones are not judged."""
    there = {(finding.kind or finding.name, finding.side) for finding in planted}
    said: set[Pair] = set()
    for name, side, sentence in _claims(text):
        kinds = [kind for kind, words in _KINDS.items() if words.search(sentence)] if name == "device" else []
        said |= {(kind, side) for kind in kinds or [name]}
    wrong = [*map(_words, sorted(said - there, key=_words)), *map(str.lower, other_findings(text))]
    return [f"does not name the {_words(pair)}" for pair in sorted(there - said, key=_words)] + [
        f"names the {words}, which was not planted" for words in wrong
    ]


def report_slips(planted: Sequence[PlantedFinding], text: str) -> list[str]:
    """Where a phantom's report names a planted finding, but with another size or in another zone, or says a sentence
    twice."""
    findings, impression = split_report(text)
    sections = [[sentence.lower() for sentence in cut_sentences(part)] for part in (findings, impression or "")]
    slips = ["says a sentence twice"] if any(len(set(part)) < len(part) for part in sections) else []
    for finding in planted:
        for true, words in ((finding.size, _SIZES), (finding.zone, _ZONES)):
            for sentence in [sentence for *pair, sentence in _claims(text) if tuple(pair) == finding.pair]:
                told = [value for value, pattern in words.items() if pattern.search(sentence)]
                if true and told and true not in told:
                    slips.append(f"calls the {finding.words} {told[0]}")
    return list(dict.fromkeys(slips))


def told_details(planted: Sequence[PlantedFinding], text: str) -> dict[str, list[bool]]:
    """Of planted findings that a report names with one size, or with one zone: whether it is the planted one."""
    told: dict[str, list[bool]] = {"size": [], "zone": []}
    for finding in planted:
        sentences = [sentence for *pair, sentence in _claims(text) if tuple(pair) == finding.pair]
        for detail, true, words in (("size", finding.size, _SIZES), ("zone", finding.zone, _ZONES)):
            said = {value for value, pattern in words.items() for sentence in sentences if pattern.search(sentence)}
            if true and len(said) == 1:
                told[detail].append(said == {true})
    return told


def _words(pair: Pair) -> str:
    return " ".join(filter(None, (pair[1], pair[0])))


def _claims(text: str) -> Iterator[tuple[str, str | None, str]]:
    """Each claimed finding, its side and its sentence in lower case."""
    for sentence, group in groupby(explain_report(text).mentions, key=lambda mention: mention.sentence):
        named = [
            (name, mention) for mention in group if (name := _name(mention.observation, mention.phrase)) is not None
        ]
        named.sort(key=lambda row: row[1].start)
        for (name, mention), sides in zip(named, sides_of(sentence, [m.start for _, m in named]), strict=True):
            if mention.polarity != ABSENT:
                for side in sides if name in SIDED and sides else (None,):
                    yield name, side, sentence.lower()


def _name(observation: str, phrase: str) -> str | None:
    """Which finding of `LABEL_OF` a mention is, None for any other. Blunting of an angle is how a phantom's report may
    word an effusion, airspace disease a consolidation."""
    if phrase.startswith("blunt"):
        return "effusion"
    if phrase.startswith(("airspace", "air space", "air-space")):
        return "consolidation"
    return _NAME_OF.get(observation)
