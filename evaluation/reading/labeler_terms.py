"""What the reader of a sentence works with: terms, cues, findings, the rules by which they meet, and their reach."""

import re
from typing import NamedTuple

from evaluation.reading.labeler_cues import HARMLESS, LIST_WORDS, PLACES
from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.observations import ABSENT, PRESENT, UNCERTAIN

OF_THE = re.compile(
    r" (?:in|of|within|involving|to|from|arising (?:from|in)) (?:(?!and |or |with |but )\w+ ){0,5}$|(?<=collapsed) $"
)
"""What stands between a finding and the organ that it is of."""
SIDE = re.compile(r",|\b(?:bilateral|left|right) (?!lobe)")
"""What parts an organ from the finding after it: "tube in stomach bilateral effusions"."""
EXPLAINS = re.compile(
    r"\b(?:is|was|are|were|be|represent\w*|correspond\w*|due to|caused by|from|reflect\w*|(?:consistent|compatible"
    r"|keeping) with"
    r"|attribut\w+|explained by|related to|secondary to|prove[sd]?|likely|probabl[ey]|favored|xxxx(?: an?)?)\b[^,;]*$"
)
SEEN_APART = re.compile(r"\b(?:obscur|limit|hidden|project|seen|visible|adjacent|near|behind|beside)")
"""What links a shadow to its explanation, and words after which it is no explanation but stands beside it."""


NORMAL = ("no acute", "none seen")
NORMAL_ALONE = ("normal", "unremarkable", "negative")
"""How a sentence starts, or what it is, that is of a chest report although it may name nothing."""
REQUEST = re.compile(r"(?:please |to )?(?:rule out|query|evaluate|assess|look|check|exclude|screen)\b")
"""How a sentence starts that asks for findings and tells none."""
_RATIO = re.compile(r"([^,;.\d]{0,24})(0?\.\d+|\d\d(?:\.\d+)?(?= ?%))")
_MORE = re.compile(r">|more|greater|above|over|exceed")
WORDS = re.compile(r"[a-z][a-z-]*")
_SILENT_KINDS = frozenset(
    ("anatomy", "organ", "less_preferred", "neutral", "verb", "conjunction", "alternative", "boundary", "fresh_start")
)
GOES_ON = re.compile(r"[^,;]{0,50}(?:, [^,;]{1,40}){0,3},? (?:or|nor) ")
_PLACED = re.compile(r" (?:\w+ )?(?:(?:in|at|within|along|over|on|of) (?:the )?(?:left|right|both)|measur|with )")
_READINGS = frozenset(("Edema", "Pneumonia", "Consolidation", "Lung Lesion", "Fracture"))
_RIVALS = ("aspir", "hemorrh", "contus", "infarct", "inflam")
_AT = re.compile(r" (?:on|in|at) (?:the )?(\w+)")


class Cue(NamedTuple):
    """Words that decide about a finding: their text, where they stand, and the rule they act by (`RULES`)."""

    text: str
    start: int
    end: int
    rule: str


RULES = {
    "asserted": "named, and no cue governs it",
    "negation": "a denial before it",
    "near_negation": '"not" right before it',
    "post_negation": "a denial after it, which reaches back over its list",
    "uncertainty": "a doubt before it",
    "post_uncertainty": "a doubt after it, which reaches back over its list",
    "likewise": 'as of the finding before it ("and so is")',
    "purpose": 'goes on with what stands before it ("no opacity to suggest pneumonia")',
    "not_asserted": "of the past or only asked about, which the published labeler denies",
    "less_preferred": "another reading is preferred to it",
    "or": '"A or B", two readings of which neither is asserted',
    "?": "the sentence is a question",
    "state": "the state of an organ",
    "pronoun": 'stands for the finding that is denied before it ("but there is one on the right")',
    "artefact": "explained as a shadow of something else",
    "unknown": "words about an organ that the tables do not hold: not normal",
    "chexpert": "a rule of the published labeler that is not ours",
}
"""The rules by which a mention gets its polarity."""


class SentenceMention(NamedTuple):
    """One finding of a sentence: 1 present, 0 absent, -1 uncertain, with the words that named and decided it, and the
    character of the sentence where the naming one starts; then the rule and the stretch of text it spans."""

    observation: str
    polarity: int
    phrase: str
    cue: str | None
    start: int
    rule: str
    scope: tuple[int, int]


class ReadSentence(NamedTuple):
    """`mentions` in the order of the text; `known` tells whether any word of a chest report was recognised."""

    mentions: tuple[SentenceMention, ...]
    known: bool


class Found(NamedTuple):
    """A term in its place. `joint` is "," or "and" when that stands right before it, where a new clause may start."""

    kind: str
    text: str
    observations: tuple[str, ...]
    start: int
    end: int
    joint: str

    def cue(self, rule: str = "") -> Cue:
        """These words as the cue of a rule, by default the one that is called as their kind."""
        return Cue(self.text, self.start, self.end, rule or self.kind)


