"""Checkpoints of a run: written whole or not at all, the newest and the best kept.

A checkpoint is a folder `checkpoints/step-00000123` with what `accelerator.save_state` writes and `state.json`: the
counters of the run and a checksum of every file. It is written under a hidden name and renamed when every byte is on
the disk, so a folder of that name is complete, and a kill or a full disk amid saving leaves the last one whole. Nothing
is loaded that differs from its checksum. Frozen weights are not saved: they come from where the run took them at its
start.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.config.command_line import writing
from training.config.run_config import RunConfig, to_dict

STATE = "state.json"
WEIGHTS = "trained.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is damaged or cannot be written; the message names the file and how to go on."""


@dataclass
class Progress:
    """The counters of a run.

    Attributes:
        step: optimizer steps done.
        tokens, studies: learned from so far.
        best: best value of the deciding metric and the step it was seen at.
        plateau_scale, plateau_lowest, plateau_waited: of the "plateau" schedule.
        loss_sum, loss_count: of steps not logged yet.
    """

    step: int = 0
    studies: int = 0
    tokens: int = 0
    best: float | None = None
    best_step: int | None = None
    plateau_scale: float = 1.0
    plateau_lowest: float | None = None
    plateau_waited: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0


class CheckpointFolder:
    """The checkpoints of one run. Every method is called by all processes."""

    def __init__(self, folder: Path, accelerator: Accelerator):
        self.folder, self.accelerator = folder, accelerator
        self._saved_step: int | None = None
        self._own_weights = accelerator.distributed_type in (
            DistributedType.NO,
            DistributedType.MULTI_CPU,
            DistributedType.MULTI_GPU,
            DistributedType.MULTI_XPU,
        )
        if self._own_weights:  # FSDP and DeepSpeed write their own sharded state
            accelerator.register_save_state_pre_hook(self._save_trained)
            accelerator.register_load_state_pre_hook(self._load_trained)

    def save(self, progress: Progress) -> None:
        """Write the state after `progress.step`; afterwards only the newest and the best checkpoint are left.

        Raises:
            CheckpointError: it could not be written, as on a full disk; the last one is whole.
        """
        final = self._at_step(progress.step)
        if self._saved_step == progress.step:  # a run that was told to stop before its first step
            return
        with whole_folder(final, self.accelerator) as partial:
            self.accelerator.save_state(str(partial))
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                files = {str(path.relative_to(partial)): _checksum(path) for path in _files(partial)}
                state = {**asdict(progress), "files": files}
                state["checksum"] = zlib.crc32(json.dumps(state).encode())
                (partial / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        self._saved_step = progress.step
        if self.accelerator.is_main_process:
            kept = (final, self._at_step(progress.best_step or 0))
            for folder in [*self.folder.glob("step-*"), *self.folder.glob(".partial-*")]:
                if folder not in kept:
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()

    def resume(self) -> Progress | None:
        """Restore weights and optimizer from the newest checkpoint; its counters, or None where there is none yet.

        Raises:
            CheckpointError: a file is not what was saved, or the weights are not those of the parts this run trains.
        """
        told: list[Path | CheckpointError | None] = [None]
        if self.accelerator.is_main_process:
            try:
                told = [self._newest_whole()]
            except CheckpointError as error:
                told = [error]
        (newest,) = broadcast_object_list(told)
        if isinstance(newest, CheckpointError):
            raise newest
        if newest is None:
            return None
        self.accelerator.load_state(str(newest))
        progress = _read_state(newest)[0]
        self._saved_step = progress.step
        return progress

    def load_best(self, step: int) -> None:
        """Restore the weights of the best checkpoint.

        Raises:
            CheckpointError: a file is not what was saved.
        """
        (fault,) = broadcast_object_list([_fault(self._at_step(step)) if self.accelerator.is_main_process else None])
        if fault is not None:
            raise CheckpointError(f"{fault}; it is of the best checkpoint: run.export=last exports the last one")
        self.accelerator.load_state(str(self._at_step(step)))

    def _newest_whole(self) -> Path | None:
        faults: dict[Path, str] = {}
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            fault = _fault(folder)
            if fault is None and not faults:
                return folder
            if fault is None:
                raise CheckpointError(
                    f"{next(iter(faults.values()))}; the newest whole checkpoint is {folder}: to go on from it, delete "
                    f"{' and '.join(map(str, faults))} and give the same command again"
                )
            faults[folder] = fault
        if faults:
            raise CheckpointError(
                f"{next(iter(faults.values()))}; no whole checkpoint is left: --restart starts the run anew"
            )
        return None

    def _at_step(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _save_trained(self, models: list[torch.nn.Module], weights: list[dict[str, Any]], output_dir: str) -> None:
        weights.clear()
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(models[0])
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in trained_state(model).items()}, Path(output_dir) / WEIGHTS
            )

    def _load_trained(self, models: list[torch.nn.Module], input_dir: str) -> None:
        model = self.accelerator.unwrap_model(models.pop())
        wanted, saved = trained_state(model), load_file(Path(input_dir) / WEIGHTS)
        if wanted.keys() != saved.keys():
            missing, unexpected = sorted(wanted.keys() - saved.keys()), sorted(saved.keys() - wanted.keys())
            raise CheckpointError(
                f"{input_dir}: not a checkpoint of this run; {len(missing)} trained tensor(s) missing {missing[:3]}, "
                f"{len(unexpected)} unexpected {unexpected[:3]}"
            )
        for name, tensor in wanted.items():
            if saved[name].shape != tensor.shape:  # copy_ would spread a smaller one
                raise CheckpointError(
                    f"{input_dir}: {name} is {list(saved[name].shape)}, this run's model has {list(tensor.shape)}"
                )
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(saved[name])


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: parameters with gradient (once where tied) and the buffers of modules in training mode
    (running statistics of batch norm)."""
    state: dict[str, torch.Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            for name, buffer in module.named_buffers(recurse=False):
                state[f"{prefix}.{name}" if prefix else name] = buffer
    return state


def save_run_config(config: RunConfig, out: Path) -> None:
    """Write the resolved configuration beside the run's outputs."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".config.json"
    with writing(partial):
        partial.write_text(json.dumps(to_dict(config), indent=1), encoding="utf-8")
    partial.replace(out / "config.json")


