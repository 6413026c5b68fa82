"""Does a vision tower know where and how large a finding is? On phantoms, and on the boxes of real radiographs.

    python -m training.measure.details CHECKPOINT --phantoms runs/small-data/phantoms --real runs/small-data/jsrt \
        runs/small-data/nih --image-cache runs/small-data/cache

For each clue a ridge regression from the tower's features to the height of the middle of a finding's box and to the
logarithm of its area, both in fractions of the square that the model sees, learned from the boxes of SYNTHETIC training
phantoms. Printed is Spearman's rank correlation of what it says with the boxes of unseen phantoms and of real
radiographs, which it never learned from (all splits), beside that of the evidence map alone: the row of its highest
patch, and the number of patches above half its height. 95 % bootstrap intervals over boxes. Decides whether a report
may say a size or a zone. Never for clinical use.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from evaluation.metrics.resampling import bootstrap, with_interval
from evaluation.reading.sides import side_and_finding
from processing_trrg import TRRGProcessor
from training.config.command_line import loading
from training.config.run_config import ModelSection
from training.data.images import ImageBank
from training.data.places import places
from training.data.study import Studies
from training.run.initial_model import STAGES, build_config

SHADOWS = ("Lung Opacity", "Pneumonia")
"""Labels of real boxes that phantoms have none of: of what is planted, a consolidation looks like them."""
STRENGTH = 100.0
"""Of the L2 penalty, of features in units of their deviation."""
RESAMPLES = 1000
FEWEST = 20
"""Boxes of a finding that a correlation is told of."""


@dataclass
class Boxed:
    """Findings with a box: features `[n, F]`, heights of the middle and logarithms of the area `[n, 2]`, and what the
    evidence map says of both `[n, 2]`, by clue."""

    features: dict[str, np.ndarray]
    boxes: dict[str, np.ndarray]
    evidence: dict[str, np.ndarray]


@torch.inference_mode()
def look(
    model: Any, processor: TRRGProcessor, folder: str, splits: Sequence[str], cache: str | None, most: int
) -> Boxed:
    """The boxed findings of the first `most` studies of each split."""
    names = [clue["name"] for clue in processor.clues]
    found: dict[str, list[tuple[np.ndarray, list[float], list[float]]]] = {}
    for split in splits:
        studies = Studies(folder, split)
        bank = ImageBank(studies, processor.image_processor, 1, cache)
        bank.prepare()
        boxed = [row for row, study in enumerate(studies.records[:most]) if study.boxes]
        for start in range(0, len(boxed), 32):
            rows = boxed[start : start + 32]
            squares = np.stack([bank.get(row)[0] for row in rows])
            study = model.read_study(pixel_values=processor.image_processor.normalise(squares)[:, None])
            for place, row in enumerate(rows):
                patches, maps = study.last_hidden_state[place].float(), study.evidence_maps[place, 0].float()
                for box in places(bank, row, None):
                    finding = "Consolidation" if box["label"] in SHADOWS else box["label"]
                    sided = f"{str(box['side']).title()} {finding}"
                    clue = sided if sided in names else finding
                    if clue in names and box["w"] * box["h"] > 0:
                        evidence = maps[names.index(clue)]
                        truth = [box["y"] + box["h"] / 2, float(np.log(box["w"] * box["h"]))]
                        found.setdefault(clue, []).append((_features(patches, evidence), truth, _of_map(evidence)))
    columns = {clue: tuple(np.array(column) for column in zip(*rows, strict=True)) for clue, rows in found.items()}
    return Boxed(*({clue: column[part] for clue, column in columns.items()} for part in range(3)))


def _features(patches: torch.Tensor, evidence: torch.Tensor) -> np.ndarray:
    """Patches `[P, Dv]` and a map `[h, w]` -> `[5 * Dv]`: the patches that the clue points at, and each quarter's."""
    pointed = (evidence.flatten() / 2).softmax(0) @ patches
    quarters = F.adaptive_avg_pool2d(patches.T.unflatten(1, evidence.shape), 2).flatten()
    return torch.cat([pointed, quarters]).cpu().numpy()