class Finding:
    __slots__ = ("cue", "joint", "named", "observations", "polarity")

    def __init__(self, named: Found, polarity: int | None, cue: Cue | None, joint: str = ""):
        self.named, self.observations = named, named.observations
        self.polarity = polarity  # None: named, but not asserted of today
        self.cue = cue
        self.joint = joint  # what joins it to the finding before it: ",", "and", ", and", "or", ", or" or ""


def joint_of(gap: str) -> str:
    """What joins two findings, from the text between them: ",", "and", ", and", "or", ", or" or ""."""
    comma = "," in gap
    for word in ("or", "and"):
        if f" {word} " in gap or (word == "or" and "/" in gap):
            return f", {word}" if comma else word
    return "," if comma else ""


def opens_clause(sentence: str, gap: str, end: int) -> bool:
    """Whether what joins a finding, which ends at `end`, to a denied list shows that it is no longer of the list."""
    words = WORDS.findall(gap.rpartition(",")[2])
    if "," not in gap:
        return bool(words) and (PLACES.issuperset(words) or (" and " in gap and not PLACES.isdisjoint(words)))
    fresh = not LIST_WORDS.issuperset(words) or any(letter.isdigit() for letter in gap)
    return (fresh or _PLACED.match(sentence, end) is not None) and not GOES_ON.match(sentence, end)


def reached(group: list[Finding], singular: bool = False) -> list[Finding]:
    """The last findings of a group that a cue behind them reaches: the last one and the list that it closes."""
    found, listed = group[-1:], False
    for finding, before in zip(group[:0:-1], group[-2::-1], strict=True):
        joint = finding.joint
        if finding.observations == before.observations and finding.named.start == before.named.end + 1:
            found.append(before)  # one name: "Hickman catheter"
            continue
        if joint == "," and not (listed and before.joint in ("", ",")):
            break
        if not joint or (joint == ", and" and before.joint != ",") or (singular and joint == "and"):
            break
        listed = True
        found.append(before)
    return found


def are_alternatives(group: list[Finding]) -> bool:
    """Whether "or" before the last of a group asserts none: rival readings, not two names of one shadow."""
    if any("Pneumothorax" in finding.observations for finding in group):
        return True
    names = {name for finding in group[-2:] for name in finding.observations}
    if OTHER in names:
        rival = any(finding.named.text.startswith(_RIVALS) for finding in group[-2:])
        return rival and not names.isdisjoint(_READINGS)
    return len(names) > 1 and names <= _READINGS


def doubt(findings: list[Finding], cue: Cue) -> None:
    """Doubt what is asserted of these findings."""
    for finding in findings:
        if finding.polarity == PRESENT:
            finding.polarity, finding.cue = UNCERTAIN, cue


def heart_size(sentence: str, ratio: Found) -> tuple[int, Found] | None:
    """What the number after a cardiothoracic ratio says of the heart, enlarged above 0.5, and its words; or None."""
    number = _RATIO.match(sentence, ratio.end)
    if number is None:
        return None
    size = float(number[2]) / (1 if "." in number[2][:2] else 100)
    enlarged = size > 0.5 or (size == 0.5 and _MORE.search(number[1]) is not None)
    words = ratio._replace(text=number.group().strip(), start=ratio.end + 1, end=number.end())
    return (PRESENT if enlarged else ABSENT), words


def is_elsewhere(sentence: str, none: Found) -> bool:
    """Whether "none" denies a finding at another place than that where it is: "on the right, none on the left"."""
    place = _AT.match(sentence, none.end) if none.text.startswith("none") else None
    before = sentence[max(0, none.start - 60) : none.start]
    return place is not None and ":" not in before and bool(PLACES.intersection(WORDS.findall(before)) - {place[1]})


_OUT_OF_SIGHT = ("seen", "identified", "visible", "appreciated", "visualized", "included", "demonstrated")
_DEVICE_PART = re.compile(r"\b(?:tips?|side[- ]?(?:ports?|holes?)|distal|terminus|terminat\w+|ends?|course|position)\b")


def is_part(sentence: str, unseen: Found) -> bool:
    """Whether only a part of a device is out of sight: "the tip of the tube is not seen"."""
    return unseen.text.endswith(_OUT_OF_SIGHT) and _DEVICE_PART.search(sentence, 0, unseen.start) is not None


def unknown_word(sentence: str, terms: list[Found]) -> list[Finding]:
    """A sentence that names anatomy, says nothing the tables hold and has another word: not normal."""
    organ = next((term for term in terms if term.kind in ("anatomy", "organ")), None)
    told = any(term.kind not in _SILENT_KINDS and not term.text.startswith("absen") for term in terms)
    if organ is None or told:
        return []
    terms = [term for term in terms if term.kind not in ("negation", "fresh_start")]
    for word in WORDS.finditer(sentence):
        if word.group() not in HARMLESS and not any(t.start <= word.start() < t.end for t in terms):
            cue = Cue(word.group(), word.start(), word.end(), "unknown")
            return [Finding(organ._replace(observations=(OTHER,)), PRESENT, cue)]
    return []
