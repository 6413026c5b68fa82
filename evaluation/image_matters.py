"""Does the image matter? The same studies reported from their own image, from others, and from given clues.

    python evaluation/image_matters.py --checkpoint DIR --data DIR --split validation --out RUN [-- --batch-size 8]

| condition | what the model gets |
|---|---|
| real | the image |
| blank | black squares of the same size |
| noise | uniform noise |
| another | the images of a study of another patient |
| turned | the image turned by 90 degrees |
| shuffled_clues, empty_clues, oracle_clues | the image and the clues of another study's labels, none, its own |

Each condition is a run of generate.py in a folder of its own, resumable; clues are given only where the checkpoint
reads them and every study has labels, and no run abstains from a picture. Writes metrics.json and table.md, with 95 %
intervals by bootstrap over patients: micro and macro F1 of the report (labeler) against the study's labels, where
known; agreement with the report of the real image (F1 of their labels, No Finding included, the shares of equal label
sets and of equal texts); the share that compares with an earlier study; words; different reports, the share of the
commonest. A model that reads its image is best on the real one, agrees least with that on another patient's, and
follows the clues. Never for clinical use.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np

from evaluation import generate
from evaluation.metrics.classification import known_f1
from evaluation.metrics.resampling import interval_text, number_text, patient_bootstrap, with_interval
from evaluation.metrics.signature import LABELER, signature
from evaluation.predictions.prediction_parts import PREDICTIONS, write_whole
from evaluation.predictions.records import digest, read_lines
from evaluation.predictions.study_sources import StudySource
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, certain, tensor_labels
from evaluation.reading.prior_comparisons import comparison_sentences
from processing_trrg import PreparedView, read_radiograph
from training.config.command_line import run_command
from training.data.study import Study

CLUES = {"shuffled_clues": ["--shuffle-clues", "0"], "empty_clues": ["--no-clues"], "oracle_clues": ["--oracle-clues"]}
"""Condition -> options of generate.py."""
Change = Callable[[np.ndarray, int], np.ndarray]
IMAGES: dict[str, Change] = {
    "real": lambda square, key: square,
    "blank": lambda square, key: np.zeros_like(square),
    "noise": lambda square, key: np.random.default_rng(key).integers(0, 256, square.shape, dtype=np.uint8),
    "turned": lambda square, key: np.rot90(square).copy(),
    "another": lambda square, key: square,
}
"""Condition -> (square `[size, size]` that the model sees, a number of the study) -> the square in its place."""
CONDITIONS = (*IMAGES, *CLUES)


def other_patients(studies: Sequence[Study], seed: int = 0) -> list[int]:
    """For each study the index of one of another patient; every study is given away once.

    Raises:
        ValueError: one patient has more than half of the studies.
    """
    counts = Counter(study.patient_id for study in studies)
    name, most = counts.most_common(1)[0]
    if 2 * most > len(studies):
        raise ValueError(
            f"patient {name!r} has {most} of {len(studies)} studies; to exchange them expected at most half"
        )
    rng = np.random.default_rng(seed)
    place = dict(zip(counts, rng.permutation(len(counts)).tolist(), strict=True))
    order = sorted(range(len(studies)), key=lambda index: place[studies[index].patient_id])
    given = {here: order[(number + most) % len(order)] for number, here in enumerate(order)}
    return [given[index] for index in range(len(studies))]


class ChangedImages:
    """A source whose images are changed as a condition says; findings, words and labels stay.

    Args:
        source: the studies.
        image_processor: makes the squares, which the processor then takes as they are.
        condition: one of `IMAGES`.
    """

    def __init__(self, source: StudySource, image_processor: Any, condition: str):
        self.source, self.image_processor, self.condition = source, image_processor, condition
        self.records, self._from = source.records, list(range(len(source.records)))
        if condition == "another":
            self._from = other_patients(source.records)
            lent = [source.records[index].images for index in self._from]
            self.records = [replace(record, images=images) for record, images in zip(source.records, lent, strict=True)]

    def open_image(self, index: int, view: int) -> PreparedView:
        """The changed square of one view."""
        image = self.source.open_image(self._from[index], view)
        square = self.image_processor.square(read_radiograph(image, f"view {view}"))
        return PreparedView(IMAGES[self.condition](square, digest(self.records[index].study_id) + view))


def all_labelled(source: StudySource) -> bool:
    """Whether every study has labels to make clues from."""
    return all(record.labels for record in source.records)


def scores_of(lines: list[dict[str, Any]], real: list[dict[str, Any]], resamples: int) -> dict[str, dict[str, Any]]:
    """The scores of one condition beside the real images; see the top of this file."""
    truth = np.array([tensor_labels(certain((line["labels"] or {}).get(n) for n in CHEXPERT_14)) for line in lines])
    columns = np.flatnonzero((truth == 1).any(0))
    claims, claims_real = (
        np.array([[label_report(line["prediction"])[n] == 1 for n in CHEXPERT_14] for line in some])
        for some in (lines, real)
    )
    texts = [line["prediction"] for line in lines]
    same = np.array([text == line["prediction"] for text, line in zip(texts, real, strict=True)])
    words = np.array([len(text.split()) for text in texts])
    alike = (claims == claims_real).all(1)
    compares = np.array([bool(comparison_sentences(text)) for text in texts])
    patients = [line["patient_id"] or line["study_id"] for line in lines]

    def measure(weights: np.ndarray) -> dict[str, float]:
        n = weights.sum()
        agreement = known_f1(claims_real.astype(int), claims, weights)[-1]
        shares = {
            "agreement_f1": agreement, "same_labels": weights @ alike / n, "same_text": weights @ same / n,
            "compares": weights @ compares / n, "words": weights @ words / n,
        }  # fmt: skip
        if not len(columns):
            return shares
        *_, macro, micro = known_f1(truth[:, columns], claims[:, columns], weights)
        return {"macro_f1": macro, "micro_f1": micro} | shares

    value = measure(np.ones(len(lines)))
    draws = patient_bootstrap(patients, lambda w: np.array([*measure(w).values()]), resamples, 0) if resamples else None
    scores: dict[str, dict[str, Any]] = {
        name: with_interval(np.asarray(number), None if draws is None else draws[:, column])
        for column, (name, number) in enumerate(value.items())
    }
    counts = Counter(texts)
    scores["distinct"] = {"value": len(counts), "low": None, "high": None}
    scores["commonest"] = {"value": max(counts.values()) / len(texts), "low": None, "high": None}
    return scores


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, a row a condition."""
    names = list(next(iter(results.values())))
    rows = [["condition", *names], ["---"] * (len(names) + 1)]
    for condition, scores in results.items():
        cells = [
            str(scores[n]["value"])
            if n == "distinct"
            else f"{number_text(scores[n]['value'])} {interval_text(scores[n])}".strip()
            for n in names
        ]
        rows.append([condition, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options; `more` goes to generate.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--data", type=Path, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", help="of --data")
    parser.add_argument("--phantoms", type=int, metavar="N", help="N SYNTHETIC phantoms instead of --data")
    parser.add_argument("--max-studies", type=int, help="at most this number, from the start")
    parser.add_argument(
        "--conditions", nargs="+", choices=CONDITIONS, help="default: all that can be given; real always is"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    parser.add_argument("more", nargs="*", help="options of generate.py, after --")
    stop_at_missing_paths(arguments)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    options = parse_arguments(arguments)
    names = ("checkpoint", "data", "split", "phantoms", "max_studies")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    chosen = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    run = generate.parse_arguments([*chosen, "--out", str(options.out), *options.more])
    source, loaded = generate.open_source(run), generate.load(run, generate.start_processes())
    conditions = options.conditions or [
        *IMAGES, *(CLUES if generate.reads_clues(loaded[0], loaded[1].config) and all_labelled(source) else ())
    ]  # fmt: skip
    sources = {
        name: ChangedImages(source, loaded[0].image_processor, name if name in IMAGES else "real")
        for name in dict.fromkeys(("real", *conditions))
    }
    compare("image_matters", options, chosen, sources, loaded)


def compare(
    command: str,
    options: argparse.Namespace,
    chosen: Sequence[str],
    sources: Mapping[str, StudySource],
    loaded: tuple[Any, Any],
) -> None:
    """Report the studies of each condition, score them beside those of the first, write and print both files.

    Args:
        command: in the signature.
        options: `out`, `resamples` and `more` of the command.
        chosen: options of generate.py that name checkpoint and studies.
        sources: condition -> the studies as it changes them.
        loaded: processor and model.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    for condition, source in sources.items():
        out = options.out / condition
        words = [*chosen, "--never-abstain", *CLUES.get(condition, [])]
        run = generate.parse_arguments([*words, "--out", str(out), *options.more])
        run.condition = condition
        generate.run(run, source=source, loaded=loaded)
        lines[condition] = [record for _, _, record in read_lines(out / PREDICTIONS)]
    first = next(iter(lines.values()))
    results = {name: scores_of(some, first, options.resamples) for name, some in lines.items()}
    drawn = f"patients-{options.resamples}"
    told = signature(command, labeler=LABELER, n=len(first), bootstrap=drawn, seed=0)
    write_whole(options.out / "table.md", f"{table(results)}\n`{told}`\n")
    write_whole(options.out / "metrics.json", json.dumps({"signature": told, "conditions": results}, indent=1) + "\n")
    print(f"{table(results)}\n{told}\nNever for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