def _of_map(evidence: torch.Tensor) -> list[float]:
    low, high = evidence.median(), evidence.max()
    return [int(evidence.argmax()) // evidence.shape[1], int((evidence > (low + high) / 2).sum())]


def fit(boxed: Boxed) -> dict[str, Any]:
    """A ridge regression to both numbers of a box, by clue."""
    ridges = {clue: make_pipeline(StandardScaler(), Ridge(STRENGTH)) for clue in boxed.features}
    return {clue: ridge.fit(boxed.features[clue], boxed.boxes[clue]) for clue, ridge in ridges.items()}


def correlations(ridges: dict[str, Any], boxed: Boxed) -> dict[str, list[dict[str, Any]]]:
    """By finding with at least `FEWEST` boxes, both sides together: Spearman's correlation of height and area, each by
    the features and by the map."""
    rows: dict[str, list[np.ndarray]] = {}
    for clue in sorted(boxed.boxes.keys() & ridges.keys()):
        said = ridges[clue].predict(boxed.features[clue])
        finding = (side_and_finding(clue) or ("", clue))[1]
        rows.setdefault(finding, []).append(np.hstack([boxed.boxes[clue], said, boxed.evidence[clue]]))
    found = {}
    tables = {finding: np.concatenate(parts) for finding, parts in rows.items()}
    for finding, table in ((finding, table) for finding, table in tables.items() if len(table) >= FEWEST):
        pairs = [(truth, truth + 2 * way) for truth in (0, 1) for way in (1, 2)]

        def statistic(weights: np.ndarray, table: np.ndarray = table, pairs: Any = pairs) -> np.ndarray:
            drawn = np.repeat(table, weights.astype(int), axis=0)
            return np.array([np.nan_to_num(spearmanr(drawn[:, one], drawn[:, other])[0]) for one, other in pairs])

        once = np.ones(len(table), dtype=np.int64)
        draws, values = bootstrap(once, statistic, RESAMPLES, 0), statistic(once)
        found[finding] = [with_interval(v, draws[:, n]) | {"boxes": len(table)} for n, v in enumerate(values)]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of stage 1 or complete, whose clues have evidence maps")
    parser.add_argument(
        "--phantoms", required=True, help="folder of a set of phantoms, to learn from and to measure on"
    )
    parser.add_argument("--real", nargs="*", default=[], help="folders of sets whose records have boxes")
    parser.add_argument("--image-cache", help="folder for decoded squares, as data.image_cache")
    parser.add_argument("--count", type=int, default=4000, help="training phantoms at most")
    options = parser.parse_args(arguments)
    try:
        config = build_config(ModelSection(checkpoint=options.checkpoint))
        with loading("checkpoint", options.checkpoint):
            model = STAGES[config.architectures[0]].from_pretrained(options.checkpoint).eval()
            processor = TRRGProcessor.from_pretrained(options.checkpoint)
        ridges = fit(look(model, processor, options.phantoms, ["train"], options.image_cache, options.count))
        print("| boxes of | finding | n | height: features | height: map | area: features | area: map |")
        print("|---|---|---|---|---|---|---|")
        for folder in (options.phantoms, *options.real):
            splits = ["validation"] if folder == options.phantoms else ["train", "validation"]
            seen = look(model, processor, folder, splits, options.image_cache, options.count)
            name = Path(folder).name
            for finding, values in correlations(ridges, seen).items():
                told = " | ".join(f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]" for value in values)
                print(f"| {name} | {finding} | {values[0]['boxes']} | {told} |")
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print("Phantoms are SYNTHETIC: what is learned from them and holds on them alone is not to be said of a patient.")


if __name__ == "__main__":
    main()
