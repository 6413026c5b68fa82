"""RaDialog's instruct data as chats: all kinds of `training/data/dialogue.py`, for `datasets` and TRL.

    python -m training.builders.instruct --data DIR --out DIR
    python -m training.builders.instruct --data DIR --out DIR --model NAME             # a chat model on this machine
    OPENAI_API_KEY=... python -m training.builders.instruct --data DIR --out DIR --url https://host/v1 --model NAME

OUT/<split>.jsonl has one chat a line: {"study_id", "kind", "images", "messages"}; read it with
`datasets.load_dataset("json", data_files=...)`. A trainer that learns all turns of the assistant would learn the wrong
reports of the corrections too: --completions writes `prompt` and `completion`, the last turn alone, in place of
`messages`. With --shards OUT/<split> is a `datasets` folder that holds the pictures. OUT/<split>.manifest.json counts
what was made, what was dropped and why, prompts, tokens and failures; OUT/README.md is the card.

Without a model all kinds are made by rules. With one, region QA, easy language, summaries and corrected reports are its
words, as in RaDialog: the labeler reads each answer, and one that says something else than it may is dropped. Answers
are kept in OUT/answers.jsonl: the same command goes on where it was cut short and asks nothing twice. With --url the
reports go to that server; mind the terms of your data.
"""

import argparse
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm
from transformers import set_seed

from evaluation.reading.attributes import finding_attributes
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, Label, Labels, ancestors, positives
from processing_trrg import TRRGImageProcessor, follow_up, report_messages, report_text
from processing_trrg.prompt_trrg import PROMPT_STYLES, STYLES_WITH_FINDINGS, default_clues
from training.builders import chat_model
from training.builders.chat_model import ChatModel
from training.builders.context_leaks import LeakCount
from training.config.command_line import run_command
from training.config.run_config import DIALOGUE_KINDS
from training.data.card import write_card
from training.data.dialogue import Exchange, make_exchange
from training.data.images import ImageBank
from training.data.places import places
from training.data.sampler import keyed_rng
from training.data.study import CONTEXT_FIELDS, Studies, Study, record_fault, target_text

KINDS = ("report", *DIALOGUE_KINDS)
PROMPTS = {
    "region_qa": "Answer the question below in one to three sentences, from the report alone, without a guess.",
    "easy_language": "Rewrite it so that a patient without medical knowledge understands it. Keep every finding, "
    "negation, side, size and doubt, add nothing, and put the medical word of each finding in brackets behind it.",
    "summary": "Sum it up in at most two sentences that name every finding. Add nothing.",
    "correction": "Write the whole report anew with the headings it has. Change what the request below asks for, and "
    "leave all other sentences as they are, word for word.",
}
"""What a chat model is asked, by kind; the wording is ours."""
Pairs = dict[str, tuple[Label, Label]]
"""Labels as they should be and as they are."""
STUDIES_AT_ONCE = 512
"""Whose prompts are asked together."""


def instruct_rows(
    studies: Studies, kinds: Sequence[Any], style: Any, views: int, seed: int, chat: ChatModel | None
) -> Iterator[tuple[int, str, dict[str, Any] | str]]:
    """(number of the study, kind, its chat or why there is none), studies in order; everything random is keyed by
    (seed, kind, study).

    Raises:
        ValueError: a record that the processor cannot take, or a chat model that cannot be asked.
    """
    clues, images = default_clues(), ImageBank(studies, TRRGImageProcessor(), views, None)
    for start in range(0, len(studies), STUDIES_AT_ONCE):
        made: list[tuple[int, str, Exchange | None]] = []
        for index in range(start, min(start + STUDIES_AT_ONCE, len(studies))):
            study = studies.records[index]
            if fault := record_fault(study):
                raise ValueError(f"{studies.path}: study {study.study_id!r}: {fault}")
            if not target_text(study):
                yield index, "all", "the study has no report"
                continue
            seen, labels = replace(study, images=study.images[:views]), _labels(study)
            for kind in kinds:
                rng = keyed_rng("instruct", seed, kind, study.study_id)
                turn = None
                if kind in DIALOGUE_KINDS:
                    boxes = places(images, index, None) if kind == "grounding" else ()
                    turn = make_exchange(kind, seen, labels, clues, label_report, rng, boxes=boxes)
                made.append((index, kind, turn))
        texts: Iterator[str | None] = iter(())
        if chat:
            texts = iter(chat.ask([_prompt(kind, turn) for _, kind, turn in made if turn and kind in PROMPTS]))
        for index, kind, turn in made:
            study = studies.records[index]
            if turn is None and kind != "report":
                yield index, kind, "the study has no answer of this kind"
                continue
            if turn and chat and kind in PROMPTS:
                text = next(texts)
                if fault := "the model gave no answer" if text is None else answer_fault(kind, turn, text):
                    yield index, kind, fault
                    continue
                turn = Exchange(turn.reply, turn.question, str(text))
            yield (
                index,
                kind,
                {"study_id": study.study_id, "kind": kind, "messages": chat_of(study, turn, style, views)},
            )


