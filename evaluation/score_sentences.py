"""Does a sentence's score say whether it is false? AUROC on phantoms (planted truth) or on labelled images.

    python -m evaluation.score_sentences --checkpoint DIR --phantoms 100 --out RUN
    python -m evaluation.score_sentences --checkpoint DIR --data runs/small-data/nih --split validation --out RUN

Two kinds of sentences: those of the reports that the model writes, and composed ones (`training/data/compose.py`): for
each finding whose truth is known, and each phantom's side, one that states or denies it, by a coin, so that enough of
them are false. What each says is read by the labeler and compared with the truth; sentences of which nothing is known,
and those that are not checkable, are left out and counted. AUROC of "this sentence is false" by

| score | of a sentence |
|---|---|
| sentence | its own zero-shot score (`Statement.score`) |
| clue | the mean score of its clues, of those that it denies the complement |
| token | mean probability of its tokens under the model, in its report, teacher forced |
| stated | the dumb one: whether it states a finding |
| length | the dumb one: words of its report |

for all of them, those that state and those that deny, with 95 % intervals by bootstrap over patients; beside it how
many supported and how many unsupported sentences are false. Writes sentences.jsonl, metrics.json and table.md. Never
for clinical use.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from evaluation import generate
from evaluation.metrics.classification import auroc
from evaluation.metrics.resampling import interval_text, number_text, patient_bootstrap, with_interval
from evaluation.metrics.signature import LABELER, signature
from evaluation.predictions.prediction_parts import write_whole
from evaluation.predictions.records import digest
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED, PhantomStudies, StudySource
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING, PRESENT
from evaluation.reading.sides import find_sides
from processing_trrg import Report, look_up, prepare_studies, report_text
from processing_trrg.prompt_trrg import ASSISTANT
from training.config.command_line import run_command
from training.data.compose import SentencePool
from training.data.study import CONTEXT_FIELDS
from training.phantoms.generate import MIN_SIZE, generate_phantom
from training.phantoms.report import LABEL_OF, SIDED, SIDES, PlantedFinding
from training.phantoms.scoring import report_sides

SCORES = ("sentence", "clue", "token", "stated", "length")


class LabelledTruth:
    """What is known of a study by its labels."""

    def __init__(self, labels: dict[str, Any], names: Sequence[str]):
        self.labels = {name: labels[name] for name in names if labels.get(name) in (0, 1)}

    def statements(self) -> list[tuple[str, bool]]:
        """Each finding that something is known of, and whether there are sentences that deny it."""
        return [(name, True) for name in self.labels if name != NO_FINDING]

    def is_false(self, text: str) -> bool | None:
        """Whether a sentence says anything that is not so; None where nothing that it says is known."""
        read = {name: value for name, value in label_report(text).items() if value in (0, 1)}
        plain = {name: value for name, value in read.items() if name != NO_FINDING}
        known = {name: value for name, value in (plain or read).items() if name in self.labels}
        return any(value != self.labels[name] for name, value in known.items()) if known else None


class PlantedTruth:
    """What was planted in a phantom, with its sides."""

    def __init__(self, findings: Sequence[PlantedFinding]):
        self.pairs = {finding.pair for finding in findings}

    def statements(self) -> list[tuple[str, bool]]:
        """As in `LabelledTruth`, and each side of a finding."""
        sided = [(f"{side.title()} {LABEL_OF[name]}", False) for name in SIDED for side in SIDES]
        return [(label, True) for label in LABEL_OF.values()] + sided

    def is_false(self, text: str) -> bool | None:
        """As in `LabelledTruth`; a finding on the wrong side is false."""
        claimed = report_sides(text)
        there = {LABEL_OF[name] for name, _ in self.pairs}
        wrong = [(side is not None and (name, side) not in self.pairs) or LABEL_OF[name] not in there
                 for name, side in claimed]  # fmt: skip
        sides = set().union(*find_sides(text))
        read = label_report(text)
        for name, label in LABEL_OF.items():
            if read[label] == 0:
                wrong.append(any(n == name and (not sides or side in sides) for n, side in self.pairs))
        return any(wrong) if wrong else None


def truths(source: StudySource, names: Sequence[str]) -> list[Any]:
    """The truth of each study.

    Raises:
        ValueError: no study has labels.
    """
    if isinstance(source, PhantomStudies):
        return [PlantedTruth(generate_phantom(source.seed, i, MIN_SIZE).findings) for i in range(len(source.records))]
    if not any(record.labels for record in source.records):
        raise ValueError("no study has labels to compare its sentences with")
    return [LabelledTruth(record.labels or {}, names) for record in source.records]


def compose_for(truth: Any, pool: SentencePool, names: Sequence[str], key: str) -> Report:
    """A report with a sentence for each finding of the truth, true or false by a coin."""
    rng = np.random.default_rng(digest(key))
    texts = [
        pool.say(name, int(rng.integers(2)) if denied else PRESENT, rng)
        for name, denied in truth.statements()
        if name in names
    ]
    findings = " ".join(texts[place] for place in rng.permutation(len(texts)))
    return Report(findings, None, report_text(findings or "None.", None))


@torch.no_grad()
def token_probabilities(
    model: Any, processor: Any, prompts: Any, study: Any, reports: Sequence[Report]
) -> list[list[float]]:
    """The mean probability of the tokens of each sentence in its report; NaN where its words are not found there."""
    texts = [" ".join(report.text.split()) for report in reports]
    replies = [processor.reply_ids(text)[0] for text in texts]
    before = f"{ASSISTANT[processor.prompt_style]} "  # a reply is cut into tokens behind it
    chats = [before + text for text in texts]
    offsets = processor.tokenizer(chats, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ids = pad_sequence(replies, batch_first=True, padding_value=processor.tokenizer.pad_token_id)
    mask = pad_sequence([torch.ones_like(reply) for reply in replies], batch_first=True)
    ids, mask = (some.to(prompts["input_ids"].device) for some in (ids, mask))
    outputs = model(
        input_ids=torch.cat([prompts["input_ids"], ids], 1),
        attention_mask=torch.cat([prompts["attention_mask"], mask], 1),
        study=study,
        logits_to_keep=ids.shape[1] + 1,
    )
    chosen = outputs.logits[:, :-1].float().softmax(-1).gather(-1, ids[..., None])[..., 0].cpu().numpy()
    told = []
    for row, report in enumerate(reports):
        starts = np.array(offsets[row][-len(replies[row]) :]) - len(before)
        likely, place, values = chosen[row, : len(starts)], 0, []
        for said in report.sentences or []:
            begin = texts[row].find(said.text[:-1], place)
            place = begin + len(said.text) if begin >= 0 else place
            inside = (starts[:, 0] < place) & (starts[:, 1] > begin) & (starts[:, 1] > starts[:, 0])
            values.append(float(likely[inside].mean()) if begin >= 0 and inside.any() else float("nan"))
        told.append(values)
    return told


def lines_of(
    kind: str, record: Any, truth: Any, report: Report, tokens: Sequence[float], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The sentences of a report whose truth is known and that are checkable."""
    scores = {clue.name: clue.score for clue in report.clues}
    for said, token in zip(report.sentences or [], tokens, strict=True):
        false = truth.is_false(said.text)
        if false is None:
            counts[f"{kind} unknown"] += 1
        elif said.score is None or token != token:
            counts[f"{kind} {'not checkable' if said.score is None else 'not found'}"] += 1
        else:
            counts[f"{kind} judged"] += 1
            fits = [scores[name] if value else 1 - scores[name] for name, value in said.clues.items()]
            yield {
                "study_id": record.study_id, "patient_id": record.patient_id, "kind": kind, "text": said.text,
                "false": int(false), "support": said.support, "polarity": said.polarity, "sentence": 1 - said.score,
                "clue": 1 - sum(fits) / len(fits), "token": 1 - token, "stated": float(said.polarity != 0),
                "length": len(report.text.split()),
            }  # fmt: skip


