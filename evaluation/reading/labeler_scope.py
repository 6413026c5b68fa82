"""From the terms of one sentence to its mentions: which finding is asserted, denied or doubted, and by which words.

The reader walks the terms once, from left to right, and keeps
- the scope: the cue (negation, uncertainty, not_asserted) that governs the findings to come,
- the group: the findings of the running enumeration, which a cue after them can still change ("X or Y is not seen"),
- the organs named in this clause, which wait for their state ("the heart and mediastinum are normal"),
- the state: an adjective that waits for its organs ("normal heart size and mediastinal contours").
The work is linear in the number of terms: a cue that changes a group also ends it.
"""

import re
from collections.abc import Callable

from evaluation.reading.labeler_cues import LIST_WORDS
from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.labeler_scan import KINDS, find_terms
from evaluation.reading.labeler_terms import (
    EXPLAINS,
    GOES_ON,
    NORMAL,
    NORMAL_ALONE,
    OF_THE,
    REQUEST,
    SEEN_APART,
    SIDE,
    WORDS,
    Cue,
    Finding,
    Found,
    ReadSentence,
    SentenceMention,
    are_alternatives,
    doubt,
    heart_size,
    is_elsewhere,
    is_part,
    joint_of,
    opens_clause,
    reached,
    unknown_word,
)
from evaluation.reading.labeler_words import Places, plain_words
from evaluation.reading.observations import ABSENT, PRESENT, SUPPORT_DEVICES, UNCERTAIN, descendants

STATE_REACH, NOT_REACH, ORGAN_REACH = 40, 25, 14
"""Characters that an adjective may stand before its organ ("enlargement of the central pulmonary arteries"), "not"
before what it denies, and another organ before its finding."""

# Doubts that a negation before them outweighs: "no effusion, suspicious nodule or opacity to suggest pneumonia".
_WEAK_DOUBTS = ("sugg", "suspic", "conc", "worr", "diff", "raise", "vers", "vs")
_TELLING_KINDS = frozenset(("finding", "anatomy", "organ", "report_word"))
_ELSEWHERE = frozenset((*descendants("Lung Opacity"), "Lung Opacity", "Pleural Effusion"))
_ASKING = ("if", "whether", "that")
_PRONOUN = re.compile(r"\b(?:one|it|this|these)\b")
_POLARITY_IN_SCOPE = {"": PRESENT, "negation": ABSENT, "uncertainty": UNCERTAIN, "not_asserted": None}


