"""The one training loop of both stages.

    load; while not done: step, log, save, validate; export.

Everything random in step t is keyed by (seed, t, position): the studies (sampler.py), their augmentation and sentences
(examples.py), dropout (`_seed_forward`). So resuming needs the weights, the optimizer and the counters, nothing more.
"""

import math
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from training.config.run_config import RunConfig, ScheduleSection
from training.data.sampler import MicroBatchSampler, StudyPlan, keyed_rng
from training.run.checkpoint import CheckpointFolder, Progress
from training.run.sharded_weights import in_one_piece, open_methods
from training.run.tracking import plot_losses

STOPPED = 143
"""Exit status of a run that SIGTERM or `run.stop_after` ended before its last step, so that `a && b` does not go on."""


class NotFiniteError(RuntimeError):
    """The loss or the gradient is NaN or infinite; the message names step and studies. Nothing of the step was kept."""


@dataclass
class Stage:
    """What the two stages do not share.

    Attributes:
        loss: (model, batch, mean target tokens a forward pass) -> output with `.loss` already normalised for the step,
            and values to log.
        count_targets: target tokens of a batch; None where the loss is a mean over studies.
        validate: model -> metrics, called by all processes.
        export: writes `model/`, called by all processes.
    """

    loss: Callable[[torch.nn.Module, dict[str, Any], torch.Tensor | None], tuple[torch.Tensor, dict[str, torch.Tensor]]]
    count_targets: Callable[[dict[str, Any]], int] | None
    validate: Callable[[torch.nn.Module], dict[str, float]] | None
    export: Callable[[torch.nn.Module, Path], None]


