"""Every sentence of a report looked up in the image again, by the features of the one look.

    report = write("chest.png")
    for said in report.sentences: print(said.support, said.score, said.text)
    report.left_out   # clues over their threshold that no sentence states

Research only, never for clinical use.
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from .findings_trrg import SIDES, clauses, finding_of, states
from .sentences_trrg import cut_sentences

NO_FINDING = "No Finding"
_HEDGE = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|likely|may|might|could|suspect\w*|suspicious|questionable|question|suggest\w*|versus"
    r"|cannot|can not|can't|not (?:be )?(?:excluded|ruled out))\b",
    re.IGNORECASE,
)
NORMAL = r"\b(?:normal|unremarkable|clear)\b"
ORDINARY = {
    "Cardiomegaly": r"\b(?:heart|cardiac|cardiomediastinal)\b",
    "Enlarged Cardiomediastinum": r"\b(?:cardio)?mediastin\w+",
    "Lung Opacity": r"\blungs?\b(?! volumes?)",
}
"""What is called normal or clear, by the clue that this denies."""
NOTHING = re.compile(
    r"\b(?:no|without) (?:(?:\w+ )?(?:evidence|signs?) (?:of|for) )?(?:\w+ ){0,3}(?:or (?:\w+ ){1,2})?"
    r"(?:abnormalit\w+|disease|process|findings?)\b"
    r"|\b(?:normal|negative) (?:\w+ ){0,2}(?:chest|exam\w*)",
    re.IGNORECASE,
)

OF_THE_LUNGS = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
"""The findings that are an opacity of the lung."""
_CHEST = re.compile(r"\b(?:cardio-?(?:pulmonary|thoracic)|(?:intra-?)?thoracic)\b", re.I)
_PARTS: dict[str, tuple[str, ...]] = {
    r"\b(?:bon[ey]\w*|osse\w+|skelet\w+|ribs?)\b": ("Fracture",),
    r"\b(?:soft tissues?|abdom\w+)\b": (),
    r"\b(?:heart|cardiac|cardiomediastin\w+)\b": ("Cardiomegaly",),
    r"\b(?:cardio)?mediastin\w+": ("Enlarged Cardiomediastinum",),
    r"\bpleura\w*": ("Pleural Effusion", "Pneumothorax", "Pleural Other"),
    r"\b(?:lungs?|pulmonary|parenchym\w+|air-?space)\b": (*OF_THE_LUNGS, "Lung Opacity"),
}
"""A part of the chest -> the findings that are there. Where there is nothing and no part is named, it is the chest."""


@dataclass
class Statement:
    """A sentence of a report, and what the image says to it.

    Attributes:
        section: "findings" or "impression".
        clues: the clues of the study that it speaks of, with the side where it names one and such a clue exists; 1
            stated, -1 doubted, 0 denied. Read by the words of `findings_trrg`.
        side: "left", "right", "both" or None.
        score: 0 to 1, how well the sentence itself fits the image against the sentences of its clues that say the
            contrary, at the clues' own calibration. A classifier's clues give theirs. None where it is not checkable,
            the study has no image, or the image is compared by a class token, which is not kept.
        evidence: `[V, h, w]`, where that comes from, in logits; None without a score.
        support: "supported" where each clue that it states or doubts is over its threshold (`ClueScore.selected`) and
            each that it denies is not; "unsupported" otherwise; "not checkable" where it speaks of no clue, one of its
            clues was fitted on no study, the clues share one softmax, or there are none.
    """

    text: str
    section: Literal["findings", "impression"]
    clues: dict[str, int]
    side: str | None
    score: float | None = None
    evidence: np.ndarray | None = None
    support: Literal["supported", "unsupported", "not checkable"] = "not checkable"

    @property
    def polarity(self) -> int | None:
        """1 where it states a finding, else -1 where it doubts one, else 0 where it denies one, else None."""
        return next((value for value in (1, -1, 0) if value in self.clues.values()), None)

    def to_dict(self, evidence: bool = False) -> dict[str, Any]:
        """Ready for `json.dumps`; with `evidence`, the map as nested lists too."""
        told = {
            name: getattr(self, name) for name in ("text", "section", "clues", "polarity", "side", "score", "support")
        }
        if evidence:
            told["evidence"] = None if self.evidence is None else self.evidence.tolist()
        return told


@lru_cache(maxsize=4096)
def read_clues(sentence: str, names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The clues of a list that a sentence speaks of, 1 stated, -1 doubted, 0 denied."""
    found: dict[str, int] = {}
    hedged = _HEDGE.search(sentence) is not None
    findings = [name for name in dict.fromkeys(map(finding_of, names)) if name != NO_FINDING]  # also of sides alone
    read = {name: states(sentence, name) for name in findings}
    said = clauses(sentence) if any(read.values()) else [sentence]  # "a nodule in the lung and a normal heart"
    for name, stated in read.items():
        if stated is None and any(_calls_normal(part, name) for part in said):
            stated = False
        if stated is not None:
            sided = [f"{side.title()} {name}" for side in SIDES]
            told = {clue: states(sentence, clue) for clue in sided if clue in names}
            spoken = {clue: value for clue, value in told.items() if value is not None}
            spoken = spoken or ({name: stated} if name in names else {})
            found |= {clue: (-1 if hedged else 1) if value else 0 for clue, value in spoken.items()}
    if not found and NO_FINDING in names and NOTHING.search(sentence):
        parts = parts_of(sentence)
        found |= {NO_FINDING: 1} if parts is None or "Lung Opacity" in parts else {}  # of bones alone it is none
    return tuple(found.items())


