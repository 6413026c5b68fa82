"""Memory and time of a run, from its configuration alone: no weights, no data, no GPU.

    python -m training.measure.estimate --config training/configs/trrg-stage2-mimic.yaml [--gpus 8] [key.path=value ...]
    python -m training.measure.estimate --stage pretrain --config training/configs/trrg-stage1-mimic.yaml --gpus 4

A model of the configured shape is built on the meta device and run once with fake tensors (`fake_pass.py`): the memory
one GPU needs under plain data parallelism (ddp), FSDP2 and DeepSpeed ZeRO-3, and the time at a share of the GPU's peak.
Towers named by a Hub name are taken at the preset's size. What is not in it: the CUDA context (about 0.5 GiB),
fragmentation of the allocator, generation during validation, communication and reading of data.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from training.config.run_config import ConfigError, FinetuneConfig, ModelSection, PretrainConfig, RunConfig, load_config
from training.config.yaml_config import read_yaml
from training.measure.fake_pass import Pass, Sizes, fake_pass
from training.run.initial_model import build_config
from training.run.sharded_weights import layers_to_shard
from training.run.trained_parts import add_lora, freeze, part_of, parts_table, set_training_mode

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: 4 bits, an 8-bit scale for 64 of them, a float32 for 256 scales (double quantisation)."""
ZERO3_LIVE = 10**9
"""DeepSpeed's `stage3_max_live_parameters`: parameters that may be gathered at a time."""
SHARDINGS = ("ddp", "fsdp2", "zero3")


@dataclass
class Weights:
    """Counts and bytes of a model's weights.

    Attributes:
        stored: bytes a process without sharding holds.
        unshardable: those of them that every process holds in any case (quantised).
        largest_layer, rest: parameters of the largest layer that is sharded on its own and of all that is in none,
            quantised ones apart.
    """

    total: int
    trained: int
    stored: int
    stored_frozen: int
    unshardable: int
    largest_layer: int
    rest: int


@dataclass
class Estimate:
    """Of one GPU.

    Attributes:
        memory: sharding -> (what for -> bytes).
        flops: of an optimizer step on all GPUs.
    """

    weights: Weights
    run: Pass
    memory: dict[str, dict[str, float]]
    flops: int
    table: str


def estimate(config: RunConfig, folder: Path, gpus: int, sizes: Sizes) -> Estimate:
    """Build the configuration's model from fake tensors, run it once, and add up.

    Raises:
        ConfigError: the architecture cannot be told, or the batch does not divide by the GPUs.
    """
    together = config.optimizer.micro_batch_size * gpus
    if config.optimizer.batch_size % together:
        raise ConfigError(
            f"optimizer.batch_size: {config.optimizer.batch_size} is no multiple of micro_batch_size "
            f"{config.optimizer.micro_batch_size} x {gpus} GPU(s)"
        )
    model = model_without_weights(config, folder)
    table = parts_table(model, config.optimizer.lr, config.optimizer.lr_by_part)
    weights = count_weights(model, config.model)
    mixed = config.run.mixed_precision != "no"
    run = fake_pass(model, sizes, torch.bfloat16 if mixed else torch.float32, config.run.gradient_checkpointing)
    passes = config.optimizer.batch_size // config.optimizer.micro_batch_size
    shardings = SHARDINGS if gpus > 1 else SHARDINGS[:1]
    memory = {sharding: memory_of(sharding, weights, run, gpus, mixed, config) for sharding in shardings}
    return Estimate(weights, run, memory, run.flops * passes, table)


def model_without_weights(config: RunConfig, folder: Path) -> Any:
    """The configuration's model on the meta device, with its LoRA layers, frozen and in the mode it is trained in."""
    architecture = architecture_of(config.model, folder)
    pretrains = isinstance(config, PretrainConfig)
    with torch.device("meta"):
        model: Any = (TRRGForContrastivePretraining if pretrains else TRRGForConditionalGeneration)(architecture)
        if isinstance(config, FinetuneConfig) and config.lora:
            add_lora(model, config.lora)
        freeze(model, config.trained)
    set_training_mode(model)
    return model