def chat_of(study: Study, turn: Exchange | None, style: Any, views: int) -> list[dict[str, Any]]:
    """The whole chat: the request for the report and the report, or up to the answer of a turn after it."""
    fields: dict[str, Any] = {name: study[name] for name in CONTEXT_FIELDS}
    if style in STYLES_WITH_FINDINGS:
        fields["predicted_findings"] = positives(_labels(study))
    chat = report_messages(style, min(len(study.images), views), **fields)
    answer = turn.answer if turn else report_text(study.findings, study.impression)
    if turn:
        chat = follow_up(chat, turn.reply, turn.question)
    return [*chat, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def _labels(study: Study) -> Labels:
    """The record's labels, those of its report where it has none."""
    labels = study.labels or label_report(report_text(study.findings, study.impression))
    return {name: labels.get(name) for name in CHEXPERT_14}


def answer_fault(kind: str, turn: Exchange, text: str) -> str | None:
    """Why a model's answer is not kept, or None. `turn` holds the answer that rules gave.

    A correction has to change the labels and sides that the rules' one changes and no others, easy language keeps all
    labels, a summary what is claimed or doubted, and an answer about a region says nothing that the report does not
    say, and all that its sentences claim there.
    """
    if not text:
        return "empty, or cut short"
    said, report, ours = map(label_report, (text, turn.reply, turn.answer))
    for labels in (said, report, ours):
        labels.pop(NO_FINDING)
    if kind == "correction":
        return _correction_fault(turn, text, said, report, ours)
    if kind == "easy_language":
        if text == turn.reply:
            return "nothing was rewritten"
        return _changed({name: (report[name], said[name]) for name in said})
    if kind == "summary":
        if len(text) >= len(turn.reply):
            return "no shorter than the report"
        return _changed({name: (report[name] or None, said[name] or None) for name in said})
    wrong: Pairs = {
        name: (report[name], label) for name, label in said.items() if label is not None and label != report[name]
    }
    lost: Pairs = {name: (label, said[name]) for name, label in ours.items() if label == 1 and said[name] != 1}
    return _changed(wrong | lost)


def _correction_fault(turn: Exchange, text: str, said: Labels, report: Labels, ours: Labels) -> str | None:
    asked = [name for name in ours if ours[name] != report[name]]
    free = {parent for name in asked for parent in ancestors(name)} - set(asked)
    right = {name: (ours[name], said[name]) for name in said if name not in free}
    for name in asked:
        if ours[name] != 1 and said[name] in (0, None):  # left out or denied
            right.pop(name, None)
    if fault := _changed(right):
        return fault
    sides = [{name: found.side for name, found in finding_attributes(one).items()} for one in (turn.answer, text)]
    moved = [name for name in sides[0] if sides[1].get(name) != sides[0][name] and name not in free]
    return f"sides changed: {', '.join(moved)}" if moved else None


def _changed(pairs: Pairs) -> str | None:
    names = [name for name, (wanted, found) in pairs.items() if wanted != found]
    return f"labels changed: {', '.join(names)}" if names else None


def _prompt(kind: str, turn: Exchange) -> str:
    asked = {"region_qa": f"\n\nQuestion: {turn.question}", "correction": f"\n\nRequest: {turn.question}"}
    task = f"This is the report of a chest X-ray. {PROMPTS[kind]} Answer with the text alone."
    return f"{task}\n\n{turn.reply}{asked.get(kind, '')}"


def write_instructions(
    studies: Studies,
    rows: Iterable[tuple[int, str, dict[str, Any] | str]],
    out: Path,
    views: int,
    shards: bool = False,
    completions: bool = False,
) -> dict[str, Any]:
    """Write the chats, whole or not at all; returns their counts by kind, and of what was dropped by reason."""
    made, dropped = Counter[str](), Counter[str]()

    def kept() -> Iterator[dict[str, Any]]:
        for index, kind, chat in tqdm(rows, desc="write", unit="chat"):
            if isinstance(chat, str):
                dropped[f"{kind}: {chat.split(':')[0]}"] += 1
                continue
            made[kind] += 1
            pictures = [studies.open_image(index, view) for view in range(min(studies.num_views(index), views))]
            images = [picture if isinstance(picture, bytes) else str(picture.resolve()) for picture in pictures]
            if completions:
                *prompt, answer = chat.pop("messages")
                chat |= {"prompt": prompt, "completion": [answer]}
            yield {**chat, "images": images}

    out.mkdir(parents=True, exist_ok=True)
    target = out / (studies.split if shards else f"{studies.split}.jsonl")
    if shards:
        _write_shards(target, kept(), ("prompt", "completion") if completions else ("messages",))
    else:
        partial = target.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in kept())
        partial.replace(target)
    return {"chats": dict(made), "dropped": dict(sorted(dropped.items()))}


