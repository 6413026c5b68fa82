"""Turns after the report: the dialogue kinds of RaDialog's instruct data that rules can build.

    findings_qa   which findings does the study have?            (RaDialog's complete CheXpert QA)
    finding_qa    does it have this finding?                      (binary CheXpert QA)
    impression    the impression of the findings just written
    view          frontal or lateral?
    correction    a report with one finding left out or one made up -> the true report

Each is a second turn: request for the report, report, question, answer; the loss is on the answer. RaDialog's errors
are those of a first model and its corrected reports are a language model's; here errors are SYNTHETIC (sentences taken
out and put in, checked with the labeler) and the target is the radiologist's report. Its region QA, easy language,
summary and explanations need texts that a language model writes, and are not here. The wording is our own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.reading.observations import NO_FINDING, Labels, ancestors
from evaluation.reading.sentences import cut_sentences
from processing_trrg import correction_request, report_text
from training.config.run_config import DialogueKind
from training.data.study import Study

Sections = dict[str, str | None]

ALL_FINDINGS = (
    "Which findings does this study show?",
    "List the findings of this chest X-ray.",
    "Name all findings that are present.",
)
ONE_FINDING = (
    "Is this true of the study? {}",
    "True or not: {}",
    "Does the chest X-ray show this? {}",
)
IMPRESSION = (
    "Write the impression of this report.",
    "What is the impression?",
    "Sum the findings up in an impression.",
)
VIEW = (
    "Is this a frontal or a lateral view?",
    "Which view is this?",
)


@dataclass(frozen=True)
class Exchange:
    """A turn after the report.

    Attributes:
        reply: the report the model has written so far.
        question: the user's next turn.
        answer: what is learned.
    """

    reply: str
    question: str
    answer: str


def make_exchange(
    kind: DialogueKind,
    study: Study,
    labels: Labels,
    clues: Sequence[dict[str, str]],
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
) -> Exchange | None:
    """One exchange about a study that has a report; None where its record has no answer of this kind."""

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    findings, impression = _said(study.findings), _said(study.impression)
    report = report_text(findings, impression)
    sentences = {clue["name"]: clue for clue in clues}
    named = {value: [n for n, v in labels.items() if v == value and n != NO_FINDING] for value in (1, 0)}
    if kind == "findings_qa" and (named[1] or labels.get(NO_FINDING) == 1):
        answer = f"{', '.join(named[1])}.".capitalize() if named[1] else "No common findings."
        return Exchange(report, pick(ALL_FINDINGS), answer)
    if kind == "finding_qa" and (named[1] or named[0]):
        value = int(rng.choice([value for value in (1, 0) if named[value]]))  # as many yes as no where both are known
        clue = sentences[pick(named[value])]
        answer = f"Yes. {clue['positive']}" if value else f"No. {clue['negative']}"
        return Exchange(report, pick(ONE_FINDING).format(clue["positive"]), answer)
    if kind == "impression" and findings and impression:
        return Exchange(report_text(findings, None), pick(IMPRESSION), impression)
    if kind == "view" and (view := _view(study)):
        return Exchange(report, pick(VIEW), f"This is a {view} view.")
    if kind == "correction":
        return _correction({"findings": findings, "impression": impression}, named, sentences, labeler, rng)
    return None


def _correction(
    sections: Sections,
    named: dict[int, list[str]],
    sentences: dict[str, dict[str, str]],
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
) -> Exchange | None:
    """A report with an error that the labeler can tell from the true one, and in nothing else that it reads."""
    sections = _drop(sections, "", (), labeler)  # sentences joined as they are below, list numbers gone
    read = labeler(report_text(**sections))

    def spoiled(name: str, value: int) -> Sections | None:
        left = _drop(sections, name, (1, -1) if value else (0,), labeler)
        if value == 0:
            place = "findings" if sections["findings"] else "impression"
            left[place] = f"{left[place] or ''} {sentences[name]['positive']}".strip()
        if not any(left.values()):
            return None
        found = labeler(report_text(**left))
        changed = {label for label in read if found[label] != read[label]}
        return left if name in changed and changed <= {name, *ancestors(name), NO_FINDING} else None

    wrong_if = {
        (name, value): left
        for value in (1, 0)
        for name in named[value]
        if name in read and read[name] in ((1,) if value else (0, None))
        if (left := spoiled(name, value))
    }
    if not wrong_if:
        return None
    name, value = list(wrong_if)[int(rng.integers(len(wrong_if)))]
    question = correction_request([name] if value else [], [] if value else [name])
    assert question is not None
    return Exchange(report_text(**wrong_if[name, value]), question, report_text(**sections))


def _drop(sections: Sections, name: str, values: tuple[int, ...], labeler: Callable[[str], Labels]) -> Sections:
    """The sections without the sentences that say one of these values of a finding."""
    return {
        part: " ".join(s for s in cut_sentences(text) if labeler(s).get(name) not in values) or None if text else None
        for part, text in sections.items()
    }


def _said(text: str | None) -> str | None:
    return (text or "").strip() or None


def _view(study: Study) -> str | None:
    views = {image["view"] for image in study.images}
    return views.pop() if len(views) == 1 and views <= {"frontal", "lateral"} else None