def train(
    config: RunConfig,
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    collate: Callable[[list[Any]], dict[str, Any]],
    plan: StudyPlan,
    total_steps: int,
    stage: Stage,
    set_mode: Callable[[torch.nn.Module], None],
) -> int:
    """Train to `total_steps` and return the exit status: 0 done, `STOPPED` ended early with a checkpoint."""
    out = Path(config.run.output_dir)
    model, optimizer = accelerator.prepare(model, optimizer)
    open_methods(accelerator.unwrap_model(model))
    checkpoints = CheckpointFolder(out / "checkpoints", accelerator)
    progress = Progress()
    newest = checkpoints.newest()
    if newest is not None:
        progress = checkpoints.load(newest)
        accelerator.print(f"resumed from {newest} after step {progress.step} of {total_steps}")
    accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": progress.step + 1}})
    for tracker in accelerator.trackers:
        if tracker.name == "jsonl":
            tracker.tracker.drop_after(progress.step)

    sampler = MicroBatchSampler(
        plan,
        config.optimizer.micro_batch_size,
        accelerator.process_index,
        accelerator.num_processes,
        progress.step,
        total_steps,
    )
    workers = config.data.num_workers
    loader = iter(
        DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=accelerator.device.type == "cuda",
            persistent_workers=workers > 0,
        )
    )
    stop = _StopFlag()
    first_step = progress.step
    meter = _Meter(accelerator)
    bar = tqdm(
        total=total_steps, initial=progress.step, desc="train", unit="step", disable=not accelerator.is_main_process
    )
    set_mode(accelerator.unwrap_model(model))
    while progress.step < total_steps:
        batches = [next(loader) for _ in range(sampler.accumulation)]
        mine = sum(stage.count_targets(b) for b in batches) if stage.count_targets else 0
        read_here = sum(int(b.pop("num_text_tokens")) for b in batches)
        wants_stop = stop.set or (
            config.run.stop_after is not None and progress.step - first_step >= config.run.stop_after
        )
        counted = torch.tensor([mine, read_here, float(wants_stop)], dtype=torch.float64)
        targets, read, stops = _sum_over_processes(accelerator, counted)
        if stops:
            break
        learning_rate = set_learning_rate(optimizer, config, progress, total_steps)
        mean_targets = None
        if stage.count_targets:
            if not targets:
                raise ValueError(f"step {progress.step + 1}: no target token in {plan.batch_size} studies")
            mean_targets = torch.tensor(
                targets / (sampler.accumulation * accelerator.num_processes), device=accelerator.device
            )
        values = _optimizer_step(config, accelerator, model, optimizer, batches, stage, mean_targets, progress)
        progress.step += 1
        progress.studies += plan.batch_size
        progress.tokens += int(read)
        progress.loss_sum += values["loss"]
        progress.loss_count += 1
        meter.add(read, plan.batch_size)
        bar.update()
        if progress.step % config.run.log_every == 0 or progress.step == total_steps:
            values["loss"] = progress.loss_sum / progress.loss_count
            progress.loss_sum, progress.loss_count = 0.0, 0
            row = {**values, "lr": learning_rate, **meter.read(), "studies": progress.studies}
            accelerator.log(row, step=progress.step)
            bar.set_postfix(loss=f"{values['loss']:.4f}", lr=f"{learning_rate:.1e}")
        last = progress.step == total_steps
        if stage.validate and (last or progress.step % config.run.validate_every == 0):
            _validate(config, accelerator, model, stage, progress)
            set_mode(accelerator.unwrap_model(model))
            if progress.best_step == progress.step:
                checkpoints.save(progress)
                continue
        if last or progress.step % config.run.save_every == 0:
            checkpoints.save(progress)
    bar.close()
    if progress.step < total_steps:
        checkpoints.save(progress)
        accelerator.print(f"stopped after step {progress.step} of {total_steps}; the same command goes on from there")
        accelerator.end_training()
        return STOPPED
    if config.run.export == "best" and progress.best_step is not None and progress.best_step != progress.step:
        checkpoints.load(checkpoints.at_step(progress.best_step))
        accelerator.print(f"exporting the best checkpoint, step {progress.best_step}")
    stage.export(model, out / "model")
    accelerator.end_training()
    if accelerator.is_main_process:
        plot_losses(out)
    return 0


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: RunConfig, progress: Progress, total_steps: int
) -> float:
    """Set every group's rate for the coming step, a function of the step alone (and of the plateau counters), and
    return that of `optimizer.lr`."""
    factor = learning_rate_factor(config.schedule, progress.step, total_steps) * progress.plateau_scale
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return config.optimizer.lr * factor


def learning_rate_factor(schedule: ScheduleSection, step: int, total_steps: int) -> float:
    """Factor of the base rate at optimizer step `step` (from 0): linear warm-up, then the schedule's shape."""
    warmup = schedule.warmup_steps or round(schedule.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    low = schedule.min_lr_ratio
    if schedule.shape == "cosine":
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.shape == "linear":
        return low + (1 - low) * (1 - done)
    return 1.0


def _optimizer_step(
    config: RunConfig,
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[dict[str, Any]],
    stage: Stage,
    mean_targets: torch.Tensor | None,
    progress: Progress,
) -> dict[str, float]:
    losses: list[torch.Tensor] = []
    parts: dict[str, list[torch.Tensor]] = {}
    grad_norm = torch.tensor(0.0)
    for position, batch in enumerate(batches):
        ids = batch.pop("study_ids")
        batches[position] = {"study_ids": ids}  # the tensors are freed after their backward pass, the names are kept
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        with accelerator.accumulate(model):
            _seed_forward(config.run.seed, progress.step, position, accelerator.process_index)
            loss, logged = stage.loss(model, batch, mean_targets)
            losses.append(loss.detach().float())
            for name, value in logged.items():
                parts.setdefault(name, []).append(value.detach().float())
            if not accelerator.sync_gradients:
                accelerator.backward(loss)
                continue
            _check_finite(accelerator, torch.stack(losses), batches, progress.step + 1, "loss")
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm or math.inf)
            if norm is not None:
                grad_norm = in_one_piece(torch.as_tensor(norm)).detach().float()
            if accelerator.scaler is None:  # under fp16 an infinite gradient is normal: the scaler skips the step
                _check_finite(accelerator, grad_norm.reshape(1), batches, progress.step + 1, "gradient norm")
            optimizer.step()
            optimizer.zero_grad()
    means = {"loss": torch.stack(losses).mean(), **{name: torch.stack(v).mean() for name, v in parts.items()}}
    together = accelerator.reduce(torch.stack([m.to(accelerator.device) for m in means.values()]), reduction="mean")
    return {**dict(zip(means, together.tolist(), strict=True)), "grad_norm": grad_norm.item()}


