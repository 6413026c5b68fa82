"""What is measured while training: loss, zero-shot AUROC and pointing game in stage 1, the loss in stage 2.

Studies are gone through in order, without augmentation. Every process takes its share of each batch; the last batch is
filled up from the start, so that all processes do the same number of forward passes, and the filling is not counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device

from evaluation.metrics.classification import auroc, judged_columns
from evaluation.reading.observations import MISSING
from modeling_trrg.generation_trrg import STUDY_INPUTS
from training.config.run_config import DataSection
from training.data.collate import count_targets
from training.data.examples import Example, Examples, SourceData
from training.data.sampler import Draw
from training.data.study import Box
from training.run.sharded_weights import shares

MIN_POSITIVES = 10
"""Labels with fewer studies of either value get no AUROC: its interval would be wider than what is compared."""

Collate = Callable[[list[Example]], dict[str, Any]]


@dataclass
class Perceived:
    """What a model sees in N validation studies, on all processes.

    Attributes:
        loss: mean over the forward passes.
        scores, labels: `[N, C]`, None for a model that sees no clues; labels are 1 present, 0 absent, anything else
            unknown.
        hits: for each study with boxes, whether the strongest patch of each boxed finding lies in one of its boxes.
    """

    loss: float
    scores: np.ndarray | None
    labels: np.ndarray | None
    hits: list[list[bool]]


def perceive(
    accelerator: Accelerator,
    model: torch.nn.Module,
    sources: Sequence[SourceData],
    data: DataSection,
    collate: Collate,
    batch_size: int,
) -> Perceived:
    """Stage 1: loss, clue scores and pointing game over the validation sources."""
    losses: list[float] = []
    hits: list[list[bool]] = []
    scores, labels = [], []
    for number, source in enumerate(sources):
        examples = Examples(sources, data, seed=0, training=False)
        for batch, real in _batches(accelerator, examples, number, len(source), collate, batch_size):
            batch.pop("study_ids")
            batch.pop("num_text_tokens")
            batch = send_to_device(batch, accelerator.device)
            out = model(**batch)
            losses.append(out.loss.item())
            if out.clue_scores is not None:
                scores.append(out.clue_scores[:real].float().cpu().numpy())
                labels.append(batch["clue_targets"][:real].cpu().numpy())
        hits += _pointing(accelerator, model, source, collate, batch_size, number, examples)
    return Perceived(
        loss=float(np.mean(gather_object(losses))),
        scores=np.concatenate(gather_object([np.concatenate(scores)])) if scores else None,
        labels=np.concatenate(gather_object([np.concatenate(labels)])) if labels else None,
        hits=gather_object(hits),
    )


def zero_shot(seen: Perceived, names: Sequence[str]) -> dict[str, float]:
    """`loss`, `auroc` (mean over the labels that can be judged), `auroc/<label>`, and where there are boxes `pointing`:
    share of boxed findings whose strongest patch lies in a box."""
    metrics = {"loss": seen.loss}
    if seen.scores is not None and seen.labels is not None:
        by_label = {
            f"auroc/{names[c]}": auroc(seen.scores[:, c], seen.labels[:, c])
            for c in judged_columns(seen.labels, MIN_POSITIVES)
        }
        if by_label:
            metrics |= {"auroc": float(np.mean(list(by_label.values()))), **by_label}
    if seen.hits:
        metrics["pointing"] = float(np.mean([hit for study in seen.hits for hit in study]))
    return metrics


def report_loss(
    accelerator: Accelerator,
    model: torch.nn.Module,
    sources: Sequence[SourceData],
    data: DataSection,
    collate: Collate,
    batch_size: int,
) -> dict[str, float]:
    """Stage 2: `loss`, cross entropy a target token over all validation sources, and `loss/<kind>` of each."""
    metrics: dict[str, float] = {}
    total = torch.zeros(2, dtype=torch.float64)
    for number, source in enumerate(sources):
        counted = torch.zeros(2, dtype=torch.float64)
        config = accelerator.unwrap_model(model).config
        examples = Examples(sources, data, seed=0, training=False, config=config)
        for batch, real in _batches(accelerator, examples, number, len(source), collate, batch_size):
            batch.pop("study_ids")
            batch.pop("num_text_tokens")
            batch["labels"][real:] = MISSING
            tokens = count_targets(batch)
            out = model(**send_to_device(batch, accelerator.device), num_items_in_batch=1)
            extra = 0.0 if out.consistency_loss is None else out.consistency_loss.item()
            counted += torch.tensor([out.loss.item() - extra if tokens else 0.0, tokens], dtype=torch.float64)
        counted = accelerator.reduce(counted.to(accelerator.device), reduction="sum").cpu()
        metrics[f"loss/{source.source.kind}"] = float(counted[0] / counted[1])
        total += counted
    return {"loss": float(total[0] / total[1]), **metrics}


def _batches(
    accelerator: Accelerator, examples: Examples, source: int, length: int, collate: Collate, batch_size: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Batches of this process, and how many of their first rows count."""
    together = batch_size * accelerator.num_processes
    for start in range(0, length, together):
        first = start + accelerator.process_index * batch_size
        indices = range(first, first + batch_size)
        batch = collate([examples[Draw(source, index % length, 0, index)] for index in indices])
        yield batch, max(0, min(batch_size, length - first))


def _pointing(
    accelerator: Accelerator,
    model: torch.nn.Module,
    source: SourceData,
    collate: Collate,
    batch_size: int,
    number: int,
    examples: Examples,
) -> list[list[bool]]:
    """For each boxed finding of each study of this process's share: is its strongest patch in one of its boxes?"""
    names, records = source.names, source.studies.records
    drawn = {study: row for row, (study, _) in reversed(list(enumerate(source.rows)))}  # each study once
    boxed = [study for study in drawn if any(box["label"] in names for box in records[study].boxes)]
    hits: list[list[bool]] = []
    for studies, real in shares(accelerator, sorted(boxed), batch_size):
        batch = collate([examples[Draw(number, drawn[study], 0, study)] for study in studies])
        inputs = {name: batch[name] for name in STUDY_INPUTS if name in batch}
        maps = accelerator.unwrap_model(model).read_study(**send_to_device(inputs, accelerator.device)).evidence_maps
        for row, study in enumerate(studies[:real]):
            hits.append(_hits(maps[row, 0].float().cpu().numpy(), source, study))
    return hits


def _hits(maps: np.ndarray, source: SourceData, study: int) -> list[bool]:
    assert source.images is not None
    size, boxes = source.images.image_processor.size, source.images.boxes_on_square(study)
    return [
        points_into(maps[source.names.index(name)], [box for box in boxes if box["label"] == name], size)
        for name in dict.fromkeys(box["label"] for box in boxes if box["label"] in source.names)
    ]


def points_into(evidence: np.ndarray, boxes: Sequence[Box], size: int) -> bool:
    """The pointing game: whether the middle of the strongest patch of a map `[h, w]` lies in one of the boxes, which
    are in pixels of the square of `size`."""
    peak = np.unravel_index(evidence.argmax(), evidence.shape)
    y, x = ((place + 0.5) * size / side for place, side in zip(peak, evidence.shape, strict=True))
    return any(box["x"] <= x < box["x"] + box["w"] and box["y"] <= y < box["y"] + box["h"] for box in boxes)
