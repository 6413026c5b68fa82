"""Checkpoints of a run: written whole or not at all, the newest and the best kept.

A checkpoint is a folder `checkpoints/step-00000123` with what `accelerator.save_state` writes and `state.json`, the
counters of the run. It is written under a hidden name and renamed when every byte is on the disk, so a folder of that
name is complete, and a kill amid saving leaves the last one whole. The step is read from `state.json`, not from the
name. Frozen weights are not saved: they come from where the run took them at its start.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from safetensors.torch import load_file, save_file

from training.config.run_config import RunConfig, to_dict

STATE = "state.json"
WEIGHTS = "trained.safetensors"


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
        self._own_weights = accelerator.distributed_type in (
            DistributedType.NO,
            DistributedType.MULTI_CPU,
            DistributedType.MULTI_GPU,
            DistributedType.MULTI_XPU,
        )
        if self._own_weights:  # FSDP and DeepSpeed write their own sharded state
            accelerator.register_save_state_pre_hook(self._save_trained)
            accelerator.register_load_state_pre_hook(self._load_trained)

    def save(self, progress: Progress) -> Path:
        """Write the state after `progress.step`; afterwards only the newest and the best checkpoint are left."""
        final = self.folder / f"step-{progress.step:08d}"
        partial = self.folder / f".partial-{progress.step:08d}"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            (partial / STATE).write_text(json.dumps(asdict(progress), indent=1), encoding="utf-8")
            _to_disk(partial)
            if final.exists():
                shutil.rmtree(final)
            partial.replace(final)
            _to_disk(self.folder)
            for step, folder in self._complete().items():
                if step not in (progress.step, progress.best_step):
                    shutil.rmtree(folder)
            for rest in self.folder.glob(".partial-*"):
                shutil.rmtree(rest)
        self.accelerator.wait_for_everyone()
        return final

    def newest(self) -> Path | None:
        """The complete checkpoint with the most steps, or None."""
        complete = self._complete()
        return complete[max(complete)] if complete else None

    def at_step(self, step: int) -> Path:
        """The checkpoint of that step."""
        return self._complete()[step]

    def load(self, checkpoint: Path) -> Progress:
        """Restore weights and optimizer and return the counters.

        Raises:
            ValueError: the checkpoint's weights are not those of the parts this run trains.
        """
        self.accelerator.load_state(str(checkpoint))
        return Progress(**json.loads((checkpoint / STATE).read_text(encoding="utf-8")))

    def _complete(self) -> dict[int, Path]:
        states = self.folder.glob(f"step-*/{STATE}")
        return {json.loads(state.read_text(encoding="utf-8"))["step"]: state.parent for state in states}

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
            raise ValueError(
                f"{input_dir}: not a checkpoint of this run; {len(missing)} trained tensor(s) missing {missing[:3]}, "
                f"{len(unexpected)} unexpected {unexpected[:3]}"
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
    partial.write_text(json.dumps(to_dict(config), indent=1), encoding="utf-8")
    partial.replace(out / "config.json")


def _to_disk(folder: Path) -> None:
    """Flush files and the folder's own entries, so that a power cut after the rename finds them there."""
    for path in [*(p for p in folder.rglob("*") if p.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
