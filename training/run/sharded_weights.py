"""What FSDP2 and DeepSpeed ZeRO-3 need of a model and of a run: each process holds a piece of every weight.

Run here: torch's `fully_shard` through Accelerate's own wrapping, on two CPU processes (test_fully_shard.py). Not run:
both launchers on GPUs, sharded checkpoints, anything of DeepSpeed.
"""

from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from modeling_trrg import TRRGForConditionalGeneration
from training.config.run_config import RunConfig


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether a forward pass on one process alone would wait for the others for ever."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def fit_for_sharding(accelerator: Accelerator, model: nn.Module, config: RunConfig) -> None:
    """Make a model fit for what the launcher chose; under one process and DDP nothing changes."""
    if accelerator.distributed_type == DistributedType.FSDP:
        make_shardable(model)
        accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = layers_to_shard(model)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.state.deepspeed_plugin.deepspeed_config.update(
            train_micro_batch_size_per_gpu=config.optimizer.micro_batch_size,
            gradient_accumulation_steps=accelerator.gradient_accumulation_steps,
            gradient_clipping=config.optimizer.max_grad_norm or 0.0,
        )


def make_shardable(model: nn.Module) -> None:
    """Weights laid out as channels last get the usual layout: `fully_shard` takes no other."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()


def layers_to_shard(model: nn.Module) -> list[str]:
    """Classes of layers that are sharded one by one: those the towers name and this model has. Accelerate stops at a
    name that is not in the model."""
    present = {type(module).__name__ for module in model.modules()}
    named = getattr(model, "_no_split_modules", None) or ()
    return sorted(present.intersection(named))


def open_methods(model: nn.Module) -> None:
    """Let the look of `read_study` and `generate` gather the weights it reads, as `forward` does. Nothing happens to a
    model in one piece."""
    register_fsdp_forward_method(model, "read_study")
    if isinstance(model, TRRGForConditionalGeneration):
        register_fsdp_forward_method(model, "get_image_features")


def in_one_piece(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded value (the norm of sharded gradients) as an ordinary tensor; called by all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(accelerator: Accelerator, model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights in one piece, on the main process (elsewhere possibly empty); called by all processes."""
    state = accelerator.get_state_dict(model)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def shares(accelerator: Accelerator, indices: Sequence[int], batch_size: int) -> Iterator[tuple[list[int], int]]:
    """This process's batches of `indices`, and how many of each batch's rows count.

    Every process gets the same number of batches of the same size, the last one filled up where it must be: a sharded
    model runs on all processes or on none.
    """
    together = batch_size * accelerator.num_processes
    for start in range(0, len(indices), together):
        left = list(indices[start : start + together])
        mine = left[accelerator.process_index :: accelerator.num_processes]
        most = -(-len(left) // accelerator.num_processes)
        yield mine + left[: most - len(mine)], len(mine)
