"""Which findings a sentence states or denies, and which a request asks for: a few plain words, no labeler.

It travels with a checkpoint, so that a correction can say whether it was done. It knows the words below and a simple
negation; `evaluation.reading.labeler` reads much more and stays behind.
"""

import re
from collections.abc import Iterable, Sequence

from .prompt_trrg import PromptError
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

_CUT = re.compile(r"([,:;()]|(?<=\s)[-\u2013\u2014](?=\s)|\b(?:and|but|however|although|though|except|while|with)\b)")
_NO = re.compile(
    r"(?:n't|\b(?:no|nil|not|can ?not (?:find|see)|without|never|neither|nor|denies|negative for"
    r"|(?:free|absence|resolution|removal|clear) of"
    r"|aucun\w*|pas d'?e?|sans|keine?[nrms]?|ohne|sin|senza|nessun\w*|sem|geen|zonder))\b"  # priors in other languages
    r"(?! (?:\w+ ){0,2}(?:chang|increas|worsen|larger|smaller|forget|miss))"
)
_GONE = re.compile(
    r"(?:\b(?:not|nicht|no longer|resolved|absent|gone|removed|excluded|ruled out|cleared)|n't)\b"
    r"(?! (?:\w+ )?(?:chang|increas))"
)
_ANEW = re.compile(
    r"\b(?:there|is|are|has|have|shows?|demonstrates?|reveals?|contains?|small|tiny|trace|mild\w*|moderate\w*|minimal\w*|slight\w*|subtle|stable|left|right|bi\w+al"
    r"|possibl[ey]|probabl[ey]|likely)\b"
)
_CHAMBER = re.compile(rf"\b(?:{'|'.join(SIDES)}) (?=(?:ventric|atri)\w+)")  # where a lead ends, no side of its device
_DOUBT = re.compile(r"\b(?:can ?not|can't|could not|not) (?:be )?(?:\w+ )?(?:excluded?|ruled? out)")
_SEEN = r"(?:seen|present|identified|visuali[sz]ed|evident|found|detected)"
_ANSWERED_NO = re.compile(rf"\s*(?:(?:no|none|nil|absent|negative)(?: {_SEEN})?|not {_SEEN})\W*")  # "Edema: none."
_KEEP = re.compile(r"\b(?:keep|retain|leave)\b(?! (?:\w+ ){0,3}out\b)")
_ADD = re.compile(r"\b(?:add|mention|include|insert|(?<!the )(?<!this )(?<!your )report|missing|missed|forgot\w*)\b")
_REMOVE = re.compile(
    r"\b(?:remove|delete|drop|omit|strike|erase|get rid of|(?:take|leave) (?:\w+ ){0,4}out"
    r"|(?:should|must|has to|have to) go|wrong|mistaken?|incorrect|false)\b"
)

_COLONS = (":", "-", "\u2013", "\u2014")

_VERBS = ((_ADD, False), (_REMOVE, True), (_KEEP, None))
_QUESTION = re.compile(
    r"(?:why|how|what|where|which|who|when|is|are|was|were|does|do(?! not)|did|has|have)\b", re.IGNORECASE
)
_CHANGE = re.compile(
    r"\b(?:change|correct|rewrite|revise|fix|write|say|shorten|simplify|move|swap|replace)\b", re.IGNORECASE
)
_NOT_THERE = re.compile(r"(?:(?<!\bis )(?<!\bare )\bnot|\bnot (?:on|in|at)) (?:the |its )?(left|right)\b")
_FROM_TO = re.compile(r"\bfrom (?:the )?(left|right)\b.*\bto (?:the )?(left|right)\b")
_WRONG_SIDE = re.compile(
    r"\b(?:wrong|other|opposite|contralateral) side|\bside\b.*\bwrong|\bchange the sides?"
    r"|\b(?:mix|swap|confus|exchang|mistak)\w* (?:up )?(?:the )?sides?"
)
_UNCLEAR = re.compile(r"\b(?:replac\w+|substitut\w+|exchang\w+|swap\w*|rather than|instead|in place of)\b")
"""Which finding goes and which one comes is not read from words like these."""


def refuse_unclear(request: str) -> None:
    """
    Raises:
        PromptError: every sentence of a request is a question ("Is there an edema?"), which asks for no change; or one
            may change findings or their sides in words of which `read_request` cannot tell what goes and what comes.
    """
    sentences = [sentence for sentence in cut_sentences(request) if not _asks(sentence)]
    if not sentences and request.strip():
        raise PromptError(f"request: {request!r:.80} is a question and changes nothing; give it to ask")
    for sentence in (sentence.lower() for sentence in sentences):
        if not _moved(sentence) and (found := _WRONG_SIDE.search(sentence) or _UNCLEAR.search(sentence)):
            raise PromptError(
                f"request: {found[0]!r} does not tell what comes and what goes; give findings to add and to remove"
            )


def finding_of(name: str) -> str:
    """The finding of a clue with a side ("Left Pleural Effusion" -> "Pleural Effusion"); any other name as it is."""
    side, _, finding = name.partition(" ")
    return finding if side.lower() in SIDES and finding else name


def states(sentence: str, name: str) -> bool | None:
    """Whether a sentence states a finding (True, also where it doubts it), denies it (False) or says nothing of it."""
    found = [denied for _, denied in _mentions(sentence, name)]
    return None if not found else not all(found)


