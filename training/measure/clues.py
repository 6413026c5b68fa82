"""What a stage-1 checkpoint sees in unseen studies: the AUROC of each clue and the pointing game, with intervals.

    python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml [key.path=value ...]

The model is the run's `model/` whatever `model` says, the studies are the configuration's validation sources. The
values are those that training prints (`run/validation.py`), here in 32 bits; the intervals are 95 % percentiles of
1,000 bootstrap samples of patients (for the pointing game of studies with boxes). One process. Never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from evaluation.metrics.classification import judged_columns, mean_auroc
from evaluation.metrics.resampling import bootstrap, patient_bootstrap, with_interval
from modeling_trrg import TRRGForContrastivePretraining
from processing_trrg import TRRGProcessor
from training.config.run_config import ConfigError, PretrainConfig, load_config
from training.data.collate import PretrainCollator
from training.data.examples import SourceData
from training.pretrain import sentence_labels
from training.run.validation import MIN_POSITIVES, Perceived, perceive

RESAMPLES, SEED = 1000, 0  # as `score_labels.py`, so that the same scores get the same interval


def intervals(seen: Perceived, names: Sequence[str], patients: Sequence[str]) -> dict[str, Any]:
    """`auroc`, `auroc/<label>` and `pointing` of what was seen in studies of these patients, each with its interval and
    what it was counted on."""
    result: dict[str, Any] = {}
    if seen.scores is not None and seen.labels is not None and (judged := judged_columns(seen.labels, MIN_POSITIVES)):
        scores, labels = seen.scores[:, judged], seen.labels[:, judged]
        values = mean_auroc(scores, labels)
        draws = patient_bootstrap(patients, lambda weights: mean_auroc(scores, labels, weights), RESAMPLES, SEED)
        counts = {"studies": len(labels), "patients": len(set(patients))}
        result["auroc"] = with_interval(values[-1], draws[:, -1]) | counts
        for column, c in enumerate(judged):
            interval = with_interval(values[column], draws[:, column])
            result[f"auroc/{names[c]}"] = interval | {"positives": int((labels[:, column] == 1).sum())}
    if seen.hits:
        table = np.array([(sum(study), len(study)) for study in seen.hits])
        sums = bootstrap(np.ones(len(table), dtype=np.int64), lambda weights: weights @ table, RESAMPLES, SEED)
        hits, boxed = table.sum(0)
        result["pointing"] = with_interval(hits / boxed, sums[:, 0] / sums[:, 1]) | {
            "hits": int(hits), "boxed_findings": int(boxed), "studies": len(table)
        }  # fmt: skip
    return result


def measure(config: PretrainConfig) -> dict[str, Any]:
    """
    Raises:
        ConfigError: no validation source, the run has no `model/` yet, or nothing can be judged.
        ValueError: `model/` holds other weights than those of stage 1.
    """
    checkpoint = Path(config.run.output_dir) / "model"
    if not config.data.validation:
        raise ConfigError("data.validation: no source to measure on")
    if not (checkpoint / "config.json").is_file():
        raise ConfigError(f"run.output_dir: {checkpoint} holds no model; run training/pretrain.py first")
    processor = TRRGProcessor.from_pretrained(checkpoint)
    model = TRRGForContrastivePretraining.from_pretrained(checkpoint)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if accelerator.num_processes > 1:
        raise ConfigError(f"{accelerator.num_processes} processes; training.measure.clues runs in one")
    model = accelerator.prepare(model).eval()
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.validation]
    aligns = model.config.connector == "query_transformer"
    for source in sources:
        if source.images:
            source.images.prepare()
        source.find_sentences(config.data.sentence_balance, sentence_labels, whole=aligns)
    collate = PretrainCollator(processor, reports=aligns)
    with torch.inference_mode():
        seen = perceive(accelerator, model, sources, config.data, collate, config.optimizer.micro_batch_size)
    patients = [s.studies.records[s.rows[place][0]].patient_id for s in sources for place in range(len(s))]
    found = intervals(seen, sources[0].names, patients)
    if not found:
        raise ConfigError(
            f"data.validation: no clue with {MIN_POSITIVES} studies of either value, and no boxes; nothing to judge"
        )
    return {"checkpoint": str(checkpoint), **found}


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="of the stage-1 run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args()
    try:
        config = load_config(PretrainConfig, arguments.config, arguments.overrides)
        print(json.dumps(measure(config), indent=1))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
