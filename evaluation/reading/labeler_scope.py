"""From the terms of one sentence to its mentions: which finding is asserted, denied or doubted, and by which words.

The reader walks the terms once, from left to right, and keeps
- the scope: the cue (negation, uncertainty, not_asserted) that governs the findings to come,
- the group: the findings of the running enumeration, which a cue after them can still change ("X or Y is not seen"),
- the organs named in this clause, which wait for their state ("the heart and mediastinum are normal"),
- the state: an adjective that waits for its organs ("normal heart size and mediastinal contours").
The work is linear in the number of terms: a cue that changes a group also ends it.
"""

from collections.abc import Callable
from typing import NamedTuple

from evaluation.reading.labeler_scan import SCANNER, TERMS
from evaluation.reading.observations import ABSENT, PRESENT, UNCERTAIN

STATE_REACH = 40
"""Characters that an adjective may stand before its organ: "enlargement of the central pulmonary arteries"."""

# Doubts that a negation before them outweighs: "no effusion, suspicious nodule or opacity to suggest pneumonia".
_WEAK_DOUBTS = ("sugg", "susp", "conc", "worr", "diff", "raise", "vers", "vs")
_TELLING_KINDS = frozenset(("finding", "anatomy", "report_word"))


class SentenceMention(NamedTuple):
    """One finding of a sentence: 1 present, 0 absent, -1 uncertain, with the words that named and decided it, and the
    character of the sentence where the naming one starts."""

    observation: str
    polarity: int
    phrase: str
    cue: str | None
    start: int


class ReadSentence(NamedTuple):
    """`mentions` in the order of the text; `known` tells whether any word of a chest report was recognised."""

    mentions: tuple[SentenceMention, ...]
    known: bool


class _Found(NamedTuple):
    """A term in its place. `joint` is "," or "and" when that stands right before it, where a new clause may start."""

    text: str
    observations: tuple[str, ...]
    start: int
    end: int
    joint: str


class _Finding:
    __slots__ = ("cue", "named", "observations", "polarity")

    def __init__(self, named: _Found, polarity: int | None, cue: str | None):
        self.named, self.observations = named, named.observations
        self.polarity = polarity  # None: named, but not asserted of today
        self.cue = cue


_POLARITY_IN_SCOPE = {"": PRESENT, "negation": ABSENT, "uncertainty": UNCERTAIN, "not_asserted": None}