def judge(
    options: argparse.Namespace, source: StudySource, processor: Any, model: Any
) -> tuple[list[Any], Counter[str]]:
    """A line for each judged sentence, and how many were not judged, by reason.

    Raises:
        ValueError: a model whose clues check no sentence.
    """
    config = model.config
    if config.clue_source == "none" or (config.clue_source == "zero_shot" and config.clue_scoring == "softmax"):
        raise ValueError(f"--checkpoint {options.checkpoint}: its clues check no sentence (none, or one softmax)")
    names = [clue["name"] for clue in processor.clues]
    known, pool, counts = truths(source, names), SentencePool(), Counter[str]()
    lines: list[dict[str, Any]] = []
    for start in range(0, len(source.records), options.batch_size):
        rows = range(start, min(start + options.batch_size, len(source.records)))
        records = [source.records[row] for row in rows]
        words = [
            {name: record.get(name) for name in CONTEXT_FIELDS} | {"study_id": record.study_id} for record in records
        ]
        images = [[source.open_image(row, view) for view in range(len(source.records[row].images))] for row in rows]
        studies = [word | {"images": views} for word, views in zip(words, images, strict=True)]
        batch = prepare_studies(processor, studies).to(model.device)
        study = model.read_study(**batch)
        prompts = processor.say_findings(batch, study)
        texts = {name: prompts[name] for name in ("input_ids", "attention_mask")}
        generated = model.generate(**texts, study=study, **generate.decoding(options))
        written = processor.post_process_report(generated, prompts, study, abstain=False)
        composed = [compose_for(known[row], pool, names, source.records[row].study_id) for row in rows]
        for own, other in zip(written, composed, strict=True):
            other.clues = own.clues
        for kind, reports in (("generated", written), ("composed", composed)):
            look_up(reports, model, processor, prompts, study)
            tokens = token_probabilities(model, processor, prompts, study, reports)
            for row, record, report, values in zip(rows, records, reports, tokens, strict=True):
                lines += lines_of(kind, record, known[row], report, values, counts)
        print(f"{rows.stop} of {len(source.records)} studies", file=sys.stderr)
    return lines, counts


