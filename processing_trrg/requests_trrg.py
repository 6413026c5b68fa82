"""What a request in free words asks to add to a report and to take out of it, and which requests are refused.

    read_request("Take the nodule out; the effusion is on the left, not on the right.", names)

The words are those of `findings_trrg`. Where they do not tell what comes and what goes, nothing is guessed. Research
only, never for clinical use.
"""

import re
from collections.abc import Iterable, Sequence

from .compared_trrg import is_english
from .findings_trrg import GONE, NEGATION, SIDES, clauses, finding_of, listed_before, mentions
from .prompt_trrg import PromptError
from .sentences_trrg import cut_sentences

_ADD = re.compile(
    r"\b(?:add|mention|include|insert|(?<!the )(?<!this )(?<!your )report|missing|missed|forgot\w*)\b", re.IGNORECASE
)
_TAKE_OUT = re.compile(
    r"\b(?:remove|delete|drop|omit|strike|erase|ignore|disregard|forget about|get rid of)\b"
    r"|\b(?:take|leave) (?:\w+ ){0,4}out\b"
    r"|\b(?:should|must|has to|have to) go\b(?! (?:in|into|to|under|first))",
    re.IGNORECASE,
)
_WRONG = re.compile(r"\b(?:wrong(?:ly)?|mistaken?|incorrect(?:ly)?|false(?:ly)?|an error)\b", re.IGNORECASE)
_KEEP = re.compile(r"\b(?:keep|retain|leave)\b(?! (?:\w+ ){0,3}out\b)", re.IGNORECASE)
_VERBS = ((_ADD, False), (_TAKE_OUT, True), (_WRONG, True), (_KEEP, None))
_CHANGE = re.compile(r"\b(?:change|correct|rewrite|revise|fix|write|say|shorten|simplify|move|swap|replace)\b", re.I)
_QUESTION = re.compile(
    r"(?:why|how|what|where|which|who|when|is|are|was|were|does|do(?! not)|did|has|have)\b"
    r"|(?:could|would|can|will) you (?:please )?"
    r"(?:see|find|tell|explain|show|confirm|describe|detect|identify|check)\b",
    re.IGNORECASE,
)
_POLITE = re.compile(r"(?:could|would|can|will) (?:you|we|the)\b|is it possible\b", re.IGNORECASE)
_ASKS_ALL_THE_SAME = re.compile(r"(?:please )?(?:tell me|say|explain|check) (?:whether|if|why|how)\b", re.IGNORECASE)

_SIDE = f"({'|'.join(SIDES)})"
_TO_A_SIDE = re.compile(rf"\b(?:move|shift|change)\b.{{0,80}}\bto (?:the )?{_SIDE}(?: side)?\W*$")
_NOT_THERE = re.compile(
    rf"(?:(?:\bnot|n't) (?:on|in|at)|(?<!\bis )(?<!\bare )(?<!\bwas )(?<!'s )\bnot) (?:the )?{_SIDE}"
    rf"(?:-sided| side)?(?=\W*$|,| but\b)|\b(?:is|are|was) not {_SIDE}(?:-sided)?(?= but\b)"
)
_WRONG_SIDE = re.compile(
    r"\b(?:wrong side|(?:swap|mix|confus|exchang|switch)\w* (?:up )?(?:the )?sides?)\b"
    r"|\bside of (?:the )?.{0,60}\b(?:is|was) wrong\b"
)
_IS_THERE = re.compile(rf"(?:\b(?:is|should be)|'s) (?:on |in )?(?:the )?{_SIDE}(?:-sided| side)?\b")
_OTHER_SIDE = re.compile(r"\b(?:opposite|other|contralateral) side\b")
_INSTEAD = re.compile(
    r"\b(?:replace|substitute|exchange|swap|rather than|instead of|in place of|actually)\b"
    r"|\bchange (?!the report|nothing).{0,60}\b(?:to|into)\b|\bwrong\b.{0,9}\bit(?:'s| is)\b"
)
_ALL_BUT = re.compile(r"\b(?:all|every\w*|findings?)\b.{0,30}\b(?:except|but|other than)\b")
_THE_OTHER = re.compile(rf"\b(?:{_SIDE} one|one on the {_SIDE})\b")
"""A finding that only its side names."""
_STATES = re.compile(r"\b(?:there|is|are|has|have|you|see|forget)\b")
_NO_SIDE = re.compile(r"\byou(?:'re| are) right\b|\bleft(?= (?:\w+ ){0,4}out\b)", re.IGNORECASE)


