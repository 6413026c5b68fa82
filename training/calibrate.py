"""Fit what a clue's score means, and over which score it is told: `clue_calibration` of a checkpoint.

    python -m training.calibrate CHECKPOINT --data runs/small-data/nih_128 runs/small-data/jsrt [--write]

For each clue the first set with ten validation studies of either label decides. Scale and offset are those of Platt
(1999), a logistic regression of the label on the logit, so that of the findings scored 0.7 seven in ten are there where
patients are like these; the threshold is the one with the highest F1 of that set. A clue that no study of any set is
labelled for gets the score 0: nothing is known of what it means. Where labels are too few, a clue keeps its logit and
`clue_threshold`.

Prints a table with the expected calibration error (ten bins) before and after; "after" is of patients that scale and
offset were not fitted on (two halves, each scored by the fit of the other). --write puts the fit into CHECKPOINT's
config.json. Research only, never for clinical use.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from configuration_trrg import TRRGConfig
from evaluation.metrics.calibration import expected_error
from processing_trrg import TRRGProcessor
from training.builders.builder import share_of
from training.config.run_config import DataSection, Source
from training.data.examples import SourceData
from training.data.study import Studies, target_text
from training.run.initial_model import STAGES

MIN_STUDIES = 10
"""Fewer of either label decide nothing."""
UNKNOWN_OFFSET = -20.0
"""Of a clue that no study is labelled for: its score rounds to 0."""


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


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest F1 of `score > threshold`, half-way between two scores. Shapes `[N]`."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(labels) + 1) + labels.sum())
    last = int(np.argmax(f1))
    below = scores[order[last + 1]] if last + 1 < len(scores) else 0.0
    return float((scores[order[last]] + below) / 2)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))`."""
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def fit_clue(
    sets: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], threshold: float
) -> tuple[list[float], dict[str, Any]]:
    """One clue's [scale, offset, threshold], and what stands in its row of the table.

    Args:
        sets: name, logits `[N]`, labels `[N]` (1, 0, anything else unknown) and half `[N]` (0, 1, by patient) of each.
        threshold: of a clue that keeps its logit.
    """
    if not any(np.isin(labels, (0, 1)).any() for _, _, labels, _ in sets):
        return [1.0, UNKNOWN_OFFSET, threshold], {"set": "none is labelled"}
    for name, logits, labels, half in sets:
        known = np.isin(labels, (0, 1))
        x, y, part = logits[known], labels[known].astype(int), half[known]
        if min(y.sum(), (1 - y).sum()) < MIN_STUDIES:
            continue
        scale, offset = fit_line(x, y)
        if scale <= 0:  # the score says nothing of the label: the wrong way round is no calibration
            continue
        scores = sigmoid(scale * x + offset)
        row = {"set": name, "positives": int(y.sum()), "studies": len(y), "error": expected_error(sigmoid(x), y)}
        if all(0 < y[part == p].sum() < (part == p).sum() for p in (0, 1)):
            other = np.empty(len(x))
            for p in (0, 1):
                a, b = fit_line(x[part != p], y[part != p])
                other[part == p] = sigmoid(a * x[part == p] + b)
            row["error_after"] = expected_error(other, y)
        return [scale, offset, best_threshold(scores, y)], row
    return [1.0, 0.0, threshold], {"set": "too few"}


def calibrate(checkpoint: Path, folders: Sequence[str], split: str, cache: str | None) -> tuple[TRRGConfig, list[str]]:
    """The checkpoint's configuration with its calibration, and the table.

    Raises:
        ValueError: the model knows no clues, or shares one whole among them (softmax).
    """
    config = TRRGConfig.from_pretrained(checkpoint)
    if config.clue_source == "none" or (config.clue_source == "zero_shot" and config.clue_scoring == "softmax"):
        raise ValueError(f"{checkpoint}: its clues have no score each (clue_scoring='softmax' or clue_source='none')")
    config.clue_calibration = None
    model = STAGES[config.architectures[0]].from_pretrained(checkpoint, config=config).eval()
    processor = TRRGProcessor.from_pretrained(checkpoint)
    names = [clue["name"] for clue in processor.clues]
    data = DataSection(views=1, image_cache=cache)
    read = []
    for folder in folders:
        reported = all(target_text(record) for record in Studies(folder, split).records)
        described = Source(folder, "pair" if reported else "image", split=split)  # a report tells the sides too
        source = SourceData(described, data, processor.clues, processor.image_processor)
        assert source.images is not None
        source.images.prepare()
        with torch.inference_mode():
            logits = read_logits(model, source, processor)
        labels = np.array([[-100 if v is None else v for v in row] for row in source.labels])
        half = np.array([share_of(f"half/{record.patient_id}") < 0.5 for record in source.studies.records], dtype=int)
        read.append((Path(folder).name, logits, labels, half))
    fitted = []
    table = [
        "| clue | fitted on | positives of | scale | offset | threshold | error before | after |",
        "|---" * 8 + "|",
    ]
    for c, name in enumerate(names):
        sets = [(place, logits[:, c], labels[:, c], half) for place, logits, labels, half in read]
        values, row = fit_clue(sets, float(config.clue_threshold))
        fitted.append([round(value, 4) for value in values])
        counts = f"{row['positives']} of {row['studies']}" if "positives" in row else ""
        errors = [f"{row[key]:.3f}" if key in row else "" for key in ("error", "error_after")]
        table.append(
            f"| {name} | {row['set']} | {counts} | {' | '.join(f'{v:.2f}' for v in values)} | {' | '.join(errors)} |"
        )
    config.clue_calibration = fitted
    config.check()
    return config, table


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint, of stage 1 or complete")
    parser.add_argument("--data", nargs="+", required=True, help="folders of labelled studies, the first decides first")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--image-cache", help="folder for decoded squares, as data.image_cache")
    parser.add_argument("--write", action="store_true", help="put it into config.json of the checkpoint")
    options = parser.parse_args()
    try:
        config, table = calibrate(options.checkpoint, options.data, options.split, options.image_cache)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print("\n".join(table))
    if options.write:
        config.to_json_file(options.checkpoint / "config.json")
        print(f"written into {options.checkpoint / 'config.json'}")


if __name__ == "__main__":
    main()
