"""The structured form of a report: a row a clue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.reading.changes import Change, finding_changes
from evaluation.reading.labeler import mentions
from evaluation.reading.observations import NO_FINDING
from evaluation.reading.sides import side_and_finding, sides_of
from processing_trrg import CHEXPERT_14, Report, Statement
from processing_trrg.compared_trrg import NOT_READ, SEEN_AGAIN
from processing_trrg.report_trrg import ANSWERS, Answer
from processing_trrg.statements_trrg import read_statements

NOTICE = "Draft written by an AI, checked by nobody. Research only, never for clinical use."
_STRENGTH = {1: 2, -1: 1, 0: 0}


@dataclass(frozen=True)
class Row:
    """One clue of the form.

    Attributes:
        presence: what the clue itself answers (`ClueScore.answer`). Of a checkpoint without operating points what the
            report says, and "indeterminate" for a clue over its threshold that the report leaves out. None: not
            assessed.
        side: "left", "right", "both" or None; of the clue, or else of all sentences that say as much of it.
        change: since an earlier study, as the report says it; None also where it says several of the side, or
            that it is seen again, which is not that it is unchanged.
        confidence: the clue's score, 0 to 1; None for a model without clues.
        sentence: of the report, the one that says most of the clue; None where none does.
        support: what the image says to that sentence (`Statement.support`).
    """

    clue: str
    presence: Answer | None
    side: Literal["left", "right", "both"] | None
    change: Change | None
    confidence: float | None
    sentence: str | None
    support: str | None

    @property
    def finding(self) -> str:
        """The clue without its side."""
        return _finding(self.clue)


def form_rows(report: Report) -> list[Row]:
    """The rows of a report, in the order of its clues; none of a picture that the model cannot read. A model without
    clues has the rows of the 14 observations, by its words alone."""
    if report.readable is False:
        return []
    scores = {clue.name: clue for clue in report.clues}
    names = list(scores) or list(CHEXPERT_14)
    said = report.sentences if scores and report.sentences is not None else read_statements(report, names)
    changes = list(finding_changes(report.text))
    rows = []
    for name in names:
        value, found = _most_said(said, name)
        presence = scores[name].answer if name in scores else None
        if presence is None:
            presence = ANSWERS[value] if value is not None else None
            if value is None and name in (report.left_out or ()):
                presence = "indeterminate"
        side = _side(name, found if value else [])
        meant = [c for c in changes if c.observation == _finding(name) and _meets(side, c.sides)]
        told = {c.change for c in meant if not any(words in c.sentence.lower() for words in (SEEN_AGAIN, NOT_READ))}
        change = told.pop() if len(told) == 1 else None
        if presence == "absent" and change != "resolved":  # of the other side
            change = None
        text, support = (found[0].text, found[0].support) if found else (None, None)
        rows.append(Row(name, presence, side, change, scores[name].score if name in scores else None, text, support))
    return rows


def stated_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that say something of a finding. That there is none is one of them only where nothing else is there."""
    found = [row for row in rows if row.presence is not None and row.clue != NO_FINDING]
    empty = all(row.presence == "absent" for row in found)
    return found + [row for row in rows if row.clue == NO_FINDING and row.presence == "present" and empty]


def _finding(clue: str) -> str:
    sided = side_and_finding(clue)
    return sided[1] if sided else clue


def _most_said(said: Sequence[Statement], name: str) -> tuple[int | None, list[Statement]]:
    """What the sentences say of a clue (1 stated, -1 doubted, 0 denied, None nothing), and those that say it. A finding
    is stated by a sentence of one of its sides, and a side is denied by one that denies the finding."""
    found: dict[int, list[Statement]] = {}
    for sentence in said:
        values = [sentence.clues[name]] if name in sentence.clues else []
        if not values and _finding(name) == name:
            values = [value for clue, value in sentence.clues.items() if _finding(clue) == name and value]
        elif not values and sentence.clues.get(_finding(name)) == 0:
            values = [0]
        for value in set(values):
            found.setdefault(value, []).append(sentence)
    most = max(found, key=lambda value: _STRENGTH[value], default=None)
    return most, [] if most is None else found[most]


def _side(name: str, sentences: Sequence[Statement]) -> Literal["left", "right", "both"] | None:
    if sided := side_and_finding(name):
        return "left" if sided[0] == "left" else "right"
    sides = {side for sentence in sentences for side in _sides_told(sentence.text, name)}
    return "both" if len(sides) == 2 else "left" if sides == {"left"} else "right" if sides == {"right"} else None


def _sides_told(sentence: str, name: str) -> set[str]:
    found = sorted(mentions(sentence), key=lambda mention: mention.start)
    told = zip(found, sides_of(sentence, [mention.start for mention in found]), strict=True)
    return {side for mention, sides in told if mention.observation == name for side in sides}


def _meets(side: str | None, told: frozenset[str]) -> bool:
    return side in (None, "both") or not told or side in told
