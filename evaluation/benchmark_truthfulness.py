"""Measure the detectors of truthfulness: precision and recall on written cases, and how often real reports are flagged.

    python -m evaluation.benchmark_truthfulness             # also a part of `python evaluation/benchmark.py`
    python -m evaluation.benchmark_truthfulness --cases mine.jsonl --wrong      # lists the cases that come out wrong

Cases are JSON lines: `text`, `detector` (a name of `DETECTORS`), `expected`, `kind` and, where something is expected,
`conflict`: the observation or the words. `truthfulness_cases.jsonl` holds 150 in our own words, half of them near
misses, each with the reason. Real reports: the IU X-ray set; data: $TRRG_DATA, or ../shared/data beside the checkout.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from evaluation.benchmark_labeler import DATA
from evaluation.metrics.resampling import interval_text, number_text
from evaluation.metrics.truthfulness import TruthCounts, study_truth, truth_scores
from evaluation.predictions.records import section_text
from evaluation.reading.contradictions import inconsistencies
from evaluation.reading.labeler import forget_sentences
from evaluation.reading.prior_comparisons import comparison_sentences, has_prior

CASES = Path(__file__).with_name("truthfulness_cases.jsonl")
DETECTORS: dict[str, Callable[[str], list[str]]] = {
    "comparison": comparison_sentences,
    "contradiction": lambda text: [found.observation for found in inconsistencies(text).within],
    "section_conflict": lambda text: [found.observation for found in inconsistencies(text).between],
}
"""Detector -> what it finds in a report: sentences that compare, or what is in conflict."""


class DetectorScore(NamedTuple):
    """Counts of cases; `wrong` holds (text, expected, what was found) of the others."""

    right: int
    flagged: int
    expected: int
    cases: int
    wrong: list[tuple[str, bool, list[str]]]

    @property
    def precision(self) -> float:
        """Of the cases that are flagged, those that ought to be."""
        return self.right / self.flagged if self.flagged else float("nan")

    @property
    def recall(self) -> float:
        """Of the cases that ought to be flagged, those that are."""
        return self.right / self.expected if self.expected else float("nan")


def score_detectors(path: Path = CASES) -> dict[str, DetectorScore]:
    """Every detector's score on the cases of a file. A flag is right when the conflict that is expected is among those
    found (of comparisons: when the words stand in a sentence found)."""
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scores = {}
    for name, detect in DETECTORS.items():
        mine = [(case, detect(case["text"])) for case in cases if case["detector"] == name]
        right = [case["expected"] and any(case["conflict"] in one for one in found) for case, found in mine]
        wrong = [
            (case["text"], case["expected"], found)
            for (case, found), hit in zip(mine, right, strict=True)
            if not hit and (found or case["expected"])
        ]
        flagged, expected = sum(bool(found) for _, found in mine), sum(case["expected"] for case, _ in mine)
        scores[name] = DetectorScore(sum(right), flagged, expected, len(mine), wrong)
    return scores


def print_detectors(path: Path = CASES, wrong: bool = False) -> None:
    """Precision and recall of each detector; with `wrong`, the cases that come out wrong."""
    print(f"detectors of truthfulness, cases of {path.name}")
    for name, score in score_detectors(path).items():
        shares = f"precision {score.precision:.3f}  recall {score.recall:.3f}"
        print(f"  {name:17} {shares}  right {score.cases - len(score.wrong)} of {score.cases}")
        for text, expected, found in score.wrong if wrong else ():
            print(f"    {'missed' if expected else 'false alarm'}: {text!r} found {found}")


def print_real_reports(data: Path) -> None:
    """A yardstick for the measures that need no clues: real reports of the IU X-ray set."""
    with (data / "iu_xray" / "reports.jsonl").open(encoding="utf-8") as file:
        records = [record for record in map(json.loads, file) if record["findings"] or record["impression"]]
    texts = [section_text(record, "report", record["uid"]) for record in records]
    priors = [has_prior(record) for record in records]
    forget_sentences()
    start = time.process_time()  # of this process, so that other work on the machine does not count
    truths = [study_truth(text, None, prior) for text, prior in zip(texts, priors, strict=True)]
    seconds = time.process_time() - start
    print(f"\ntruthfulness of {len(truths)} real reports, {len(truths) / seconds:,.0f} a second of CPU time")
    for name, score in truth_scores(TruthCounts.from_studies(truths)).items():
        if score["of"]:
            share = f"{number_text(score['value'])} {interval_text(score)}"
            print(f"  {name:34} {score['count']:4} of {score['of']}: {share}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--wrong", action="store_true", help="list the cases that come out wrong")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with iu_xray")
    options = parser.parse_args(arguments)
    print_detectors(options.cases, options.wrong)
    if options.data.is_dir():
        print_real_reports(options.data)
    else:
        print(f"real reports: {options.data} is not there")


if __name__ == "__main__":
    main()