def score(lines: Sequence[dict[str, Any]], resamples: int) -> dict[str, Any]:
    """AUROC of each score for "false", and how many supported and unsupported sentences are false."""
    truth = np.array([line["false"] for line in lines])
    values = {name: np.array([line[name] for line in lines], dtype=float) for name in SCORES}

    def areas(weights: np.ndarray) -> np.ndarray:
        return np.array([auroc(values[name], truth, weights) for name in SCORES])

    found: dict[str, Any] = {"sentences": len(lines), "false": int(truth.sum())}
    for support in ("supported", "unsupported"):
        some = truth[[line["support"] == support for line in lines]]
        found[support] = {"sentences": len(some), "false": int(some.sum())}
    if 0 < truth.sum() < len(truth):
        draws = patient_bootstrap([line["patient_id"] for line in lines], areas, resamples, 0) if resamples else None
        found["auroc"] = {
            name: with_interval(area, None if draws is None else draws[:, column])
            for column, (name, area) in enumerate(zip(SCORES, areas(np.ones(len(lines))), strict=True))
        }
    return found


def table(results: dict[str, Any]) -> str:
    """The scores as a Markdown table, a row a kind of sentences."""
    heads = ["sentences", "false of", *SCORES, "false of supported", "of unsupported"]
    rows = [heads, ["---"] * len(heads)]
    for kind, found in results.items():
        areas = found.get("auroc", {})
        cells = [f"{number_text(areas[n]['value'])} {interval_text(areas[n])}" if areas else "-" for n in SCORES]
        split = [f"{found[s]['false']} of {found[s]['sentences']}" for s in ("supported", "unsupported")]
        rows.append([kind, f"{found['false']} of {found['sentences']}", *cells, *split])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the checkpoint's own code, not ours")
    parser.add_argument("--data", type=Path, help="folder with studies.jsonl, or datasets shards, with labels")
    parser.add_argument("--split", help="of --data")
    parser.add_argument("--max-studies", type=int, help="at most this number, from the start")
    parser.add_argument("--phantoms", type=int, metavar="N", help="N SYNTHETIC phantoms instead of --data")
    parser.add_argument("--seed", type=int, default=TEST_PHANTOM_SEED, help="of the phantoms; training's is 2408")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--batch-size", type=int, default=16, help="studies")
    parser.add_argument("--max-new-tokens", type=int, help="of a report (default: the checkpoint's own)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    parser.set_defaults(images=None, views=None, workers=0, num_beams=1, bf16=False)
    options = generate.read_arguments(parser, arguments)
    source = generate.open_source(options)
    lines, counts = judge(options, source, *generate.load(options, generate.start_processes()))
    results = {}
    for kind in ("generated", "composed"):
        some = [line for line in lines if line["kind"] == kind]
        for part, states in (("", (0.0, 1.0)), (", stating", (1.0,)), (", denying", (0.0,))):
            chosen = [line for line in some if line["stated"] in states]
            if chosen:
                results[kind + part] = score(chosen, options.resamples)
    told = signature("score_sentences", labeler=LABELER, n=len(source.records),
                     bootstrap=f"patients-{options.resamples}", seed=0)  # fmt: skip
    left = ", ".join(f"{name}: {number}" for name, number in sorted(counts.items()))
    options.out.mkdir(parents=True, exist_ok=True)
    write_whole(options.out / "sentences.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_whole(options.out / "table.md", f"{table(results)}\n{left}\n`{told}`\n")
    kept = {"signature": told, "counts": counts, "results": results}
    write_whole(options.out / "metrics.json", json.dumps(kept, indent=1) + "\n")
    print(f"{table(results)}\nAUROC of 'this sentence is false'. Sentences by what became of them: {left}\n{told}")
    print("Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