def stated(text: str, name: str) -> bool:
    """Whether any sentence of a text states a finding."""
    return any(states(sentence, name) for sentence in cut_sentences(text))


def read_request(request: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The findings that a request in free words asks to add and to remove: ("The tube is missing.") -> add devices.

    A finding that is plainly asserted is to be added, a denied one to be removed. Where a side is named, it is the
    finding of this side; one that is on a side and not on the other is added there and removed here. A question, and
    what is to be kept, asks for nothing.
    """
    asked: dict[bool, list[str]] = {True: [], False: []}
    for sentence in cut_sentences(request):
        if _asks(sentence):
            continue
        if places := _moved(sentence.lower()):
            moved = [name for name in names if finding_of(name) == name and _mentions(sentence, name)]
            for side, wanted in zip(places, (asked[True], asked[False]), strict=True):
                wanted += [told for name in moved if (told := f"{side} {name}") not in wanted]
            continue
        parts: list[str] = clauses(sentence)
        verbs: list[bool | None] = [False]
        for part in parts:  # a part without a verb takes that of the part before it
            found = [(verb.start(), wrong) for kind, wrong in _VERBS for verb in kind.finditer(part)]
            verbs.append(max(found)[1] if found else verbs[-1])
        for name in (name for name in names if finding_of(name) == name):
            for place, denied in _mentions(sentence, name):
                if verbs[place + 1] is None:
                    continue
                sides = [side for side in SIDES if re.search(rf"\b{side}\b(?! out)", parts[place])]
                wanted = asked[denied == verbs[place + 1]]
                told = f"{sides[0].title()} {name}" if len(sides) == 1 else name
                wanted += [] if told in wanted else [told]
    return asked[True], asked[False]


def _asks(sentence: str) -> bool:
    if not sentence.rstrip().endswith("?"):
        return False
    changes = any(verb.search(sentence.lower()) for verb in (_ADD, _REMOVE, _CHANGE))
    return _QUESTION.match(sentence.lstrip()) is not None or not changes


def _moved(sentence: str) -> tuple[str, str] | None:
    """The side on which a sentence in small letters says that something is, and the one on which it is not."""
    named = {*re.findall(r"\b(left|right)\b(?! out)", sentence)}
    if found := _FROM_TO.search(sentence):
        new = found[2]
    elif len(named) == 2 and (found := _NOT_THERE.search(sentence)):
        new = "left" if found[1] == "right" else "right"
    elif len(named) == 1 and _WRONG_SIDE.search(sentence):
        (new,) = named
    else:
        return None
    return new.title(), "Left" if new == "right" else "Right"


def known_findings(field: str, asked: Iterable[str], names: Sequence[str]) -> list[str]:
    """The findings as they are spelled in `names`, sides with a capital letter.

    Raises:
        PromptError: one is neither among the names nor one of them with its side.
    """
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        raise PromptError(f"{field}: expected a list of findings, got {asked!r:.80}")
    known = [name for name in names if name != "No Finding"]
    spelled = {name.lower(): name for name in known}
    spelled |= {f"{side} {low}": f"{side.title()} {name}" for low, name in spelled.items() for side in SIDES}
    asked = list(asked)
    for name in asked:
        if not isinstance(name, str) or name.strip().lower() not in spelled:
            raise PromptError(f"{field}: {name!r} is no finding of the study; known are {', '.join(known)}")
    return list(dict.fromkeys(spelled[name.strip().lower()] for name in asked))


def clauses(sentence: str) -> list[str]:
    """A sentence in small letters, cut at commas and words between clauses, which are parts of their own."""
    return _CUT.split(_CHAMBER.sub("", _DOUBT.sub("possible", sentence.lower())))


def _mentions(sentence: str, name: str) -> list[tuple[int, bool]]:
    """The place of each part of a sentence that names the finding, and whether it denies it.

    A negation reaches over "or" and over a list ("no effusion, edema or fracture"), not into what starts anew ("no
    edema, small effusion").
    """
    finding = finding_of(name)
    side = name[: -len(finding)].strip().lower()
    words = re.compile(rf"\b(?:{FINDING_WORDS.get(finding) or re.escape(finding.rstrip('.').lower())})\b")
    mentions, denied, parts = [], False, clauses(sentence)
    for place, part in enumerate(parts):
        if _CUT.fullmatch(part):
            denied = denied and part in (",", "and")
            continue
        cue = _NO.search(part)
        found = words.search(part)
        denied = cue is not None or (denied and not _ANEW.search(part, 0, found.start() if found else len(part)))
        if found and (not side or re.search(rf"\b(?:{side}|bilateral(?:ly)?|both)\b", part)):
            before = cue is not None and cue.start() < found.end()
            answered = _ANSWERED_NO.fullmatch(_answer_to(parts, place))
            gone = answered or _GONE.search(part, found.end())
            mentions.append((place, before or (denied and cue is None) or gone is not None))
    return mentions


def _answer_to(parts: Sequence[str], place: int) -> str:
    """What a sentence says behind the colon, or dash, after the list that a part is in: "X and Y: none."."""
    after = next((at for at in range(place + 1, len(parts), 2) if parts[at] not in (",", "and")), len(parts))
    return parts[after + 1] if parts[after : after + 1] and parts[after] in _COLONS else ""
