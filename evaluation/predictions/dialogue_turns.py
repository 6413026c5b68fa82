"""What a study is asked after its report, task by task, and how the answers stand in its line.

| task | a study's entry |
|---|---|
| `binary_qa` | finding -> [probability of yes, whether yes or no was the answer], of each finding known in its labels |
| `complete_qa` | the answer |
| `correction` | missing and wrong findings of the report, by the labeler against the study's labels; the new report as
  it was `written`, and the `answer`: what was not to change is put back, as `TalkedStudy.correct` does |
| `synthetic_correction` | the same with a random finding to add or to take out, whatever is true |
| `impression` | the answer to the study's own findings |
| `view` | the answer |
| `vqa` | for each question of `questions.jsonl`: probability of yes, whether yes or no was the answer, the answer |

An entry is null where the record has nothing to compare with. The wording is the first of each kind that training uses.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.predictions.chats import Chats, Question
from evaluation.predictions.records import digest
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, Labels, positives
from processing_trrg import correction_request, report_text
from processing_trrg.corrected_trrg import correct_reports
from training.data.dialogue import QUESTIONS as WORDINGS
from training.data.dialogue import asked_by_name, single_view
from training.data.study import Study

QUESTIONS = "questions.jsonl"
"""Beside studies.jsonl: `study_id`, `question`, `answer`, a line a question (`training/builders/vqa_rad.py`)."""

Asked = Sequence[Mapping[str, str]]
Entries = list[Any]


def read_questions(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The questions of each study.

    Raises:
        ValueError: a line is not a question; names file and line.
    """
    asked: dict[str, list[dict[str, str]]] = {}
    with (folder / QUESTIONS).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            fields = {name: row.get(name) for name in ("study_id", "question", "answer")}
            if not all(isinstance(value, str) and value.strip() for value in fields.values()):
                raise ValueError(f"{folder / QUESTIONS}:{number}: expected study_id, question and answer, got {fields}")
            asked.setdefault(fields["study_id"], []).append({n: fields[n].strip() for n in ("question", "answer")})
    return asked


def known_findings(labels: Labels | None, value: int) -> list[str]:
    """The observations but No Finding with this label."""
    return [name for name in CHEXPERT_14 if name != NO_FINDING and (labels or {}).get(name) == value]


def _binary_qa(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    sentences = {clue["name"]: clue["positive"] for clue in chats.processor.clues}
    wording = WORDINGS["finding_qa"][0]
    asked = [
        (row, name)
        for row, study in enumerate(studies)
        for name in known_findings(study.labels, 1) + known_findings(study.labels, 0)
        if name in sentences
    ]
    questions = [
        Question(row, chats.reports[row].text, wording.format(asked=asked_by_name(sentences[name])))
        for row, name in asked
    ]
    entries: Entries = [{} for _ in studies]
    for (row, name), answer in zip(asked, chats.yes_or_no(questions), strict=True):
        entries[row][name] = list(answer)
    return [entry or None for entry in entries]


def _ask(chats: Chats, questions: Sequence[Question], count: int) -> Entries:
    entries: Entries = [None] * count
    for question, answer in zip(questions, chats.ask(questions), strict=True):
        entries[question.row] = answer
    return entries


def _complete_qa(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    rows = [row for row, study in enumerate(studies) if study.labels]
    return _ask(
        chats, [Question(row, chats.reports[row].text, WORDINGS["findings_qa"][0]) for row in rows], len(studies)
    )


def _correct(chats: Chats, requests: Sequence[tuple[list[str], list[str]] | None]) -> Entries:
    """As `TalkedStudy.correct` does it: what was to be added and is not stated is asked for again, the last time behind
    the report as it was written first, where that is another."""
    texts, written = [report.text for report in chats.reports], [report.text for report in chats.reports]
    earlier: list[tuple[tuple[str, str], ...]] = [()] * len(texts)

    def ask(asked: dict[int, str], anew: bool) -> list[str]:
        questions = []
        for row, words in asked.items():
            written_first = chats.reports[row].as_written if anew else None  # None too where it was not revised
            reply, before = (texts[row], earlier[row]) if written_first is None else (written_first, ())
            questions.append(Question(row, reply, words, before))
        answers = chats.ask(questions)
        for question, answer in zip(questions, answers, strict=True):
            written[question.row] = written[question.row] if earlier[question.row] else answer
            earlier[question.row] += ((question.reply, question.text),)
        return answers

    owed = [request or ([], []) for request in requests]
    correct_reports(texts, [(correction_request(*one), *one) for one in owed], ask, texts.__setitem__)
    told = zip(requests, written, texts, strict=True)
    return [
        request and {"missing": request[0], "wrong": request[1], "written": w, "answer": a} for request, w, a in told
    ]


def _correction(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    requests: list[tuple[list[str], list[str]] | None] = []
    for report, study in zip(chats.reports, studies, strict=True):
        read = label_report(report.text)
        missing = [name for name in known_findings(study.labels, 1) if read[name] != 1]
        wrong = [name for name in known_findings(study.labels, 0) if read[name] == 1]
        requests.append((missing, wrong) if study.labels else None)
    return _correct(chats, requests)


def _synthetic_correction(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    requests: list[tuple[list[str], list[str]] | None] = []
    names = [clue["name"] for clue in chats.processor.clues if clue["name"] in CHEXPERT_14]
    for report, study in zip(chats.reports, studies, strict=True):
        rng = np.random.default_rng(digest(study.study_id))
        read = label_report(report.text)
        said = [name for name in positives(read) if name != NO_FINDING]
        add = [name for name in names if name != NO_FINDING and read[name] != 1]
        from_said = bool(said) and (not add or rng.random() < 0.5)
        if not (names_of := said if from_said else add):  # clues of other names alone
            requests.append(None)
            continue
        chosen = [names_of[int(rng.integers(len(names_of)))]]
        requests.append(([], chosen) if from_said else (chosen, []))
    return _correct(chats, requests)


def _impression(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    questions = [
        Question(row, report_text(study.findings, None), WORDINGS["impression"][0])
        for row, study in enumerate(studies)
        if (study.findings or "").strip() and (study.impression or "").strip()
    ]
    return _ask(chats, questions, len(studies))


def _view(chats: Chats, studies: Sequence[Study], _: Sequence[Asked]) -> Entries:
    rows = [row for row, study in enumerate(studies) if single_view(study)]
    return _ask(chats, [Question(row, chats.reports[row].text, WORDINGS["view"][0]) for row in rows], len(studies))


def _vqa(chats: Chats, studies: Sequence[Study], asked: Sequence[Asked]) -> Entries:
    questions = [
        Question(row, chats.reports[row].text, one["question"]) for row, some in enumerate(asked) for one in some
    ]
    entries: Entries = [[] for _ in studies]
    for question, first, answer in zip(questions, chats.yes_or_no(questions), chats.ask(questions), strict=True):
        entries[question.row].append([*first, answer])
    return [entry or None for entry in entries]


TASKS: dict[str, Callable[[Chats, Sequence[Study], Sequence[Asked]], Entries]] = {
    "binary_qa": _binary_qa,
    "complete_qa": _complete_qa,
    "correction": _correction,
    "synthetic_correction": _synthetic_correction,
    "impression": _impression,
    "view": _view,
    "vqa": _vqa,
}
"""Task -> what it asks of a batch: chats, records and the questions of each study -> an entry a study."""