def _calls_normal(words: str, name: str) -> bool:
    ordinary = name in ORDINARY and re.search(ORDINARY[name], words, re.I)
    return bool(ordinary and re.search(NORMAL, words, re.I) and not re.search(r"\bnot\b", words, re.I))


def parts_of(sentence: str) -> set[str] | None:
    """The findings of the parts of the chest that a sentence names; None where it means all of it."""
    found = [findings for words, findings in _PARTS.items() if re.search(words, sentence, re.I)]
    return None if _CHEST.search(sentence) or not found else {name for findings in found for name in findings}


def read_statements(report: Any, names: Sequence[str]) -> list[Statement]:
    """The sentences of a report with the clues that each speaks of."""
    said = []
    for section in ("findings", "impression"):
        for text in cut_sentences(getattr(report, section) or ""):
            words = set(re.findall(r"[a-z]+", text.lower()))
            sides = SIDES if words & {"bilateral", "bilaterally", "both"} else [side for side in SIDES if side in words]
            side = None if not sides else sides[0] if len(sides) == 1 else "both"
            said.append(Statement(text, section, dict(read_clues(text, tuple(names))), side))
    return said


def unsaid(said: Sequence[Statement], selected: Set[str], names: Sequence[str]) -> list[str]:
    """The selected clues, of all by their `names`, that no sentence states or doubts; "No Finding" is none."""
    told = {name for one in said for name, value in one.clues.items() if value}
    told |= {finding_of(name) for name in told} | {NO_FINDING}
    return [name for name in names if name in selected and name not in told]


def look_up(reports: Sequence[Any], model: Any, processor: Any, batch: Mapping[str, Any], study: Any) -> None:
    """Give each report its `sentences` and what it `left_out`.

    Args:
        reports: of a batch, with their clues.
        model, processor: that wrote them.
        batch: what the processor made of the studies.
        study: their features, `TRRGStudyFeatures`.
    """
    names: list[str] = batch.clue_names if study.clue_scores is not None else []  # type: ignore[attr-defined]
    checkable = checkable_clues(model, study, names)
    places: list[tuple[int, Statement]] = []
    for row, report in enumerate(reports):
        report.sentences = read_statements(report, names)
        selected = {clue.name for clue in report.clues if clue.selected}
        for said in report.sentences:
            if said.clues and checkable.issuperset(said.clues):
                holds = all((name in selected) == (value != 0) for name, value in said.clues.items())
                said.support = "supported" if holds else "unsupported"
                places.append((row, said))
        report.left_out = unsaid(report.sentences, selected & checkable, names)
    if places and model.config.clue_source == "classifier":
        _score_by_clue(reports, places)
    elif places and study.last_hidden_state is not None:
        _score(model, processor, names, study, places)


def checkable_clues(model: Any, study: Any, names: Sequence[str]) -> set[str]:
    """The clues whose score alone says whether they are there."""
    config = model.config
    if not names or (config.clue_source == "zero_shot" and config.clue_scoring == "softmax"):
        return set()
    calibration, _ = model.model.fitted(study.clue_bank)
    fitted = [True] * len(names) if calibration is None else (calibration[:, 0] != 0).tolist()
    return {name for name, known in zip(names, fitted, strict=True) if known}


def _score_by_clue(reports: Sequence[Any], places: list[tuple[int, Statement]]) -> None:
    for row, said in places:
        clues = {clue.name: clue for clue in reports[row].clues}
        fits = [clues[name].score if value else 1 - clues[name].score for name, value in said.clues.items()]
        said.score, said.evidence = sum(fits) / len(fits), clues[next(iter(said.clues))].evidence


def _score(model: Any, processor: Any, names: Sequence[str], study: Any, places: list[tuple[int, Statement]]) -> None:
    """Scores of the sentences of all reports; equal ones are encoded once."""
    texts = list(dict.fromkeys(said.text for _, said in places))
    ids = processor.clue_tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    claims = torch.zeros(len(places), len(names))
    for line, (_, said) in enumerate(places):
        for name, value in said.clues.items():
            claims[line, names.index(name)] = 1.0 if value else -1.0
    scores, maps = model.score_sentences(
        study, ids["input_ids"], ids["attention_mask"], [row for row, _ in places],
        [texts.index(said.text) for _, said in places], claims,
    )  # fmt: skip
    for (_, said), score, evidence in zip(places, scores, maps, strict=True):
        said.score, said.evidence = score, evidence
