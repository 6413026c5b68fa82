"""Turns after the report: the kinds of RaDialog's instruct data, made by rules.

    findings_qa     which findings does the study have?           (RaDialog's complete CheXpert QA)
    finding_qa      does it have this finding?                     (binary CheXpert QA)
    region_qa       what does the report say of the heart?
    easy_language   the report in plain words
    summary         a shorter text with the same findings
    correction      a report that is put right, or changed as the user says (`corrections.py`)
    explanation     why this finding: its place, the report's sentence, what such a finding looks like
    impression      the impression of the findings just written
    view            frontal or lateral?
    detailed_qa     side, size or place of a finding               (as Rad-ReStruct asks)
    grounding       where is each finding? its sentence and boxes  (as MAIRA-2's grounded report)

Each is a second turn: request for the report, report, question, answer; the loss is on the answer. RaDialog's region
QA, easy language, summaries and corrected reports are a language model's and its explanations another data set's; here
all come from the report, the labels and a lexicon, and are checked with the labeler. `training.builders.instruct`
writes them out, also with a language model. The wording is our own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.reading.attributes import finding_attributes
from evaluation.reading.contradiction_words import ZONE
from evaluation.reading.observations import NO_FINDING, SUPPORT_DEVICES, Labels, positives
from evaluation.reading.sentences import cut_sentences
from processing_trrg import box_text, report_text
from processing_trrg.prompt_trrg import GROUNDED_REQUEST
from training.config.run_config import DialogueKind
from training.data.corrections import WORDS, Pool, bare, make_correction, name_of, with_side
from training.data.plain_language import plain_report
from training.data.report_edits import NORMAL, claimed_sides, says
from training.data.study import Box, Study

QUESTIONS: dict[str, list[str]] = WORDS["questions"]
REGIONS = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in WORDS["regions"].items()}
ASKED_OF_A_SIDE = 0.3
"""Share of the questions about a finding of one side that name a side."""
ASKED_BY_NAME = 0.5
"""Share of those questions that use the clue's own name, not another word for it."""
_STATED = re.compile(r"^There (is|are) (.+)\.$")
DEGREES = {"mild": ("small", "mild"), "moderate": ("moderate", "moderate"), "severe": ("large", "severe")}
"""Severity -> how a thing with a size has it, and how any other finding."""
WITH_SIZE = ("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumothorax", "Pleural Effusion")


@dataclass(frozen=True)
class Exchange:
    """A turn after the report.

    Attributes:
        reply: the report the model has written so far.
        question: the user's next turn.
        answer: what is learned.
        corrects: whether the answer takes the place of the report.
    """

    reply: str
    question: str
    answer: str
    corrects: bool = False


def make_exchange(
    kind: DialogueKind,
    study: Study,
    labels: Labels,
    clues: Sequence[dict[str, str]],
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
    pool: Pool | None = None,
    boxes: Sequence[Box] = (),
    chances: Mapping[str, float] | None = None,
) -> Exchange | None:
    """One exchange about a study that has a report; None where its record has no answer of this kind.

    Args:
        labels: of the study, by clue; a side is no part of the names.
        clues: with the sentences that claim and deny them.
        labeler: text to labels.
        pool: (finding, 1 or 0) -> a sentence that claims or denies it, for errors that are put into a report.
        boxes: of findings, in fractions of the square that the model sees (`places.py`).
        chances: clue -> of a yes to the question for it, in the place of its label; None: the labels say yes or no.
    """
    findings, impression = _said(study.findings), _said(study.impression)
    if not findings and not impression:
        return None
    by_name = {clue["name"]: clue for clue in clues}
    if kind == "correction":
        sections = {"findings": findings, "impression": impression}
        made = make_correction(sections, list(labels), by_name, labeler, rng, pool)
        return Exchange(*made, corrects=True) if made else None
    lines = (list(cut_sentences(findings or "")), list(cut_sentences(impression or "")))
    turn = _Turn(*lines, labels, by_name, rng, chances)
    report = report_text(findings, impression)
    if kind == "impression":
        answer = impression if findings else None
        return Exchange(report_text(findings, None), turn.ask(kind), answer) if answer else None
    if kind == "view":
        said = (turn.ask(kind), f"This is a {view} view.") if (view := single_view(study)) else None
    elif kind == "grounding":
        said = turn.places(boxes, study.synthetic)
    elif kind in ("easy_language", "summary"):
        text = plain_report(turn.lines) if kind == "easy_language" else turn.summary(len(report))
        said = (turn.ask(kind), text) if text and _same_claims(labeler(report), labeler(text), kind) else None
    else:
        answers = {
            "findings_qa": turn.all_findings,
            "finding_qa": turn.one_finding,
            "region_qa": turn.region,
            "explanation": turn.explanation,
            "detailed_qa": turn.detail,
        }
        said = answers[kind]()
    return Exchange(report, *said) if said else None


