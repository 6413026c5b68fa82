"""Reports composed from sentences: for any set of clues a report that says each of them, and nothing that no clue says.

A real image has labels and, mostly, no report. A report of another patient with the same labels exists for few of the
combinations that occur, so what is injected is often said nowhere. Here each clue gets a sentence that says it and
nothing else, of the hand-written ones of `composed_sentences.json`. Some denials of what is absent follow, of that file
and of real reports (those in the plain words that the file lists, without a comparison), and an impression. Every draw
is a new one, so that nothing can be learned by heart. A model without clues learns reports of the image's own labels
alone: what is unknown is neither claimed nor denied. SYNTHETIC text.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, SUPPORT_DEVICES, Labels, ancestors
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.sentences import cut_sentences
from evaluation.reading.sides import find_sides, side_and_finding
from processing_trrg import report_text
from processing_trrg.statements_trrg import NORMAL, OF_THE_LUNGS, ORDINARY
from training.data.study import Study

WRITTEN = Path(__file__).with_name("composed_sentences.json")
MOST_WORDS = 14
_VESSELS = re.compile(r"\bvascula\w+", re.I)
NUMBER_OF_FINDINGS = (0.12, 0.2, 0.2, 0.16, 0.12, 0.1, 0.06, 0.04)
"""Probability of 0, 1, ... findings where they are drawn at random."""
OFTEN = {"Lung Opacity": 3, "Pneumonia": 3, "Consolidation": 2, "Atelectasis": 2, "Lung Lesion": 2, "Pleural Other": 2}
"""Findings that a random combination has that many times as often as any other: they look alike, and are seen together
most."""
FROM_LABELS = 0.4
"""Share of the draws whose findings are the image's labels; the others are drawn at random, whatever the image."""
WITH_IMPRESSION = 0.85


class SentencePool:
    """Sentences by what they say.

    Attributes:
        claims: (section, clue) -> sentences that claim that finding, on that side where the clue has one.
        denials: sentences of the findings, each with the observations it must not stand beside; as often as they occur.
        denials_of_one: observation -> sentences that deny it and nothing else.
        indications: of the reports.
    """

    def __init__(self, reports: Iterable[Study] = ()):
        self.claims: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.denials: list[tuple[str, frozenset[str]]] = []
        self.indications: list[str] = []
        written = json.loads(WRITTEN.read_text(encoding="utf-8"))
        words = frozenset(written["denial_words"].split())
        for section, plain, sided in (
            ("findings", "present", "sided"),
            ("impression", "impression", "sided_impression"),
        ):
            for name, texts in written[plain].items():
                self.claims[section, name] += texts
            for name, texts in written[sided].items():
                for side in ("left", "right"):
                    filled = [text.format(side=side, Side=side.capitalize()) for text in texts]
                    self.claims[section, f"{side.capitalize()} {name}"] += filled
        for name, texts in written["absent"].items():
            self.denials += [(text, frozenset((name,))) for text in texts]
        self.denials += [(text, frozenset(names)) for text, names in written["normal"].items()]
        for study in reports:
            if study.indication and len(study.indication) < 120 and "XX" not in study.indication:
                self.indications.append(study.indication)
            for sentence in cut_sentences(study.findings or ""):
                self._add(sentence, words)
        self.denials_of_one: dict[str, list[str]] = defaultdict(list)
        for text, names in self.denials:
            if len(names) == 1 and dict(_read(text)) | {NO_FINDING: 0} == dict.fromkeys((*names, NO_FINDING), 0):
                self.denials_of_one[next(iter(names))].append(text)

    def _add(self, sentence: str, words: frozenset[str]) -> None:
        """A sentence that denies findings by these words alone: others may state something, or hedge."""
        said = re.findall(r"[^\W_]+", sentence.lower())
        if len(said) > MOST_WORDS or not words.issuperset(said) or comparison_sentences(sentence):
            return
        labels = {name: value for name, value in _read(sentence) if name != NO_FINDING}
        if labels and set(labels.values()) == {0} and not find_sides(sentence):
            normal = re.search(NORMAL, sentence, re.I) is not None
            lungs = normal and re.search(ORDINARY["Lung Opacity"], sentence, re.I) is not None
            also = ("Lung Opacity", *OF_THE_LUNGS) * lungs + ("Edema",) * (normal and bool(_VESSELS.search(sentence)))
            self.denials.append((sentence, frozenset((*labels, *also))))

    def check(self, names: Iterable[str]) -> None:
        """
        Raises:
            ValueError: a clue that no sentence of the pool claims.
        """
        for name in names:
            if name != NO_FINDING and not all((part, name) in self.claims for part in ("findings", "impression")):
                raise ValueError(
                    f"no sentence of {WRITTEN.name} says {name!r}; kind 'composed' needs some for each clue"
                )

    def claim(self, section: str, clue: str, rng: np.random.Generator) -> str:
        """A sentence that claims a clue's finding."""
        texts = self.claims[section, clue]
        return texts[int(rng.integers(len(texts)))]

    def say(self, name: str, value: int, rng: np.random.Generator) -> str:
        """A sentence of the findings that claims (1) or denies (0) a finding and says nothing else."""
        if value:
            return self.claim("findings", name, rng)
        texts = self.denials_of_one[name]
        return texts[int(rng.integers(len(texts)))]


