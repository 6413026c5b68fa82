"""Truthfulness: does a report say what its clues say, without contradicting itself or inventing an earlier study?

    python -m evaluation.metrics.truthfulness predictions.jsonl --out RUN

From the predicted text and the clue scores of each study alone; no reference report is read. All labels and mentions
come from the rules of `labeler.py`; a *finding* is any CheXpert observation but "No Finding", which only sums up.

| measure | counts | out of |
|---|---|---|
| clue_support | positive findings that the clues support | positive findings that have a clue |
| clue_omission | confident clues that the report leaves out: not mentioned, or denied | confident clues |
| clue_denial | confident clues that the report denies; part of the line above | confident clues |
| contradiction | reports that claim and deny the same finding in one section | reports |
| section_conflict | reports whose impression denies what the findings claim, or the reverse | reports with both |
| invented_comparison | reports that compare with an earlier study | reports of studies without one |
| said | selected clues whose finding, or one that it includes, the report claims | selected clues |
| backed | positive findings with their clue, or that of a finding they include, selected | those that have a clue |
| placeholder | reports with the mark of removed words, "XXXX" | reports |
| graded | claimed findings with a severity or a size, which no clue tells | claimed findings |

- *Positive* is a finding whose label in the report is 1. Doubtful ones (-1) need no support and leave no clue out.
- *Supported*: its clue, or that of a finding it includes (CheXpert's tree: an edema is an opacity), scores at least
  `support` (0.5).
- *Confident* is a clue that scores at least `confident` (0.8). It is *left out* when neither its finding nor one that
  the finding includes is 1 or -1 in the report, and *denied* when that finding's own label is 0.
- *Selected* clues are those that reached the language model, as `generate.py` writes them.
- Severities and sizes are those of `attributes.py`, here of all findings but "No Finding". A system that was taught to
  see them may be right; one that is told clues alone guesses.
- The three before `said` are defined in `contradictions.py` and `prior_comparisons.py`. Studies whose `has_prior` is
  not known are not counted in `invented_comparison`.

The thresholds suit scores that are probabilities (`clue_scoring` "pairwise", a classifier, oracle clues); softmax
scores share one whole among all clues and need lower ones. A share without anything to count is null.
Each study is a row of small whole numbers; shares and bootstrap intervals are functions of the table of distinct rows,
so order, chunks and processes change no digit. The command draws whole patients where the lines name them, and adds
how many reports differ and the share of the commonest one, of all reports and of those that claim a finding
(`with_finding_`, where any does), since normal chests may read alike. Never for clinical use.
"""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from evaluation.metrics.count_table import CountTable
from evaluation.metrics.language import text_table, variety_scores
from evaluation.metrics.resampling import bootstrap, interval_text, number_text, with_interval
from evaluation.metrics.signature import LABELER, signature
from evaluation.predictions.records import (
    clue_scores_field,
    prior_field,
    read_lines,
    selected_clues_field,
    text_field,
)
from evaluation.reading.attributes import finding_attributes
from evaluation.reading.contradictions import Contradiction, inconsistencies
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, descendants
from evaluation.reading.prior_comparisons import comparison_sentences

SUPPORT, CONFIDENT = 0.5, 0.8

COUNTS = (
    "positive", "supported", "confident", "left_out", "denied", "reports", "contradictory", "both_sections",
    "conflicting", "without_prior", "inventing", "selected", "said", "claimed", "backed", "placeholders",
    "stated", "graded",
)  # fmt: skip
MEASURES = {
    "clue_support": ("supported", "positive"),
    "clue_omission": ("left_out", "confident"),
    "clue_denial": ("denied", "confident"),
    "contradiction": ("contradictory", "reports"),
    "section_conflict": ("conflicting", "both_sections"),
    "invented_comparison": ("inventing", "without_prior"),
    "said": ("said", "selected"),
    "backed": ("backed", "claimed"),
    "placeholder": ("placeholders", "reports"),
    "graded": ("graded", "stated"),
}
"""Measure -> (numerator, denominator), names of `COUNTS`."""
PLACEHOLDER = "XXXX"
"""Where public reports had a name or a date."""


