"""The one training loop of both stages.

    load; while not done: step, log, save, validate; export.

Everything random in step t is keyed by (seed, t, position): the studies (sampler.py), their augmentation and sentences
(examples.py), dropout (`_seed_forward`). So resuming needs the weights, the optimizer and the counters, nothing more.
"""

import math
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import Dataset
from tqdm import tqdm

from evaluation.reading.streaming import in_chunks
from training.config.command_line import STOPPED
from training.config.run_config import RunConfig, ScheduleSection
from training.data.sampler import Draw, MicroBatchSampler, StudyPlan, keyed_rng
from training.data.workers import read_batches
from training.run.checkpoint import CheckpointFolder, Progress
from training.run.sharded_weights import in_one_piece, open_methods
from training.run.tracking import plot_losses


class NotFiniteError(ValueError):
    """The loss or the gradient is NaN or infinite; the message names step and studies. Nothing of the step was kept."""


@dataclass
class Stage:
    """What the two stages do not share.

    Attributes:
        loss: (model, batch, mean target tokens a forward pass) -> output with `.loss` already normalised for the step,
            and values to log.
        count_targets: target tokens of a batch; None where the loss is a mean over studies.
        length: of an example, about that of its row of tokens; those of a block are sorted by it, so that little is
            padded. None where the loss of a study depends on which others are in its forward pass.
        validate: model -> metrics, called by all processes.
        export: writes `model/`, called by all processes.
    """

    loss: Callable[[torch.nn.Module, dict[str, Any], torch.Tensor | None], tuple[torch.Tensor, dict[str, torch.Tensor]]]
    count_targets: Callable[[dict[str, Any]], int] | None
    length: Callable[[Any], int] | None
    validate: Callable[[torch.nn.Module], dict[str, float]] | None
    export: Callable[[torch.nn.Module, Path], None]


@dataclass
class _Run:
    """What the parts of the loop share."""

    config: RunConfig
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    plan: StudyPlan
    total_steps: int
    stage: Stage
    set_mode: Callable[[torch.nn.Module], None]

    def __post_init__(self) -> None:
        self.out = Path(self.config.run.output_dir)
        self.checkpoints = CheckpointFolder(self.out / "checkpoints", self.accelerator)
        self.progress = Progress()
        self.meter = _Meter(self.accelerator)

    @property
    def is_over(self) -> bool:
        return self.progress.step >= self.total_steps


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
    """Train to `total_steps` and return the exit status: 0, or `STOPPED` where SIGTERM ended the run early."""
    model, optimizer = accelerator.prepare(model, optimizer)
    run = _Run(config, accelerator, model, optimizer, plan, total_steps, stage, set_mode)
    _load(run)
    stop = _Stop(run)
    batches = _read_ahead(run, dataset, collate)
    with _progress_bar(run) as bar:
        while not run.is_over and not stop.is_due():
            values = _step(run, next(batches))
            _log(run, values, bar)
            is_best = _validate(run)
            _save(run, is_best)
    if not run.is_over:
        return _stop_early(run, stop)
    _export(run)
    return 0


def _load(run: _Run) -> None:
    """The run as its newest checkpoint left it, where it has one."""
    accelerator = run.accelerator
    open_methods(accelerator.unwrap_model(run.model))
    resumed = run.checkpoints.resume()
    if resumed is not None:
        run.progress = resumed
        accelerator.print(f"resumed from {run.checkpoints.folder} after step {resumed.step} of {run.total_steps}")
    step = run.progress.step
    accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})
    for tracker in accelerator.trackers:
        if tracker.name == "jsonl":
            tracker.tracker.drop_after(step)
    run.set_mode(accelerator.unwrap_model(run.model))