class _Reader:
    """The state of reading one sentence; one method for each kind of term."""

    def __init__(self, sentence: str, published: bool) -> None:
        self.sentence, self.published = sentence, published
        self.findings: list[Finding] = []
        self.group: list[Finding] = []
        self.group_closed = False
        self.scope = ""
        self.cue: Cue | None = None
        self.scope_used = False
        self.organs: list[Found] = []
        self.state: tuple[int, str] | None = None
        self.state_end = 0
        self.after_or = False
        self.last_end = 0  # of the last finding or word that stands for one
        self.elsewhere_in: Found | None = None  # of another part of the body
        self.preferred = self.governed = self.affirmed = False

    def open_scope(self, scope: str, cue: Cue | None) -> None:
        self.scope, self.cue, self.scope_used = scope, cue, False

    def close_scope(self) -> None:
        self.open_scope("", None)

    def finding(self, term: Found) -> None:
        gap = self.sentence[self.last_end : term.start] if self.last_end else ""
        self.last_end = term.end
        self.organs, self.state = [], None
        if not term.observations:
            return
        if self.scope == "negation" and self.cue is not None:
            if self.scope_used:
                listed = self.findings and (SUPPORT_DEVICES in self.findings[-1].observations) == (
                    SUPPORT_DEVICES in term.observations
                )
                if not self.after_or and (not listed or opens_clause(self.sentence, gap, term.end)):
                    self.close_scope()
            elif self.cue.rule == "near_negation" and not self.is_near(term):
                self.close_scope()
            else:  # "no dislocation, old fracture": what is denied may be no term
                denied, comma, rest = self.sentence[self.cue.end : term.start].rpartition(",")
                if (
                    comma
                    and not LIST_WORDS.issuperset(WORDS.findall(denied))
                    and opens_clause(self.sentence, comma + rest, term.end)
                ):
                    self.close_scope()
        if self.group_closed:
            self.group, self.group_closed = [], False
        organ = None if self.published else self.elsewhere_in
        if organ and term.start - organ.end <= ORGAN_REACH and not SIDE.search(self.sentence, organ.end, term.start):
            term = self.elsewhere(term)
        for before in self.group[-1:] or self.findings[-1:]:
            soft = before.named.text.startswith("nodular")
            if soft and self.scope != "uncertainty" and EXPLAINS.search(self.sentence[before.named.end : term.start]):
                before.observations = ("Lung Opacity",)  # it says what the nodular shadow is
        polarity = _POLARITY_IN_SCOPE[self.scope]
        if self.published and self.cue is not None and self.cue.text.startswith(("no new", "history")):
            polarity = UNCERTAIN if self.cue.text.startswith("no") else ABSENT
        new = Finding(term, polarity, self.cue, joint_of(gap) if self.group else "")
        self.findings.append(new)
        self.group.append(new)
        # "Atelectasis or scarring" names one shadow twice; "edema or pneumonia" asserts neither of the two.
        if self.after_or and not self.affirmed and (self.published or are_alternatives(self.group)):
            rivals = [f for f in reached(self.group) if self.published or "Lung Opacity" not in f.observations]
            doubt(rivals, Cue("or", term.start, term.start, "chexpert" if self.published else "or"))
        self.after_or = False
        self.scope_used = True

    @staticmethod
    def elsewhere(term: Found) -> Found:
        return term._replace(observations=(OTHER,)) if _ELSEWHERE.intersection(term.observations) else term

    def is_near(self, term: Found) -> bool:
        gap = self.sentence[self.cue.end if self.cue else 0 : term.start]
        return len(gap) <= NOT_REACH and "," not in gap

    def negation(self, term: Found) -> None:
        if self.scope == "uncertainty" and not self.scope_used and self.cue and self.cue.text.endswith(_ASKING):
            return  # "cannot be certain that there is not"
        self.open_scope("negation", term.cue())
        self.group, self.group_closed, self.after_or = [], False, False

    near_negation = negation

    def uncertainty(self, term: Found) -> None:
        if self.scope == "not_asserted" and not self.scope_used:
            return
        if term.text.startswith("inclu") and "differential" not in self.sentence[: term.start]:
            return
        if self.published and term.text.startswith("v"):
            doubt(reached(self.group), term.cue("chexpert"))
        if "disting" in term.text:  # "X is hard to distinguish from Y"
            doubt(reached(self.group), term.cue())
        outweighed = self.after_or or not self.scope_used or term.text.startswith(_WEAK_DOUBTS)
        if self.scope == "negation" and self.cue is not None and self.cue.rule == "near_negation":
            outweighed = term.start - self.cue.end <= 1
        if self.scope != "negation" or not outweighed:
            self.open_scope("uncertainty", term.cue())

    def purpose(self, term: Found) -> None:
        if self.group and self.group[-1].polarity == ABSENT:
            cue = self.group[-1].cue
            self.open_scope("negation", cue and cue._replace(rule="purpose"))
        else:
            self.uncertainty(term)

    def likewise(self, term: Found) -> None:
        if self.findings:
            last = self.findings[-1].polarity
            scope = next(scope for scope, value in _POLARITY_IN_SCOPE.items() if value == last)
            self.open_scope(scope, term.cue() if scope else None)

    def cause(self, term: Found) -> None:
        self.group_closed = True
        if self.published and term.text.startswith("secondary"):
            self.open_scope("uncertainty", term.cue("chexpert"))

    def not_asserted(self, term: Found) -> None:
        if term.text.startswith("rule") and self.findings:
            return self.open_scope("uncertainty", term.cue("uncertainty"))  # not an indication: a doubt
        self.open_scope("not_asserted", term.cue())

    def affirmation(self, term: Found) -> None:
        for finding in (
            self.findings[-4:] if term.text.startswith("ha") else []
        ):  # "neither the nodule nor the effusion has grown"
            if finding.cue is not None and finding.cue.text.startswith(("nor", "neither")):
                finding.polarity, finding.cue = PRESENT, None
        self.close_scope()
        self.affirmed = True
        if self.published and term.text.endswith(("change", "changed")):
            self.meet_state(UNCERTAIN, term)

    def neutral(self, term: Found) -> None:
        """Nothing: these words are terms so that no cue is seen inside them."""

    def report_word(self, term: Found) -> None:
        self.last_end = term.end

    def post_negation(self, term: Found) -> None:
        listed = self.sentence[term.start - 2] == ":"  # "consolidation, effusion: none"
        if self.organs and term.text == "nil":
            self.give_state(self.organs, ABSENT, term)
        device = any(SUPPORT_DEVICES in finding.observations for finding in self.group[-1:])
        if is_elsewhere(self.sentence, term) or (device and is_part(self.sentence, term)):
            return self.boundary(term)
        for finding in self.group if listed else reached(self.group):
            finding.polarity, finding.cue = ABSENT, term.cue()
        self.boundary(term)

    def post_uncertainty(self, term: Found) -> None:
        last = self.group[-1:]
        if not last and _PRONOUN.search(self.sentence, self.last_end, term.start):
            last = self.findings[-1:]  # "no effusion, although a small one cannot be excluded"
        if last and last[0].polarity == ABSENT:  # "no effusion, pneumonia is possible": only the nearest one
            last[0].polarity, last[0].cue = UNCERTAIN, term.cue()
        else:
            singular = self.governed or term.text.startswith(("is ", "was "))  # "X and an effusion is suspected"
            doubt(reached(self.group, singular), term.cue())
        if self.organs and not last:
            self.give_state(self.organs, UNCERTAIN, term)
        self.boundary(term)

    def boundary(self, term: Found) -> None:
        if term.text.startswith("there") and self.cue and not self.scope_used and self.cue.text.endswith(_ASKING):
            return  # "hard to say whether there is"
        begun = self.cue is not None and term.text == "with" and term.start == self.cue.end + 1
        if self.scope == "uncertainty" and (begun or " on" in term.text):
            return  # "possibly with pneumonia superimposed on edema"
        self.close_scope()
        self.group, self.group_closed, self.after_or = [], False, False
        self.organs, self.state = [], None
        self.governed = term.text.startswith("there")
        self.preferred = self.affirmed = False

    def pronoun(self, term: Found) -> None:
        self.boundary(term)
        if self.findings and self.findings[-1].polarity == ABSENT:
            self.group = [Finding(self.findings[-1].named, PRESENT, term.cue())]
            self.findings += self.group

    def relative(self, term: Found) -> None:
        self.close_scope()
        self.group_closed, self.after_or, self.state = True, False, None

    def fresh_start(self, term: Found) -> None:
        apart = term.joint or (self.scope == "negation" and term.start == self.last_end + 1)
        used = self.scope_used or (self.cue is not None and self.last_end > self.cue.end)
        if apart and used and not self.after_or:
            self.close_scope()
        if self.published:
            if term.text in ("stable", "unchanged"):
                self.meet_state(UNCERTAIN, term)
            elif term.text == "probable":
                self.open_scope("uncertainty", term.cue("chexpert"))

    def verb(self, term: Found) -> None:
        if self.scope == "uncertainty" and self.cue is not None and self.cue.text.endswith(_ASKING):
            for finding in self.group if term.text.startswith(("repr", "refl", "indic")) else []:
                finding.polarity, finding.cue = PRESENT, None  # "unclear whether the opacity represents pneumonia"
        elif self.scope_used and not self.after_or:
            self.close_scope()
        self.group_closed = True
        self.state = None

    def alternative(self, term: Found) -> None:
        self.after_or = True

    def conjunction(self, term: Found) -> None:
        self.after_or = False

    def preference(self, term: Found) -> None:
        self.preferred = True
        if self.published:
            self.open_scope("uncertainty", term.cue("chexpert"))
        elif self.scope == "uncertainty":
            self.close_scope()

    def less_preferred(self, term: Found) -> None:
        if self.preferred:
            self.open_scope("uncertainty", term.cue())
            self.preferred = False
            self.group_closed = True
        elif self.cue is not None and self.cue.text.startswith("less"):
            self.close_scope()

    def artefact(self, term: Found) -> None:
        if self.scope == "negation" and not self.scope_used:
            return
        for finding in self.findings[-3:]:
            link = self.sentence[finding.named.end : term.start]
            if (
                finding.polarity in (PRESENT, UNCERTAIN)
                and SUPPORT_DEVICES not in finding.observations
                and (verb := EXPLAINS.search(link))
                and not SEEN_APART.search(verb.group())
            ):
                finding.polarity = UNCERTAIN if self.scope == "uncertainty" else ABSENT
                finding.cue = term.cue()
        if term.text.startswith(("aortic", "azygos")):
            self.anatomy(term._replace(observations=(OTHER,)))

    def organ(self, term: Found) -> None:
        self.elsewhere_in = term
        last = self.findings[-1:]
        if last and not self.published and OF_THE.fullmatch(self.sentence, last[0].named.end, term.start):
            last[0].observations = self.elsewhere(last[0].named).observations
        self.anatomy(term)

    def anatomy(self, term: Found) -> None:
        if term.text.endswith(("ratio", "index")) and (size := heart_size(self.sentence, term)):
            return self.give_state([term], *size)
        apart = term.joint or (self.scope == "negation" and term.start == self.last_end + 1)
        if apart and term.observations and self.scope_used and not self.after_or:
            self.close_scope()
        if term.joint == "," and self.state is not None and self.state[0] == PRESENT:
            self.state = None  # "enlarged heart, mediastinal contours are stable"
        if self.state is not None and term.start - self.state_end < STATE_REACH:
            polarity, text = self.state
            self.give_state([term], polarity, term._replace(text=text))
            self.state_end = term.end
        else:
            self.organs.append(term)

    def normal_state(self, term: Found) -> None:
        self.meet_state(ABSENT, term)

    def enlarged_state(self, term: Found) -> None:
        self.meet_state(UNCERTAIN if self.published and term.text.startswith("borderline") else PRESENT, term)

    def meet_state(self, polarity: int, term: Found) -> None:
        if self.organs:
            self.give_state(self.organs, polarity, term)
            self.organs, self.state = [], None
            if self.cue is not None and self.cue.rule == "near_negation":
                self.close_scope()
        else:
            if term.joint and self.scope_used and not self.after_or and not GOES_ON.match(self.sentence, term.end):
                self.close_scope()
            self.state, self.state_end = (polarity, term.text), term.end

    def give_state(self, organs: list[Found], polarity: int, term: Found) -> None:
        cue = term.cue("state")
        if self.scope in ("negation", "uncertainty") and self.cue is not None:
            if self.scope == "negation":
                polarity = ABSENT
            elif polarity == PRESENT:
                polarity = UNCERTAIN
            if polarity != PRESENT and (self.scope == "negation" or polarity == UNCERTAIN):
                cue = Cue(f"{self.cue.text} {term.text}", min(self.cue.start, term.start), term.end, "state")
        for organ in organs:
            if organ.observations:
                self.findings.append(Finding(organ, polarity, cue))


