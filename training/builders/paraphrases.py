"""Reports in other words: text-based augmentation, as MAIRA-1 has it.

    python -m training.builders.paraphrases --data data/mimic-cxr-findings --model NAME --out paraphrases.jsonl
    python -m training.builders.paraphrases --data runs/small-data/iu --swap-sentences --count 10 --out swapped.jsonl

By a chat model, or by swapping: a sentence is replaced by one of another report, of the same section, with the same
labels and the same sides. Findings and impression are rewritten one by one. A paraphrase is kept only where the labeler
reads the same 14 labels from the new report as from the old one, and where it is not the old one; the others go to OUT
with `.rejected` before the suffix, with the reason. The same command goes on where it was cut short. `data.paraphrases`
of a stage-2 configuration reads OUT. MAIRA-1 used GPT-3.5 with a prompt that is not public: prompt and model are ours
and yours. With --url the reports go to that server (`chat_model.py`; its key from OPENAI_API_KEY), else to no machine
but this one; mind the terms of your data when you choose a model.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import set_seed

from evaluation.reading.labeler import label_report
from evaluation.reading.sentences import cut_sentences
from evaluation.reading.sides import find_sides
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
    before = label_report(report_text(study.findings, study.impression))
    after = label_report(report_text(**rewritten))
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    return f"labels changed: {', '.join(changed)}" if changed else None


def paraphrase(studies: Sequence[Study], rewrite: Rewrite, out: Path, count: int, batch_size: int) -> tuple[int, int]:
    """Append `count` tries of each study to `out` or to the rejected; returns how many of both there are now."""
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
    return len(read_lines(out)), len(read_lines(refused))


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
    kept, rejected = paraphrase(records, rewrite, options.out, options.count, options.batch_size)
    print(f"{kept} paraphrases in {options.out}, {rejected} rejected (labels must stay the same)")
    if not options.swap_sentences:
        print(json.dumps(chat.counts()))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