@lru_cache(maxsize=50_000)
def _read(sentence: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, value) for name, value in label_report(sentence).items() if value is not None)


def draw_findings(labels: Labels, names: Sequence[str], pool: SentencePool, rng: np.random.Generator) -> Labels:
    """What a composed report says: every name of `names` with 1 or 0, the image's own labels or a random combination.

    A finding with sided clues gets none of its sides, one or both; the finding of a side that is present is present.
    """
    plain = [name for name in names if side_and_finding(name) is None and name != NO_FINDING]
    if rng.random() < FROM_LABELS:
        found = [name for name in plain if labels.get(name) == 1]
    else:
        count = int(rng.choice(len(NUMBER_OF_FINDINGS), p=NUMBER_OF_FINDINGS))
        weights = np.array([OFTEN.get(name, 1) for name in plain], dtype=float)
        found = list(rng.choice(plain, size=min(count, len(plain)), replace=False, p=weights / weights.sum()))
    present = set(map(str, found))
    for name in found:
        sides = [side for side in (f"Left {name}", f"Right {name}") if side in names and labels.get(side) != 0]
        known = [side for side in sides if labels.get(side) == 1]
        present.update(known or [side for side in sides if rng.random() < 0.4])
    if not present - {SUPPORT_DEVICES, f"Left {SUPPORT_DEVICES}", f"Right {SUPPORT_DEVICES}"}:
        present.add(NO_FINDING)
    return {name: int(name in present) for name in names}


def known_findings(labels: Labels) -> Labels:
    """What a report of an image may say where no clue tells it: 1 or 0 where the label does; None for all else of the
    names and of the 14, for what is uncertain and for what a more precise finding implies."""
    implied = {parent for name, value in labels.items() if value == 1 for parent in ancestors(name)}
    known = {name for name, value in labels.items() if value == 0 or (value == 1 and name not in implied)}
    return {name: labels[name] if name in known else None for name in (*labels, *CHEXPERT_14)}


def told_findings(told: Iterable[str], names: Iterable[str]) -> Labels:
    """What a report says that says the clues told, of all names: with a side its finding is present too."""
    present = {part for name in told for part in (name, (side_and_finding(name) or ("", name))[1])} - {NO_FINDING}
    if not {(side_and_finding(name) or ("", name))[1] for name in present} - {SUPPORT_DEVICES}:
        present.add(NO_FINDING)
    return {name: int(name in present) for name in names}


def compose(present: Labels, pool: SentencePool, rng: np.random.Generator) -> tuple[str, str | None]:
    """Findings and impression that say each present clue once, positives first, and deny some of the absent ones.

    Args:
        present: clue -> 1 said, 0 denied or not named, None neither said nor denied.

    Raises:
        ValueError: no such report was found in twenty tries; names the clues.
    """
    said = [name for name, value in present.items() if value == 1 and name != NO_FINDING]
    unknown = {name for name, value in present.items() if value is None}
    absent = [name for name, value in present.items() if value == 0 and name in pool.denials_of_one]
    sided = {place[1] for name in said if (place := side_and_finding(name))}
    said = [name for name in said if name not in sided]  # "left effusion" says the effusion too
    plain = {place[1] if (place := side_and_finding(name)) else name for name in said}
    over: set[str] = {parent for name in plain for parent in (name, *ancestors(name))}
    for _ in range(20):
        # in the order of the clues: where it was drawn too, a small model lost count of what it had said
        findings = [pool.claim("findings", name, rng) for name in said]
        taken = over | plain | unknown
        for place in rng.integers(len(pool.denials), size=6 + int(rng.integers(6))):
            text, names = pool.denials[place]
            if not names & taken:
                findings.append(text)
                taken |= names
        if not findings and absent:
            findings.append(pool.say(absent[int(rng.integers(len(absent)))], 0, rng))
        if not findings:  # nothing is known
            break
        impression = None
        if rng.random() < WITH_IMPRESSION:
            short = [name for name in said if name != SUPPORT_DEVICES][:3] or said
            sentences = [pool.claim("impression", name, rng) for name in short]
            if not plain - {SUPPORT_DEVICES} and present.get(NO_FINDING, 1):
                sentences.append(pool.claim("impression", NO_FINDING, rng))
            impression = " ".join(sentences) or None
        text = " ".join(findings)
        read = label_report(report_text(text, impression))
        if {name for name, value in read.items() if value in (1, -1) and name != NO_FINDING} == plain:
            return text, impression
    raise ValueError(f"no report of the pool says {', '.join(said) or 'anything known'} and nothing else")