def _check_finite(
    accelerator: Accelerator, values: torch.Tensor, batches: list[dict[str, Any]], step: int, what: str
) -> None:
    bad = [] if torch.isfinite(values).all() else torch.nonzero(~torch.isfinite(values)).flatten().tolist()
    anywhere = _sum_over_processes(accelerator, torch.tensor([float(len(bad))]))[0]
    if not anywhere:
        return
    mine = [batches[b]["study_ids"] for b in bad] if what == "loss" else [b["study_ids"] for b in batches]
    studies = [study for group in gather_object(mine) for study in group]
    raise NotFiniteError(
        f"the {what} of step {step} is not finite; nothing of that step was kept. Studies: {', '.join(studies)}"
    )


def _validate(
    config: RunConfig, accelerator: Accelerator, model: torch.nn.Module, stage: Stage, progress: Progress
) -> None:
    assert stage.validate is not None
    model.eval()
    with torch.no_grad():
        metrics = stage.validate(model)
    accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=progress.step)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "/" not in name)
    if accelerator.is_main_process:
        tqdm.write(f"step {progress.step}  {shown}")
    name = config.run.best_metric
    if name not in metrics:
        raise ValueError(f"run.best_metric: {name!r} is not measured; measured: {', '.join(metrics)}")
    sign = -1.0 if name.endswith("loss") else 1.0
    if progress.best is None or sign * metrics[name] > sign * progress.best:
        progress.best, progress.best_step = metrics[name], progress.step
    if config.schedule.shape == "plateau":
        _wait_on_plateau(config.schedule, metrics["loss"], progress)


def _wait_on_plateau(schedule: ScheduleSection, loss: float, progress: Progress) -> None:
    if progress.plateau_lowest is None or loss < progress.plateau_lowest:
        progress.plateau_lowest, progress.plateau_waited = loss, 0
        return
    progress.plateau_waited += 1
    if progress.plateau_waited > schedule.plateau_patience:
        progress.plateau_scale *= schedule.plateau_factor
        progress.plateau_waited = 0


def _seed_forward(seed: int, step: int, position: int, rank: int) -> None:
    torch.manual_seed(int(keyed_rng(seed, "forward", step, position, rank).integers(2**62)))


def _sum_over_processes(accelerator: Accelerator, values: torch.Tensor) -> list[float]:
    return accelerator.reduce(values.to(accelerator.device), reduction="sum").tolist()


class _StopFlag:
    """True once SIGTERM came: the loop then ends at the next step, with a checkpoint."""

    def __init__(self) -> None:
        self.set = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.set = True


class _Meter:
    """Speed since the last reading, and the most memory used so far."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.tokens = self.studies = 0.0
        self.start = time.perf_counter()

    def add(self, tokens: float, studies: int) -> None:
        self.tokens += tokens
        self.studies += studies

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.start
        speed = {"tokens_per_s": self.tokens / seconds, "studies_per_s": self.studies / seconds}
        self.tokens, self.studies, self.start = 0.0, 0.0, time.perf_counter()
        if self.accelerator.device.type == "cuda":
            return {**speed, "memory_gib": torch.cuda.max_memory_allocated() / 2**30}
        return {**speed, "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
