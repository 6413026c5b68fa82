"""A training step of each stage, and what its batches wait for and pad."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator

from evaluation.bench.reports import SMALL, images, load
from evaluation.bench.turns import Row
from modeling_trrg import TRRGForContrastivePretraining
from training.data.collate import count_targets
from training.finetune import language_loss
from training.pretrain import contrastive_loss
from training.run.loop import _optimizer_step

CONFIGS, DATA = SMALL.parents[1] / "training" / "configs", Path("runs/small-data")
REPORT = "The heart is enlarged. There is a small left pleural effusion. No pneumothorax. "
SENTENCES = (1, 1, 2, 2, 2, 3, 3, 4, 5, 9)  # of ten reports: about the spread of real ones


def rows(quick: bool) -> Iterator[Row]:
    """Steps beside plain loops, waiting for data, padding."""
    write, seconds, count = load(), *((0, 2) if quick else (6, 8))
    model, processor = write.model, write.processor
    studies = [[study["images"]] for study in images(count)]
    batch = processor(images=studies, report=[REPORT * number for number in SENTENCES[:count]])
    yield step_row("1", *first_stage(model, batch), contrastive_loss, seconds)
    batch = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    targets = torch.tensor(float(count_targets(batch)))
    yield step_row("2", model.train(), batch, language_loss, seconds, targets)
    for stage, name in (("1", "pretrain"), ("2", "finetune")):
        yield waiting(stage, name, quick)
    yield padding(model, processor, 0 if quick else 4)


def first_stage(model: Any, batch: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model of stage 1 with the towers' sizes, and what it learns from: the images, and three sentences a study."""
    clues, count = {name: batch[name] for name in ("clue_input_ids", "clue_attention_mask")}, len(batch["pixel_values"])
    drawn = torch.arange(3 * count) % clues["clue_input_ids"].shape[1]
    given = {
        "pixel_values": batch["pixel_values"], "image_mask": batch["image_mask"], **clues,
        "sentence_input_ids": clues["clue_input_ids"][0, drawn], "sentence_keys": drawn,
        "sentence_attention_mask": clues["clue_attention_mask"][0, drawn],
        "sentence_study": torch.arange(count).repeat_interleave(3),
        "clue_targets": torch.randint(2, (count, clues["clue_input_ids"].shape[1])),
    }  # fmt: skip
    return TRRGForContrastivePretraining(model.config).train(), given


def step_row(
    stage: str, model: Any, batch: dict[str, torch.Tensor], loss: Callable, seconds: float, targets: Any = None
) -> Row:
    """The step of `training.run.loop` and the same modules in a plain loop."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    prepared = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-6))
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    run: Any = SimpleNamespace(
        config=SimpleNamespace(run=SimpleNamespace(seed=0), optimizer=SimpleNamespace(max_grad_norm=1.0)),
        accelerator=accelerator, model=prepared[0], optimizer=prepared[1], stage=SimpleNamespace(loss=loss),
        progress=SimpleNamespace(step=0),
    )  # fmt: skip

    def plain() -> None:
        options = {} if targets is None else {"num_items_in_batch": targets}
        model(**batch, **options).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    row = Row("steps", f"training step, stage {stage}", "a plain loop of the same modules", "<= 1.03",
              "the run adds Accelerate's wrapper, its checks for infinite numbers and its log")  # fmt: skip
    return row.by_turns(lambda: _optimizer_step(run, [batch | {"study_ids": []}], targets), plain, seconds)


def waiting(stage: str, name: str, quick: bool) -> Row:
    """Milliseconds of reading a batch in the training's own process, beside those of its step, in wall time.

    In a process of its own: Accelerate keeps one precision a process, and the stages may have two.
    """
    row = Row("steps", f"reading a batch, stage {stage}, one process", "its training step", "<= 0.02",
              "one core reads and trains by turns; with data.num_workers a core of its own reads, and the step waits "
              "for nothing")  # fmt: skip
    if quick or not DATA.is_dir():
        row.why = f"{DATA} is not there (python -m training.builders.small_data); `--quick` does not read it"
        return row
    config = str(CONFIGS / f"trrg-small-stage{stage}.yaml")
    command = [sys.executable, "-m", "training.measure.data_path", "--config", config, "--stage", name, "--steps", "5"]
    command += ["--decoded", "1", *([f"model.checkpoint={SMALL}"] if stage == "2" else [])]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=True).stdout
    rates = json.loads(told[told.rindex("\n{") :])  # behind the counts of the data
    size = rates["micro_batch_size"]
    row.measured(*([1000 * size / rates[f"{rate}_studies_per_s"]] for rate in ("feed", "train")))
    row.spread = None
    return row


def padding(model: Any, processor: Any, seconds: float) -> Row:
    """Forward and backward of texts of many lengths, sorted by length and in the order of the draw."""
    rng = torch.Generator().manual_seed(0)
    drawn = [SENTENCES[i] for i in torch.randint(len(SENTENCES), (16,), generator=rng)]
    tokenizer = processor.tokenizer

    def passes(counts: list[int]) -> None:
        for start in range(0, len(counts), 4):
            texts = [REPORT * count for count in counts[start : start + 4]]
            ids = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
            labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
            model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"], labels=labels).loss.backward()

    row = Row("steps", "passes sorted by length, 4 texts each", "in the order of the draw", "<= 0.8",
              "a pass costs what its longest text costs; sorted, the others are about as long")  # fmt: skip
    return row.by_turns(partial(passes, sorted(drawn)), partial(passes, drawn), seconds)
