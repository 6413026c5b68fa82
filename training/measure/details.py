"""Does a vision tower know where and how large a finding is? On phantoms, and on the boxes of real radiographs.

    python -m training.measure.details CHECKPOINT --phantoms runs/small-data/phantoms --real runs/small-data/jsrt \
        runs/small-data/nih --image-cache runs/small-data/cache

For each clue a ridge regression from the tower's features to the height of the middle of a finding's box and to the
logarithm of its area, both in fractions of the square that the model sees. Printed is Spearman's rank correlation of
what it says with the boxes: of unseen phantoms and of real radiographs, learned from SYNTHETIC training phantoms; of
the real ones learned from those themselves, in five parts, each said by what was learned from the other patients'; and
that of the evidence map alone, by the row of its highest patch and the number of patches above half its height. 95 %
bootstrap intervals over patients. The real ones are of all splits: the tower may have seen their pictures and labels in
training, never their boxes. Never for clinical use.
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
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from evaluation.metrics.resampling import patient_bootstrap, with_interval
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
STRENGTH = 1000.0
"""Of the L2 penalty, of features in units of their deviation."""
RESAMPLES = 1000
FEWEST = 20
"""Boxes of a finding that a correlation is told of."""
FOLDS = 5


@dataclass
class Boxed:
    """The boxes of one clue.

    Attributes:
        features: `[n, F]` of their pictures.
        boxes: `[n, 2]`, height of the middle and logarithm of the area.
        evidence: `[n, 2]`, what the map says of both.
        patients: of each box.
    """

    features: np.ndarray
    boxes: np.ndarray
    evidence: np.ndarray
    patients: list[str]


@torch.inference_mode()
def look(
    model: Any, processor: TRRGProcessor, folder: str, splits: Sequence[str], cache: str | None, most: int | None
) -> dict[str, Boxed]:
    """The boxes of each clue, in the first `most` studies of each split."""
    names = [clue["name"] for clue in processor.clues]
    found: dict[str, list[tuple[np.ndarray, list[float], list[float], str]]] = {}
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
                        patient = studies.records[row].patient_id
                        told_by = _features(patches, evidence), truth, _of_map(evidence), patient
                        found.setdefault(clue, []).append(told_by)
    boxes = {}
    for clue, known in found.items():
        features, truths, told, patients = zip(*known, strict=True)
        boxes[clue] = Boxed(np.array(features), np.array(truths), np.array(told), [*patients])
    return boxes


def _features(patches: torch.Tensor, evidence: torch.Tensor) -> np.ndarray:
    """Patches `[P, Dv]` and a map `[h, w]` -> `[5 * Dv]`: the patches that the clue points at, and each quarter's."""
    pointed = (evidence.flatten() / 2).softmax(0) @ patches
    quarters = F.adaptive_avg_pool2d(patches.T.unflatten(1, evidence.shape), 2).flatten()
    return torch.cat([pointed, quarters]).cpu().numpy()


def _of_map(evidence: torch.Tensor) -> list[float]:
    low, high = evidence.median(), evidence.max()
    return [int(evidence.argmax()) // evidence.shape[1], int((evidence > (low + high) / 2).sum())]


def fit(boxed: dict[str, Boxed]) -> dict[str, Any]:
    """A ridge regression to both numbers of a box, by clue."""
    return {clue: _ridge().fit(some.features, some.boxes) for clue, some in boxed.items()}


def _ridge() -> Any:
    return make_pipeline(StandardScaler(), Ridge(STRENGTH))


def _of_others(some: Boxed) -> np.ndarray:
    """What is said of each box `[n, 2]` by a regression that was learned from other patients' boxes; NaN where there
    are too few."""
    if len(set(some.patients)) < FOLDS:
        return np.full_like(some.boxes, np.nan)
    return cross_val_predict(
        _ridge(), some.features, some.boxes, groups=some.patients, cv=GroupKFold(FOLDS)
    )  # fmt: skip


def correlations(ridges: dict[str, Any], boxed: dict[str, Boxed], own: bool) -> dict[str, list[dict[str, Any]]]:
    """By finding with at least `FEWEST` boxes, both sides together: Spearman's correlation of height and then of area,
    by the ridges, by the map and, with `own`, by what was learned from these boxes of other patients."""
    rows: dict[str, list[np.ndarray]] = {}
    patients: dict[str, list[str]] = {}
    for clue in sorted(boxed.keys() & ridges.keys()):
        some, finding = boxed[clue], (side_and_finding(clue) or ("", clue))[1]
        ways = [ridges[clue].predict(some.features), some.evidence, *([_of_others(some)] if own else [])]
        rows.setdefault(finding, []).append(np.hstack([some.boxes, *ways]))
        patients.setdefault(finding, []).extend(some.patients)
    found = {}
    for finding, parts in rows.items():
        table = np.concatenate(parts)
        if len(table) < FEWEST:
            continue
        pairs = [(truth, truth + 2 * way) for truth in (0, 1) for way in range(1, table.shape[1] // 2)]

        def statistic(weights: np.ndarray, table: np.ndarray = table, pairs: Any = pairs) -> np.ndarray:
            drawn = np.repeat(table, weights.astype(int), axis=0)
            drawn = drawn[~np.isnan(drawn).any(1)]
            return np.array([spearmanr(drawn[:, one], drawn[:, other])[0] for one, other in pairs])

        draws = patient_bootstrap(patients[finding], statistic, RESAMPLES, 0)
        values = statistic(np.ones(len(table)))
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
        ways = ("learned from phantoms", "map", "learned from these")
        columns = [f"{what}: {way}" for what in ("height", "area") for way in ways]
        print(f"| boxes of | finding | n | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
        for folder in (options.phantoms, *options.real):
            real = folder != options.phantoms
            splits = ["train", "validation"] if real else ["validation"]
            seen = look(model, processor, folder, splits, options.image_cache, None)
            found = correlations(ridges, seen, own=real)
            for finding, values in found.items():
                told = [
                    f"{v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}]".replace("nan [nan, nan]", "-") for v in values
                ]
                told = told if real else [*told[:2], "-", *told[2:], "-"]
                read = f" (read as {finding})" if real and finding == "Consolidation" else ""
                name = " and ".join(SHADOWS) + read if read else finding
                print(f"| {Path(folder).name} | {name} | {values[0]['boxes']} | {' | '.join(told)} |")
            few = {clue: len(some.patients) for clue, some in seen.items()}
            few = {c: n for c, n in few.items() if (side_and_finding(c) or ("", c))[1] not in found}
            if few:
                print(f"{Path(folder).name}, left out, fewer than {FEWEST} boxes or none of phantoms: {few}")
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print("Phantoms are SYNTHETIC: what holds on them alone is not to be said of a patient. Never for clinical use.")


if __name__ == "__main__":
    main()
