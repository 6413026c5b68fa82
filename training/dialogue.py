"""Turns after the report: the dialogue kinds of RaDialog's instruct data that rules can build.

    findings_qa   which findings does the study have?            (RaDialog's complete CheXpert QA)
    finding_qa    does it have this finding?                      (binary CheXpert QA)
    impression    the impression of the findings just written
    view          frontal or lateral?
    correction    a report with one finding left out, one made up, or both -> the true report

Each is a second turn: request for the report, report, question, answer; the loss is on the answer. RaDialog's errors
are those of a first model and its corrected reports are a language model's; here errors are SYNTHETIC (sentences taken
out and put in, checked with the labeler) and the target is the radiologist's report. Its region QA, easy language,
summary and explanations need texts that a language model writes, and are not here. The wording is our own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from processing_trrg import correction_request, report_text
from training.sentences import split_sentences

DialogueKind = Literal["findings_qa", "finding_qa", "impression", "view", "correction"]
KINDS = get_args(DialogueKind)
Labels = dict[str, int | None]
Sections = dict[str, str | None]

ALL_FINDINGS = (
    "Which findings does this study show?",
    "List the findings of this chest X-ray.",
    "Name all findings that are present.",
)
ONE_FINDING = (
    "Is there {} in this study?",
    "Does this patient have {}?",
    "Does the chest X-ray show {}?",
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
    """reply: the report the model has written so far; question: the user's next turn; answer: what is learned."""

    reply: str
    question: str
    answer: str


def make_exchange(
    kind: DialogueKind,
    record: dict[str, Any],
    labels: Labels,
    clues: Sequence[dict[str, str]],
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
) -> Exchange | None:
    """One exchange about a study that has a report; None where its record has no answer of this kind."""

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    findings, impression = record.get("findings"), record.get("impression")
    report = report_text(findings, impression)
    named = {value: [n for n, v in labels.items() if v == value and n != "No Finding"] for value in (1, 0)}
    if kind == "findings_qa" and (named[1] or labels.get("No Finding") == 1):
        answer = f"{', '.join(named[1])}.".capitalize() if named[1] else "No common findings."
        return Exchange(report, pick(ALL_FINDINGS), answer)
    if kind == "finding_qa" and (named[1] or named[0]):
        value = int(rng.choice([value for value in (1, 0) if named[value]]))  # as many yes as no where both are known
        name = pick(named[value]).lower()
        return Exchange(report, pick(ONE_FINDING).format(name), f"Yes, {name}." if value else f"No {name}.")
    if kind == "impression" and findings and impression:
        return Exchange(report_text(findings, None), pick(IMPRESSION), impression.strip())
    if kind == "view" and (view := _view(record)):
        return Exchange(report, pick(VIEW), f"This is a {view} view.")
    if kind == "correction":
        return _correction(record, named, clues, labeler, rng)
    return None


def _correction(
    record: dict[str, Any],
    named: dict[int, list[str]],
    clues: Sequence[dict[str, str]],
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
) -> Exchange | None:
    sections: Sections = {part: record.get(part) for part in ("findings", "impression")}
    right = report_text(**sections)
    read = labeler(right)
    without = {name: _drop(sections, name, (1, -1), labeler) for name in named[1] if read.get(name) == 1}
    present = [name for name, left in without.items() if any(left.values()) and labeler(report_text(**left))[name] != 1]
    absent = [name for name in named[0] if name in read and read[name] != 1]
    choices = [["missing"]] * bool(present) + [["wrong"]] * bool(absent)
    choices += [["missing", "wrong"]] * bool(present and absent)
    if not choices:
        return None
    errors = choices[int(rng.integers(len(choices)))]
    missing = [present[int(rng.integers(len(present)))]] if "missing" in errors else []
    wrong = [absent[int(rng.integers(len(absent)))]] if "wrong" in errors else []
    spoiled = without[missing[0]] if missing else sections
    for name in wrong:
        spoiled = _drop(spoiled, name, (0,), labeler)
        claim = next(clue["positive"] for clue in clues if clue["name"] == name)
        place = "findings" if record.get("findings") else "impression"
        spoiled[place] = f"{spoiled[place] or ''} {claim}".strip()
    question = correction_request(missing, wrong)
    assert question is not None  # one of the two is there
    return Exchange(report_text(**spoiled), question, right)


def _drop(sections: Sections, name: str, values: tuple[int, ...], labeler: Callable[[str], Labels]) -> Sections:
    """The sections without the sentences that say one of these values of a finding."""
    return {
        part: " ".join(s for s in split_sentences(text) if labeler(s).get(name) not in values) or None if text else None
        for part, text in sections.items()
    }


def _view(record: dict[str, Any]) -> str | None:
    views = {image.get("view") for image in record.get("images") or []}
    return views.pop() if len(views) == 1 and views <= {"frontal", "lateral"} else None
