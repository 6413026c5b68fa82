"""Score a predictions file: every named clinical and language metric and the report's truthfulness, with interval and
signature, offline on a CPU.

    python evaluation/score.py predictions.jsonl --out scores
    python evaluation/score.py predictions.jsonl --references studies.jsonl --split test --section findings --out scores
    python evaluation/score.py predictions.jsonl --label-set my_labels.yaml --out scores

Writes `metrics.json`, `table.md`, `studies.jsonl` (one line a study, what `compare.py` reads), `label_f1.png` and,
where predictions carry `clue_scores`, `clue_reliability.png`. The numbers do not depend on the order of the file, on
the chunks or on the number of processes. Never for clinical use.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from evaluation.metrics.calibration import ClueReliability
from evaluation.metrics.chexbert import CheXbertLabeler
from evaluation.metrics.clinical import (
    CONVENTIONS,
    GivenLabels,
    LabelPatterns,
    clinical_scores,
    decode_labels,
    encode_labels,
)
from evaluation.metrics.count_table import CountTable
from evaluation.metrics.details import detail_rows, detail_scores, study_details
from evaluation.metrics.label_set_scores import label_set_rows, label_set_scores
from evaluation.metrics.language import (
    DocumentFrequencies,
    LanguageRows,
    LanguageSums,
    count_ngrams,
    language_rows,
    language_scores,
    sum_rows,
    text_table,
    variety_scores,
)
from evaluation.metrics.meteor import MeteorTables, find_meteor, load_tables
from evaluation.metrics.resampling import interval_text, number_text
from evaluation.metrics.signature import LABELER
from evaluation.metrics.text_normalisation import TREATMENTS
from evaluation.metrics.truthfulness import TruthCounts, study_truth, truth_scores
from evaluation.predictions.plots import plot_label_f1, plot_reliability
from evaluation.predictions.prediction_parts import write_whole
from evaluation.predictions.records import SECTIONS, Pair, digest, open_studies, read_pairs
from evaluation.reading.label_sets import LabelSet, read_label_set
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import Labels
from evaluation.reading.streaming import in_chunks, ordered_map
from training.config.command_line import run_command, writing

CHUNK = 1024
MERGE_EVERY = 16  # chunks whose tables of n-grams wait to be merged


@dataclass(frozen=True)
class Context:
    """What a worker needs besides its chunk."""

    frequencies: dict[str, DocumentFrequencies]
    meteor: MeteorTables | None
    resamples: int
    seed: int
    label_set: LabelSet | None = None


class ChunkScores(NamedTuple):
    """What a chunk of studies adds to the result; `texts` by side ("" predictions, "reference_") and treatment."""

    patterns: LabelPatterns
    sums: dict[str, LanguageSums]
    texts: dict[tuple[str, str], CountTable]
    truths: TruthCounts
    details: CountTable
    label_set: CountTable | None
    reliability: ClueReliability
    lines: list[str]


_context = Context({}, None, 0, 0)  # of this worker process, set once by `start_worker`


def start_worker(context: Context) -> None:
    """Give this process what its chunks are scored with."""
    global _context
    _context = context


def labels_of(pairs: Sequence[Pair], side: str) -> np.ndarray:
    """Codes `[N, 14]` of the labels that a pair carries, or of those that the rules read in its text."""
    codes = []
    for pair in pairs:
        given: GivenLabels | None = getattr(pair, f"{side}_labels")
        labels = label_report(getattr(pair, side)) if given is None else given
        codes.append(encode_labels([labels], f"study {pair.study_id!r}: {side}_labels"))
    return np.concatenate(codes)


def score_chunk(pairs: list[Pair]) -> ChunkScores:
    """Score the studies of one chunk."""
    reference, prediction = labels_of(pairs, "reference"), labels_of(pairs, "prediction")
    names = [f"study {pair.study_id!r}" for pair in pairs]
    rows, texts = {}, {}
    for name, frequencies in _context.frequencies.items():
        predictions = [TREATMENTS[name](pair.prediction) for pair in pairs]
        references = [TREATMENTS[name](pair.reference) for pair in pairs]
        rows[name] = language_rows(predictions, references, frequencies, _context.meteor, names)
        texts["", name], texts["reference_", name] = text_table(predictions), text_table(references)
    truths = [
        study_truth(pair.prediction, pair.clue_scores, pair.has_prior, selected=pair.selected_clues) for pair in pairs
    ]
    details = [study_details(pair.prediction, pair.reference) for pair in pairs]
    own: list[dict[str, Labels]] = []
    if _context.label_set is not None:
        label = _context.label_set.label
        own = [{"reference": label(pair.reference), "prediction": label(pair.prediction)} for pair in pairs]
    reliability = ClueReliability()
    lines = []
    labels = zip(decode_labels(reference), decode_labels(prediction), strict=True)
    for row, (pair, (reference_labels, prediction_labels)) in enumerate(zip(pairs, labels, strict=True)):
        if pair.clue_scores is not None:
            if pair.study_labels is None:
                reliability.add(pair.clue_scores, reference_labels, of_report=True)
            else:
                reliability.add(pair.clue_scores, pair.study_labels, of_report=False)
        line = {
            "study_id": pair.study_id,
            "reference_labels": reference_labels,
            "prediction_labels": prediction_labels,
            "language": {name: language_line(table, row) for name, table in rows.items()},
            "truthfulness": truths[row].to_dict(),
            "details": details[row].to_dict(),
        }
        lines.append(json.dumps(line | ({"label_set": own[row]} if own else {})))
    keys = np.array([digest(pair.study_id) for pair in pairs], dtype=np.uint64)
    sums = {name: sum_rows(table, keys, _context.resamples, _context.seed) for name, table in rows.items()}
    return ChunkScores(
        patterns=LabelPatterns.from_codes(reference, prediction),
        sums=sums,
        texts=texts,
        truths=TruthCounts.from_studies(truths),
        details=CountTable.from_rows(detail_rows(details)),
        label_set=CountTable.from_rows(label_set_rows(own)) if own else None,
        reliability=reliability,
        lines=lines,
    )


def language_line(rows: LanguageRows, row: int) -> dict:
    """One report's row, as `studies.jsonl` holds it and `compare.py` reads it back."""
    line = {"bleu_counts": rows.bleu_counts[row].tolist(), "rouge_l": rows.rouge_l[row], "cider_d": rows.cider_d[row]}
    if rows.meteor_counts is not None:
        line["meteor_counts"] = rows.meteor_counts[row].tolist()
    return line