class _Reader:
    """The state of reading one sentence; one method for each kind of term."""

    def __init__(self) -> None:
        self.findings: list[_Finding] = []
        self.group: list[_Finding] = []
        self.group_closed = False
        self.scope = ""
        self.cue: str | None = None
        self.scope_used = False
        self.organs: list[_Found] = []
        self.state: tuple[int, str] | None = None
        self.state_end = 0
        self.after_or = False

    def open_scope(self, scope: str, cue: str | None) -> None:
        self.scope, self.cue, self.scope_used = scope, cue, False

    def close_scope(self) -> None:
        self.open_scope("", None)

    def finding(self, term: _Found) -> None:
        self.organs, self.state = [], None
        if not term.observations:
            return
        if self.group_closed:
            self.group, self.group_closed = [], False
        new = _Finding(term, _POLARITY_IN_SCOPE[self.scope], self.cue)
        self.findings.append(new)
        self.group.append(new)
        # "Atelectasis or scarring" names one shadow twice; "effusion or pneumothorax" asserts neither of the two.
        if self.after_or and any("Pneumothorax" in finding.observations for finding in self.group):
            self.doubt(self.group, "or")
        self.after_or = False
        self.scope_used = True

    @staticmethod
    def doubt(findings: list[_Finding], cue: str) -> None:
        for finding in findings:
            if finding.polarity == PRESENT:
                finding.polarity, finding.cue = UNCERTAIN, cue

    def negation(self, term: _Found) -> None:
        self.open_scope("negation", term.text)
        self.after_or = False

    def uncertainty(self, term: _Found) -> None:
        if self.scope == "not_asserted" and not self.scope_used:
            return
        outweighed = self.after_or or not self.scope_used or term.text.startswith(_WEAK_DOUBTS)
        if self.scope != "negation" or not outweighed:
            self.open_scope("uncertainty", term.text)

    def purpose(self, term: _Found) -> None:
        if self.group and self.group[-1].polarity == ABSENT:
            self.open_scope("negation", self.group[-1].cue)
        else:
            self.uncertainty(term)

    def not_asserted(self, term: _Found) -> None:
        self.open_scope("not_asserted", term.text)

    def affirmation(self, term: _Found) -> None:
        self.close_scope()

    def neutral(self, term: _Found) -> None:
        """Nothing: these words are terms so that no cue is seen inside them."""

    def post_negation(self, term: _Found) -> None:
        for finding in self.group:
            finding.polarity, finding.cue = ABSENT, term.text
        self.boundary(term)

    def post_uncertainty(self, term: _Found) -> None:
        last = self.group[-1:]
        if last and last[0].polarity == ABSENT:  # "no effusion, pneumonia is possible": only the nearest one
            last[0].polarity, last[0].cue = UNCERTAIN, term.text
        else:
            self.doubt(self.group, term.text)
        self.boundary(term)

    def boundary(self, term: _Found) -> None:
        self.close_scope()
        self.group, self.group_closed, self.after_or = [], False, False
        self.organs, self.state = [], None

    def relative(self, term: _Found) -> None:
        self.close_scope()
        self.group_closed, self.after_or, self.state = True, False, None

    def fresh_start(self, term: _Found) -> None:
        if term.joint and self.scope_used and not self.after_or:
            self.close_scope()

    def verb(self, term: _Found) -> None:
        if self.scope_used and not self.after_or:
            self.close_scope()
        self.group_closed = True
        self.state = None

    def alternative(self, term: _Found) -> None:
        self.after_or = True

    def conjunction(self, term: _Found) -> None:
        self.after_or = False

    def anatomy(self, term: _Found) -> None:
        if term.joint and term.observations and self.scope_used and not self.after_or:
            self.close_scope()
        if term.joint == "," and self.state is not None and self.state[0] == PRESENT:
            self.state = None  # "enlarged heart, mediastinal contours are stable"
        if self.state is not None and term.start - self.state_end < STATE_REACH:
            self.give_state([term], *self.state)
            self.state_end = term.end
        else:
            self.organs.append(term)

    def normal_state(self, term: _Found) -> None:
        self.meet_state(ABSENT, term)

    def enlarged_state(self, term: _Found) -> None:
        self.meet_state(PRESENT, term)

    def meet_state(self, polarity: int, term: _Found) -> None:
        if self.organs:
            self.give_state(self.organs, polarity, term.text)
            self.organs, self.state = [], None
        else:
            self.state, self.state_end = (polarity, term.text), term.end

    def give_state(self, organs: list[_Found], polarity: int, text: str) -> None:
        cue = text
        if self.scope == "negation":
            polarity, cue = ABSENT, f"{self.cue} {text}"
        elif self.scope == "uncertainty" and polarity == PRESENT:
            polarity, cue = UNCERTAIN, f"{self.cue} {text}"
        for organ in organs:
            if organ.observations:
                self.findings.append(_Finding(organ, polarity, cue))


_METHODS: dict[str, Callable[[_Reader, _Found], None]] = {
    "finding": _Reader.finding,
    "anatomy": _Reader.anatomy,
    "negation": _Reader.negation,
    "post_negation": _Reader.post_negation,
    "uncertainty": _Reader.uncertainty,
    "post_uncertainty": _Reader.post_uncertainty,
    "purpose": _Reader.purpose,
    "not_asserted": _Reader.not_asserted,
    "affirmation": _Reader.affirmation,
    "neutral": _Reader.neutral,
    "report_word": _Reader.neutral,
    "boundary": _Reader.boundary,
    "relative": _Reader.relative,
    "fresh_start": _Reader.fresh_start,
    "verb": _Reader.verb,
    "alternative": _Reader.alternative,
    "conjunction": _Reader.conjunction,
    "normal_state": _Reader.normal_state,
    "enlarged_state": _Reader.enlarged_state,
}


def read_sentence(sentence: str) -> ReadSentence:
    """Read one lower-cased sentence with single spaces; linear in its length."""
    reader = _Reader()
    known = False
    kind_before = ""
    for match in SCANNER.finditer(sentence):
        kind, observations = TERMS[match.lastindex or 0]
        start, end = match.span()
        joint = "and" if kind_before == "conjunction" else "," if sentence[start - 2 : start] == ", " else ""
        _METHODS[kind](reader, _Found(match.group(), observations, start, end, joint))
        known = known or kind in _TELLING_KINDS
        kind_before = kind
    if sentence.endswith("?"):
        reader.doubt(reader.findings, "?")
    mentions = tuple(
        SentenceMention(observation, finding.polarity, finding.named.text, finding.cue, finding.named.start)
        for finding in reader.findings
        if finding.polarity is not None
        for observation in finding.observations
    )
    return ReadSentence(mentions, known)