def architecture_of(section: ModelSection, folder: Path) -> TRRGConfig:
    """The checkpoint's architecture; while it does not exist, that of the configuration in `folder` which writes it."""
    plain: dict[str, Any] = {"vision_model": None, "clue_model": None, "language_model": None}
    if section.checkpoint is None or Path(section.checkpoint, "config.json").exists():
        return build_config(dataclasses.replace(section, **plain))
    for file in sorted(folder.glob("*.yaml")):
        raw = read_yaml(file)
        if f"{raw.get('run', {}).get('output_dir')}/model" == section.checkpoint and raw["model"].get("preset"):
            overrides = {**raw["model"].get("overrides", {}), **section.overrides}
            first = ModelSection(preset=raw["model"]["preset"], overrides=overrides)
            return build_config(first)
    raise ConfigError(
        f"model.checkpoint: {section.checkpoint} does not exist, and no configuration in {folder} writes it"
    )


def count_weights(model: Any, section: ModelSection) -> Weights:
    """Count weights as a run holds them: trained ones and new towers in 32 bits, a pretrained language model in the 16
    bits of its checkpoint, quantised linear layers in 4 or 8."""
    linear = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    result = Weights(0, 0, 0, 0, 0, 0, 0)
    quantised: set[int] = set()
    for name, parameter in model.named_parameters():
        count, each = parameter.numel(), 4.0
        if not parameter.requires_grad and part_of(name) == "language_model" and section.language_model:
            each = 2.0
            if section.quantization and id(parameter) in linear and "lm_head" not in name:
                each = {"nf4": NF4_BYTES, "int8": 1.0}[section.quantization]
                quantised.add(id(parameter))
                result.unshardable += round(count * each)
        result.total += count
        result.stored += round(count * each)
        result.trained += count if parameter.requires_grad else 0
        result.stored_frozen += 0 if parameter.requires_grad else round(count * each)
    names = set(layers_to_shard(model))
    layers = [m for m in model.modules() if type(m).__name__ in names]
    held: dict[int, int] = {}
    for layer in layers:
        own = {id(p): p.numel() for p in layer.parameters() if id(p) not in quantised}
        result.largest_layer = max(result.largest_layer, sum(own.values()))
        held |= own
    result.rest = sum(p.numel() for p in model.parameters() if id(p) not in held and id(p) not in quantised)
    return result


def memory_of(
    sharding: str, weights: Weights, run: Pass, gpus: int, mixed: bool, config: RunConfig
) -> dict[str, float]:
    """Bytes a GPU: see training/README.md for the reasons of each line."""
    parts = 1 if sharding == "ddp" else gpus
    compute = 2 if mixed else 4
    trained, frozen = weights.trained, weights.stored_frozen - weights.unshardable
    held = (weights.stored - weights.unshardable) / parts + weights.unshardable
    gradients = 4 * trained / parts
    if sharding == "ddp":
        gathered = 2.0 * trained if mixed else 0.0  # autocast keeps a 16-bit copy of each trained weight
        gradients += 4 * trained if gpus > 1 else 0  # the buckets of DDP
    elif sharding == "fsdp2":
        gathered = compute * (2 * weights.largest_layer + weights.rest)
    else:
        gathered = float(compute * min(weights.total, ZERO3_LIVE))
        if mixed:  # 16-bit weights and gradients beside the 32-bit ones
            held += 2 * trained / parts
            gradients += 2 * trained / parts
            held -= max(0.0, frozen - 2 * (weights.total - trained)) / parts
    kept = run.saved_with_checkpointing if config.run.gradient_checkpointing else run.saved
    return {
        "weights": held,
        "gathered or 16-bit copies": gathered,
        "gradients": gradients,
        "optimizer (AdamW)": 8 * trained / parts,
        "activations": float(kept),
        "working space": 2.0 * run.largest,
    }


