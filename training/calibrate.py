"""Fit what a clue's score means, and over which score it is told: `clue_calibration` and `clue_operating_points`.

    python -m training.calibrate CHECKPOINT --data runs/small-data/nih_128 runs/small-data/jsrt [--write] [--plot FILE]

For each clue the first set with ten validation studies of either label decides; where none has, those that have both
labels together, if they have. Scale and offset are those of Platt
(1999), a logistic regression of the label on the logit, so that of the findings scored 0.7 seven in ten are there where
patients are like these; the threshold ("balanced") is the one with the highest F1 of that set, averaged over bootstrap
samples of its patients (bagging, Breiman 1996): where a finding is rare, that of one sample is luck. A clue that no
study of any set has, or every labelled one, gets the score 0: nothing is known of what it means. Where labels are too
few, a clue keeps its logit and `clue_threshold`, and has no operating points.

The operating points are thresholds with a stated risk (`evaluation/metrics/operating_points.py`): "sensitive" misses
at most 10 % of those who have the finding, "careful" tells at most 5 % of those who do not, and there is one for each
wanted false-negative rate of 5 to 50 %. Over "careful" the answer is present, under "sensitive" absent, else
indeterminate.

Prints a table: the expected calibration error (ten bins) before and after with its 95 % interval, by bootstrap over
patients; "after" is of patients that scale and offset were not fitted on (two halves, each scored by the fit of the
other). "missed" and "alarms" are what sensitive and careful do to the half that they were not fitted on; scale, offset
and the balanced threshold, which the two do not cross, are those of all studies, so both may look a little too good.
"F1" is that of the balanced threshold on the studies that it was chosen by, "of others" the mean, over twenty ways of
halving the patients, of that of thresholds chosen by the other half; below stands the mean of either over the clues of
each set.
--write puts the fit into CHECKPOINT's config.json, --plot draws the precision-recall curves that the dial moves along.
Research only, never for clinical use.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from configuration_trrg import TRRGConfig
from evaluation.metrics.calibration import expected_error
from evaluation.metrics.classification import known_f1
from evaluation.metrics.operating_points import operating_points
from evaluation.metrics.resampling import interval, patient_bootstrap
from evaluation.predictions.plots import plot_dials
from modeling_trrg.clue_trrg import raise_parents
from processing_trrg import TRRGProcessor
from training.builders.builder import share_of
from training.config.command_line import loading
from training.config.run_config import DataSection, Source
from training.data.examples import SourceData
from training.data.study import Studies, target_text
from training.run.initial_model import STAGES

MIN_STUDIES = 10
"""Fewer of either label decide nothing."""
UNKNOWN_OFFSET = -20.0
"""Of a clue of which nothing is known, beside a scale of 0, since its logit has no bound: its score rounds to 0."""
RESAMPLES = 1000
BAGS, HALVINGS = 200, 20
"""Bootstrap samples of a threshold; ways of halving the patients."""


@dataclass
class LabelledSet:
    """Logits `[N, C]`, labels `[N, C]` (1, 0, anything else unknown) and patients `[N]` of a set of studies."""

    name: str
    logits: np.ndarray
    labels: np.ndarray
    patients: Sequence[str]

    @classmethod
    def joined(cls, sets: Sequence["LabelledSet"]) -> "LabelledSet":
        """The studies of all; one patient of two sets has one name there, as everywhere."""
        return cls(
            " and ".join(data.name for data in sets),
            np.concatenate([data.logits for data in sets]),
            np.concatenate([data.labels for data in sets]),
            [patient for data in sets for patient in data.patients],
        )

    def has_both(self, clue: int) -> bool:
        """Whether a clue is both there and absent."""
        return all(bool((self.labels[:, clue] == value).any()) for value in (0, 1))

    def known(self, clue: int) -> np.ndarray:
        """The studies `[n]` that are labelled for a clue."""
        return np.flatnonzero(np.isin(self.labels[:, clue], (0, 1)))

    def halves(self, rows: np.ndarray, time: int = 0) -> np.ndarray:
        """Half of each of these studies, 0 or 1, by patient; another one each time."""
        name = f"half {time}" if time else "half"
        return np.array([share_of(f"{name}/{self.patients[row]}") < 0.5 for row in rows], dtype=int)


def read_logits(model: Any, source: SourceData, processor: TRRGProcessor, batch_size: int = 32) -> np.ndarray:
    """Clue logits `[N, C]` of the first view of every study, without calibration."""
    assert source.images is not None
    clues = processor.clue_tensors() if model.config.uses_clue_encoder else {}
    rows = []
    for start in tqdm(range(0, len(source.studies), batch_size), desc=source.source.path, unit="batch"):
        indices = range(start, min(start + batch_size, len(source.studies)))
        squares = np.stack([source.images.get(index)[0] for index in indices])
        pixels = processor.image_processor.normalise(squares)[:, None]
        rows.append(model.model.look(pixel_values=pixels, **clues).clue_logits.float().cpu().numpy())
    return np.concatenate(rows)


def fit_line(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Scale and offset, so that sigmoid(scale * logit + offset) is the probability of label 1. Shapes `[N]`."""
    found = LogisticRegression(C=1e4).fit(logits[:, None], labels)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def best_threshold(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The threshold with the highest F1 of `score > threshold`, half-way between two scores. Shapes `[N]`.

    weights: how often each study counts; one that does not count may still be the score under the threshold.
    """
    order = np.argsort(-scores, kind="stable")
    weight = np.ones(len(labels)) if weights is None else weights[order]
    hits, told = np.cumsum(labels[order] * weight), np.cumsum(weight)
    last = int(np.argmax(2 * hits / np.maximum(told + hits[-1], 1)))
    below = scores[order[last + 1]] if last + 1 < len(scores) else 0.0
    return float((scores[order[last]] + below) / 2)


def bagged_threshold(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> float:
    """The mean of `best_threshold` over bootstrap samples of the patients. Shapes `[N]`."""
    draws = patient_bootstrap(patients, lambda drawn: np.array(best_threshold(scores, labels, drawn)), BAGS, 0)
    return float(draws.mean())


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))`."""
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def fit_clue(
    sets: Sequence[LabelledSet], clue: int, threshold: float
) -> tuple[list[float], dict[str, Any], LabelledSet | None]:
    """One clue's [scale, offset, threshold], what stands in its row of the table, and what it was fitted on.

    Args:
        sets: the first that has enough labels decides.
        clue: its column.
        threshold: of a clue that keeps its logit.
    """
    if not all(any((data.labels[:, clue] == value).any() for data in sets) for value in (0, 1)):
        return [0.0, UNKNOWN_OFFSET, threshold], {"set": "none tells"}, None
    together = [data for data in sets if data.has_both(clue)]
    for data in [*sets, *([LabelledSet.joined(together)] if len(together) > 1 else [])]:
        rows = data.known(clue)
        x, y, part = data.logits[rows, clue], data.labels[rows, clue].astype(int), data.halves(rows)
        if min(y.sum(), (1 - y).sum()) < MIN_STUDIES:
            continue
        scale, offset = fit_line(x, y)
        if scale <= 0:  # the score says nothing of the label: the wrong way round is no calibration
            continue
        scores = sigmoid(scale * x + offset)
        row = {"set": data.name, "positives": int(y.sum()), "studies": len(y), "error": expected_error(sigmoid(x), y)}
        patients = [data.patients[row] for row in rows]
        row["error_range"] = error_interval(sigmoid(x), y, patients)
        chosen = bagged_threshold(scores, y, patients)
        row["f1"] = f1_over(scores, y, chosen)
        if both_in_halves(y, part):
            other = np.empty(len(x))
            for p in (0, 1):
                a, b = fit_line(x[part != p], y[part != p])
                other[part == p] = sigmoid(a * x[part == p] + b)
            row["error_after"] = expected_error(other, y)
            row["error_after_range"] = error_interval(other, y, patients)
            halvings = [data.halves(rows, time) for time in range(HALVINGS)]
            found = [f1_of_others(scores, y, patients, half) for half in halvings if both_in_halves(y, half)]
            row["f1_of_others"] = float(np.mean(found))
        return [scale, offset, chosen], row, data
    return [1.0, 0.0, threshold], {"set": "too few"}, None


def f1_over(scores: np.ndarray, labels: np.ndarray, threshold: np.ndarray | float) -> float:
    """F1 of `score > threshold` against labels 1 and 0. Shapes `[N]`."""
    return float(known_f1(labels[:, None], (scores > threshold)[:, None], np.ones(len(labels)))[0])


def f1_of_others(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str], part: np.ndarray) -> float:
    """F1 over the thresholds that the other half of the patients has. Shapes `[N]`."""
    threshold, names = np.empty(len(scores)), np.asarray(patients)
    for p in (0, 1):
        others = part != p
        threshold[~others] = bagged_threshold(scores[others], labels[others], names[others])
    return f1_over(scores, labels, threshold)


