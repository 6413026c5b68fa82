"""What both stages do before the loop: arguments, configuration, processes, the run's folder, the optimizer."""

import argparse
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from transformers.utils import logging

from processing_trrg import TRRGProcessor
from training.config.run_config import Config, ConfigError, RunConfig, differences, load_config
from training.config.yaml_config import read_yaml
from training.data.examples import Example, SourceData
from training.data.sampler import StudyPlan
from training.run.checkpoint import save_run_config, whole_folder
from training.run.tracking import JsonLinesTracker
from training.run.trained_parts import parameter_groups, parts_table


def parse_arguments(description: str, cls: type[Config]) -> tuple[Config, bool]:
    """`--config FILE [--vision_model NAME] [--restart] [key.path=value ...]` -> configuration, start anew?"""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, type=Path, help="YAML file, see training/configs")
    parser.add_argument("--vision_model", help="any vision checkpoint of the Hub; the same as model.vision_model=NAME")
    parser.add_argument("--restart", action="store_true", help="ignore the run's checkpoints and start anew")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the YAML file")
    arguments = parser.parse_args()
    overrides = list(arguments.overrides)
    if arguments.vision_model:
        overrides.append(f"model.vision_model={arguments.vision_model}")
    config = load_config(cls, arguments.config, overrides)
    need_checkpoint(config.model.checkpoint, arguments.config)
    return config, arguments.restart


def need_checkpoint(checkpoint: str | None, config_file: Path) -> None:
    """Check that the folder of `model.checkpoint` is there, before anything is loaded.

    Raises:
        ConfigError: it is not; names the command that makes it, where a configuration beside `config_file` does.
    """
    if checkpoint is None or (Path(checkpoint) / "config.json").is_file():
        return
    state = "holds no checkpoint (no config.json)" if Path(checkpoint).is_dir() else "is not there"
    makers = [
        file
        for file in sorted(config_file.parent.glob("*.yaml"))
        if file != config_file and Path(read_yaml(file).get("run", {}).get("output_dir", "")) == Path(checkpoint).parent
    ]
    made_by = f"; make it with: accelerate launch training/pretrain.py --config {makers[0]}" if makers else ""
    raise ConfigError(f"model.checkpoint: folder {checkpoint!r} {state}{made_by}")


def start_accelerator(config: RunConfig, restart: bool, some_unused: bool) -> Accelerator:
    """The processes, the run's folder and its trackers.

    some_unused: a forward pass may leave trained parameters out (studies without images have no patches).

    Raises:
        ConfigError: the folder holds a run of another configuration, or the batch does not divide by the processes.
    """
    logging.disable_progress_bar()  # of the loading and writing of weights
    out = Path(config.run.output_dir)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=config.run.mixed_precision,
        gradient_accumulation_steps=1,
        log_with=["tensorboard", JsonLinesTracker(out / "metrics.jsonl")],
        project_dir=out,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=some_unused)],
    )
    together = config.optimizer.micro_batch_size * accelerator.num_processes
    if config.optimizer.batch_size % together:
        raise ConfigError(
            f"optimizer.batch_size: {config.optimizer.batch_size} is no multiple of micro_batch_size "
            f"{config.optimizer.micro_batch_size} x {accelerator.num_processes} process(es)"
        )
    accelerator.gradient_accumulation_steps = config.optimizer.batch_size // together
    accelerator.print(
        f"{accelerator.num_processes} process(es), {accelerator.distributed_type.value}, {accelerator.device}; an "
        f"optimizer step is {config.optimizer.batch_size} studies = {accelerator.gradient_accumulation_steps} x "
        f"{config.optimizer.micro_batch_size} x {accelerator.num_processes}"
    )
    if accelerator.is_main_process:
        _open_folder(config, out, restart)
    accelerator.wait_for_everyone()
    set_seed(config.run.seed)
    return accelerator


