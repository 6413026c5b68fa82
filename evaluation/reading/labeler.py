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

Where our rules leave those of the CheXpert labeler (Irvin et al. 2019), on purpose:
- "A or B" asserts both where they read one shadow, "A versus B" asserts A and doubts B; there both are uncertain.
  The gold labels of `benchmark_labeler` say the same. "Likely", "probable" and "consistent with" assert.
- A "stable" or "unchanged" heart or mediastinum is not mentioned; there it is uncertain.
- Vascular congestion and heart failure are other abnormalities; there they are uncertain edema.
- Calcified nodules are Lung Lesion; there they are ignored.
- An enlarged cardiomediastinal silhouette is Enlarged Cardiomediastinum and Cardiomegaly; there only the former.
- Present and uncertain and absent mentions together give present; there uncertain.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.labeler_scope import ReadSentence, read_sentence
from evaluation.reading.observations import ABSENT, CHEXPERT_14, NO_FINDING, PRESENT, SUPPORT_DEVICES, UNCERTAIN, Labels
from evaluation.reading.sentences import split_sentences
from evaluation.reading.streaming import in_chunks, ordered_map

CACHED_SENTENCES, CACHED_LENGTH = 16_384, 400
"""Sentences, and characters of the longest one, that a process remembers: they repeat, and memory stays bounded."""
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


def _read(sentence: str) -> ReadSentence:
    return _read_cached(sentence) if len(sentence) <= CACHED_LENGTH else read_sentence(sentence.lower())


def forget_sentences() -> None:
    """Empty the cache of this process, to measure speed from a cold start; labels do not depend on it."""
    _read_cached.cache_clear()


def _check(text: str | None) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"a report must be a str, or None for a missing one; got {type(text).__name__}: {text!r:.80}")
    return text


def label_report(text: str | None) -> Labels:
    """Label one report; all 14 names are present, None where nothing is said (everywhere for None and "").

    Raises:
        TypeError: `text` is neither str nor None (a NaN of pandas, for example).
    """
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


def _all_mentions(text: str | None) -> Iterator[Mention]:
    for section, sentence in split_sentences(_check(text)):
        for found in _read(sentence).mentions:
            yield Mention(*found, sentence, section)


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