def error_interval(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> tuple[float, float]:
    """The 95 % interval of `expected_error`, by bootstrap over patients. Shapes `[N]`."""
    draws = patient_bootstrap(patients, lambda drawn: np.array(expected_error(scores, labels, drawn)), RESAMPLES, 0)
    low, high = interval(draws)
    return float(low), float(high)


def both_in_halves(labels: np.ndarray, part: np.ndarray) -> bool:
    """Whether each half has studies of either label."""
    return all(0 < labels[part == p].sum() < (part == p).sum() for p in (0, 1))


def fit_points(
    scores: np.ndarray, labels: np.ndarray, part: np.ndarray, balanced: float
) -> tuple[list[float], dict[str, float]]:
    """A clue's operating points, and what those of one half of the patients do to the other: the share of positives
    "missed" by sensitive, and of negatives told by careful, "alarms". Shapes `[N]`. Scores and `balanced` are fitted on
    both halves."""
    row = {}
    if both_in_halves(labels, part):
        careful, sensitive = np.empty(len(scores)), np.empty(len(scores))
        for p in (0, 1):
            points = operating_points(scores[part != p], labels[part != p], balanced)
            careful[part == p], sensitive[part == p] = points[:2]
        row["missed"] = float((scores <= sensitive)[labels == 1].mean())
        row["alarms"] = float((scores > careful)[labels == 0].mean())
    return operating_points(scores, labels, balanced), row


def read_sets(
    model: Any, processor: TRRGProcessor, folders: Sequence[str], split: str, cache: str | None
) -> list[LabelledSet]:
    """The logits and labels of the studies of each folder."""
    data = DataSection(views=1, image_cache=cache)
    sets = []
    for folder in folders:
        reported = all(target_text(record) for record in Studies(folder, split).records)
        described = Source(folder, "pair" if reported else "image", split=split)  # a report tells the sides too
        source = SourceData(described, data, processor.clues, processor.image_processor)
        assert source.images is not None
        source.images.prepare()
        with torch.inference_mode():
            logits = read_logits(model, source, processor)
        labels = np.array([[-100 if v is None else v for v in row] for row in source.labels])
        patients = [record.patient_id for record in source.studies.records]
        sets.append(LabelledSet(folder, logits, labels, patients))
    return sets


def calibrate(
    checkpoint: Path, folders: Sequence[str], split: str, cache: str | None
) -> tuple[TRRGConfig, list[str], list[Any]]:
    """The checkpoint's configuration with its calibration and operating points, the table, and what `plot_dials` draws.

    Raises:
        ValueError: the model cannot be loaded, knows no clues, or shares one whole among them (softmax).
    """
    with loading("checkpoint", str(checkpoint)):
        config = TRRGConfig.from_pretrained(checkpoint)
    if config.clue_source == "none" or (config.clue_source == "zero_shot" and config.clue_scoring == "softmax"):
        raise ValueError(f"{checkpoint}: its clues have no score each (clue_scoring='softmax' or clue_source='none')")
    config.clue_calibration = config.clue_operating_points = None
    with loading("checkpoint", str(checkpoint)):
        model = STAGES[config.architectures[0]].from_pretrained(checkpoint, config=config).eval()
        processor = TRRGProcessor.from_pretrained(checkpoint)
    names = [clue["name"] for clue in processor.clues]
    sets = read_sets(model, processor, folders, split, cache)
    fits = [fit_clue(sets, clue, float(config.clue_threshold)) for clue in range(len(names))]
    fitted = config.clue_calibration = [[round(value, 4) for value in values] for values, *_ in fits]
    scale, offset, _ = np.array(fitted).T

    def scored(data: LabelledSet, clue: int) -> np.ndarray:
        scores = sigmoid(scale * data.logits + offset)
        if config.clue_parents is not None and config.clue_source == "zero_shot":
            scores = raise_parents(torch.from_numpy(scores), torch.tensor(config.clue_parents)).numpy()
        return scores[data.known(clue), clue]

    heads = ("clue", "fitted on", "positives of", "scale", "offset", "threshold", "F1", "of others", "error before",
             "after", "sensitive", "missed", "careful", "alarms")  # fmt: skip
    table, dials, config.clue_operating_points = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"], [], []
    for clue, (name, (_, row, data)) in enumerate(zip(names, fits, strict=True)):
        points: list[float] = []
        if data is not None:
            rows, some = data.known(clue), scored(data, clue)
            labels = data.labels[rows, clue].astype(int)
            points, found = fit_points(some, labels, data.halves(rows), fitted[clue][2])
            marks = {"careful": points[0], "balanced": fitted[clue][2], "sensitive": points[1]}
            dials.append((name, some, labels, marks))
            row |= found
        config.clue_operating_points.append(points)
        table.append(f"| {' | '.join(cells(name, row, fitted[clue], points))} |")
    config.check()
    for name in dict.fromkeys(row["set"] for _, row, _ in fits if "f1_of_others" in row):
        both = [(row["f1"], row["f1_of_others"]) for _, row, _ in fits if row["set"] == name and "f1_of_others" in row]
        f1, of_others = np.mean(both, axis=0)
        table.append(f"{len(both)} clues of {name}: mean F1 {f1:.3f}, of others {of_others:.3f}")
    return config, table, dials


def cells(name: str, row: dict[str, Any], fitted: list[float], points: list[float]) -> list[str]:
    """One row of the table."""
    keys = ("error", "error_after", "missed", "alarms", "f1", "f1_of_others")
    told = {key: f"{row[key]:.3f}" if key in row else "" for key in keys}
    for key in ("error", "error_after"):
        if f"{key}_range" in row:
            told[key] += " [{:.3f}, {:.3f}]".format(*row[f"{key}_range"])
    counts = f"{row['positives']} of {row['studies']}" if "positives" in row else ""
    careful, sensitive = [f"{point:.3f}" for point in points[:2]] or ("", "")
    numbers = [f"{value:.2f}" for value in fitted]
    quality = told["f1"], told["f1_of_others"], told["error"], told["error_after"]
    return [name, row["set"], counts, *numbers, *quality, sensitive, told["missed"], careful, told["alarms"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint, of stage 1 or complete")
    parser.add_argument("--data", nargs="+", required=True, help="folders of labelled studies, the first decides first")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--image-cache", help="folder for decoded squares, as data.image_cache")
    parser.add_argument("--plot", type=Path, help="PNG file: precision-recall curves with the points of the dial")
    parser.add_argument("--write", action="store_true", help="put it into config.json of the checkpoint")
    options = parser.parse_args(arguments)
    if options.plot and not options.plot.parent.is_dir():
        parser.error(f"--plot {options.plot}: the folder {options.plot.parent} does not exist")
    try:
        config, table, dials = calibrate(options.checkpoint, options.data, options.split, options.image_cache)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print("\n".join(table))
    if options.write:
        config.to_json_file(options.checkpoint / "config.json")
        print(f"written into {options.checkpoint / 'config.json'}")
    if options.plot and dials:
        plot_dials(dials, options.plot)
    elif options.plot:
        print("no clue has operating points: nothing to plot")


if __name__ == "__main__":
    main()