def read_request(request: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The findings that a request in free words asks to add and to remove: ("The tube is missing.") -> add devices.

    A finding that is plainly asserted is to be added, a denied one to be removed. Where a side is named, it is the
    finding of this side; one that is said to be on the other side is added there and removed here. A question, and what
    is to be kept, asks for nothing.
    """
    asked: dict[bool, list[str]] = {True: [], False: []}
    for part in _parts([*cut_sentences(request)], names):
        moved = _moved(part, names)
        read = _plainly_asked(part, names) if moved is None else [(moved[0], True), (moved[1], False)]
        for told, is_added in read:
            asked[is_added] += [] if told in asked[is_added] else [told]
    return asked[True], asked[False]


def refuse_unclear(request: str, names: Sequence[str]) -> None:
    """Let only requests pass of which `read_request` can tell what they ask for.

    Raises:
        PromptError: every sentence of a request is a question ("Is there an edema?"), which asks for no change; it is
            not in English; or a sentence may change findings or their sides in words that do not tell what comes and
            what goes.
    """
    sentences = [*cut_sentences(request)]
    if sentences and all(map(_asks, sentences)):
        raise PromptError(f"request: {request!r:.80} is a question and changes nothing; give it to ask")
    if not is_english(request):
        raise PromptError(f"request: {request!r:.80} is not in English by its words; nothing else is read")
    for part in _parts(sentences, names):
        low, findings = part.lower(), _named(part, names)
        found = _ALL_BUT.search(low) if findings else None
        if not found and not _moved(part, names):
            both = len({*re.findall(rf"\b{_SIDE}\b", low)}) > 1
            found = _INSTEAD.search(low) if len(findings) > 1 or both else None
            found = found or _other_by_its_side(part, names)
            if not found and not _tells(part):
                found = _WRONG_SIDE.search(low) or (_OTHER_SIDE.search(low) if findings else None)
        if found:
            raise PromptError(
                f"request: {found[0]!r} does not tell what comes and what goes; give findings to add and to remove"
            )


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


def _asks(sentence: str) -> bool:
    if not sentence.endswith("?"):
        return _ASKS_ALL_THE_SAME.match(sentence) is not None
    is_question, changes = _QUESTION.match(sentence), _ADD.search(sentence) or _TAKE_OUT.search(sentence)
    if _POLITE.match(sentence):
        return bool(is_question and not changes)
    return bool(is_question or not (changes or _CHANGE.search(sentence)))


def _other_by_its_side(words: str, names: Sequence[str]) -> re.Match[str] | None:
    """Where a part says what is to be done with a finding that is known by its side alone ("remove the left one")."""
    for part in clauses(_NO_SIDE.sub("", words)):
        if not _named(part, names) and not re.match(r"\s*(?:not|keep|leave)\b", part):
            found = _THE_OTHER.search(part) or (re.search(rf"\b{_SIDE}\W*$", part) if _tells(part) else None)
            if found:
                return found
    return None


def _named(words: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if finding_of(name) == name and mentions(words, name)]


def _tells(words: str) -> bool:
    """Whether a verb says what is to be done with what is named."""
    return any(verb.search(words) for verb in (_ADD, _TAKE_OUT, _KEEP))


def _parts(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """What the sentences that ask for a change are read in."""
    return [part for sentence in sentences if not _asks(sentence) for part in _apart(sentence, names)]


def _apart(sentence: str, names: Sequence[str]) -> list[str]:
    """A sentence, cut at "and" where one of its parts moves a finding, each part with a finding."""
    parts: list[str] = []
    for part in re.split(r",? and ", sentence):
        if parts and not _named(part, names):
            parts[-1] += f" and {part}"
        else:
            parts.append(part)
    return parts if any(_moved(part, names) for part in parts) else [sentence]


def _moved(words: str, names: Sequence[str]) -> tuple[str, str] | None:
    """The finding with the side that it is on, and with the one that it is said not to be on. None where the words do
    something else with it, or name another one too."""
    low, findings = "".join(clauses(_NO_SIDE.sub("", words))), _named(words, names)
    if len(findings) != 1 or _tells(words):
        return None
    sides = {*re.findall(rf"\b{_SIDE}\b", low)}
    if found := _TO_A_SIDE.search(low):
        new = found[1]
    elif found := _NOT_THERE.search(low):
        rest = low[: found.start()] + low[found.end() :]
        new = "left" if (found[1] or found[2]) == "right" else "right"
        if NEGATION.search(rest) or GONE.search(rest) or {*re.findall(rf"\b{_SIDE}\b", rest)} != {new}:
            return None
    elif _WRONG_SIDE.search(low) and (found := _IS_THERE.search(low)) and len(sides) == 1:
        new = found[1]
    else:
        return None
    old = "Left" if new == "right" else "Right"
    return f"{new.title()} {findings[0]}", f"{old} {findings[0]}"


def _plainly_asked(sentence: str, names: Sequence[str]) -> list[tuple[str, bool]]:
    """Findings and whether each is to be added. A part without a verb takes that of the part before it, of the one
    behind its colon, or of the one that ends the list that it begins; one that states or denies stands for itself."""
    sentence = _NO_SIDE.sub("", re.sub(r"^no, ", "", sentence, flags=re.IGNORECASE))
    parts = clauses(sentence)
    found = [[(verb.start(), wrong) for kind, wrong in _VERBS for verb in kind.finditer(part)] for part in parts]
    own = [max(told, key=lambda verb: verb[0]) if told else None for told in found]
    for place, verb in enumerate(own):  # "That is wrong" speaks of no finding
        if verb and _WRONG.match(parts[place], verb[0]) and not _named(parts[place], names):
            own[place] = None
    for place, verb in reversed([*enumerate(own)]):
        if verb:
            for listed in listed_before(parts, place):
                own[listed] = own[listed] or (None if any(own[:listed]) else verb)
    verbs: list[bool | None] = []
    for place, verb in enumerate(own):
        behind = own[place + 2] if parts[place + 1 : place + 2] == [":"] else None
        said = verb or behind
        starts = place % 2 == 0 and (NEGATION.search(parts[place]) or _STATES.search(parts[place]))
        is_bare = verbs and re.match(r"\s*not\b", parts[place])  # "remove edema, not effusion"
        verbs.append(said[1] if said else None if is_bare else False if starts or not verbs else verbs[-1])
    asked = []
    for name in (name for name in names if finding_of(name) == name):
        for place, denied in mentions(sentence, name):
            if verbs[place] is None:
                continue
            if own[place] and not NEGATION.search(parts[place]) and not GONE.search(parts[place]):
                denied = False  # what was denied before has a verb of its own
            sides = [side for side in SIDES if re.search(rf"\b{side}\b(?! out)", parts[place])]
            told = f"{sides[0].title()} {name}" if len(sides) == 1 else name
            asked.append((told, denied == verbs[place]))
    return asked
