"""Which findings a sentence states or denies: a few plain words of English, no labeler.

It travels with a checkpoint, so that a correction can say whether it was done. It knows the words below and a simple
negation; `evaluation.reading.labeler` reads much more and stays behind.
"""

import re
from collections.abc import Sequence

from .sentences_trrg import cut_sentences

FINDING_WORDS = {
    "Enlarged Cardiomediastinum": r"(?:enlarge[dm]\w*|widen\w+|wide|prominent) (?:of the )?(?:cardio)?mediastin\w+"
    r"|mediastin\w+ (?:\w+ ){0,3}(?:enlarged|widened|wide)|mediastinal (?:widening|enlargement)",
    "Cardiomegaly": r"cardiomegaly|cardiac enlargement|enlarge(?:d|ment of the) (?:heart|cardiac)"
    r"|(?:heart|cardiac silhouette|cardiac size) (?:\w+ ){0,4}(?:enlarged|increased|big|large)",
    "Lung Opacity": r"opaci\w+|infiltrat\w+|airspace disease|(?<!pleural )scar(?:s|ring)?",
    "Lung Lesion": r"lesions?|mass(?:es)?|nodul\w+|tumou?rs?",
    "Edema": r"o?edema|(?:vascular|pulmonary) congestion|kerley(?:'s)?(?: [abc])?(?: |-)lines?",
    "Consolidation": r"consolidat\w+",
    "Pneumonia": r"(?:broncho)?pneumonias?|infections?",
    "Atelectasis": r"atelecta\w+",
    "Pneumothorax": r"pneumothora\w+",
    "Pleural Effusion": r"(?<!pericardial )effusions?|pleural fluid",
    "Pleural Other": r"pleural (?:thickening|plaques?|scar\w*|calcifi\w+|abnormalit\w+)|fibrothorax"
    r"|thickening of the pleura",
    "Fracture": r"fractur\w+",
    "Support Devices": r"devices?|catheters?|(?<!pleural )(?<!septal )(?<!kerley )(?<!kerley a )(?<!\b[bc][ -])lines?"
    r"|tubes?|pacemakers?|pacer|picc|ports?|leads?|drains?|wires?|clips?|sutures?|tubing|stents?|valve replacement",
}
"""What names each finding, as patterns; every other clue is known by its own name."""
SIDES = ("left", "right")

_CUT = re.compile(r"([,:;()]|\b(?:and|but|however|although|though|except|while|with)\b)")
NEGATION = re.compile(
    r"(?:n't|\b(?:no|nil|not|can ?not (?:find|see)|without|never|neither|nor|denies|negative for"
    r"|(?:free|absence|resolution|removal|clear) of))\b"
    r"(?! (?:\w+ ){0,2}(?:chang|increas|worsen|larger|smaller|forget|miss))"
)
GONE = re.compile(
    r"(?:\b(?:not|no longer|resolved|absent|gone|removed|excluded|ruled out|cleared)|n't)\b"
    r"(?! (?:\w+ )?(?:chang|increas))"
)
_ANEW = re.compile(
    r"\b(?:there|is|are|has|have|you|see|forget|shows?|demonstrates?|reveals?|contains?|small|tiny|trace|mild\w*|moderate\w*"
    r"|minimal\w*|slight\w*|subtle|stable|left|right|bi\w+al|possibl[ey]|probabl[ey]|likely)\b"
)
_CHAMBER = re.compile(rf"\b(?:{'|'.join(SIDES)}) (?=(?:ventric|atri)\w+)")  # where a lead ends, no side of its device
_DOUBT = re.compile(r"\b(?:can ?not|can't|could not|not) (?:be )?(?:\w+ )?(?:excluded?|ruled? out)")
_SEEN = r"(?:seen|present|identified|visuali[sz]ed|evident|found|detected)"
_NONE = rf"(?:(?:no|none|nil|absent|negative)(?: {_SEEN})?|not {_SEEN})"
_ANSWERED_NO = re.compile(rf"\s*{_NONE}\W*")  # "Edema: none."
_DASH = re.compile(rf"\s[-\u2013\u2014]\s(?={_NONE}\W*$)")
_ANY = "|".join(FINDING_WORDS.values())
_FINDING = re.compile(rf"\b(?:{_ANY})\b")
_ITEM = re.compile(rf"\s*(?:the |an? |both )?(?:(?:{'|'.join(SIDES)}) )?(?:pleural )?(?:{_ANY})\s*")
"""A part of a sentence that is a finding and nothing else."""


def finding_of(name: str) -> str:
    """The finding of a clue with a side ("Left Pleural Effusion" -> "Pleural Effusion"); any other name as it is."""
    side, _, finding = name.partition(" ")
    return finding if side.lower() in SIDES and finding else name


def states(sentence: str, name: str) -> bool | None:
    """Whether a sentence states a finding (True, also where it doubts it), denies it (False) or says nothing of it."""
    found = [denied for _, denied in mentions(sentence, name)]
    return None if not found else not all(found)


def stated(text: str, name: str) -> bool:
    """Whether any sentence of a text states a finding."""
    return any(states(sentence, name) for sentence in cut_sentences(text))


def clauses(sentence: str) -> list[str]:
    """A sentence in small letters, cut at commas and words between clauses, which are parts of their own."""
    plain = _DASH.sub(": ", _DOUBT.sub("possible", sentence.lower()))
    return _CUT.split(_CHAMBER.sub("", plain))


def mentions(sentence: str, name: str) -> list[tuple[int, bool]]:
    """The place of each part of a sentence that names the finding, and whether it denies it.

    A negation reaches over "or" and over a list ("no effusion, edema or fracture"), not into what starts anew ("no
    edema, small effusion").
    """
    finding = finding_of(name)
    side = name[: -len(finding)].strip().lower()
    words = re.compile(rf"\b(?:{FINDING_WORDS.get(finding) or re.escape(finding.rstrip('.').lower())})\b")
    if not words.search(sentence.lower()):
        return []
    found_at, denied, parts = [], False, clauses(sentence)
    gone = _gone(parts)
    for place, part in enumerate(parts):
        if place % 2:  # what it was cut at
            denied = denied and part in (",", "and")
            continue
        cue = NEGATION.search(part)
        found = words.search(part)
        denied = cue is not None or (denied and not _ANEW.search(part, 0, found.start() if found else len(part)))
        if found and (not side or re.search(rf"\b(?:{side}|bilateral(?:ly)?|both)\b", part)):
            before = cue is not None and cue.start() < found.end()
            found_at.append((place, before or (denied and cue is None) or place in gone))
    return found_at


def listed_before(parts: Sequence[str], place: int) -> list[int]:
    """The places of the findings that stand in a list before a part: of "effusion" in "edema, effusion and a nodule are
    seen" that of "edema", nearest first."""
    listed = []
    while place >= 2 and parts[place - 1] in (",", "and") and _ITEM.fullmatch(parts[place - 2]):
        place -= 2
        listed.append(place)
    return listed


def _gone(parts: Sequence[str]) -> set[int]:
    """The places of the parts of which it is said behind them that they are not there, with the findings listed before
    them: "Lines and tubes: none.", "Edema and effusion are not seen."."""
    gone: set[int] = set()
    for place in range(0, len(parts), 2):
        answered = parts[place + 1 : place + 2] == [":"] and _ANSWERED_NO.fullmatch(parts[place + 2])
        named = _FINDING.search(parts[place])
        if answered or (named and GONE.search(parts[place], named.end())):
            gone |= {place, *(listed_before(parts, place) if named else ())}
    return gone