def asked_by_name(claim: str) -> str:
    """A clue's sentence as a question: "There is edema." -> "Is there edema?"."""
    return _STATED.sub(lambda match: f"{match[1].capitalize()} there {match[2]}?", claim)


class _Turn:
    """Questions and answers about one report."""

    def __init__(
        self,
        findings: list[str],
        impression: list[str],
        labels: Labels,
        clues: Mapping[str, Mapping[str, str]],
        rng: np.random.Generator,
        chances: Mapping[str, float] | None,
    ):
        self.findings, self.impression, self.lines = findings, impression, findings + impression
        self.labels, self.clues, self.rng, self.chances = labels, clues, rng, chances

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def ask(self, kind: str, **words: str) -> str:
        return self.pick(QUESTIONS[kind]).format(**words)

    def claims(self, name: str) -> list[str]:
        return [line for line in self.lines if says(line).labels.get(name) == 1]

    def claimed(self) -> list[str]:
        """The findings that the report claims, among the clues."""
        return [name for name in self.labels if name in WORDS["signs"] and self.claims(name)]

    def named(self, value: int) -> list[str]:
        return [name for name, label in self.labels.items() if label == value and name != NO_FINDING]

    def all_findings(self) -> tuple[str, str] | None:
        named = self.named(1)
        if not named and self.labels.get(NO_FINDING) != 1:
            return None
        return self.ask("findings_qa"), f"{', '.join(named)}.".capitalize() if named else "No common findings."

    def drawn_finding(self) -> tuple[str, int] | None:
        """A finding, and whether it is there: as many yes as no where both are known, or by chance."""
        if self.chances is not None:
            name = self.pick([name for name in self.labels if name != NO_FINDING])
            return name, int(self.rng.random() < self.chances[name])
        values = [value for value in (1, 0) if self.named(value)]
        if not values:
            return None
        value = int(self.rng.choice(values))
        return self.pick(self.named(value)), value

    def one_finding(self) -> tuple[str, str] | None:
        if (drawn := self.drawn_finding()) is None:
            return None
        name, value = drawn
        word = name_of(name, self.claims(name) or [self.clues[name]["positive"]] if value else (), self.rng)
        sides = {side for line in self.claims(name) for side in claimed_sides(line, name)}
        if value and name in WORDS["sided"] and len(sides) == 1 and self.rng.random() < ASKED_OF_A_SIDE:
            side = self.pick(("left", "right"))
            there, a = side in sides, with_side(word, side)
            answer = f"{'Yes' if there else 'No'}. There is {'' if there else 'no '}{side} {name.lower()}."
            return self.ask("finding_qa", a=a, x=bare(a), said=f"There is {a}.", asked=f"Is there {a}?"), answer
        said = self.clues[name]["positive"]
        asked = f"Is there {word}?"
        if self.rng.random() < ASKED_BY_NAME:
            word, asked = name.lower(), asked_by_name(said)
        answer = f"Yes. {said}" if value else f"No. {self.clues[name]['negative']}"
        return self.ask("finding_qa", a=word, x=bare(word), said=said, asked=asked), answer

    def region(self) -> tuple[str, str] | None:
        """The sentences that speak of a region: those of the findings, where there are any."""
        found = {}
        for name, words in REGIONS.items():
            for lines in (self.findings, self.impression):
                if name not in found and (about := [line for line in lines if words.search(line)]):
                    found[name] = " ".join(about)
        if not found:
            return None
        name = self.pick(list(found))
        return self.ask("region_qa", region=name), found[name]

    def summary(self, longest: int) -> str | None:
        """The fewest sentences with all that the report claims or suspects, the impression's first."""
        held: set[tuple[str, int, frozenset[str]]] = set()
        chosen = []
        for line in (*self.impression, *self.findings):
            sides = {name: said.side for name, said in finding_attributes(line).items()}
            labels = says(line).labels.items()
            new = {(name, value, sides.get(name, frozenset())) for name, value in labels if value}
            if not all(any(n == m and v == w and s <= t for m, w, t in held) for n, v, s in new):
                chosen.append(line)
                held |= new
        if not chosen and not any(says(line).claims for line in self.lines):
            chosen = [NORMAL]
        text = " ".join(chosen)
        return text if text and len(text) < longest else None

    def explanation(self) -> tuple[str, str] | None:
        claimed = self.claimed()
        if not claimed:
            return None
        name = self.pick(claimed)
        claims = self.claims(name)
        sides, _, zones = _details(claims, name)
        places = [f"on {'both sides' if len(sides) == 2 else f'the {min(sides)}'}"] if sides else []
        places += [f"in the {zone} zone" for zone in sorted(zones)] if len(zones) == 1 else []
        seen = f"It is seen {', '.join(places)}. " if places else ""
        word = name_of(name, claims, self.rng)
        return self.ask("explanation", a=word, x=bare(word)), f"{seen}{claims[0]} {WORDS['signs'][name]}"

    def detail(self) -> tuple[str, str] | None:
        answers = {}
        for name in self.claimed():
            sides, sizes, zones = _details(self.claims(name), name)
            if sides:
                answers[name, "side"] = "On both sides." if len(sides) == 2 else f"On the {min(sides)}."
            if len(sizes) == 1 and name != SUPPORT_DEVICES:
                size = min(sizes)
                answers[name, "size"] = (
                    f"{DEGREES[size][name not in WITH_SIZE].capitalize()}." if size in DEGREES else f"{size}."
                )
            if len(zones) == 1 and name in WITH_SIZE:
                answers[name, "place"] = f"In the {min(zones)} zone."
        if not answers:
            return None
        name, aspect = list(answers)[int(self.rng.integers(len(answers)))]
        word = name_of(name, self.claims(name), self.rng)
        return self.ask(aspect, x=bare(word)), answers[name, aspect]

    def places(self, boxes: Sequence[Box], complete: bool) -> tuple[str, str] | None:
        """The sentences that claim something, each with its boxes. complete: a study without boxes has no finding."""
        lines, placed = [], False
        for line in self.findings or self.impression:
            here = [box for box in boxes if _is_said(line, box)]
            placed = placed or bool(here)
            if here or says(line).claims:
                corners = [(b["x"], b["y"], b["x"] + b["w"], b["y"] + b["h"]) for b in here]
                lines.append(" ".join([line, *map(box_text, corners)]))
        if not placed and not (complete and not boxes and not lines):
            return None
        return self.ask("grounding", asked=GROUNDED_REQUEST), " ".join(lines or [NORMAL])


