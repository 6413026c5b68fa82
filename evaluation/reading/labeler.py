"""The report labeler: free text of a chest X-ray report -> the 14 CheXpert observations, by rules.

    >>> labels = label_report("Findings: Small left effusion, no pneumothorax. Impression: Possible pneumonia.")
    >>> labels["Pleural Effusion"], labels["Pneumothorax"], labels["Pneumonia"], labels["Fracture"]
    (1, 0, -1, None)

1 present, 0 absent, -1 uncertain, None not mentioned. No model, no parser, nothing to download, deterministic.
Start reading in `label_report`; sentences come from `sentences`, words from `labeler_phrases` and `labeler_cues`,
the rules of negation and doubt from `labeler_scope`. Never for clinical use.

Aggregation over the mentions of a report: present wins over uncertain, uncertain over absent.
"No Finding" is 1 when words of a chest report were recognised and nothing but support devices is present or
uncertain, of the observations and of other abnormalities; else None.

`label_report(text, explain=True)` gives the reason of each label: the phrase that named it, the cue, the stretch of
text that the two span, and the rule. `label_report(text, conventions="chexpert")` follows the published labeler where
ours departs from it on purpose; evaluation/README.md sets the two side by side.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple, overload

from evaluation.reading.labeler_conventions import as_published, published_label
from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.labeler_scope import read_sentence
from evaluation.reading.labeler_terms import RULES, ReadSentence, SentenceMention
from evaluation.reading.observations import (
    ABSENT,
    CHEXPERT_14,
    NO_FINDING,
    PRESENT,
    SUPPORT_DEVICES,
    UNCERTAIN,
    Label,
    Labels,
)
from evaluation.reading.sentences import split_sentences
from evaluation.reading.streaming import in_chunks, ordered_map

CACHED_SENTENCES, CACHED_LENGTH = 16_384, 400
"""Sentences, and characters of the longest one, that a process remembers: they repeat, and memory stays bounded."""
CONVENTIONS = ("trrg", "chexpert")
CHUNK = 256
"""Reports that travel to a worker process at once."""

_STRENGTH = {ABSENT: 0, UNCERTAIN: 1, PRESENT: 2}
_UNKNOWN: Labels = dict.fromkeys(CHEXPERT_14)


class Mention(NamedTuple):
    """One finding in one sentence.

    `polarity` is 1 present, 0 absent, -1 uncertain; `phrase` named the finding and `cue` decided (None: plainly
    asserted), both lower-case; `start` is where the phrase stands in the lower-cased sentence; `section`
    is "findings", "impression" or "" (no heading).
    """

    observation: str
    polarity: int
    phrase: str
    cue: str | None
    start: int
    sentence: str
    section: str


class Reason(NamedTuple):
    """Why a label is what it is.

    Attributes:
        label: 1, 0, -1 or None.
        rule: in words; those of mentions are the values of `RULES`.
        mention: the phrase that named the finding, as it is written; None where nothing did, as in the rest.
        cue: the words that decided, in the spelling of `labeler_words`; None where the finding is plainly asserted.
        scope: the stretch of the sentence from the mention to the cue, both included.
        sentence: the sentence.
        section: "findings", "impression" or "" (no heading).
    """

    label: Label
    rule: str
    mention: str | None = None
    cue: str | None = None
    scope: str | None = None
    sentence: str | None = None
    section: str | None = None


class Explanation(NamedTuple):
    """`labels` as `label_report` gives them, the mention that decided each of them, and all mentions in text order.

    `decided_by["No Finding"]` is what stands against it, None when nothing does. `mentions` also holds the
    "Other Abnormality" mentions, which are no label but decide about "No Finding".
    """

    labels: Labels
    decided_by: dict[str, Mention | None]
    mentions: list[Mention]


@lru_cache(maxsize=CACHED_SENTENCES)
def _read_cached(sentence: str) -> ReadSentence:
    return read_sentence(sentence.lower())


@lru_cache(maxsize=CACHED_SENTENCES)
def _read_published(sentence: str) -> ReadSentence:
    found, known = read_sentence(sentence.lower(), published=True)
    return ReadSentence(tuple(new for old in found for new in as_published(sentence.lower(), old)), known)


def _read(sentence: str) -> ReadSentence:
    return _read_cached(sentence) if len(sentence) <= CACHED_LENGTH else read_sentence(sentence.lower())


def forget_sentences() -> None:
    """Empty the cache of this process, to measure speed from a cold start; labels do not depend on it."""
    _read_cached.cache_clear()
    _read_published.cache_clear()


def _check(text: str | None) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"a report must be a str, or None for a missing one; got {type(text).__name__}: {text!r:.80}")
    return text


@overload
def label_report(text: str | None, conventions: str = "trrg", explain: Literal[False] = False) -> Labels:
    """The labels alone."""


@overload
def label_report(text: str | None, conventions: str = "trrg", *, explain: Literal[True]) -> dict[str, Reason]:
    """The labels with their reasons."""


def label_report(text: str | None, conventions: str = "trrg", explain: bool = False) -> Labels | dict[str, Reason]:
    """Label one report; all 14 names are present, None where nothing is said (everywhere for None and "").

    Args:
        text: the report.
        conventions: "trrg", ours, or "chexpert", those of the published labeler.
        explain: give the `Reason` of each label in place of the label.

    Raises:
        TypeError: `text` is neither str nor None (a NaN of pandas, for example).
        ValueError: other conventions.
    """
    if explain or conventions != "trrg":
        reasons = _reasons(text, conventions)
        return reasons if explain else {name: reason.label for name, reason in reasons.items()}
    labels = _UNKNOWN.copy()
    known, healthy = False, True
    for _, sentence in split_sentences(_check(text)):
        mentions, sentence_known = _read(sentence)
        known = known or sentence_known
        for observation, polarity, *_ in mentions:
            if polarity != ABSENT and observation != SUPPORT_DEVICES:
                healthy = False
            if observation != OTHER:
                held = labels[observation]
                if held is None or _STRENGTH[polarity] > _STRENGTH[held]:
                    labels[observation] = polarity
    if known and healthy:
        labels[NO_FINDING] = PRESENT
    return labels


def _reasons(text: str | None, conventions: str) -> dict[str, Reason]:
    """The label of each observation with its reason, by either conventions."""
    if conventions not in CONVENTIONS:
        raise ValueError(f"conventions are {conventions!r}; expected one of {', '.join(CONVENTIONS)}")
    published = conventions == "chexpert"
    known = published  # there a report without a known word has no finding, the empty one too
    found: dict[str, list[tuple[SentenceMention, str, str]]] = {}
    for section, sentence in split_sentences(_check(text)):
        mentions, sentence_known = (_read_published if published else _read)(sentence)
        known = known or sentence_known
        for mention in mentions:
            found.setdefault(mention.observation, []).append((mention, sentence, section))
            if mention.polarity != ABSENT and mention.observation != SUPPORT_DEVICES:
                found.setdefault(NO_FINDING, []).append((mention, sentence, section))
    reasons = {}
    for name in CHEXPERT_14:
        rows = found.get(name, [])
        if name == NO_FINDING:
            label = PRESENT if known and not rows else None
            rule = "nothing but devices is present or doubted" if label else "something is present or doubted"
        elif rows:
            polarities = {mention.polarity for mention, *_ in rows}
            label = published_label(polarities) if published else max(polarities, key=_STRENGTH.__getitem__)
            rows = [row for row in rows if row[0].polarity == label]
            rule = RULES[rows[0][0].rule]
        if not rows:
            reasons[name] = Reason(PRESENT, rule) if name == NO_FINDING and known else Reason(None, "not mentioned")
        else:
            (mention, sentence, section), *_ = rows
            scope = sentence[slice(*mention.scope)]
            label = None if name == NO_FINDING else mention.polarity
            reasons[name] = Reason(label, rule, mention.phrase, mention.cue, scope, sentence, section)
    return reasons


def _all_mentions(text: str | None) -> Iterator[Mention]:
    for section, sentence in split_sentences(_check(text)):
        for found in _read(sentence).mentions:
            yield Mention(*found[:5], sentence, section)


def mentions(text: str | None) -> list[Mention]:
    """Every mention of an observation, sentence by sentence, in text order (a finding may be named many times)."""
    return [mention for mention in _all_mentions(text) if mention.observation != OTHER]


def asserts(text: str | None) -> bool:
    """Whether anything is claimed or suspected: an observation, a device or another abnormality."""
    return any(mention.polarity != ABSENT for mention in _all_mentions(text))


def explain_report(text: str | None) -> Explanation:
    """Labels with their reasons: for each one the sentence, the phrase and the cue that decided."""
    decided_by: dict[str, Mention | None] = dict.fromkeys(CHEXPERT_14)
    found = list(_all_mentions(text))
    for mention in found:
        names = [] if mention.observation == OTHER else [mention.observation]
        if mention.polarity != ABSENT and mention.observation != SUPPORT_DEVICES:
            names.append(NO_FINDING)
        for name in names:
            held = decided_by[name]
            if held is None or _STRENGTH[mention.polarity] > _STRENGTH[held.polarity]:
                decided_by[name] = mention
    return Explanation(label_report(text), decided_by, found)


def _label_chunk(texts: list[str | None]) -> list[Labels]:
    return [label_report(text) for text in texts]


def label_reports(texts: Iterable[str | None], processes: int = 1) -> Iterator[Labels]:
    """Label a stream of reports, in order, in constant memory; the same labels in any number of processes.

    Raises:
        TypeError: a report is neither str nor None.
        ValueError: `processes` is less than 1.
    """
    for labels in ordered_map(_label_chunk, in_chunks(texts, CHUNK), processes):
        yield from labels
