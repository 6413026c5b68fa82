"""A corrected report in which nothing changed but what was asked: what the model changed beside it is taken back, and
what it was to take out and left goes.

    kept_but_for("The heart is big. No edema. Clear.", after, "add edema", add=["Edema"], remove=[])

Research only, never for clinical use.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache

from .findings_trrg import FINDING_WORDS, finding_of, stated, states
from .prompt_trrg import correction_request
from .report_trrg import report_text, split_report
from .sentences_trrg import cut_sentences
from .statements_trrg import NORMAL, NOTHING, OF_THE_LUNGS, ORDINARY, parts_of

MOST_ASKS = 3
"""Times that a model is asked to state what it was to add and did not."""
_WORDS = re.compile(r"[a-z]{5,}")
_COMMON = set(
    _WORDS.findall("there right lungs heart chest small moderate large severe report please remove image evidence")
)
"""Words of five letters and more that sentences share whatever they speak of."""
_ACUTE = ("Edema", "Consolidation", "Pneumonia", "Pneumothorax", "Pleural Effusion")
"""Findings beside which "no acute disease" cannot stand."""
_QUIET = ("Support Devices", "Fracture")
"""Findings beside which "normal chest" may stand."""
OTHER = re.compile(r"\b(?:other(?! pleural)|otherwise|additional|further)\b", re.IGNORECASE)
"""Denies only what was not said before it: "No other abnormality."."""


def correct_reports(
    texts: Sequence[str],
    requests: Sequence[tuple[str | None, Sequence[str], Sequence[str]]],
    ask: Callable[[dict[int, str], bool], Sequence[str]],
    take: Callable[[int, str], None],
) -> None:
    """Have reports corrected, each as `kept_but_for` says. What is to be added and still unsaid is asked for again,
    until it was asked for `MOST_ASKS` times, the last time anew, or a reply has no words but a heading, which changes
    nothing.

    Args:
        texts: the reports.
        requests: of each its words (None: nothing is asked), and the findings that they add and remove.
        ask: words by row -> the reply to each; anew: where the report was revised, behind the one that was written
            first, which the language model knows better.
        take: gets row and text of each new report.
    """
    now = list(texts)
    asked = {row: (words, add, remove) for row, (words, add, remove) in enumerate(requests) if words is not None}
    for number in range(1, MOST_ASKS + 1):
        anew = 1 < number == MOST_ASKS
        replies = ask({row: words for row, (words, _, _) in asked.items()}, anew) if asked else ()
        again: dict[int, tuple[str, Sequence[str], Sequence[str]]] = {}
        for (row, (words, add, remove)), reply in zip(asked.items(), replies, strict=True):
            wrote = split_report(reply)
            if not any(wrote):
                continue
            kept = kept_but_for(split_report(now[row]), wrote, words, add, remove) if add or remove else wrote
            now[row] = reply if kept == wrote else report_text(*kept)
            take(row, now[row])
            left = [name for name in add if not stated(now[row], name)]
            if (more := correction_request(left, ())) is not None:
                again[row] = more, left, ()
        asked = again


def kept_but_for(
    before: tuple[str, str | None], after: tuple[str, str | None], request: str, add: Sequence[str],
    remove: Sequence[str],
) -> tuple[str, str | None]:  # fmt: skip
    """A corrected report with every sentence of the one before that speaks of nothing that was asked, word for word and
    in its place, and without new ones of that sort. A sentence that states what is to be removed, and no other finding
    of `FINDING_WORDS` or of its other side, goes as a whole, also where the model left it.
    So does one that denies what was added, and nothing else, by its name or by calling all normal.

    What was stated and not to be removed stays stated: where it got lost, the sentences that said it come back, and so
    do those whose place a finding was to take that is still unsaid. No new sentence denies what stays, or states a
    finding, or another side of one, that was neither there nor asked for. Denials may go with their sentence. Where
    neither section would have a word left, all stays.

    A sentence is open to change where it names a finding that was asked for, and not its other side alone, names no
    finding and uses a longer word of the request, calls normal what is to be added, or says that there is nothing where
    it would be.

    Args:
        before, after: findings and impression.
        request: in words.
        add, remove: the findings that it names, one at least; else nobody can tell what was to stay.

    Returns:
        findings and impression, as they were written where nothing is taken back.
    """
    asked = {*add, *remove}
    unasked = FINDING_WORDS.keys() - {finding_of(name) for name in asked}
    no_longer_normal = [ORDINARY[name] for name in map(_normal_without, add) if name in ORDINARY]
    words = set(_WORDS.findall(request.lower())) - _COMMON

    def is_open(sentence: str) -> bool:
        return bool(
            any(_speaks_of(sentence, name) for name in asked)
            or (
                not words.isdisjoint(_WORDS.findall(sentence.lower()))
                and all(states(sentence, name) is None for name in (*unasked, *map(_other_side, asked)))
            )
            or (NOTHING.search(sentence) is not None and any(_would_be_there(sentence, name) for name in asked))
            or (
                re.search(NORMAL, sentence, re.I)
                and any(re.search(place, sentence, re.I) for place in no_longer_normal)
            )
        )

    def is_to_go(sentence: str) -> bool:
        named = [name for name in remove if states(sentence, name) and not states(sentence, _other_side(name))]
        others = FINDING_WORDS.keys() - {finding_of(name) for name in named}
        return bool(named) and not any(states(sentence, other) for other in others)

    old, written = ([[*cut_sentences(text or "")] for text in texts] for texts in (before, after))
    had = _stated_in(old)
    staying = had - _taken_out(remove, had) - {side for name in add for side in _sides_of(name)}
    wanted = {told for name in add for told in _implied(name, had)}

    def may_come(sentence: str, back: Sequence[str]) -> bool:
        told = _told(sentence)
        denied = {name for name, value in told.items() if not value}
        opposed = denied | ({*OF_THE_LUNGS} if "Lung Opacity" in denied else set())
        new = any(value and name not in wanted and _is_new(name, had) for name, value in told.items())
        there = staying | {*add} | _stated_in([back])
        by_side = [name for name in there if not there.intersection(_sides_of(name))]  # "no right X" beside a left one
        return not new and not opposed & there and not _denies_only(sentence, by_side)

    def is_lost(sentence: str, denied: Set[str]) -> bool:
        """Whether it denies what nobody denies without it, and agrees with what is asked."""
        alone = _denied_in([sentence])
        return (
            bool(alone)
            and True not in _told(sentence).values()
            and not alone & {*map(finding_of, add), *add}
            and not alone <= denied
        )

    def merged_with(lost: Set[str], unreplaced: Set[str], unsaid: Sequence[str]) -> tuple[list[list[str]], list[str]]:
        """The sentences of each section, and what of `add` they state. Sentences that state what is `lost` come in;
        those before come back for what has no other, and where what was to take their place is still `unsaid`."""
        said = [name for name in add if name not in unsaid]
        sections = []
        for lines, new in zip(old, written, strict=True):
            back = [line for line in lines if unreplaced & _stated_in([[line]])]
            back += [line for line in lines if unsaid and not any(_speaks_of(line, name) for name in said)]
            new = [
                line
                for line in new
                if line in lines or (may_come(line, back) and not (back and _says_again(line, back)))
            ]
            denied = _denied_in(new)
            may_go = [line for line in lines if line not in back and is_open(line) and not is_lost(line, denied)]
            may_enter = [line for line in new if is_open(line) or lost & _stated_in([[line]])]
            sections.append(_merged(lines, new, may_go, may_enter))
        added = [name for name in add if any(states(sentence, name) for lines in sections for sentence in lines)]
        kept = [[line for line in lines if not (is_to_go(line) or _denies_only(line, added))] for lines in sections]
        return kept, added

    merged, added = merged_with(set(), set(), ())
    if lost := staying - _stated_in(merged):
        merged, added = merged_with(lost, set(), ())
    unreplaced, unsaid = staying - _stated_in(merged), [name for name in add if name not in added]
    if unreplaced or unsaid:
        merged, _ = merged_with(lost, unreplaced, unsaid)
    kept = [text if lines == new else " ".join(lines) for text, lines, new in zip(after, merged, written, strict=True)]
    if any(kept):
        return kept[0] or "", kept[1] or None
    left = [" ".join(line for line in lines if not is_to_go(line)) for lines in old]
    return (left[0], left[1] or None) if any(left) else before


@lru_cache(maxsize=4096)
def _told(sentence: str) -> Mapping[str, bool]:
    """The findings of `FINDING_WORDS` that a sentence speaks of, also with a side that it names: True stated, False
    denied. Where one side alone is denied, the finding is not."""
    told: dict[str, bool] = {}
    for name in FINDING_WORDS:
        if (value := states(sentence, name)) is not None:
            read = {side: states(sentence, side) for side in (f"Left {name}", f"Right {name}")}
            sided = {side: one for side, one in read.items() if one is not None}
            told |= sided if len(sided) == 1 and not value else sided | {name: value}
    return told


def _stated_in(sections: Sequence[Sequence[str]]) -> set[str]:
    return {name for lines in sections for line in lines for name, value in _told(line).items() if value}


def _denied_in(lines: Sequence[str]) -> set[str]:
    return {name for line in lines for name, value in _told(line).items() if not value}


def _taken_out(remove: Sequence[str], had: Set[str]) -> set[str]:
    """What is not stated any more when these findings are not: their sides too, or the finding where it has no other,
    and the opacity that it was."""
    gone: set[str] = set()
    for name in remove:
        finding = finding_of(name)
        if finding == name:
            gone |= {name, *_sides_of(name)}
        else:
            gone |= {name} if _other_side(name) in had else {name, finding}
        gone |= {"Lung Opacity", *_sides_of("Lung Opacity")} if finding in OF_THE_LUNGS else set()
    return gone


def _sides_of(name: str) -> tuple[str, ...]:
    """A finding with each side; of one that has a side none."""
    return (f"Left {name}", f"Right {name}") if finding_of(name) == name else ()


def implied_by(finding: str) -> set[str]:
    """A finding and what it always is: a pneumonia is a consolidation, and an opacity of the lung."""
    others = {"Pneumonia": {"Consolidation"}, "Cardiomegaly": {"Enlarged Cardiomediastinum"}}.get(finding, set[str]())
    return {finding} | others | ({"Lung Opacity"} if finding in OF_THE_LUNGS else set())


def _implied(name: str, had: Set[str]) -> set[str]:
    """What a sentence may state that is to add a finding: it, a side where it was not there, and what it always is."""
    finding = finding_of(name)
    sides = set() if finding in had else {*_sides_of(name)}
    others = implied_by(finding) - {finding}
    return {name, finding} | sides | others | {side for other in others for side in _sides_of(other)}


def _is_new(name: str, had: Set[str]) -> bool:
    """Whether a finding was not stated before; a side is no new one where none was."""
    if name in had:
        return False
    return finding_of(name) not in had or _other_side(name) in had


def _says_again(sentence: str, others: Sequence[str]) -> bool:
    """Whether a sentence states something, and no more than others do."""
    told = {name for name, value in _told(sentence).items() if value}
    return bool(told) and told <= _stated_in([others])


def _other_side(name: str) -> str:
    """ "Left Pleural Effusion" -> "Right Pleural Effusion"; of a finding without a side what nobody says."""
    side, _, finding = name.partition(" ")
    return f"{ {'left': 'Right', 'right': 'Left'}[side.lower()] } {finding}" if finding_of(name) != name else "(none)"


def _speaks_of(sentence: str, name: str) -> bool:
    """Whether a sentence names a finding, and where that has a side not the other one alone."""
    if states(sentence, name) is not None:
        return True
    return states(sentence, finding_of(name)) is not None and states(sentence, _other_side(name)) is None


def _would_be_there(sentence: str, name: str) -> bool:
    """Whether a finding may have its place where a sentence says that there is nothing."""
    parts, finding = parts_of(sentence), finding_of(name)
    return parts is None or finding in parts or finding not in FINDING_WORDS


def _denies_only(sentence: str, added: Sequence[str]) -> bool:
    """Whether a sentence says nothing but that there is not what was added."""
    if OTHER.search(sentence):
        return False
    findings = {finding_of(name) for name in added}
    told = {name: states(sentence, name) for name in FINDING_WORDS.keys() | findings}
    if any(told.values()):
        return False
    if denied := {name for name, value in told.items() if value is False}:
        return denied <= {finding_of(name) for name in added if _speaks_of(sentence, name)}
    if NOTHING.search(sentence):
        parts = parts_of(sentence)
        against = findings - {*_QUIET} if parts is None else findings & parts
        return bool(against & {*_ACUTE} if re.search(r"\b(?:acute|active)\b", sentence, re.I) else against)
    named = {place for place, words in ORDINARY.items() if re.search(words, sentence, re.I)}
    if "Cardiomegaly" in named:  # a cardiomediastinal silhouette
        named.discard("Enlarged Cardiomediastinum")
    against = {_normal_without(name) for name in findings - {"Atelectasis"}}  # clear lungs may have some of it
    return bool(re.search(NORMAL, sentence, re.I)) and bool(named) and named <= against


def _normal_without(name: str) -> str:
    """The clue of which is said, where a finding is not there, that all is normal: clear lungs have no edema."""
    return "Lung Opacity" if finding_of(name) in OF_THE_LUNGS else finding_of(name)


def _merged(old: list[str], new: list[str], may_go: list[str], may_enter: list[str]) -> list[str]:
    merged = [sentence for sentence in old if sentence in new or sentence not in may_go]
    rest = {word for sentence in old if sentence not in merged for word in _WORDS.findall(sentence.lower())} - _COMMON
    place = 0  # behind the sentence that stood before it
    for sentence in new:
        if sentence in merged:
            place = merged.index(sentence) + 1
        elif sentence in may_enter or not rest.isdisjoint(_WORDS.findall(sentence.lower())):
            merged.insert(place, sentence)
            place += 1
    return merged