@contextmanager
def whole_folder(final: Path, accelerator: Accelerator) -> Iterator[Path]:
    """A folder to write into that gets its name `final` when all in it is on the disk. Called by all processes.

    Raises:
        CheckpointError: it could not be written, as on a full disk; what was at `final` before is still there.
    """
    partial, old = (final.with_name(f".{state}-{final.name}") for state in ("partial", "old"))
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        yield partial
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for path in [*_files(partial), partial]:
                _to_disk(path)
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                final.replace(old)
            partial.replace(final)
            _to_disk(final.parent)
            shutil.rmtree(old, ignore_errors=True)
        accelerator.wait_for_everyone()
    except (OSError, RuntimeError, SafetensorError) as error:
        full = shutil.disk_usage(final.parent).free < 2**20  # torch hides it behind an error of its own
        shutil.rmtree(partial, ignore_errors=True)
        reason = "no space left on the disk" if full else str(error).partition("\n")[0]
        raise CheckpointError(
            f"{final} could not be written: {reason}; what was saved before is whole, and the same command goes on "
            "from there"
        ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _to_disk(path: Path) -> None:
    """Flush a file, or a folder's own entries, so that a power cut after the rename finds it there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(file: Path) -> int:
    """CRC-32: it finds damage by disks and copies, not forgery, at 3 GB a second."""
    value = 0
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            value = zlib.crc32(block, value)
    return value


def _read_state(checkpoint: Path) -> tuple[Progress, dict[str, int]]:
    """The counters and the checksums of the files, by relative path.

    Raises:
        CheckpointError: `state.json` is not what was saved in a folder of this name.
    """
    file = checkpoint / STATE
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        checksum = state.pop("checksum")
        if checksum != zlib.crc32(json.dumps(state).encode()) or checkpoint.name != f"step-{state['step']:08d}":
            raise ValueError
        files = state.pop("files")
        return Progress(**state), files
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged, or of another step") from error


def _fault(checkpoint: Path) -> str | None:
    """The first file of a checkpoint that is not what was saved, in words, or None."""
    try:
        for name, checksum in _read_state(checkpoint)[1].items():
            if not (checkpoint / name).is_file():
                return f"{checkpoint / name} is missing"
            if _checksum(checkpoint / name) != checksum:
                return f"{checkpoint / name} is damaged (another checksum than when it was saved)"
    except CheckpointError as error:
        return str(error)
    return None