def count_references(studies: list[tuple[str, str]]) -> dict[str, DocumentFrequencies]:
    """Document frequencies of a chunk of (study id, reference) under every treatment of this worker."""
    names = [f"study {study_id!r}" for study_id, _ in studies]
    return {
        name: DocumentFrequencies.from_ngrams(count_ngrams([TREATMENTS[name](text) for _, text in studies], names))
        for name in _context.frequencies
    }


def merge_frequencies(parts: Iterable[dict[str, DocumentFrequencies]]) -> dict[str, DocumentFrequencies]:
    """One set of document frequencies for each treatment, from those of all chunks."""
    merged: dict[str, DocumentFrequencies] = {}
    for block in in_chunks(parts, MERGE_EVERY):
        for name in block[0]:
            held = [merged[name]] if name in merged else []
            merged[name] = DocumentFrequencies.merge([*held, *(part[name] for part in block)])
    return merged


def with_chexbert(pairs: Iterable[Pair], labeler: CheXbertLabeler) -> Iterator[Pair]:
    """Pairs with the labels that CheXbert gives their texts, batch by batch in this process."""
    for chunk in in_chunks(pairs, CHUNK):
        reference, prediction = (labeler([getattr(p, side) for p in chunk]) for side in ("reference", "prediction"))
        for pair, one, two in zip(chunk, reference, prediction, strict=True):
            yield pair._replace(reference_labels=one, prediction_labels=two)