def sizes_of(config: RunConfig, architecture: TRRGConfig, text_tokens: int, sentence_tokens: int) -> Sizes:
    """What a forward pass of the configuration reads."""
    pretrains = isinstance(config, PretrainConfig)
    studies = config.optimizer.micro_batch_size
    aligns = pretrains and architecture.connector == "query_transformer"
    return Sizes(
        studies=studies,
        views=config.data.views,
        text_tokens=text_tokens,
        sentences=studies if aligns else studies * config.data.sentences_per_study,
        sentence_tokens=text_tokens if aligns else sentence_tokens,
        clues=len(config.model.clues or range(14)),
        clue_tokens=12,
    )


def report(
    config: RunConfig,
    found: Estimate,
    sizes: Sizes,
    gpus: int,
    tflops: float,
    utilization: float,
    studies: int | None,
) -> str:
    """The printed page."""
    checkpointing = config.run.gradient_checkpointing
    other = (found.run.saved - found.run.saved_with_checkpointing) * (1 if checkpointing else -1)
    totals = [sum(memory.values()) for memory in found.memory.values()]

    def row(title: str, values: Iterable[float]) -> str:
        return f"{title:<28}" + "".join(f"{value / GIB:>10.2f}" for value in values)

    lines = [
        found.table,
        "",
        f"a pass on a GPU: {sizes.studies} studies x {sizes.views} view(s), {sizes.text_tokens} text tokens; a step: "
        f"{config.optimizer.batch_size} studies; {gpus} GPU(s); precision {config.run.mixed_precision}",
        "",
        f"{'GiB on each GPU':<28}" + "".join(f"{name if gpus > 1 else 'one GPU':>10}" for name in found.memory),
        *(row(name, (memory[name] for memory in found.memory.values())) for name in found.memory["ddp"]),
        row(f"total, {'with' if checkpointing else 'no'} checkpointing", totals),
        row(f"total, {'no' if checkpointing else 'with'} checkpointing", (total + other for total in totals)),
        "",
    ]
    seconds = found.flops / (gpus * tflops * 1e12 * utilization)
    lines.append(
        f"{found.flops / 1e12:.4g} TFLOP an optimizer step: {seconds:.3g} s at {utilization:.0%} of "
        f"{gpus} x {tflops:g} TFLOP/s"
    )
    steps, epochs = config.schedule.steps, config.schedule.epochs
    if steps is None and epochs is not None and studies is not None:
        steps = round(epochs * studies / config.optimizer.batch_size)
    if steps is None:
        lines.append(f"{epochs:g} epochs: give --studies for the time of the run")
    else:
        lines.append(f"{steps:,} steps: {steps * seconds / 3600:.2f} h, {steps * seconds / 3600 * gpus:.1f} GPU hours")
    return "\n".join(lines)


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--stage", choices=("pretrain", "finetune"), default="finetune")
    parser.add_argument("--gpus", type=int, default=1, help="processes the run is shared out to")
    parser.add_argument("--gpu-tflops", type=float, default=312.0, help="dense 16-bit peak of one GPU (A100: 312)")
    parser.add_argument("--utilization", type=float, default=0.35, help="share of the peak that training reaches")
    parser.add_argument("--studies", type=int, help="studies of an epoch, where the schedule is in epochs")
    parser.add_argument("--text-tokens", type=int, default=256, help="prompt and report, image tokens apart")
    parser.add_argument("--sentence-tokens", type=int, default=32, help="stage 1: tokens of a sentence")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args()
    cls: type[RunConfig] = PretrainConfig if arguments.stage == "pretrain" else FinetuneConfig
    try:
        config = load_config(cls, arguments.config, arguments.overrides)
        model = config.model
        if (
            isinstance(config, FinetuneConfig)
            and model.preset
            and not model.language_model
            and "language_model" not in config.trained
        ):
            raise ConfigError("the language model would stay frozen at new weights; for stage 1 give --stage pretrain")
        architecture = architecture_of(config.model, arguments.config.parent)
        sizes = sizes_of(config, architecture, arguments.text_tokens, arguments.sentence_tokens)
        found = estimate(config, arguments.config.parent, arguments.gpus, sizes)
    except (ConfigError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(report(config, found, sizes, arguments.gpus, arguments.gpu_tflops, arguments.utilization, arguments.studies))


if __name__ == "__main__":
    main()
