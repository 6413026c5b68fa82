"""Which stretch of grey values serves a checkpoint best, on real X-rays of three sources and on synthetic phantoms.

    python -m training.measure.grey_levels --checkpoint hub_cards/trrg-small --data ../shared/data

Only the stretch differs between the rows. Zero-shot AUROC of the clues, each with the 95 % interval of 1,000 bootstrap
samples of patients (of phantoms for these): the mean over the labels of unseen NIH patients that can be judged
(`training.run.validation`); Cardiomegaly on wingspan_ctr and JSRT, where a cardiothoracic ratio above 0.5 is one; Lung
Lesion on JSRT, a nodule or none; the mean over the labels of phantoms. Beside them how far a letter, a white frame and
a black box (what it hides counts) move a pixel elsewhere, of 255 levels: in nine of ten and in all of 25 images a set.
Never for clinical use.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from tqdm import tqdm

from evaluation.metrics.classification import judged_columns, mean_auroc
from evaluation.metrics.resampling import bootstrap, interval
from evaluation.reading.observations import certain, tensor_labels
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import PreparedView, Radiograph, TRRGProcessor, read_radiograph, stretch
from training.builders.nih import labels_and_boxes, patient_split
from training.builders.small_data import PHANTOM_SEED
from training.phantoms.generate import generate_phantom
from training.run.validation import MIN_POSITIVES

ROOT = Path(__file__).resolve().parents[2]
RESAMPLES = 1000
ATTACKED = 25
"""Images a set that something is burned into."""
FIRST_TEST_PHANTOM = 8400
"""Of `make_small_data`, after 8,000 for training and 400 for validation."""


@dataclass
class Measured:
    """N images of one source. values: uint8 `[H, W]` each; labels: `[N, C]`, 1 present, 0 absent, -100 unknown;
    patients: `[N]`; columns: (title, clues whose mean AUROC is counted)."""

    values: list[np.ndarray]
    labels: np.ndarray
    patients: np.ndarray
    columns: list[tuple[str, list[int]]]


# -------------------------------------------------------------------------------------------------------- the stretches


def middle(values: np.ndarray, margin: float) -> np.ndarray:
    """Without `margin` of height and width at each edge."""
    top, left = (round(side * margin) for side in values.shape)
    return values[top : values.shape[0] - top, left : values.shape[1] - left]


def without_even_edges(values: np.ndarray) -> np.ndarray:
    """Without the rows and columns at the edges where nine tenths of the pixels lie within 1/32 of the range."""
    even = (int(values.max()) - int(values.min())) / 32
    kept = [np.flatnonzero(np.ptp(np.percentile(values, (5, 95), axis=axis), axis=0) > even) for axis in (1, 0)]
    if not all(map(len, kept)):
        return values
    (top, bottom), (left, right) = (lines[[0, -1]] for lines in kept)
    return values[top : bottom + 1, left : right + 1]


def between(part: Callable[[np.ndarray], np.ndarray], percentile: float) -> Callable[[np.ndarray], np.ndarray]:
    """A stretch between two percentiles of a part of the picture; 0: its smallest and largest value."""

    def stretched(values: np.ndarray) -> np.ndarray:
        low, high = map(float, np.percentile(part(values), (percentile, 100 - percentile)))
        return np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)

    return stretched


STRETCHES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "min-max (`min_max`)": lambda values: stretch(values, None, "min_max"),
    "min-max without even edges": between(without_even_edges, 0),
    "percentiles 0.5, 99.5": between(lambda values: values, 0.5),
    "percentiles 1, 99": between(lambda values: values, 1),
    "percentiles 2, 98": between(lambda values: values, 2),
    "percentiles 1, 99 without even edges": between(without_even_edges, 1),
    "percentiles 0.5, 99.5 of the middle 90 x 90 %": between(lambda values: middle(values, 0.05), 0.5),
    "percentiles 1, 99 of the middle 80 x 80 %": between(lambda values: middle(values, 0.1), 1),
    "**percentiles 0.5, 99.5 without the ends, twice (`percentiles`)**": lambda values: stretch(
        values, None, "percentiles"
    ),
    "histogram equalisation": lambda values: np.asarray(ImageOps.equalize(Image.fromarray(values))) / np.float32(255),
}


# ------------------------------------------------------------------------------------------------- what is burned in


def letter(shape: tuple[int, int]) -> np.ndarray:
    """Where an "R" of a tenth of the height stands in the upper left corner, bool `[H, W]`."""
    page = Image.new("L", shape[::-1])
    font = ImageFont.load_default(size=0.1 * shape[0])
    ImageDraw.Draw(page).text((0.03 * shape[1], 0.03 * shape[0]), "R", fill=255, font=font)
    return np.asarray(page) > 128


def name_box(shape: tuple[int, int]) -> np.ndarray:
    """Where a box of 6 % of the height and 25 % of the width lies in the upper left corner, bool `[H, W]`."""
    box = np.zeros(shape, bool)
    box[: round(0.06 * shape[0]), : round(0.25 * shape[1])] = True
    return box


def burn(values: np.ndarray, where: np.ndarray, grey: int) -> np.ndarray:
    """uint8 `[H, W]` with `grey` at these places."""
    return np.where(where, grey, values).astype(np.uint8)


def largest_moves(stretched: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> tuple[float, float, float]:
    """Most that a letter, a white frame of 3 % around the picture, and a black box move a pixel elsewhere, of 255."""
    before, width = stretched(values), round(0.03 * len(values))
    moves = []
    for where, grey in ((letter(values.shape), 255), (name_box(values.shape), 0)):
        moves.append(np.abs(stretched(burn(values, where, grey)) - before)[~where].max())
    framed = stretched(np.pad(values, width, constant_values=255))[width:-width, width:-width]
    return 255 * float(moves[0]), 255 * float(np.abs(framed - before).max()), 255 * float(moves[1])


# ---------------------------------------------------------------------------------------------------------- the sources


def load(data: Path, names: Sequence[str], num_phantoms: int) -> list[Measured]:
    """The four sources, labelled in the order of `names`.

    Raises:
        FileNotFoundError: a set is not in `data`.
    """

    def rows(folder: str) -> list[dict[str, Any]]:
        with (data / folder / "studies.jsonl").open(encoding="utf-8") as lines:
            return list(map(json.loads, lines))

    def measured(folder: str, rows: list[dict[str, Any]], labels: list[dict[str, Any]]) -> Measured:
        values = [read_radiograph(data / folder / row["image"]).values for row in rows]
        return Measured(values, table(labels, names), np.array([row["patient_id"] for row in rows]), [])

    unseen = [row for row in rows("nih") if patient_split(row["patient_id"]) == "validation"]
    nih = measured("nih", unseen, [labels_and_boxes(row["nih_labels"], row["boxes"])[0] for row in unseen])
    hearts = rows("wingspan_ctr")
    ratios = [row["ctr_ground_truth"] or row["ctr_from_masks"] for row in hearts]
    wingspan = measured("wingspan_ctr", hearts, [{"Cardiomegaly": int(ratio > 0.5)} for ratio in ratios])
    nodules = rows("jsrt")
    jsrt = measured(
        "jsrt",
        nodules,
        [{"Lung Lesion": int(row["nodule"]), "Cardiomegaly": int(row["ctr_from_masks"] > 0.5)} for row in nodules],
    )
    drawn = [generate_phantom(PHANTOM_SEED, FIRST_TEST_PHANTOM + index, 224) for index in range(num_phantoms)]
    phantoms = Measured(
        [phantom.image for phantom in drawn],
        table([phantom.record["labels"] for phantom in drawn], names),
        np.arange(num_phantoms),
        [],
    )
    heart, lesion = names.index("Cardiomegaly"), names.index("Lung Lesion")
    nih.columns = [("NIH, mean", judged_columns(nih.labels, MIN_POSITIVES))]
    wingspan.columns = [("wingspan_ctr, Cardiomegaly", [heart])]
    jsrt.columns = [("JSRT, Cardiomegaly", [heart]), ("JSRT, Lung Lesion", [lesion])]
    phantoms.columns = [("phantoms, mean", judged_columns(phantoms.labels, MIN_POSITIVES))]
    return [nih, wingspan, jsrt, phantoms]


def table(labels: Sequence[dict[str, Any]], names: Sequence[str]) -> np.ndarray:
    """`[N, C]`: 1 present, 0 absent, `MISSING` uncertain or unknown."""
    return np.array([tensor_labels(certain(row.get(name) for name in names)) for row in labels])


# -------------------------------------------------------------------------------------------------------------- scoring


def clue_scores(
    model: TRRGForConditionalGeneration, processor: TRRGProcessor, images: Sequence[np.ndarray], batch_size: int = 32
) -> np.ndarray:
    """Scores `[N, C]` of images already stretched, float32 `[H, W]` from 0 to 1."""
    scores = []
    for start in range(0, len(images), batch_size):
        batch = [Radiograph(image) for image in images[start : start + batch_size]]
        inputs = processor(images=[[PreparedView(processor.image_processor.square(view))] for view in batch])
        with torch.inference_mode():
            found = model.read_study(**inputs).clue_scores
        if found is None:
            raise ValueError("the checkpoint scores no clues")
        scores.append(found.numpy())
    return np.concatenate(scores)


def auroc_with_interval(scores: np.ndarray, source: Measured, clues: list[int], seed: int = 0) -> str:
    """Mean AUROC over `clues`, and its interval over patients."""
    patients, of_patient = np.unique(source.patients, return_inverse=True)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.asarray(mean_auroc(scores[:, clues], source.labels[:, clues], weights[of_patient])[-1])

    draws = bootstrap(np.ones(len(patients)), statistic, RESAMPLES, seed)
    (low, high), value = interval(draws), statistic(np.ones(len(patients)))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--phantoms", type=int, default=200, help="of the test phantoms of make_small_data")
    arguments = parser.parse_args()
    processor = TRRGProcessor.from_pretrained(arguments.checkpoint)
    processor.image_processor.grey_range = "min_max"  # keeps what is already stretched from 0 to 1
    model = TRRGForConditionalGeneration.from_pretrained(arguments.checkpoint).eval()
    try:
        sources = load(arguments.data, [clue["name"] for clue in processor.clues], arguments.phantoms)
    except FileNotFoundError as error:
        parser.error(f"--data: {error}")
    titles = [title for source in sources for title, _ in source.columns]
    print("| stretch |", " | ".join([*titles, "letter", "white frame", "black box"]), "|")
    print("|---" * (len(titles) + 4) + "|")
    for name, stretched in tqdm(STRETCHES.items(), unit="stretch"):
        cells, moves = [name], []
        for source in sources:
            scores = clue_scores(model, processor, [stretched(values) for values in source.values])
            for _, clues in source.columns:
                cells.append(auroc_with_interval(scores, source, clues))
            attacked = source.values[:: max(1, len(source.values) // ATTACKED)]
            moves += [largest_moves(stretched, values) for values in attacked]
        cells += [
            f"{most:.0f}, {all_:.0f}" for most, all_ in zip(*np.percentile(moves, (90, 100), axis=0), strict=True)
        ]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
