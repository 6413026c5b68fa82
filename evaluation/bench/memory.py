"""Memory of a training step and of generation, beside what is predicted: each in a process of its own.

python -m evaluation.bench.memory step|checkpointed|generation [--quick]    bytes that the work adds to a process
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from evaluation.bench.loading import ROOT
from evaluation.bench.model import IMAGE_TOKEN, PATCHES, PROMPT, build_trrg, clue_inputs
from evaluation.bench.turns import Row
from modeling_trrg import TRRGForConditionalGeneration
from training.config.run_config import DataSection, FinetuneConfig, ModelSection, OptimizerSection, RunSection
from training.finetune import language_loss
from training.measure.estimate import architecture_of, estimate, sizes_of
from training.run.initial_model import build_config
from training.run.trained_parts import checkpoint_layers, freeze, set_training_mode

PARTS = ("vision_tower", "clue_encoder", "image_projection", "clue_projection", "logit_scale",
         "multi_modal_projector", "report_projection", "language_model")  # fmt: skip
TEXT = {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False}  # fmt: skip
TOKENS, SENTENCE, STUDIES, WRITTEN = 224, 32, 8, 32


def rows(quick: bool) -> Iterator[Row]:
    """A step without and with gradient checkpointing, and a batch of reports."""
    for work, what in (("step", "a step of 8"), ("checkpointed", "a step of 8, checkpointing")):
        config = step_config(work)
        folder = ROOT / "training" / "configs"
        sizes = sizes_of(config, architecture_of(config.model, folder), TOKENS, SENTENCE)
        predicted = sum(estimate(config, folder, 1, sizes).memory["ddp"].values())
        yield row(what, work, predicted, quick, "training.measure.estimate runs the layers on fake tensors; beside "
                  "what it counts there are the allocator's rest and PyTorch's own buffers")  # fmt: skip
    yield row("8 reports being written", "generation", predicted_generation(build_trrg(quick)), quick,
              "weights, cache, one layer's work on the prompt; beside it PyTorch's own buffers")  # fmt: skip


def row(what: str, work: str, predicted: float, quick: bool, why: str) -> Row:
    """Mebibytes that `work` takes in processes of their own, beside the prediction."""
    found = Row("memory", f"memory of {what}", "predicted", "0.9 to 1.1", why, unit="MiB")
    runs = [measured(work, quick) for _ in range(1 if quick else 3)]
    return found.measured([run / 2**20 for run in runs], [predicted / 2**20] * len(runs))


def measured(work: str, quick: bool) -> int:
    """Bytes that `work` adds to the peak of a process whose allocator gives memory back at once."""
    given = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "evaluation.bench.memory", work, *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=os.environ | given, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def step_config(work: str) -> FinetuneConfig:
    """Stage 2 of the small model with every weight trained."""
    return FinetuneConfig(
        model=ModelSection(preset="trrg-small", overrides={"text_config": TEXT}), data=DataSection(views=1),
        optimizer=OptimizerSection(batch_size=STUDIES, micro_batch_size=STUDIES), trained=list(PARTS),
        run=RunSection(gradient_checkpointing=work == "checkpointed"),
    )  # fmt: skip


def train(work: str) -> None:
    """Two optimizer steps of a model that is built here."""
    config = step_config(work)
    architecture = build_config(config.model)
    model: Any = TRRGForConditionalGeneration(architecture)
    freeze(model, config.trained)
    if config.run.gradient_checkpointing:
        checkpoint_layers(model)
    set_training_mode(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokens, size = architecture.num_image_tokens, architecture.image_size
    ids = torch.full((STUDIES, tokens + TOKENS), 7)
    ids[:, :tokens] = architecture.image_token_id
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids,
             "pixel_values": torch.zeros(STUDIES, 1, 3, size, size), **clue_inputs(length=12)}  # fmt: skip
    for _ in range(2):
        language_loss(model, batch, torch.tensor(100.0))[0].backward()
        optimizer.step()
        optimizer.zero_grad()


def generate(quick: bool) -> None:
    """Eight reports of a model of 110 million weights that is built here."""
    model = build_trrg(quick)
    ids = torch.full((STUDIES, PATCHES + PROMPT), 7)
    ids[:, 1 : PATCHES + 1] = IMAGE_TOKEN
    inputs: dict[str, Any] = {"pixel_values": torch.zeros(STUDIES, 3, 224, 224), **clue_inputs()}
    length: dict[str, Any] = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN}
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, **length)


def predicted_generation(model: Any) -> float:
    """Bytes: weights, the cache of all tokens, and the widest work on the prompt (three products of the MLP)."""
    text, item = model.config.text_config, 4
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    cache = 2 * text.num_hidden_layers * text.hidden_size * STUDIES * (PATCHES + PROMPT + WRITTEN) * item
    return float(weights + cache + 3 * text.intermediate_size * STUDIES * (PATCHES + PROMPT) * item)


def peak() -> int:
    """The most bytes that this process has held. `getrusage` would start from what the process that started it held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError("/proc/self/status names no VmHWM; memory is measured on Linux")
    return 1024 * int(found[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # from here on: importing may have held more
    before = peak()
    generate("--quick" in sys.argv) if sys.argv[1] == "generation" else train(sys.argv[1])
    print(peak() - before)
