"""Ask a checkpoint about each study after its report, and score the answers beside two baselines.

    python evaluation/dialogue.py --checkpoint DIR --data DIR --split validation --out RUN
    python evaluation/dialogue.py --checkpoint DIR --phantoms 300 --tasks binary_qa synthetic_correction --out RUN
    python evaluation/dialogue.py --checkpoint DIR --data runs/vqa-rad --split train --tasks vqa --out RUN

A study is looked at once; its report is the model's own; every question is the turn after it and knows of no other.
Tasks (`predictions/dialogue_turns.py` says what is asked, `metrics/dialogue_scores.py` how it is scored):

    binary_qa             is there this finding? of every finding known in the record
    complete_qa           which findings are there?
    correction            the model's errors against the record's labels are told; the report is written again
    synthetic_correction  the same with a random finding to add or to take out, so also where the report is right
    impression            of the record's findings
    view                  frontal or lateral?
    vqa                   the questions of questions.jsonl in the folder of --data (`training/builders/vqa_rad.py`)

By default those that the records can answer. Studies without an image (IU reports) need --oracle-clues. Resumable like
generate.py. Writes predictions.jsonl (report, clues and each task's answers), metrics.json and table.md: every score
with its 95 % interval by bootstrap over patients and its signature, for the model, for always the commonest answer of
--train-split (without it of the same studies, which flatters it), and for the clues without a language model: a finding
is there where its clue is selected, and its score is the chance of yes. Never for clinical use.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

from evaluation import generate
from evaluation.metrics.dialogue_scores import dialogue_scores, record_fields, table
from evaluation.predictions.chats import Chats
from evaluation.predictions.dialogue_turns import QUESTIONS, TASKS, read_questions
from evaluation.predictions.prediction_parts import PREDICTIONS, write_whole
from evaluation.predictions.records import read_lines
from evaluation.predictions.study_sources import StudySource
from processing_trrg import StudyBatch
from training.config.command_line import run_command
from training.data.study import Studies


def answerable(fields: Sequence[dict[str, Any]]) -> list[str]:
    """The tasks for which at least one of some `record_fields` has what an answer is compared with."""
    needed = {"impression": "record_impression", "view": "record_view", "vqa": "questions"}
    return [task for task in TASKS if any(one[needed.get(task, "labels")] for one in fields)]


def dialogue_lines(
    options: argparse.Namespace, source: StudySource, processor: Any, model: Any, questions: dict[str, list]
) -> generate.Lines:
    """Report and answers of a batch, as lines."""

    def lines(indices: Sequence[int], batch: StudyBatch) -> list[dict[str, Any]]:
        studies = [source.records[index] for index in indices]
        chats = Chats(model, processor, batch, not options.as_written, **generate.decoding(options))
        written: list[dict[str, Any]] = [
            {"study_id": study.study_id, "report": report.text, **generate.clue_fields(report, options)}
            for study, report in zip(studies, chats.reports, strict=True)
        ]
        asked = [questions.get(study.study_id, []) for study in studies]
        for task in options.tasks:
            for line, entry in zip(written, TASKS[task](chats, studies, asked), strict=True):
                line[task] = entry
        return written

    return lines


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options, checked."""
    parser = generate.run_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), help="default: what the records can answer")
    parser.add_argument("--train-split", help="of --data, whose commonest answers are the baseline")
    parser.add_argument("--min-positives", type=int, default=10, help="studies of yes and of no for a finding's AUROC")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    options = generate.read_arguments(parser, arguments)
    if options.train_split is not None and options.data is None:
        parser.error("--train-split is a split of --data")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    options = parse_arguments(arguments)
    scoring = {name: vars(options).pop(name) for name in ("train_split", "min_positives", "resamples")}
    source = generate.open_source(options)
    asks = options.data is not None and (options.data / QUESTIONS).is_file()
    questions = read_questions(options.data) if asks else {}
    fields = {study.study_id: record_fields(study, questions) for study in source.records}
    options.tasks = options.tasks or answerable(list(fields.values()))
    generate.run(options, partial(dialogue_lines, questions=questions), source)
    lines = [record | fields[record["study_id"]] for _, _, record in read_lines(options.out / PREDICTIONS)]
    train = list(fields.values())
    if scoring["train_split"] is not None:
        train = [record_fields(study, questions) for study in Studies(options.data, scoring["train_split"]).records]
    results = dialogue_scores(lines, train, options.tasks, scoring["min_positives"], scoring["resamples"], seed=0)
    write_whole(options.out / "table.md", table(results))
    commonest = scoring["train_split"] or "the same studies"
    result = {"studies": len(lines), "commonest_of": commonest, "tasks": options.tasks, "scores": results}
    write_whole(options.out / "metrics.json", json.dumps(result, indent=1) + "\n")
    print(table(results, signatures=False))
    print(f"{len(lines)} studies; commonest answers of {commonest}; signatures in table.md. Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
