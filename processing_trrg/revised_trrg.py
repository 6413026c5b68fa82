"""A report that says what its clues say: where it does not, the model is asked to correct it, in turns after it.
Then a sentence that was said before goes, and the report is compared with the prior one, if there is one.

    turns = revise_reports(reports, model, processor, prompts, study, options)   # in place; the pipeline does it

The language model hears a clue that scores just over its threshold so softly that it may leave it out, and now and then
it states what no clue told. It obeys a correction better (`corrected_trrg`), so it is given one, from the clues alone.
What it does not obey is done by rule (`unmet_trrg`). Our addition; the paper has no such step. Research only, never for
clinical use.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch

from .chat_trrg import longest_chat, unpadded
from .compared_trrg import compare
from .corrected_trrg import MOST_ASKS, implied_by, kept_but_for
from .findings_trrg import finding_of, states
from .prompt_trrg import correction_request
from .prompt_trrg import said as words_of
from .report_trrg import UNREADABLE, Report, report_text, split_report
from .sentences_trrg import cut_sentences
from .statements_trrg import checkable_clues, read_clues
from .unmet_trrg import own_sentences, settle, unmet

MOST_ADDED = 3  # findings of a correction in training
COMPARE = "Say what has changed since the prior report."
ONCE = "Say no sentence twice."


class Revision(NamedTuple):
    """A turn that revised a report: what was asked, and the whole report behind it."""

    request: str
    report: str


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
    plain = {sentence.lower(): name for name, sentence in own_sentences(processor.clues).items()}
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
    sentences = [*cut_sentences(section)]
    kept: list[str] = []
    said, stated = set[str](), set[str]()
    for sentence in sentences:
        words = sentence.lower()
        repeats = words in said and any(states(sentence, name) is not None for name in names)
        repeats |= plain.get(words) in stated
        kept += [] if repeats else [sentence]
        said.add(words)
        for name in (name for name, value in read_clues(sentence, tuple(names)) if value == 1):
            stated |= {name, finding_of(name)}
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
    """Ask for what the clues tell, by at most `MOST_ASKS` corrections, one behind the other, and `settle` the rest.

    A report stays as it is where the checkpoint learned no corrections, no clue says alone whether it is there, the
    picture is not readable, it answers a question, or it was not ended. A correction is not asked for where the context
    has no room, and not taken where it was not ended or brings the report no nearer to its clues.
    """
    turns: list[list[Revision]] = [[] for _ in reports]
    names: list[str] = prompts.clue_names if study.clue_scores is not None else []
    if not model.config.learned_dialogue or not checkable_clues(model, study, names):
        return turns
    named = [_judged(report, prompts.clues, processor.clues) for report in reports]
    chats, room = dict(enumerate(unpadded(prompts))), longest_chat(model, processor)
    answers = [_is_other(report, words) for report, words in zip(reports, prompts.studies, strict=True)]
    revisable = [row for row in chats if not answers[row] and reports[row].complete is not False]
    rows = revisable
    for _ in range(MOST_ASKS):
        asked = {row: owed for row in rows if any(owed := unmet(reports[row], *named[row]))}
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
                _take(reports[row], answer.text, asked[row], *named[row])
            turns[row].append(Revision(_request(asked[row]), reports[row].text))
    for row, said in enumerate(turns):
        report = reports[row]
        first = report.text if report.as_written is None else report.as_written
        while said and said[-1].report == (said[-2].report if said[1:] else first):
            said.pop()
        if row in revisable and (settled := settle(report, *named[row], processor.clues)):
            request, findings, impression = settled
            _replace(report, findings, impression)
            said.append(Revision(request, report.text))
    return turns


def _judged(
    report: Report, given: Sequence[Mapping[str, str]], learned: Sequence[Mapping[str, str]]
) -> tuple[list[str], set[str]]:
    """The clues that a report is read for, and those that it owes (`unmet`): of the given list the checkpoint's own;
    and where the list leaves a finding of the checkpoint out, that too, which is then not to be stated.

    A given clue over its threshold in words of the user's own may mean it: a finding that its sentence names is left
    alone, and all are where it names none.
    """
    known, names = [clue["name"] for clue in learned], [clue["name"] for clue in given]
    selected = {clue.name for clue in report.clues if clue.selected}
    heard = [clue["positive"] for clue in given if clue["name"] in selected and clue["name"] not in known]
    findings = {finding_of(name) for name in known}
    meant = [{name for name in findings if states(sentence, name)} for sentence in heard]
    if not all(meant):
        return names, {*known}.intersection(names)
    allowed = {told for name in selected.union(*meant) for told in implied_by(finding_of(name))}
    untold = [name for name in known if name not in names and finding_of(name) not in allowed]
    return [*names, *untold], {*known}.intersection(names).union(untold)


def _replace(report: Report, findings: str, impression: str | None) -> None:
    report.as_written = report.text if report.as_written is None else report.as_written
    report.findings, report.impression, report.text = findings, impression, report_text(findings, impression)


def _request(asked: tuple[list[str], list[str]]) -> str:
    return correction_request(asked[0][:MOST_ADDED], asked[1]) or ""


def _take(report: Report, text: str, asked: tuple[list[str], list[str]], names: Sequence[str], own: Set[str]) -> None:
    """Take a correction for the report, if it is nearer to the clues and leaves no section empty."""
    add, remove = asked[0][:MOST_ADDED], asked[1]
    before = report.findings, report.impression
    findings, impression = kept_but_for(before, split_report(text), _request(asked), add, remove)
    revised = Report(findings, impression, report_text(findings, impression), report.clues)
    emptied = any(old and not new for old, new in zip(before, (findings, impression), strict=True))
    if not emptied and sum(map(len, unmet(revised, names, own))) < sum(map(len, asked)):
        _replace(report, findings, impression)