def _read_ahead(
    run: _Run, dataset: Dataset, collate: Callable[[list[Any]], dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """This process's micro-batches of each step that is left."""
    accelerator, size = run.accelerator, run.config.optimizer.micro_batch_size
    # read together: a block's share of this process
    share, rest = divmod(run.plan.block_size, accelerator.num_processes)
    is_sorted = run.stage.length is not None and not rest and share % size == 0
    sampler = MicroBatchSampler(
        run.plan,
        share if is_sorted else size,
        accelerator.process_index,
        accelerator.num_processes,
        run.progress.step,
        run.total_steps,
    )
    read = partial(_read, dataset, collate, run.stage.length, size)
    together = read_batches(read, sampler, run.config.data.num_workers, pin_memory=accelerator.device.type == "cuda")
    batches = (batch for read_at_once in together for batch in read_at_once)
    return in_chunks(batches, accelerator.gradient_accumulation_steps)


def _read(
    dataset: Dataset,
    collate: Callable[[list[Any]], dict[str, Any]],
    length: Callable[[Any], int] | None,
    size: int,
    draws: list[Draw],
) -> list[dict[str, Any]]:
    """Micro-batches of `size` studies."""
    examples = [dataset[draw] for draw in draws]
    if length:
        examples.sort(key=length)
    return [collate(examples[start : start + size]) for start in range(0, len(examples), size)]


def _step(run: _Run, batches: list[dict[str, Any]]) -> dict[str, float]:
    """One optimizer step; its values to log."""
    progress, count_targets = run.progress, run.stage.count_targets
    mine = sum(count_targets(batch) for batch in batches) if count_targets else 0
    read_here = sum(int(batch.pop("num_text_tokens")) for batch in batches)
    counted = torch.tensor([mine, read_here], dtype=torch.float64)
    targets, read = _sum_over_processes(run.accelerator, counted)
    mean_targets = None
    if count_targets:
        if not targets:
            raise ValueError(f"step {progress.step + 1}: no target token in {run.plan.batch_size} studies")
        passes = len(batches) * run.accelerator.num_processes
        mean_targets = torch.tensor(targets / passes, device=run.accelerator.device)
    learning_rate = set_learning_rate(run.optimizer, run.config, progress, run.total_steps)
    values = _optimizer_step(run, batches, mean_targets)
    progress.step += 1
    progress.studies += run.plan.batch_size
    progress.tokens += int(read)
    progress.loss_sum += values["loss"]
    progress.loss_count += 1
    run.meter.add(read, run.plan.batch_size)
    return {**values, "lr": learning_rate}


def _progress_bar(run: _Run) -> tqdm:
    silent = not run.accelerator.is_main_process
    return tqdm(total=run.total_steps, initial=run.progress.step, desc="train", unit="step", disable=silent)


def _log(run: _Run, values: dict[str, float], bar: tqdm) -> None:
    progress = run.progress
    bar.update()
    if progress.step % run.config.run.log_every and not run.is_over:
        return
    loss = progress.loss_sum / progress.loss_count
    progress.loss_sum, progress.loss_count = 0.0, 0
    row = {**values, "loss": loss, **run.meter.read(), "studies": progress.studies}
    run.accelerator.log(row, step=progress.step)
    bar.set_postfix(loss=f"{loss:.4f}", lr=f"{values['lr']:.1e}")


def _save(run: _Run, is_best: bool) -> None:
    if is_best or run.is_over or run.progress.step % run.config.run.save_every == 0:
        run.checkpoints.save(run.progress)


def _stop_early(run: _Run, stop: "_Stop") -> int:
    """Keep what was done; the exit status."""
    run.checkpoints.save(run.progress)
    run.accelerator.print(
        f"stopped after step {run.progress.step} of {run.total_steps}; the same command goes on from there"
    )
    run.accelerator.end_training()
    return STOPPED if stop.by_signal else 0


def _export(run: _Run) -> None:
    """Write `model/` from the last or the best weights, and the plot of the losses."""
    out, progress = run.out, run.progress
    if run.config.run.export == "best" and progress.best_step not in (None, progress.step):
        run.checkpoints.load_best(progress.best_step)
        run.accelerator.print(f"exporting the best checkpoint, step {progress.best_step}")
    run.stage.export(run.model, out / "model")
    run.accelerator.end_training()
    if run.accelerator.is_main_process:
        plot_losses(out)
    run.accelerator.print(f"the model is in {out / 'model'}, its losses in {out / 'loss.png'}")


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


def _optimizer_step(run: _Run, batches: list[dict[str, Any]], mean_targets: torch.Tensor | None) -> dict[str, float]:
    config, accelerator, model, optimizer = run.config, run.accelerator, run.model, run.optimizer
    step = run.progress.step
    losses: list[torch.Tensor] = []
    parts: dict[str, list[torch.Tensor]] = {}
    grad_norm = torch.tensor(0.0)
    for position, batch in enumerate(batches):
        ids = batch.pop("study_ids")
        batches[position] = {"study_ids": ids}  # the tensors are freed after their backward pass, the names are kept
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        with accelerator.accumulate(model):
            _seed_forward(config.run.seed, step, position, accelerator.process_index)
            loss, logged = run.stage.loss(model, batch, mean_targets)
            losses.append(loss.detach().float())
            for name, value in logged.items():
                parts.setdefault(name, []).append(value.detach().float())
            if not accelerator.sync_gradients:
                accelerator.backward(loss)
                continue
            _check_finite(accelerator, torch.stack(losses), batches, step + 1, "loss")
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm or math.inf)
            if norm is not None:
                grad_norm = in_one_piece(torch.as_tensor(norm)).detach().float()
            if accelerator.scaler is None:  # under fp16 an infinite gradient is normal: the scaler skips the step
                _check_finite(accelerator, grad_norm.reshape(1), batches, step + 1, "gradient norm")
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


def _validate(run: _Run) -> bool:
    """Measure the model where it is time to; whether this is the best step so far."""
    config, accelerator, progress = run.config, run.accelerator, run.progress
    if run.stage.validate is None or (progress.step % config.run.validate_every and not run.is_over):
        return False
    run.model.eval()
    with torch.no_grad():
        metrics = run.stage.validate(run.model)
    run.set_mode(accelerator.unwrap_model(run.model))
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
    return progress.best_step == progress.step


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


class _Stop:
    """When the loop ends before its last step: after SIGTERM, or after as many steps as `run.stop_after` says."""

    def __init__(self, run: _Run) -> None:
        self.run, self.first_step = run, run.progress.step
        self.signalled = self.by_signal = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def is_due(self) -> bool:
        """Asked by all processes before a step; a signal to one of them holds for all."""
        here = torch.tensor([float(self.signalled)])
        self.by_signal = _sum_over_processes(self.run.accelerator, here)[0] > 0
        most = self.run.config.run.stop_after
        return self.by_signal or (most is not None and self.run.progress.step - self.first_step >= most)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.signalled = True


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
