"""Do words around the image change what is found? The same studies reported with and without a context.

    python evaluation/context_matters.py --checkpoint DIR --data DIR --split validation --out RUN [--contexts DIR]

| condition | what the model is told beside the image |
|---|---|
| none | nothing |
| indication | the indication of a study of another patient |
| technique | "Frontal chest radiograph." |
| comparison | "None." |
| prior_report | the impression of a study of another patient, in words of one picture (compared by rule) |
| all | all of these |

Each condition is a run of generate.py in a folder of its own, resumable. What is lent is drawn with a fixed seed, from
the same split of --contexts (default: of --data itself), of texts of at most 20 words. Writes metrics.json and table.md
as image_matters.py does, beside the reports of `none`: `same_labels` is the share of studies whose two reports claim
the same findings, `compares` the share of reports that compare with an earlier study; only with prior_report were they
told of one. An indication is a question, so it should change no finding. Never for clinical use.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np

from evaluation import generate
from evaluation.image_matters import compare
from evaluation.predictions.study_sources import CONTEXT_FIELDS, StudySource
from evaluation.reading.comparison_rewriting import without_comparisons
from training.config.command_line import run_command
from training.data.study import Studies, Study

MOST_WORDS = 20
"""Of a lent text: a small model's prompt is short."""
CONDITIONS = ("none", "indication", "technique", "comparison", "prior_report", "all")


def lent(studies: Sequence[Study], contexts: Sequence[Study], seed: int = 0) -> list[dict[str, str]]:
    """The context of each study: words of studies of other patients, drawn from `contexts`.

    Raises:
        ValueError: no two patients have a short indication, or a short impression.
    """
    offered: dict[str, list[tuple[str, str]]] = {"indication": [], "prior_report": []}
    for study in contexts:
        (impression,) = without_comparisons(study.impression)
        for name, text in (("indication", study.indication), ("prior_report", impression)):
            if text and len(text.split()) <= MOST_WORDS:
                offered[name].append((study.patient_id, text))
    for name, texts in offered.items():
        if len({patient for patient, _ in texts}) < 2:
            raise ValueError(f"no two patients have a text to lend as {name}; give others by --contexts")
    rng = np.random.default_rng(seed)

    def draw(name: str, study: Study) -> str:
        while True:
            patient, text = offered[name][int(rng.integers(len(offered[name])))]
            if patient != study.patient_id:
                return text

    return [
        {"technique": "Frontal chest radiograph.", "comparison": "None."}
        | {name: draw(name, study) for name in offered}
        for study in studies
    ]


class ChangedContext:
    """A source whose studies are told what a condition says and nothing else.

    Args:
        source: the studies.
        contexts: of `lent`.
        condition: one of `CONDITIONS`.
    """

    def __init__(self, source: StudySource, contexts: Sequence[dict[str, str]], condition: str):
        self.source = source
        told = CONTEXT_FIELDS if condition == "all" else (condition,)
        self.records = [
            replace(record, **{name: context[name] if name in told else None for name in CONTEXT_FIELDS})
            for record, context in zip(source.records, contexts, strict=True)
        ]

    def open_image(self, index: int, view: int) -> Any:
        """As the source has it."""
        return self.source.open_image(index, view)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", required=True, help="of --data")
    parser.add_argument("--contexts", type=Path, help="studies whose words are lent")
    parser.add_argument("--max-studies", type=int, help="at most this number, from the start")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS, help="none always is one")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    parser.add_argument("more", nargs="*", help="options of generate.py, after --")
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    chosen = [f"--checkpoint={options.checkpoint}", f"--data={options.data}", f"--split={options.split}"]
    chosen += [f"--max-studies={options.max_studies}"] if options.max_studies else []
    run = generate.parse_arguments([*chosen, "--out", str(options.out), *options.more])
    source = generate.open_source(run)
    contexts = Studies(options.contexts, options.split).records if options.contexts else source.records
    words = lent(source.records, contexts)
    sources = {name: ChangedContext(source, words, name) for name in dict.fromkeys(("none", *options.conditions))}
    compare("context_matters", options, chosen, sources, generate.load(run, generate.start_processes()))


if __name__ == "__main__":
    sys.exit(run_command(main))