@dataclass(frozen=True)
class StudyTruth:
    """What one report does to its clues and to itself, with the reasons.

    Attributes:
        positive: findings the report claims and a clue exists for; `unsupported` are those that no clue supports.
        confident: clues the report ought to mention; `left_out` are those it does not, `denied` those it denies.
        contradictions, conflicts: within a section, and between findings and impression.
        both_sections: whether there is something to conflict.
        comparisons: sentences that compare with an earlier study; None where it is not known whether there was one,
            and where there was.
        selected: clues that reached the language model; `unsaid` are those that the report does not claim.
        claimed: `positive` of a system that tells its selected clues; `unbacked` are those with no selected clue.
        placeholder: whether it holds `PLACEHOLDER`.
        stated: all findings that the report claims; `graded` are those with a severity or a size.
    """

    positive: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    confident: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    both_sections: bool = False
    conflicts: list[Contradiction] = field(default_factory=list)
    comparisons: list[str] | None = None
    selected: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    unbacked: list[str] = field(default_factory=list)
    placeholder: bool = False
    stated: list[str] = field(default_factory=list)
    graded: list[str] = field(default_factory=list)

    def counts(self) -> list[int]:
        """In the order of `COUNTS`."""
        return [
            len(self.positive),
            len(self.positive) - len(self.unsupported),
            len(self.confident),
            len(self.left_out),
            len(self.denied),
            1,
            int(bool(self.contradictions)),
            int(self.both_sections),
            int(bool(self.conflicts)),
            int(self.comparisons is not None),
            int(bool(self.comparisons)),
            len(self.selected),
            len(self.selected) - len(self.unsaid),
            len(self.claimed),
            len(self.claimed) - len(self.unbacked),
            int(self.placeholder),
            len(self.stated),
            len(self.graded),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {
            name: [found._asdict() for found in getattr(self, name)] for name in ("contradictions", "conflicts")
        }


def study_truth(
    text: str,
    clue_scores: Mapping[str, float] | None,
    has_prior: bool | None,
    support: float = SUPPORT,
    confident: float = CONFIDENT,
    selected: Collection[str] | None = None,
) -> StudyTruth:
    """Measure one report.

    Args:
        text: the predicted report.
        clue_scores: what it was written from, 0 to 1 by clue name; None for a system without clues. Names that are no
            CheXpert observation are not looked for: the labeler does not know them.
        has_prior: whether the system was given an earlier study; None when that is not known.
        support, confident: thresholds.
        selected: the clues that reached the language model; None where that is not known.
    """
    scores = {name: score for name, score in (clue_scores or {}).items() if name in CHEXPERT_14 and name != NO_FINDING}
    labels = label_report(text)
    sure = [name for name, score in scores.items() if score >= confident]
    left_out = [name for name in sure if all(labels[part] not in (1, -1) for part in _with_parts(name))]
    positive = [name for name in scores if labels[name] == 1]
    heard = [name for name in scores if name in (selected or ())]
    claimed = [] if selected is None else positive
    found = inconsistencies(text)
    attributes = {name: told for name, told in finding_attributes(text).items() if name != NO_FINDING}
    return StudyTruth(
        positive=positive,
        unsupported=[n for n in positive if all(scores.get(part, 0.0) < support for part in _with_parts(n))],
        confident=sure,
        left_out=left_out,
        denied=[name for name in left_out if labels[name] == 0],
        contradictions=found.within,
        both_sections=found.both_sections,
        conflicts=found.between,
        comparisons=comparison_sentences(text) if has_prior is False else None,
        selected=heard,
        unsaid=[name for name in heard if all(labels[part] != 1 for part in _with_parts(name))],
        claimed=claimed,
        unbacked=[name for name in claimed if not set(heard) & set(_with_parts(name))],
        placeholder=PLACEHOLDER in text,
        stated=list(attributes),
        graded=[name for name, told in attributes.items() if told.severity or told.size],
    )


def _with_parts(name: str) -> tuple[str, ...]:
    return name, *descendants(name)


class TruthCounts(CountTable):
    """The distinct rows of counts of a corpus: `rows` `[U, F]`, `counts` `[U]`, both int64; F as in `COUNTS`."""

    @classmethod
    def from_studies(cls, studies: Sequence[StudyTruth]) -> Self:
        """The table of studies, one row each."""
        return cls.from_counts([study.counts() for study in studies])

    @classmethod
    def from_counts(cls, rows: Sequence[Sequence[int] | np.ndarray]) -> Self:
        """The table of rows of `COUNTS`, each of one study or the sum of a patient's."""
        return cls.from_rows(np.array(rows, dtype=np.int64).reshape(-1, len(COUNTS)))


def shares(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The measures `[...]` of sums `[..., F]` of counts; NaN where there is nothing to count."""
    columns = dict(zip(COUNTS, np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0), strict=True))
    with np.errstate(invalid="ignore"):  # 0/0
        return {measure: columns[top] / columns[bottom] for measure, (top, bottom) in MEASURES.items()}


def truth_scores(
    table: TruthCounts, resamples: int = 1000, seed: int = 0, support: float = SUPPORT, confident: float = CONFIDENT
) -> dict[str, dict[str, Any]]:
    """`"truthfulness/measure"` -> value, low, high (95 % percentile bootstrap over the rows), the two whole numbers and
    the signature. What has no denominator is None.

    Args:
        table: of all studies, or of all patients.
        resamples: corpora drawn; 0 for no interval.
        seed: of the draws.
        support, confident: the thresholds that the studies were measured with, for the signature.

    Raises:
        ValueError: there is no report.
    """
    if not len(table):
        raise ValueError("no report to measure")
    sums = table.counts @ table.rows
    drawn = shares(bootstrap(table.counts, lambda w: w @ table.rows, resamples, seed)) if resamples else None
    scores: dict[str, dict[str, Any]] = {}
    reports = int(sums[COUNTS.index("reports")])
    for measure, value in shares(sums).items():
        count, of = (int(sums[COUNTS.index(name)]) for name in MEASURES[measure])
        score: dict[str, Any] = {"value": None, "low": None, "high": None}
        if of:
            score = with_interval(value, None if drawn is None else drawn[measure])
        score |= {"count": count, "of": of}
        thresholds: dict[str, object] = {"support": support, "confident": confident} if "clue" in measure else {}
        score["signature"] = signature(
            f"truthfulness/{measure}",
            labeler=LABELER,
            **thresholds,
            n=reports,
            **({} if len(table) == reports else {"patients": len(table)}),
            bootstrap=resamples,
            seed=seed,
        )
        scores[f"truthfulness/{measure}"] = score
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="what generate.py writes")
    parser.add_argument("--out", type=Path, required=True, help="folder for truthfulness.json and the studies")
    parser.add_argument(
        "--text", choices=("prediction", "reference"), default="prediction", help="reference: what people write"
    )
    parser.add_argument("--support", type=float, default=SUPPORT, help="score from which a clue supports a finding")
    parser.add_argument("--confident", type=float, default=CONFIDENT, help="score from which a clue must be mentioned")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    thresholds = {"support": options.support, "confident": options.confident}
    options.out.mkdir(parents=True, exist_ok=True)
    patients: dict[str, np.ndarray] = {}
    texts: dict[str, list[CountTable]] = {"": [], "with_finding_": []}
    with (options.out / "truthfulness_studies.jsonl").open("w", encoding="utf-8") as studies:
        for number, _, record in tqdm(read_lines(options.predictions), unit="report"):
            where = f"{options.predictions}:{number} (study {record['study_id']!r})"
            text = text_field(record, options.text, where)
            selected = selected_clues_field(record, where)
            given = clue_scores_field(record, where), prior_field(record, where)
            truth = study_truth(text, *given, **thresholds, selected=selected)
            studies.write(json.dumps({"study_id": record["study_id"], **truth.to_dict()}) + "\n")
            patient = record.get("patient_id") or f"study {record['study_id']}"
            patients[patient] = patients.get(patient, 0) + np.array(truth.counts())
            texts[""].append(text_table([text]))
            if truth.stated:
                texts["with_finding_"].append(text_table([text]))
            for tables in texts.values():
                if len(tables) == 1024:
                    tables[:] = [CountTable.merge(tables)]
    if not patients:
        raise ValueError(f"{options.predictions}: no report")
    table = TruthCounts.from_counts(list(patients.values()))
    scores = truth_scores(table, options.resamples, options.seed, **thresholds)
    for of, tables in texts.items():
        scores |= variety_scores(CountTable.merge(tables), of, "raw") if tables else {}
    (options.out / "truthfulness.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    for name, score in scores.items():
        print(
            f"{name:36} {number_text(score['value']):>6}  {interval_text(score):18} {score['count']} of {score['of']}"
        )
    print(f"Reports and reasons in {options.out / 'truthfulness_studies.jsonl'}. Never for clinical use.")


if __name__ == "__main__":
    main()
