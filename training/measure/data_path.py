"""Does the data path keep up with the model? Studies a second of each on this machine, and their ratio.

    python -m training.measure.data_path --config training/configs/trrg-small-stage1.yaml [key.path=value ...]
    python -m training.measure.data_path --stage finetune --config training/configs/trrg-small-stage2.yaml

- `decode_once`: stored images -> squares of the model's size, what the image cache is filled with, once a set;
- `feed`: what every step needs: draw, read the squares, augment, draw sentences, tokenize, collate, by the
  configuration's own loader and workers, sustained: once files are open and workers at work;
- `train`: forward pass, backward pass and optimizer step on batches that are already there.

`feed_over_train` says how many such models the data path could feed. With `num_workers: 0` one core reads between the
steps, so a ratio of 10 costs the run a tenth of its time. `data.num_workers=N` measures what N processes read; without
a GPU they share the cores with the training. The rate of training is that of the median step.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from training.config.run_config import FinetuneConfig, PretrainConfig, RunConfig, load_config
from training.data.collate import FinetuneCollator, PretrainCollator, count_targets
from training.data.examples import Examples, SourceData
from training.data.sampler import MicroBatchSampler
from training.finetune import language_loss
from training.pretrain import contrastive_loss, sentence_labels
from training.run.initial_model import build_config, build_model, build_processor, fit_vocabulary
from training.run.start import load_sources, make_optimizer, make_plan
from training.run.trained_parts import add_lora, freeze, set_training_mode

READ_PER_STEP, READ_PER_WORKER = 5, 20
"""Batches read for each one that is trained on, and at least for each worker."""


def measure(config: RunConfig, steps: int, decoded: int) -> dict[str, Any]:
    """Measure `steps` micro-batches, the reading of several times as many, and the decoding of `decoded`
    studies of the configuration's training sources, in one process."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.run.mixed_precision)
    pretrains = isinstance(config, PretrainConfig)
    architecture = build_config(config.model)
    processor = build_processor(config.model, architecture)
    fit_vocabulary(architecture, processor, config.data.views)
    model_class = TRRGForContrastivePretraining if pretrains else TRRGForConditionalGeneration
    model, _ = build_model(model_class, config.model, architecture, config.trained)
    if isinstance(config, FinetuneConfig) and config.lora:
        add_lora(model, config.lora)
    freeze(model, config.trained)
    aligns = pretrains and architecture.connector == "query_transformer"
    collate = PretrainCollator(processor, reports=aligns) if pretrains else FinetuneCollator(processor)
    is_too_long = collate.is_too_long if isinstance(collate, FinetuneCollator) else None
    sources, _ = load_sources(accelerator, config, processor, is_too_long)
    if pretrains:
        for source in sources:
            source.find_sentences(config.data.sentence_balance, sentence_labels, whole=aligns)
    plan, _ = make_plan(config, sources)
    model, optimizer = accelerator.prepare(model, make_optimizer(accelerator, model, config))
    set_training_mode(accelerator.unwrap_model(model))

    batch_size, workers = config.optimizer.micro_batch_size, config.data.num_workers
    # workers are ahead by what they have prepared (2 batches each), which is no rate: it is let pass first
    ahead = 2 * workers + 1
    number = max(READ_PER_STEP * steps, READ_PER_WORKER * workers)
    loader = DataLoader(
        Examples(sources, config.data, config.run.seed, True, architecture),
        batch_sampler=MicroBatchSampler(plan, batch_size, 0, 1, 0, ahead + number),
        collate_fn=collate,
        num_workers=workers,
    )
    batches: list[dict[str, Any]] = []
    start = 0.0
    for position, batch in enumerate(loader):
        if position == ahead - 1:
            start = time.perf_counter()
        if position <= steps:
            batches.append(batch)
    feed = (time.perf_counter() - start) / number
    train = []
    for batch in batches:
        batch = {key: value for key, value in batch.items() if key not in ("study_ids", "num_text_tokens")}
        start = time.perf_counter()
        batch = send_to_device(batch, accelerator.device)
        targets = None if pretrains else torch.tensor(float(count_targets(batch)), device=accelerator.device)
        loss, _ = (contrastive_loss if pretrains else language_loss)(model, batch, targets)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        train.append(time.perf_counter() - start)
    rates = {"feed": batch_size / feed, "train": batch_size / statistics.median(train[1:])}
    return {
        "decode_once_studies_per_s": _decode_rate(sources, decoded),
        "feed_studies_per_s": round(rates["feed"], 1),
        "train_studies_per_s": round(rates["train"], 1),
        "feed_over_train": round(rates["feed"] / rates["train"], 1),
        "batches": steps, "micro_batch_size": batch_size, "workers": workers, "threads": torch.get_num_threads(),
        "device": str(accelerator.device),
    }  # fmt: skip


def _decode_rate(sources: list[SourceData], decoded: int) -> float | None:
    """Studies a second of the first source with images, None where no source has any."""
    images = next((source.images for source in sources if source.images), None)
    if images is None:
        return None
    number = min(decoded, len(images.studies))
    start = time.perf_counter()
    for index in range(number):
        for view in range(images.num_views(index)):
            images._decode(index, view)
    return round(number / (time.perf_counter() - start), 1)


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="pretrain")
    parser.add_argument("--steps", type=int, default=10, help="micro-batches trained on, after one to warm up")
    parser.add_argument("--decoded", type=int, default=50, help="studies decoded for the rate of the first pass")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args()
    cls: type[RunConfig] = PretrainConfig if arguments.stage == "pretrain" else FinetuneConfig
    if arguments.steps < 1:
        parser.error(f"--steps {arguments.steps}: expected at least 1")
    config = load_config(cls, arguments.config, arguments.overrides)
    print(json.dumps(measure(config, arguments.steps, arguments.decoded), indent=1))


if __name__ == "__main__":
    main()
