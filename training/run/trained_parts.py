"""Which parts of a model are trained: one list of part names, a table printed at the start, LoRA on the language model.

A frozen part gets no gradient and stays in eval mode, so its dropout is off and its batch-norm statistics stay.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModelForCausalLM

from modeling_trrg import TRRGForConditionalGeneration
from training.config.run_config import PARTS, LoraSection

_MODULES = {
    "lm_head": "language_model",
    "query_projection": "query_transformer",
    "text_projection": "query_transformer",
    "matching_head": "query_transformer",
    "generation_head": "query_transformer",
}
"""Modules and parameters that belong to a part of another name."""


def part_of(name: str) -> str:
    """The part a parameter or module belongs to.

    Raises:
        ValueError: it belongs to none, which would leave it trained or frozen by accident.
    """
    for piece in name.split("."):
        piece = _MODULES.get(piece, piece)
        if piece in PARTS:
            return piece
    raise ValueError(f"{name} belongs to no part; parts: {', '.join(PARTS)}")


def add_lora(model: nn.Module, lora: LoraSection) -> None:
    """Put LoRA layers into the language model and its head, nowhere else. The model is changed in place; see
    `without_lora`.

    Raises:
        ValueError: a target module does not exist in the language model.
    """
    leaves = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules() if _in_language_model(name)}
    missing = [target for target in lora.target_modules if target not in leaves]
    if missing:
        raise ValueError(f"lora.target_modules: {', '.join(missing)} not in the language model")
    inner = "|".join(target for target in lora.target_modules if target != "lm_head")
    patterns = [rf".*language_model\..*\.({inner})"] if inner else []
    patterns += [r"(.*\.)?lm_head"] if "lm_head" in lora.target_modules else []
    settings = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="|".join(patterns), bias="none"
    )
    inject_adapter_in_model(settings, model)


def without_lora(
    model: nn.Module, state: dict[str, torch.Tensor], language_model: str | None = None
) -> dict[str, torch.Tensor]:
    """The weights `state` of a model with LoRA layers, as those of the model without: low-rank updates are added.

    Works on gathered weights alone, so that a sharded model can be exported. language_model: what a quantised language
    model was made from; its weights take the place of the quantised ones (QLoRA's export).
    """
    state = dict(state)
    if language_model is not None:
        plain = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.bfloat16)
        state = {k: v for k, v in state.items() if part_of(k) != "language_model" or ".lora_" in k}
        state |= {f"model.language_model.{k}": v for k, v in plain.get_decoder().state_dict().items()}
        state["lm_head.weight"] = plain.get_output_embeddings().weight.detach()
    state = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            a, b = (state.pop(f"{name}.lora_{side}.default.weight").float() for side in "AB")
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = (weight.float() + layer.scaling["default"] * (b @ a)).to(weight.dtype)
    return state


def freeze(model: nn.Module, trained: Sequence[str]) -> None:
    """Give a gradient to the parts in `trained` and to LoRA weights, and to nothing else; nor to weights that only
    stage 1 uses.

    Trained weights become 32 bits wide: a pretrained language model comes in 16, in which AdamW's small steps are lost.

    Raises:
        ValueError: a part in `trained` does not exist in this model.
    """
    present = {part_of(name) for name, _ in model.named_parameters()}
    absent = [part for part in trained if part not in present]
    if absent:
        raise ValueError(f"trained: {', '.join(absent)} not in this model; its parts: {', '.join(sorted(present))}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or part_of(name) in trained)
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    if isinstance(model, TRRGForConditionalGeneration):
        model.freeze_unused()


def checkpoint_layers(model: Any) -> None:
    """Keep only the inputs of the layers of every tower for the backward pass, and compute the rest again.

    Transformers also makes the output of every tower's embeddings ask for a gradient, which reentrant checkpointing
    needs. That breaks on Swin (its patch embeddings return a tuple) and would keep a graph through frozen towers.
    """
    # `activation_checkpointing_enable` is its name from Transformers 5.23 on, and the old one warns from 5.24 on
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    model.disable_input_require_grads()


def set_training_mode(model: nn.Module) -> None:
    """Training mode for the parts with a gradient, eval mode for the frozen ones."""
    moving = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.train()
    for name, module in model.named_modules():
        *parents, leaf = name.split(".")
        part = _MODULES.get(leaf, leaf)
        if part in PARTS and part not in moving and not any(parent in PARTS for parent in parents):
            module.eval()


def parameter_groups(model: nn.Module, lr: float, lr_by_part: dict[str, float], weight_decay: float) -> list[dict]:
    """AdamW groups: one per part and decay; vectors (biases, norms, scales) and queries get no weight decay."""
    groups: dict[tuple[str, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, decays = part_of(name), parameter.ndim >= 2 and "quer" not in name.rsplit(".", 1)[-1]
        rate = lr_by_part.get(part, lr)
        group = groups.setdefault(
            (part, decays),
            {"params": [], "lr": rate, "base_lr": rate, "weight_decay": weight_decay if decays else 0.0, "part": part},
        )
        group["params"].append(parameter)
    if not groups:
        raise ValueError("trained: no part has a gradient")
    return list(groups.values())


def parts_table(model: nn.Module, lr: float, lr_by_part: dict[str, float]) -> str:
    """What is trained, as a table: part, parameters, of them trained, learning rate."""
    rows: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        row = rows.setdefault(part_of(name), [0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() if parameter.requires_grad else 0
    lines = [f"{'part':<24}{'parameters':>16}{'trained':>16}  learning rate"]
    for part, (total, moving) in rows.items():
        rate = f"{lr_by_part.get(part, lr):g}" if moving else "frozen, eval mode"
        lines.append(f"{part:<24}{total:>16,}{moving:>16,}  {rate}")
    total, moving = (sum(column) for column in zip(*rows.values(), strict=True))
    lines.append(f"{'total':<24}{total:>16,}{moving:>16,}")
    return "\n".join(lines)


def _in_language_model(name: str) -> bool:
    return ".language_model." in f".{name}" or name.endswith("lm_head")