def with_published_rules(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Pairs with the labels of the rules under the conventions of the published CheXpert labeler, in this process."""
    for pair in pairs:
        one, two = (label_report(text, conventions="chexpert") for text in (pair.reference, pair.prediction))
        yield pair._replace(reference_labels=one, prediction_labels=two)


def score_stream(
    pairs: Callable[[], Iterable[Pair]],
    *,
    label: Callable[[Iterable[Pair]], Iterable[Pair]] = iter,
    labeler: str = LABELER,
    conventions: Sequence[str] = tuple(CONVENTIONS),
    treatments: Sequence[str] = tuple(TREATMENTS),
    meteor: Path | None = None,
    label_set: LabelSet | None = None,
    resamples: int = 1000,
    seed: int = 0,
    processes: int = 1,
    total: int | None = None,
    write_line: Callable[[str], object] = lambda line: None,
) -> dict:
    """Score a corpus, chunk by chunk: no report is held longer than its chunk, only the tables of what was counted.

    Args:
        pairs: gives the studies from the start, each time it is called: language metrics go over them twice, because
            CIDEr-D weighs words by how many references hold them (three times with METEOR, for its vocabulary).
        label: adds labels to the stream of studies; called once. Pairs without labels are labelled by the rules.
        labeler: name of what made the labels, for the signature.
        conventions, treatments: names; no treatments leaves the language metrics out.
        meteor: folder of METEOR 1.5 (`meteor.py`); None leaves METEOR out.
        label_set: a label set of the user's own.
        resamples, seed: of the bootstrap.
        processes: workers.
        total: number of studies, for the progress bar.
        write_line: receives the JSON line of every study, in order.

    Returns:
        `{"n", "scores", "per_label", "clue_reliability"}`, ready for JSON. A share of nothing has value None.
    """

    def progress(items: Iterable, what: str) -> Iterable:
        return tqdm(items, desc=what, total=None if total is None else -(-total // CHUNK), unit=f" x {CHUNK} studies")

    frequencies: dict[str, DocumentFrequencies] = {}
    if treatments:
        references = in_chunks(((pair.study_id, pair.reference) for pair in pairs()), CHUNK)
        empty = Context({name: DocumentFrequencies(0, ()) for name in treatments}, None, 0, 0)
        counted = ordered_map(count_references, references, processes, start_worker, (empty,))
        frequencies = merge_frequencies(progress(counted, "references"))
    tables = None
    if meteor is not None:
        texts = (
            TREATMENTS[name](text)
            for pair in pairs()
            for text in (pair.prediction, pair.reference)
            for name in treatments
        )
        tables = load_tables(meteor, texts)
    patterns: list[LabelPatterns] = []
    sums: dict[str, LanguageSums] = {}
    written: dict[tuple[str, str], list[CountTable]] = {}
    truths: list[TruthCounts] = []
    details: list[CountTable] = []
    own: list[CountTable] = []
    reliability = ClueReliability()
    chunks = in_chunks(label(pairs()), CHUNK)
    context = Context(frequencies, tables, resamples, seed, label_set)
    results = ordered_map(score_chunk, chunks, processes, start_worker, (context,))
    for result in progress(results, "studies"):
        patterns.append(result.patterns)
        truths.append(result.truths)
        details.append(result.details)
        if result.label_set is not None:
            own.append(result.label_set)
        for key, distinct in result.texts.items():
            written.setdefault(key, []).append(distinct)
        for name, found in result.sums.items():
            sums[name] = sums[name] + found if name in sums else found
        reliability.merge([result.reliability])
        for line in result.lines:
            write_line(line)
    if not patterns:
        raise ValueError("no report pairs to score")
    merged = LabelPatterns.merge(patterns)
    scored = clinical_scores(merged, conventions, labeler, resamples, seed)
    scores = scored["scores"]
    for name in treatments:
        scores |= language_scores(sums[name], name, seed)
        for side in ("", "reference_"):
            scores |= variety_scores(CountTable.merge(written[side, name]), side, name)
    scores |= detail_scores(CountTable.merge(details), resamples, seed)
    if label_set is not None:
        scores |= label_set_scores(CountTable.merge(own), label_set.name, label_set.labels, resamples, seed)
    scores |= truth_scores(TruthCounts.merge(truths), resamples, seed)
    clues = reliability.summary()
    return {"n": len(merged), **scored, "clue_reliability": clues if clues["all"]["n"] else None}


def remark(score: dict) -> str:
    """What is printed beside a score: the whole numbers of a share, the support of a label, a note."""
    parts = [f"{score['count']} of {score['of']}"] if "of" in score else []
    parts += [f"{score['support']} in the references"] if "support" in score else []
    return "; ".join([*parts, score["note"]] if "note" in score else parts)


def table(scores: dict[str, dict]) -> str:
    """A Markdown table of scores."""
    lines = ["| score | value | 95 % interval | remark | signature |", "|---|---|---|---|---|"]
    for name, score in scores.items():
        signature = score["signature"].replace("|", r"\|")
        cells = (name, number_text(score["value"]), interval_text(score), remark(score), signature)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="JSON lines: study_id, prediction, reference")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--references", type=Path, help="study records (studies.jsonl); must hold the same studies")
    parser.add_argument("--split", help="only the references of this split")
    parser.add_argument("--section", choices=SECTIONS, default="report", help="of the record that is the reference")
    parser.add_argument("--labeler", choices=("rules", "rules-chexpert", "chexbert", "given"), default="rules")
    parser.add_argument("--chexbert", type=Path, help="CheXbert checkpoint (bring your own; Stanford academic licence)")
    parser.add_argument("--chexbert-tokenizer", default="bert-base-uncased", help="name or folder")
    parser.add_argument("--conventions", nargs="+", choices=tuple(CONVENTIONS), default=list(CONVENTIONS))
    parser.add_argument("--treatments", nargs="*", choices=tuple(TREATMENTS), default=list(TREATMENTS))
    parser.add_argument(
        "--meteor", nargs="?", type=Path, const="installed", help="add METEOR 1.5, from a folder or from pycocoevalcap"
    )
    parser.add_argument("--label-set", type=Path, help="YAML of labels of your own (README)")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if (options.labeler == "chexbert") != (options.chexbert is not None):
        parser.error("--labeler chexbert and --chexbert CHECKPOINT go together")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    options = parse_arguments(arguments)
    label_set = None if options.label_set is None else read_label_set(options.label_set)
    index, references = open_studies(options.predictions, options.references, options.split)
    label: Callable[[Iterable[Pair]], Iterable[Pair]] = iter
    if options.labeler == "rules-chexpert":
        label = with_published_rules
    if options.labeler == "chexbert":
        label = partial(with_chexbert, labeler=CheXbertLabeler(options.chexbert, options.chexbert_tokenizer))

    def pairs() -> Iterator[Pair]:
        return read_pairs(options.predictions, references, options.section, options.labeler == "given")

    meteor = find_meteor() if options.meteor == Path("installed") else options.meteor
    options.out.mkdir(parents=True, exist_ok=True)
    lines, metrics = options.out / "studies.jsonl", options.out / "metrics.json"
    unfinished = lines.with_suffix(".partial")
    with writing(lines), unfinished.open("w", encoding="utf-8") as studies:
        result = score_stream(
            pairs,
            label=label,
            labeler=options.labeler.replace("rules", LABELER),
            conventions=options.conventions,
            treatments=options.treatments,
            meteor=meteor,
            label_set=label_set,
            resamples=options.resamples,
            seed=options.seed,
            processes=options.processes,
            total=len(index),
            write_line=lambda line: studies.write(line + "\n"),
        )
    result["section"] = "given" if references is None else options.section
    metrics.unlink(missing_ok=True)  # written last: where it is, all files are of one run
    unfinished.replace(lines)
    write_whole(options.out / "table.md", table(result["scores"]))
    plot_label_f1(result["per_label"], result["n"], options.out / "label_f1.png")
    if result["clue_reliability"]:
        plot_reliability(result["clue_reliability"], options.out / "clue_reliability.png")
    write_whole(metrics, json.dumps(result, indent=1) + "\n")
    for name, score in result["scores"].items():
        print(f"{name:32} {number_text(score['value']):>8}  {interval_text(score):18}  {remark(score)}".rstrip())
    print(f"{result['n']} studies; signatures in {options.out / 'table.md'}. Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
