"""The baseline every generator has to beat: the report of the training study that looks most alike.

    python -m evaluation.nearest_neighbour --checkpoint DIR --data DIR --split validation --out RUN [--train train]

Alike is the cosine of the vision tower's pooled features, mean over the views. A neighbour without a report (NIH) lends
its labels instead: the positive sentence of each finding it has, and its labels as clue scores. Writes
`predictions.jsonl` in `generate.py`'s format, with the neighbour's `study_id` in `neighbour`; `score.py` and
`score_labels.py` read it. No study is compared with one of the same patient. Never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

import modeling_trrg  # noqa: F401  registers the model with the Auto classes
import processing_trrg  # noqa: F401  and the processor
from evaluation.predictions.prediction_parts import PREDICTIONS, write_whole
from evaluation.reading.observations import positives
from evaluation.reading.prior_comparisons import has_prior
from modeling_trrg.clue_trrg import mean_by_study
from processing_trrg import report_text
from training.data.study import Studies, Study, target_text

ROWS = 256
"""Test studies compared at a time: one row of cosines is as long as the set that lends."""


@torch.inference_mode()
def image_features(model: Any, processor: Any, studies: Studies, batch_size: int) -> torch.Tensor:
    """Unit vectors `[N, Dv]` of the studies.

    Raises:
        ValueError: a study without an image; names it.
    """
    without_image = [study.study_id for study in studies.records if not study.images]
    if without_image:
        raise ValueError(f"{studies.path}: {len(without_image)} studies have no image, e.g. {without_image[0]!r}")
    rows = []
    for start in tqdm(range(0, len(studies), batch_size), desc=f"see {studies.split}", unit="batch"):
        indices = range(start, min(start + batch_size, len(studies)))
        views = [[studies.open_image(i, view) for view in range(studies.num_views(i))] for i in indices]
        batch = processor(images=views, study_ids=[studies.records[i].study_id for i in indices])
        seen = model.model.encode_images(
            batch["pixel_values"].to(model.device, model.dtype), batch["image_mask"].to(model.device)
        )
        rows.append(mean_by_study(seen.pooled.float(), seen.study_index, len(seen.image_mask)).cpu())
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1)


def neighbours(test: torch.Tensor, train: torch.Tensor, patients: list[torch.Tensor]) -> list[int]:
    """For each test row the train row of another patient with the highest cosine.

    patients: a number for each row of `test` and of `train`.

    Raises:
        ValueError: a test study for which every train study is of the same patient.
    """
    found = []
    for rows, mine in zip(test.split(ROWS), patients[0].split(ROWS), strict=True):
        cosine = (rows @ train.T).masked_fill_(mine[:, None] == patients[1], -2.0)
        best = cosine.max(1)
        if (best.values < -1.5).any():
            raise ValueError("a study has no neighbour: all studies that lend reports are of its own patient")
        found += best.indices.tolist()
    return found


def borrowed(study: Study, clues: Sequence[dict[str, str]]) -> str:
    """A study's report, or its positive labels as sentences where it has none."""
    if target_text(study):
        return report_text(study.findings, study.impression)
    present = positives(study.labels or {})
    sentences = [clue["positive"] for clue in clues if clue["name"] in present]
    return report_text(" ".join(sentences) or "None that has a label.", None)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub; its vision tower looks")
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", required=True, help="the studies that get a report")
    parser.add_argument("--train", default="train", help="the split that lends reports")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    options = parser.parse_args(arguments)
    processor = AutoProcessor.from_pretrained(options.checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(options.checkpoint).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    train, test = Studies(options.data, options.train), Studies(options.data, options.split)
    numbers: dict[str, int] = {}
    patients = [
        torch.tensor([numbers.setdefault(record.patient_id, len(numbers)) for record in studies.records])
        for studies in (test, train)
    ]
    looks, lends = (image_features(model, processor, studies, options.batch_size) for studies in (test, train))
    lines = []
    for study, index in zip(test.records, neighbours(looks, lends, patients), strict=True):
        found = train.records[index]
        present = positives(found.labels or {})
        lines.append(
            {
                "study_id": study.study_id,
                "neighbour": found.study_id,
                "prediction": borrowed(found, processor.clues),
                "reference": report_text(study.findings, study.impression) if target_text(study) else None,
                "complete": True,
                "clue_scores": {clue["name"]: float(clue["name"] in present) for clue in processor.clues},
                "labels": study.labels,
                "has_prior": has_prior(study),
                "synthetic": study.synthetic,
            }
        )
    options.out.mkdir(parents=True, exist_ok=True)
    write_whole(options.out / PREDICTIONS, "".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} predictions in {options.out / PREDICTIONS}. Never for clinical use.")


if __name__ == "__main__":
    main()
