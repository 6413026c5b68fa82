"""Reports written while training: does a report name what its reference names? Judged by the project's labeler."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device

from evaluation.metrics.classification import precision_recall_f1
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import positives
from processing_trrg import TRRGProcessor, report_text
from training.config.run_config import DataSection
from training.data.collate import FinetuneCollator
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw
from training.run.sharded_weights import is_sharded, shares


def generation_metrics(
    accelerator: Accelerator,
    model: torch.nn.Module,
    sources: Sequence[SourceData],
    data: DataSection,
    processor: TRRGProcessor,
    num_studies: int,
    batch_size: int,
) -> dict[str, float]:
    """Greedy reports of the first `num_studies` of each source against the references: `ce_f1/<kind>`, micro F1 over
    the 14 labels with uncertain counted as absent, and `ce_f1`, their mean. Clues are the image's, or oracle ones where
    the source has no image."""
    unwrapped: Any = accelerator.unwrap_model(model)
    collate = FinetuneCollator(processor, with_report=False)
    examples = Examples(sources, data, seed=0, training=False)
    metrics: dict[str, float] = {}
    for number, source in enumerate(sources):
        counts = torch.zeros(3, dtype=torch.long)  # true positives, false positives, false negatives
        for indices, real in shares(accelerator, range(min(num_studies, len(source))), batch_size):
            rows = [examples[Draw(number, i, 0, i)] for i in indices]
            batch = collate(rows)
            for name in ("study_ids", "num_text_tokens", "clue_labels"):
                batch.pop(name)
            ids = unwrapped.generate(
                **send_to_device(batch, accelerator.device),
                do_sample=False,
                synced_gpus=is_sharded(accelerator),
            )
            reports = processor.post_process_report(ids, batch)
            for report, row in zip(reports[:real], rows[:real], strict=True):
                reference = report_text(row.record.findings, row.record.impression)
                counts += agreement(report.text, reference)
        cells = torch.stack(gather_object([counts])).sum(0).numpy()
        metrics[f"ce_f1/{source.source.kind}"] = float(precision_recall_f1(*cells)["f1"])
    metrics["ce_f1"] = sum(metrics.values()) / len(metrics)
    return metrics


def agreement(generated: str, reference: str) -> torch.Tensor:
    """True positives, false positives and false negatives over the 14 labels, `[3]`."""
    said, true = (set(positives(label_report(text))) for text in (generated, reference))
    return torch.tensor([len(said & true), len(said - true), len(true - said)])
