"""Reports written while training: does a report name what its reference names? Judged by the project's labeler."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from evaluation.metrics.classification import precision_recall_f1
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import positives
from processing_trrg import PreparedView, TRRGProcessor, prepare_studies, report_text
from training.config.run_config import DataSection
from training.data.examples import Example, Examples, SourceData
from training.data.sampler import Draw
from training.data.study import CONTEXT_FIELDS
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
    names = [clue["name"] for clue in processor.clues]
    examples = Examples(sources, data, seed=0, training=False, config=unwrapped.config)
    metrics: dict[str, float] = {}
    for number, source in enumerate(sources):
        counts = torch.zeros(3, dtype=torch.long)  # true positives, false positives, false negatives
        for indices, real in shares(accelerator, range(min(num_studies, len(source))), batch_size):
            rows = [examples[Draw(number, i, 0, i)] for i in indices]
            batch = prepare_studies(processor, [_study(row, names) for row in rows]).to(accelerator.device)
            study = unwrapped.read_study(**batch)
            prompts = processor.say_findings(batch, study)
            ids = unwrapped.generate(
                input_ids=prompts["input_ids"],
                attention_mask=prompts["attention_mask"],
                study=study,
                do_sample=False,
                synced_gpus=is_sharded(accelerator),
            )
            reports = processor.post_process_report(ids, prompts)
            for report, row in zip(reports[:real], rows[:real], strict=True):
                reference = report_text(row.record.findings, row.record.impression)
                counts += agreement(report.text, reference)
        cells = torch.stack(gather_object([counts])).sum(0).numpy()
        metrics[f"ce_f1/{source.source.kind}"] = float(precision_recall_f1(*cells)["f1"])
    metrics["ce_f1"] = sum(metrics.values()) / len(metrics)
    return metrics


def _study(example: Example, names: Sequence[str]) -> dict[str, Any]:
    """An example as the pipeline takes a study: its images, and clue scores where they are given."""
    study: dict[str, Any] = {name: example.record.get(name) for name in CONTEXT_FIELDS}
    if example.scores is not None:
        study["clue_scores"] = dict(zip(names, map(float, example.scores), strict=True))
    return study | ({"images": [PreparedView(square) for square in example.squares]} if example.squares else {})


def agreement(generated: str, reference: str) -> torch.Tensor:
    """True positives, false positives and false negatives over the 14 labels, `[3]`."""
    said, true = (set(positives(label_report(text))) for text in (generated, reference))
    return torch.tensor([len(said & true), len(said - true), len(true - said)])