_METHODS: dict[str, Callable[[_Reader, Found], None]] = {kind: getattr(_Reader, kind) for kind in KINDS}


def read_sentence(written: str, published: bool = False) -> ReadSentence:
    """Read one lower-cased sentence with single spaces; linear in its length.

    Args:
        written: the sentence.
        published: by the rules of the CheXpert labeler where ours differ.
    """
    sentence = plain_words(written)
    reader = _Reader(sentence, published)
    kind_before = ""
    terms = []
    for (kind, observations), text, start, end in find_terms(sentence):
        joint = "and" if kind_before == "conjunction" else "," if sentence[start - 2 : start] == ", " else ""
        term = Found(kind, text, observations, start, end, joint)
        terms.append(term)
        _METHODS[kind](reader, term)
        kind_before = kind
    if sentence.endswith("?"):
        colon = max(sentence.rfind(": "), sentence.rfind(" , "))  # a dash is a comma of its own
        doubted = [finding for finding in reader.findings if finding.named.start > colon]
        doubt(doubted, Cue("?", len(sentence) - 1, len(sentence), "?"))
    asked = REQUEST.match(sentence) and reader.findings and all(found.polarity is None for found in reader.findings)
    known = not asked and (
        sentence.startswith(NORMAL) or sentence in NORMAL_ALONE or any(term.kind in _TELLING_KINDS for term in terms)
    )
    if known and not reader.findings and not published:
        reader.findings += unknown_word(sentence, terms)
    mentions = []
    as_written = Places(written) if sentence != written and reader.findings else None
    for finding in reader.findings:
        if finding.polarity is not None:
            named, cue = finding.named, finding.cue
            start, end = named.start, named.end
            scope = (start, end) if cue is None else (min(start, cue.start), max(end, cue.end))
            if as_written:
                scope, (start, end) = as_written(*scope), as_written(start, end)
            rest = written[start:end], cue and cue.text, start, cue.rule if cue else "asserted", scope
            mentions += [SentenceMention(name, finding.polarity, *rest) for name in finding.observations]
    return ReadSentence(tuple(mentions), known)