def _open_folder(config: RunConfig, out: Path, restart: bool) -> None:
    saved = out / "config.json"
    if restart:
        for name in ("checkpoints", "model"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "metrics.jsonl").unlink(missing_ok=True)
    elif saved.exists() and (out / "checkpoints").exists():
        try:
            changed = differences(config, json.loads(saved.read_text(encoding="utf-8")))
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{saved} is damaged; delete it, and the same command goes on") from error
        if changed:
            raise ConfigError(
                f"{out} holds a run of another configuration; give another run.output_dir, or --restart:\n"
                + "\n".join(f"  - {line}" for line in changed)
            )
    save_run_config(config, out)


def make_plan(config: RunConfig, sources: list[SourceData]) -> tuple[StudyPlan, int]:
    """The draws of the run and its number of optimizer steps. An epoch is as many draws as all sources hold."""
    lengths = [len(source) for source in sources]
    plan = StudyPlan(
        lengths,
        [source.source.weight for source in sources],
        config.optimizer.batch_size,
        config.optimizer.block_size or config.optimizer.batch_size,
        config.run.seed,
    )
    steps, epochs = config.schedule.steps, config.schedule.epochs
    if steps is not None:
        return plan, steps
    assert epochs is not None  # one of the two is checked to be there
    return plan, math.ceil(epochs * sum(lengths) / config.optimizer.batch_size)


def make_optimizer(accelerator: Accelerator, model: torch.nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW over the trained parts; prints the table of parts."""
    section = config.optimizer
    accelerator.print(parts_table(model, section.lr, section.lr_by_part))
    groups = parameter_groups(model, section.lr, section.lr_by_part, section.weight_decay)
    first, second = section.betas
    return torch.optim.AdamW(groups, lr=section.lr, betas=(first, second))


def load_sources(
    accelerator: Accelerator,
    config: RunConfig,
    processor: TRRGProcessor,
    is_too_long: Callable[[Example, int], bool] | None = None,
) -> tuple[list[SourceData], list[SourceData]]:
    """Training and validation sources, their images decoded once by the main process.

    is_too_long: in stage 2, whether the language model's context has no room for an example of that many views.
    """
    loaded = []
    for name in ("train", "validation"):
        sources = [
            SourceData(source, config.data, processor.clues, processor.image_processor)
            for source in getattr(config.data, name)
        ]
        for source in sources:
            if source.images and accelerator.is_main_process:
                source.images.prepare()
            left = ""
            if source.matches and source.matches.left_out:
                left = f", {source.matches.left_out} images without a matching report left out"
            if is_too_long and (long := source.leave_out_long(is_too_long)):
                left += f", {len(long)} reports longer than the language model's context left out, e.g. {long[0]}"
            drawn = f", {len(source):,} draws an epoch" if source.source.balance else ""
            counted = f"{name:<10} {source.source.kind:<11} {source.num_studies:>7,} studies"
            accelerator.print(f"{counted}  {source.source.path}{drawn}{left}")
        loaded.append(sources)
    if accelerator.is_main_process:
        print(label_counts(loaded[0]))
    accelerator.wait_for_everyone()
    return loaded[0], loaded[1]


def label_counts(sources: Sequence[SourceData]) -> str:
    """For each clue, the studies of the training sources that are labelled for it: a line a clue, the scarce ones too.

    A clue that no study is labelled for is never learned.
    """
    if not sources or not sources[0].names:
        return ""
    width = max(len(name) for name in sources[0].names)
    lines = [f"{'clue':<{width}}  present   absent  (training studies labelled for it)"]
    for column, name in enumerate(sources[0].names):
        labels = [row[column] for source in sources for row in source.labels]
        present, absent = labels.count(1), labels.count(0)
        lines.append(f"{name:<{width}}  {present:>7,}  {absent:>7,}{'' if present else '  never present: not learned'}")
    return "\n".join(lines)


def save_model(
    accelerator: Accelerator,
    model: torch.nn.Module,
    state: dict[str, torch.Tensor],
    processor: TRRGProcessor,
    folder: Path,
) -> None:
    """Write the weights `state`, configuration and processor as a checkpoint for `from_pretrained` and stage 2, whole
    or not at all."""
    with whole_folder(folder, accelerator) as partial:
        if accelerator.is_main_process:
            accelerator.unwrap_model(model).save_pretrained(partial, state_dict=state)
            processor.save_pretrained(partial)
