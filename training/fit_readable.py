"""Fit what a model can read: whether a picture is an upright frontal chest X-ray, or it abstains from a report.

    python -m training.fit_readable CHECKPOINT --data runs/small-data/nih runs/small-data/jsrt ... [--write]

A logistic regression on `SeenImages.summary` of the training radiographs, as they are and in a darker or wider frame,
against pictures that are none: drawn, or a radiograph cut, turned, inverted or mixed up (`data/other_pictures.py`). The
threshold is the score that --false-alarms (0.01) of the validation radiographs of one half of the patients lie below;
`evaluation/score_abstention.py` measures on the other half. SYNTHETIC phantoms are readable too, name their folder; the
threshold does not ask them. Prints how many of each kind lie below it. --write puts `readable_weights` and
`readable_threshold` into CHECKPOINT's config.json. They belong to its vision tower: after further training fit them
again. Never for clinical use.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from configuration_trrg import TRRGConfig
from processing_trrg import Radiograph, TRRGImageProcessor, TRRGProcessor
from training.builders.builder import is_measured
from training.config.command_line import loading
from training.data.images import ImageBank
from training.data.other_pictures import KINDS
from training.data.study import Studies
from training.run.initial_model import STAGES

STRENGTH = 1e-3
"""Inverse strength of the L2 penalty, of features in units of their deviation."""
MOST = 1000
"""Radiographs of a set, so that a large one costs minutes only."""


def load_squares(
    folder: str, split: str, image_processor: TRRGImageProcessor, cache: str | None, measured: bool | None = None
) -> np.ndarray:
    """First views of a split, uint8 `[n, size, size]`, at most `MOST`; with `measured` those of one half of the
    patients."""
    studies = Studies(folder, split)
    bank = ImageBank(studies, image_processor, 1, cache)
    bank.prepare()
    rows = [r for r, s in enumerate(studies.records) if measured is None or is_measured(s.patient_id) == measured]
    rows = np.random.default_rng(0).permutation(rows)[:MOST].tolist()
    return np.stack([bank.get(row)[0] for row in sorted(rows)])


@torch.inference_mode()
def summaries(model: Any, image_processor: TRRGImageProcessor, squares: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """`SeenImages.summary` of squares `[n, size, size]`: `[n, F]`, float64."""
    device, rows = next(model.parameters()).device, []
    for start in range(0, len(squares), batch_size):
        pixels = image_processor.normalise(squares[start : start + batch_size])[:, None].to(device)
        rows.append(model.model.encode_images(pixels).summary().double().cpu().numpy())
    return np.concatenate(rows)


def framed(square: np.ndarray, image_processor: TRRGImageProcessor, rng: np.random.Generator) -> np.ndarray:
    """A radiograph in a black frame, brighter or darker: still readable."""
    top, bottom, left, right = (rng.uniform(0, 0.15, 4) * len(square)).astype(int)
    grey = (square / 255.0) ** np.exp(rng.normal(0, 0.25))
    framed = np.pad((grey * 255).astype(np.uint8), ((top, bottom), (left, right)))
    return image_processor.square(Radiograph(framed))


def other_squares(
    squares: np.ndarray, image_processor: TRRGImageProcessor, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """`count` pictures of each of `KINDS`, `[count, size, size]`."""
    for kind, make in KINDS.items():
        chosen = squares[rng.integers(0, len(squares), count)]
        yield kind, np.stack([image_processor.square(Radiograph(make(rng, square))) for square in chosen])


def fit(readable: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Bias and weights `[1 + F]` of the logit of "readable", of summaries `[n, F]` and `[m, F]` of equal weight."""
    mean, deviation = readable.mean(0), readable.std(0)
    deviation = np.maximum(deviation, 0.05 * np.median(deviation) + 1e-6)  # a feature that hardly moves decides nothing
    rows = (np.concatenate([readable, other]) - mean) / deviation
    labels = np.repeat([1, 0], [len(readable), len(other)])
    found = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000).fit(rows, labels)
    weights = found.coef_[0] / deviation
    return np.array([found.intercept_[0] - weights @ mean, *weights])


def fit_checkpoint(
    checkpoint: Path, folders: Sequence[str], cache: str | None, count: int, false_alarms: float
) -> tuple[TRRGConfig, list[str]]:
    """The checkpoint's configuration with its weights and threshold, and a table.

    Raises:
        ValueError: the model cannot be loaded; too few validation radiographs for the wanted rate.
    """
    with loading("checkpoint", str(checkpoint)):
        config = TRRGConfig.from_pretrained(checkpoint)
        model = STAGES[config.architectures[0]].from_pretrained(checkpoint, config=config).eval()
        processor = TRRGProcessor.from_pretrained(checkpoint).image_processor
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)
    training = [load_squares(folder, "train", processor, cache) for folder in folders]
    plain = np.concatenate([summaries(model, processor, squares) for squares in training])
    everything = np.concatenate(training)
    some = everything[rng.permutation(len(everything))[: 5 * count]]
    frames = summaries(model, processor, np.stack([framed(square, processor, rng) for square in some]))
    other = {kind: summaries(model, processor, s) for kind, s in other_squares(everything, processor, count, rng)}
    weights = fit(np.concatenate([plain, frames]), np.concatenate(list(other.values())))
    held = {folder: load_squares(folder, "validation", processor, cache, measured=False) for folder in folders}
    scores = {folder: summaries(model, processor, s) @ weights[1:] + weights[0] for folder, s in held.items()}
    real = np.concatenate(
        [v for folder, v in scores.items() if not Studies(folder, "validation", 1).records[0].synthetic]
    )
    if len(real) * false_alarms < 1:
        raise ValueError(
            f"{len(real)} real validation radiographs; a rate of {false_alarms} needs {1 / false_alarms:.0f}"
        )
    config.readable_weights = [float(f"{weight:.6g}") for weight in weights]
    config.readable_threshold = round(float(np.quantile(real, false_alarms)), 4)
    config.check()
    below = {f"{folder}, validation": values for folder, values in scores.items()}
    below |= {f"{kind}, fitted on": rows @ weights[1:] + weights[0] for kind, rows in other.items()}
    table = ["| pictures | n | below the threshold |", "|---|---|---|"]
    table += [f"| {n} | {len(v)} | {(v < config.readable_threshold).mean():.3f} |" for n, v in below.items()]
    return config, table


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint, of stage 1 or complete")
    parser.add_argument("--data", nargs="+", required=True, help="folders of frontal studies")
    parser.add_argument("--image-cache", help="folder for decoded squares, as data.image_cache")
    parser.add_argument("--count", type=int, default=250, help="pictures of each kind that are no radiographs")
    parser.add_argument("--false-alarms", type=float, default=0.01, help="share of validation radiographs refused")
    parser.add_argument("--write", action="store_true", help="put it into config.json of the checkpoint")
    options = parser.parse_args(arguments)
    try:
        config, table = fit_checkpoint(
            options.checkpoint, options.data, options.image_cache, options.count, options.false_alarms
        )
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print("\n".join([*table, f"threshold {config.readable_threshold}"]))
    if options.write:
        config.to_json_file(options.checkpoint / "config.json")
        print(f"written into {options.checkpoint / 'config.json'}")


if __name__ == "__main__":
    main()
