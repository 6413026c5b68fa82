"""A report that says what its clues say: where it does not, the model is asked to correct it, in turns after it.
Then a sentence that was said before goes, and the report is compared with the prior one, if there is one.

    turns = revise_reports(reports, model, processor, prompts, study, options)   # in place; the pipeline does it

The language model hears a clue that scores just over its threshold so softly that it may leave it out, and now and then
it states what no clue told. It obeys a correction better (`corrected_trrg`), so it is given one, from the clues alone.
What it does not obey is done by rule.
Our addition; the paper has no such step. Research only, never for clinical use.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch

from .chat_trrg import longest_chat, unpadded
from .compared_trrg import compare
from .corrected_trrg import MOST_ASKS, kept_but_for
from .findings_trrg import SIDES, finding_of, states
from .prompt_trrg import correction_request
from .prompt_trrg import said as words_of
from .report_trrg import UNREADABLE, Report, report_text, split_report
from .sentences_trrg import cut_sentences
from .statements_trrg import NO_FINDING, OF_THE_LUNGS, checkable_clues, read_statements, unsaid

MOST_ADDED = 3  # findings of a correction in training
COMPARE = "Say what has changed since the prior report."
ONCE = "Say no sentence twice."


class Revision(NamedTuple):
    """A turn that revised a report: what was asked, and the whole report behind it."""

    request: str
    report: str


def unmet(report: Report, names: Sequence[str], own: Set[str]) -> tuple[list[str], list[str]]:
    """The clues over their threshold that a report does not state, and those that it states and that are not over it.

    A finding is left to its side where both are unsaid. A stated side of a finding that is there is wrong only where
    the other side is over its threshold, and an opacity only where none of its kinds is.

    Args:
        names: of all clues of the study.
        own: those that count: the checkpoint's. One that was fitted on no study is never over its threshold.
    """
    selected = {clue.name for clue in report.clues if clue.selected}
    said = read_statements(report, names)
    left = [name for name in unsaid(said, selected, names) if name in own]
    sided = {finding_of(name) for name in left if finding_of(name) != name}
    wrong: list[str] = []
    for name in (name for one in said for name, value in one.clues.items() if value and name in own - selected):
        finding = finding_of(name)
        other_sides = {f"{side.title()} {finding}" for side in SIDES} - {name}
        if finding not in selected:
            wrong += [] if finding == "Lung Opacity" and selected.intersection(OF_THE_LUNGS) else [finding]
        elif finding != name and other_sides & selected:
            wrong.append(name)
    wrong = [name for name in dict.fromkeys(wrong) if name != NO_FINDING]
    return [name for name in left if name not in sided], wrong


def revise_reports(
    reports: Sequence[Report], model: Any, processor: Any, prompts: Any, study: Any, options: Mapping[str, Any]
) -> list[list[Revision]]:
    """Give reports the words that their clues ask for (`_revise_by_clues`), take out what a section says again, and
    compare each with its prior report (`compared_trrg`), where the prompt left that out (`compares` of the processor).
    Their `as_written` is what the model wrote first.

    Args:
        reports: of a batch, with their clues.
        model, processor: that wrote them.
        prompts: their requests, as tensors.
        study: their features.
        options: of `generate`, without a streamer.

    Returns:
        the turns of each report, up to the last one that changed it: a chat goes on behind them.
    """
    turns = _revise_by_clues(reports, model, processor, prompts, study, options)
    names = [clue["name"] for clue in processor.clues]
    plain = {clue["positive"].lower(): clue["name"] for clue in processor.clues}
    for report, words, said in zip(reports, prompts.studies, turns, strict=True):
        if _is_other(report, words):
            continue
        once = _once(report.findings, names, plain), _once(report.impression or "", names, plain) or None
        if once != (report.findings, report.impression):
            _replace(report, *once)
            said.append(Revision(ONCE, report.text))
        written = report.text if report.as_written is None else report.as_written
        if prior := words.get("compared_with"):
            if compare(report, prior, names):
                report.as_written = written
            said.append(Revision(f"{COMPARE}\nPrior report: {prior}", report.text))
    return turns


def _once(section: str, names: Sequence[str], plain: Mapping[str, str]) -> str:
    """A section without the sentences that state or deny a clue again in the same words, or in a clue's own, which say
    no more; as it was where there are none. A word that says nothing by itself ("Right lung. Clear. Left lung. Clear.")
    may be said again.

    Args:
        plain: clues by their own sentence, "there is X", in small letters.
    """
    sentences, said = [*cut_sentences(section)], set[str]()
    kept: list[str] = []
    for sentence in sentences:
        words = sentence.lower()
        repeats = words in said and any(states(sentence, name) is not None for name in names)
        repeats |= words in plain and any(states(earlier, plain[words]) for earlier in kept)
        kept += [] if repeats else [sentence]
        said.add(words)
    return section if len(kept) == len(sentences) else " ".join(kept)


def knows_comparison(chat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a chat is new, or has the turn that compared its report: then its first request has no prior."""
    users = [message for message in chat if message.get("role") == "user"]
    return not chat or any(words_of(message).startswith(COMPARE) for message in users)


