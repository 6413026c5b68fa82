"""Reports in other words: text-based augmentation, as MAIRA-1 has it.

    python -m training.builders.paraphrases --data data/mimic-cxr-findings --model NAME --out paraphrases.jsonl
    python -m training.builders.paraphrases --data runs/small-data/iu --swap-sentences --count 10 --out swapped.jsonl

By a chat model, or by swapping: a sentence is replaced by one of another report, of the same section, with the same
labels and the same sides. Findings and impression are rewritten one by one. A paraphrase is kept only where the labeler
reads the same 14 labels from the new report as from the old one, each finding on the same sides, and where it is not
the old one; the others go to OUT with `.rejected` before the suffix, with the reason, and are counted by it. The same
command goes on where it was cut short. `data.paraphrases` of a stage-2 configuration reads OUT, `data.paraphrase_share`
says how often. MAIRA-1 used GPT-3.5 with a prompt that is not public: prompt and model are ours
and yours. With --url the reports go to that server (`chat_model.py`; its key from OPENAI_API_KEY), else to no machine
but this one; mind the terms of your data when you choose a model.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import set_seed

from evaluation.reading.labeler import explain_report, label_report
from evaluation.reading.observations import ABSENT, PRESENT, UNCERTAIN
from evaluation.reading.sentences import cut_sentences
from evaluation.reading.sides import BOTH, find_sides, sides_of
from processing_trrg import report_text
from training.builders import chat_model
from training.builders.chat_model import ChatModel, append_lines, read_lines
from training.config.command_line import run_command
from training.data.study import REPORT_PARTS, Studies, Study, target_text

REQUEST = (
    "Rewrite this part of a chest X-ray report in other words. Keep every finding, negation, side, size and "
    "uncertainty. Add nothing, explain nothing, answer with the rewritten text alone.\n\n{}"
)
Rewrite = Callable[[list[tuple[str, str]]], Sequence[str | None]]
"""(section, text) pairs to new texts, None where there is no answer."""
SWAPPED = 0.7
"""Share of the sentences that are replaced, where there is another one."""


def chat_rewriter(chat: ChatModel) -> Rewrite:
    """Texts to their paraphrases by a chat model."""
    return lambda texts: chat.ask([REQUEST.format(text) for _, text in texts])


def sentence_swapper(studies: Sequence[Study], seed: int) -> Rewrite:
    """Sentences to others that say the same of the 14 observations and name the same sides, from the same section."""
    rng = np.random.default_rng(seed)

    def said(part: str, sentence: str) -> tuple[Any, ...]:
        return part, frozenset(find_sides(sentence)), *label_report(sentence).values()

    pool: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for study in studies:
        for part in REPORT_PARTS:
            for sentence in cut_sentences(study[part] or ""):
                pool[said(part, sentence)].append(sentence)

    def swap(part: str, sentence: str) -> str:
        others = pool[said(part, sentence)]
        return others[int(rng.integers(len(others)))] if rng.random() < SWAPPED else sentence

    return lambda texts: [" ".join(swap(part, s) for s in cut_sentences(text)) for part, text in texts]


def check(study: Study, rewritten: dict[str, str | None]) -> str | None:
    """Why a paraphrase is not kept, or None."""
    if any(study[part] and not rewritten[part] for part in REPORT_PARTS):
        return "a section is empty"
    if all(rewritten[part] == study[part].strip() for part in REPORT_PARTS if study[part]):
        return "nothing was rewritten"
    texts = report_text(study.findings, study.impression), report_text(**rewritten)
    readers: dict[str, Callable[[str], dict[str, Any]]] = {"labels": label_report, "sides": named_sides}
    for what, read in readers.items():
        before, after = map(read, texts)
        changed = [
            f"{name}: {before.get(name)} -> {after.get(name)}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        if changed:
            return f"{what} changed: {', '.join(changed)}"
    return None


def named_sides(text: str) -> dict[str, list[str]]:
    """The sides that a report names for each finding that it claims, doubts or denies; a denial on both sides names
    none."""
    found: dict[str, set[str]] = defaultdict(set)
    marks = {ABSENT: "no ", UNCERTAIN: "perhaps ", PRESENT: ""}
    for sentence, group in groupby(explain_report(text).mentions, key=lambda mention: mention.sentence):
        in_order = sorted(group, key=lambda mention: mention.start)
        for mention, sides in zip(in_order, sides_of(sentence, [m.start for m in in_order]), strict=True):
            if mention.polarity != ABSENT or sides != BOTH:
                found[marks[mention.polarity] + mention.observation] |= sides
    return {name: sorted(sides) for name, sides in found.items() if sides}


def paraphrase(studies: Sequence[Study], rewrite: Rewrite, out: Path, count: int, batch_size: int) -> dict[str, Any]:
    """Append `count` tries of each study to `out` or to the rejected.

    Returns:
        {"kept": number, "rejected": {reason: number}} of both files as they are now.
    """
    refused = out.with_suffix(f".rejected{out.suffix}")
    tries: dict[str, int] = {}
    for file in (out, refused):
        for line in read_lines(file):
            tries[line["study_id"]] = tries.get(line["study_id"], 0) + 1
    left = [study for study in studies for _ in range(count - tries.get(study.study_id, 0))]
    for start in tqdm(range(0, len(left), batch_size), desc="rewrite", unit="batch"):
        batch = left[start : start + batch_size]
        places = [(row, part) for row, study in enumerate(batch) for part in REPORT_PARTS if study[part]]
        texts = rewrite([(part, batch[row][part].strip()) for row, part in places])
        new: list[dict[str, str | None]] = [dict.fromkeys(REPORT_PARTS) for _ in batch]
        unanswered = {row for (row, _), text in zip(places, texts, strict=True) if text is None}
        for (row, part), text in zip(places, texts, strict=True):
            new[row][part] = (text or "").strip() or None
        kept, rejected = [], []
        for row, (study, rewritten) in enumerate(zip(batch, new, strict=True)):
            line = {"study_id": study.study_id, **rewritten}
            if row in unanswered:  # the next run asks again
                continue
            if (reason := check(study, rewritten)) is None:
                kept.append(line)
            else:
                rejected.append({**line, "reason": reason})
        append_lines(out, kept)
        append_lines(refused, rejected)
    reasons = Counter(line["reason"].partition(":")[0] for line in read_lines(refused))
    return {"kept": len(read_lines(out)), "rejected": dict(sorted(reasons.items()))}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", default="train")
    parser.add_argument("--max-studies", type=int, help="at most this number of studies, from the start")
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--model", help="folder, or name on the Hub or of --url, of a chat model")
    by.add_argument("--swap-sentences", action="store_true", help="sentences of other reports that say the same")
    parser.add_argument("--out", type=Path, required=True, help="JSON Lines to append to")
    parser.add_argument("--count", type=int, default=1, help="tries a study")
    chat_model.add_arguments(parser, temperature=0.7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chat_model.check_arguments(parser, options)
    if options.count < 1 or options.temperature == 0:
        parser.error("--count must be at least 1, --temperature above 0")
    studies = Studies(options.data, options.split, options.max_studies)
    records = [study for study in studies.records if target_text(study)]
    if not records:
        parser.error(f"{options.data}: no study of split {options.split!r} has a report")
    set_seed(options.seed)
    if options.swap_sentences:
        rewrite = sentence_swapper(records, options.seed)
    else:
        chat = ChatModel(chat_model.backend(options))
        rewrite = chat_rewriter(chat)
    counts = paraphrase(records, rewrite, options.out, options.count, options.batch_size)
    print(json.dumps(counts if options.swap_sentences else counts | {"chat": chat.counts()}, indent=1))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
