"""A training step of stage 2, and what its batches wait for and pad."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from evaluation.bench.reports import images, load
from evaluation.bench.turns import Row
from training.finetune import language_loss

REPORT = "The heart is enlarged. There is a small left pleural effusion. No pneumothorax. "
SENTENCES = (1, 1, 2, 2, 2, 3, 3, 4, 5, 9)  # of ten reports: about the spread of real ones


def rows(quick: bool) -> Iterator[Row]:
    """One step by Accelerate and the run's own loss, and the same modules in a plain loop."""
    write = load()
    model, processor = write.model.train(), write.processor
    studies = images(2 if quick else 4)
    batch = processor(images=[[study["images"]] for study in studies], text=None, return_tensors="pt")
    inputs: dict[str, Any] = dict(batch)
    inputs["labels"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == processor.image_token_id, -100)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    prepared, prepared_optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-6))
    inputs = {name: value.to(accelerator.device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def ours() -> None:
        loss, _ = language_loss(prepared, inputs, None)
        accelerator.backward(loss)
        prepared_optimizer.step()
        prepared_optimizer.zero_grad()

    def plain() -> None:
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    row = Row("steps", "training step, stage 2, small", "a plain loop of the same modules", "<= 1.03",
              "the run adds Accelerate's wrapper around forward, backward and step")  # fmt: skip
    yield row.by_turns(ours, plain, 0 if quick else 6)
    yield padding(model, processor, 0 if quick else 4)


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