def _write_shards(target: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """A folder of `Dataset.save_to_disk`, with the pictures' bytes."""
    text = Value("string")
    chat = List({"role": text, "content": List({"type": text, "text": text})})
    known = {"study_id": text, "kind": text, "images": List(Image())}
    features = Features(known | dict.fromkeys(columns, chat))
    with TemporaryDirectory(dir=target.parent) as folder:
        file = Path(folder) / "rows.arrow"
        with ArrowWriter(features=features, path=str(file)) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
        partial = Path(folder) / target.name
        Dataset.from_file(str(file)).save_to_disk(str(partial))
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--max-studies", type=int, help="at most this number of studies, from the start")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--style", choices=PROMPT_STYLES, default="radialog", help="of the request for the report")
    parser.add_argument("--views", type=int, default=2, help="most views of a study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", action="store_true", help="a datasets folder that holds the pictures")
    parser.add_argument("--completions", action="store_true", help="prompt and completion in place of messages")
    parser.add_argument("--model", help="chat model: a folder, a name on the Hub, or a name that --url knows")
    chat_model.add_arguments(parser, temperature=0.0)
    options = parser.parse_args(arguments)
    chat_model.check_arguments(parser, options)
    if options.views < 1:
        parser.error(f"--views is {options.views}, expected at least 1")
    if not options.shards and not (options.data / "studies.jsonl").is_file():
        parser.error(f"{options.data}: the pictures are inside of shards; add --shards to have them in the result")
    studies = Studies(options.data, options.split, options.max_studies)
    set_seed(options.seed)
    chat = ChatModel(chat_model.backend(options), options.out / "answers.jsonl") if options.model else None
    rows = instruct_rows(studies, options.kinds, options.style, options.views, options.seed, chat)
    manifest: dict[str, Any] = {
        "data": str(options.data), "split": options.split, "studies": len(studies), "style": options.style,
        "seed": options.seed, "synthetic": all(study.synthetic for study in studies.records),
        "context_leaks": LeakCount(studies.records).manifest(str(options.data)),
    }  # fmt: skip
    manifest |= write_instructions(studies, rows, options.out, options.views, options.shards, options.completions)
    if chat:
        manifest |= {"model": options.model, "url": options.url, "chat": chat.counts()}
    text = json.dumps(manifest, indent=1)
    (options.out / f"{options.split}.manifest.json").write_text(text + "\n", encoding="utf-8")
    write_instruct_card(options)
    print(text)


def write_instruct_card(options: argparse.Namespace) -> None:
    """The card of OUT, from the manifests of its splits and the options of the last one."""
    manifests = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(options.out.glob("*.manifest.json"))]
    splits = {manifest["split"]: sum(manifest["chats"].values()) for manifest in manifests}
    kinds = sorted({kind for manifest in manifests for kind in manifest["chats"]})
    turns = (
        {"prompt, completion": "the turns before the last, and the last"}
        if options.completions
        else {"messages": "the turns: role and content; the last is the answer to learn"}
    )
    columns = {
        "study_id": "of the study that it is about",
        "kind": ", ".join(kinds),
        "images": "the views, with their bytes" if options.shards else "paths of the views on the machine that made it",
    }
    load = (
        "`datasets.load_from_disk(SPLIT)` reads it, and its `push_to_hub` publishes it."
        if options.shards
        else '`datasets.load_dataset("json", data_files="SPLIT.jsonl")` reads it; --shards makes one to give away.'
    )
    words = ["--data", options.data.name, "--out", "DIR", "--split", options.split, "--style", options.style]
    words += ["--views", str(options.views), "--seed", str(options.seed), "--kinds", *options.kinds]
    words += [f"--{name}" for name in ("shards", "completions") if vars(options)[name]]
    words += ["--max-studies", str(options.max_studies)] if options.max_studies else []
    words += ["--model", Path(options.model).name] if options.model else []
    write_card(
        options.out, "TRRG instructions: chats about chest X-rays",
        "Reports, questions about them with their answers, and corrections, as RaDialog's instruct data has them.",
        splits, columns | turns, f"python -m training.builders.instruct {shlex.join(words)}", load,
        all(manifest.get("synthetic") for manifest in manifests), "chats",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(run_command(main))