def _is_said(line: str, box: Box) -> bool:
    """Whether a sentence claims the finding of a box, and on no other side."""
    sides = claimed_sides(line, box["label"])
    return says(line).labels.get(box["label"]) == 1 and (not sides or box["side"] in (None, *sides))


def _details(claims: Sequence[str], name: str) -> tuple[set[str], set[str], set[str]]:
    """Sides, severities (or lengths in mm, where there are any) and zones that sentences give a finding; zones only of
    sentences that claim nothing else."""
    said = [found for line in claims if (found := finding_attributes(line).get(name))]
    lengths = {f"{length:g} mm" for found in said for length in found.size}
    alone = [line for line in claims if sum(value == 1 for value in says(line).labels.values()) == 1]
    return (
        {side for found in said for side in found.side},
        lengths or {degree for found in said for degree in found.severity},
        {str(zone.lastgroup) for line in alone for zone in ZONE.finditer(line.lower())},
    )


def _same_claims(report: Labels, text: Labels, kind: str) -> bool:
    """Whether a text keeps all labels of its report, a summary what is claimed or suspected."""
    if kind == "easy_language":
        return report == text
    return {n for n, v in report.items() if v and n != NO_FINDING} == {
        n for n, v in text.items() if v and n != NO_FINDING
    } and set(positives(report)) == set(positives(text))


def _said(text: str | None) -> str | None:
    return (text or "").strip() or None


def single_view(study: Study) -> str | None:
    """ "frontal" or "lateral", None where a study has both or it is not known."""
    views = {image["view"] for image in study.images}
    return views.pop() if len(views) == 1 and views <= {"frontal", "lateral"} else None