def _is_other(report: Report, words: Mapping[str, Any]) -> bool:
    """Whether it is no report: an answer to a question, or what is said of a picture that is not readable."""
    return bool((words["question"] or "").strip()) or report.text == UNREADABLE


def _revise_by_clues(
    reports: Sequence[Report], model: Any, processor: Any, prompts: Any, study: Any, options: Mapping[str, Any]
) -> list[list[Revision]]:
    """Ask for what the clues tell, by at most `MOST_ASKS` corrections, one behind the other, and `_settle` the rest.

    A report stays as it is where the checkpoint learned no corrections, no clue of it is the checkpoint's own and says
    alone whether it is there, the picture is not readable, it answers a question, or it was not ended. A correction is
    not asked for where the context has no room, and not taken where it was not ended or brings the report no nearer to
    its clues.
    """
    turns: list[list[Revision]] = [[] for _ in reports]
    names: list[str] = prompts.clue_names if study.clue_scores is not None else []
    own = {clue["name"] for clue in processor.clues}.intersection(names)
    if not model.config.learned_dialogue or not own & checkable_clues(model, study, names):
        return turns
    chats, room = dict(enumerate(unpadded(prompts))), longest_chat(model, processor)
    answers = [_is_other(report, words) for report, words in zip(reports, prompts.studies, strict=True)]
    rows = [row for row in chats if not answers[row]]
    for _ in range(MOST_ASKS):
        asked = {row: owed for row in rows if any(owed := unmet(reports[row], names, own))}
        rows = []
        for row, owed in asked.items():
            (turn,) = processor.next_turns([chats[row]], [reports[row].text], [_request(owed)])
            if len(turn) + 2 * processor.reply_ids(reports[row].text).shape[1] <= room:  # of a reply somewhat longer
                chats[row] = turn
                rows.append(row)
        if not rows:
            break
        inputs = processor.pad_chats([chats[row] for row in rows], model.device)
        ids = model.generate(**inputs, study=study.select(torch.tensor(rows)), **options)
        for row, answer in zip(rows, processor.post_process_report(ids, inputs), strict=True):
            if not {"findings", "impression"}.issubset(answer.missing) and answer.complete is not False:
                _take(reports[row], answer.text, asked[row], names, own)
            turns[row].append(Revision(_request(asked[row]), reports[row].text))
    sentences = {clue["name"]: clue["positive"] for clue in processor.clues}
    for row, said in enumerate(turns):
        report = reports[row]
        first = report.text if report.as_written is None else report.as_written
        while said and said[-1].report == (said[-2].report if said[1:] else first):
            said.pop()
        written = not answers[row] and report.complete is not False
        if written and (request := _settle(report, sentences, names, own)):
            said.append(Revision(request, report.text))
    return turns


def _settle(report: Report, sentences: Mapping[str, str], names: Sequence[str], own: Set[str]) -> str | None:
    """Do by rule what no correction did: a clue that is left unsaid is said by its own sentence, in front, a finding
    that no clue tells goes, and so does a sentence that denies nothing but what is stated and told ("The right lung has
    no nodule." beside that nodule, "No acute disease." beside an edema; the model would as soon take out the other
    one). An impression that would be empty says what was told. Returns the request, if there was anything to do.

    Args:
        sentences: "there is X" by the name of each own clue. One that is not read as X is not put in.
    """
    left, wrong = unmet(report, names, own)
    left = [name for name in left if states(sentences[name], name)]
    said = read_statements(report, names)
    denied = {name for one in said for name, value in one.clues.items() if value == 0}
    selected = {clue.name for clue in report.clues if clue.selected} & own
    stated = [name for name in names if name in selected.difference(unsaid(said, selected, names))]
    nothing = any(NO_FINDING in one.clues for one in said)
    add = [*left, *(name for name in stated if nothing or denied.intersection((name, finding_of(name))))]
    if not (request := correction_request(add, wrong)):
        return None
    before = report.findings, report.impression
    told = " ".join(sentences[name] for name in left)
    findings, impression = kept_but_for(before, (f"{told} {before[0]}".strip(), before[1]), request, add, wrong)
    if before[1] and not impression:
        sided = {finding_of(name) for name in add if finding_of(name) != name}
        impression = " ".join(sentences[name] for name in add if name not in sided) or None
    if (findings, impression) == before:
        return None
    _replace(report, findings, impression)
    return request


def _replace(report: Report, findings: str, impression: str | None) -> None:
    report.as_written = report.text if report.as_written is None else report.as_written
    report.findings, report.impression, report.text = findings, impression, report_text(findings, impression)


def _request(asked: tuple[list[str], list[str]]) -> str:
    return correction_request(asked[0][:MOST_ADDED], asked[1]) or ""


def _take(report: Report, text: str, asked: tuple[list[str], list[str]], names: Sequence[str], own: Set[str]) -> None:
    """Take a correction for the report, if it is nearer to the clues."""
    add, remove = asked[0][:MOST_ADDED], asked[1]
    before = report.findings, report.impression
    findings, impression = kept_but_for(before, split_report(text), _request(asked), add, remove)
    revised = Report(findings, impression, report_text(findings, impression), report.clues)
    if sum(map(len, unmet(revised, names, own))) < sum(map(len, asked)):
        _replace(report, findings, impression)
