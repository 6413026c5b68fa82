"""What a report owes to its clues, and how that is settled by rule where the language model did not.

    left, wrong = unmet(report, names, own)
    settled = settle(report, names, own, processor.clues)   # request, findings, impression

Research only, never for clinical use.
"""

from collections.abc import Mapping, Sequence, Set

from .corrected_trrg import OTHER, kept_but_for
from .findings_trrg import SIDES, finding_of, states
from .prompt_trrg import correction_request
from .report_trrg import Report
from .sentences_trrg import cut_sentences
from .statements_trrg import NO_FINDING, NOTHING, OF_THE_LUNGS, read_clues, read_statements, unsaid


def unmet(report: Report, names: Sequence[str], own: Set[str]) -> tuple[list[str], list[str]]:
    """The clues over their threshold that a report does not state, and those that it states and that are not over it.

    A finding is left to its side where both are unsaid, and is there where a side of it is. A stated side of a finding
    that is there is wrong only where the other side is over its threshold, and an opacity only where none of its kinds
    is.

    Args:
        names: of all clues of the study.
        own: those that count: the checkpoint's. One that was fitted on no study is never over its threshold.
    """
    selected = {clue.name for clue in report.clues if clue.selected}
    there = selected | {finding_of(name) for name in selected}
    said = read_statements(report, names)
    left = [name for name in unsaid(said, selected, names) if name in own]
    sided = {finding_of(name) for name in left if finding_of(name) != name}
    wrong: list[str] = []
    for name in (name for one in said for name, value in one.clues.items() if value and name in own - selected):
        finding = finding_of(name)
        other_sides = {f"{side.title()} {finding}" for side in SIDES} - {name}
        if finding not in there:
            wrong += [] if finding == "Lung Opacity" and there.intersection(OF_THE_LUNGS) else [finding]
        elif finding != name and other_sides & selected:
            wrong.append(name)
    wrong = [name for name in dict.fromkeys(wrong) if name != NO_FINDING]
    return [name for name in left if name not in sided], wrong


def own_sentences(clues: Sequence[Mapping[str, str]], statement: str = "positive") -> dict[str, str]:
    """ "There is X." by the name of each clue, or "There is no X." (`negative`) of those that have it."""
    found = {clue["name"]: clue[statement].strip() for clue in clues if clue.get(statement)}
    return {name: text if text.endswith((".", "!", "?")) else f"{text}." for name, text in found.items()}


def settle(
    report: Report, names: Sequence[str], own: Set[str], clues: Sequence[Mapping[str, str]]
) -> tuple[str, str, str | None] | None:
    """Do by rule what no correction did. A clue that is left unsaid is said by its own sentence, in front. A sentence
    goes that states findings which no clue tells, or denies what is stated and told ("The right lung has no nodule."
    beside that nodule, "No acute disease." beside an edema); what else it says of clues is then said in their own
    words. A section that would be empty says what is told.

    Args:
        names, own: see `unmet`.
        clues: of the checkpoint, with their sentences. A clue whose sentence is not read as its finding is not told.

    Returns:
        request, findings and impression; None where there is nothing to do, nothing would be left, or the report would
        come no nearer.
    """
    (owed, wrong), before = unmet(report, names, own), (report.findings, report.impression)
    positive, negative = own_sentences(clues), own_sentences(clues, "negative")
    left = [name for name in owed if states(positive[name], name)]
    told = {clue.name for clue in report.clues if clue.selected} & own
    stated, opposed = _stated(report, names, told)
    add = [*left, *opposed]
    if not (request := correction_request(add, wrong)):
        return None
    front = _in_own_words(left, positive)
    kept = kept_but_for(before, (f"{front} {before[0]}".strip(), before[1]), request, add, wrong)
    true = [_made_true(section or "", told, {*wrong}, names, positive, negative) for section in kept]
    lost, _ = unmet(Report(true[0], true[1], "", report.clues), names, own)  # told in a sentence that had to go
    true[0] = f"{_in_own_words([name for name in lost if states(positive[name], name)], positive)} {true[0]}".strip()
    again = [*left, *(name for name in stated if states(positive[name], name))]
    again += [NO_FINDING] if told == {NO_FINDING} else []
    sided = {finding_of(name) for name in again if finding_of(name) != name}
    whole = _in_own_words([name for name in again if name not in sided], positive)
    findings, impression = (new or (whole if old else "") for old, new in zip(before, true, strict=True))
    if (findings, impression or None) == before or not (findings or impression):
        return None
    still_owed = unmet(Report(findings, impression or None, "", report.clues), names, own)
    return None if sum(map(len, still_owed)) > len(owed) + len(wrong) else (request, findings, impression or None)


def _in_own_words(names: Sequence[str], sentences: Mapping[str, str]) -> str:
    return " ".join(sentences[name] for name in names)


def _stated(report: Report, names: Sequence[str], told: Set[str]) -> tuple[list[str], list[str]]:
    """The told findings that a report states, and those of them that it denies as well."""
    said = read_statements(report, names)
    denied = {name for one in said if not OTHER.search(one.text) for name, value in one.clues.items() if value == 0}
    nothing = any(NOTHING.search(one.text) for one in said)
    unstated = {NO_FINDING, *unsaid(said, told, names)}
    stated = [name for name in names if name in told and name not in unstated]
    return stated, [name for name in stated if nothing or {name, finding_of(name)} & denied]


def _made_true(
    section: str, told: Set[str], wrong: Set[str], names: Sequence[str], positive: Mapping[str, str],
    negative: Mapping[str, str],
) -> str:  # fmt: skip
    """A section in which a sentence that denies what is told, or states what is wrong, is replaced by the own sentences
    of the rest that it says; as it was, where none does."""
    findings = told | {finding_of(name) for name in told}
    sentences = [*cut_sentences(section)]
    kept: list[str] = []
    for sentence in sentences:
        values = dict(read_clues(sentence, tuple(names)))
        stated = {name for name, value in values.items() if value}
        denied = values.keys() - stated if not OTHER.search(sentence) else set[str]()
        if denied & findings or any({name, finding_of(name)} & wrong for name in stated):
            kept += [positive[name] for name in values if name in stated & told]
            quiet = findings | ({"Lung Opacity"} if findings & {*OF_THE_LUNGS} else set())
            kept += [negative[name] for name in values if name not in stated | quiet and name in negative]
        else:
            kept.append(sentence)
    return section if kept == sentences else " ".join(kept)
