"""What all TRRG models share: what they support, how weights start, and strict loading."""

import contextlib
import copy
import json
import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, PreTrainedModel
from transformers import initialization as init

from .configuration_trrg import TRRGConfig
from .connector_trrg import UnitLinear, init_connector

# Module names that are no part of the language model, as patterns; bitsandbytes leaves them in full precision.
NOT_QUANTISED = [
    r".*vision_tower", r".*clue_encoder", r".*image_projection", r".*clue_projection", r".*classifier",
    r".*query_transformer", r".*multi_modal_projector", r".*report_projection", "lm_head",
]  # fmt: skip


def check_weight_files(folder: Path) -> None:
    """The headers of a local checkpoint's safetensors, and the index where there are several.

    Raises:
        ValueError: a file is cut short or damaged, or the index is none, or names a file outside of `folder`.
    """
    index, names = folder / "model.safetensors.index.json", {"model.safetensors"}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            outside = sorted(name for name in names if Path(name).name != name)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{index}: no index of weights; expected a JSON object with weight_map.") from None
        if outside:
            raise ValueError(f"{index}: {outside[0]!r} lies outside of the checkpoint; expected names of files in it.")
    for file in sorted(folder / name for name in names):
        if not file.is_file():
            continue
        with file.open("rb") as weights:  # safetensors: length of the header, header, tensors
            length, size = int.from_bytes(weights.read(8), "little"), file.stat().st_size
            try:
                header = json.loads(weights.read(length)) if length < size else {}
                ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            except (ValueError, TypeError, KeyError, AttributeError, IndexError):
                raise ValueError(f"{file}: damaged; its header cannot be read.") from None
        if (whole := 8 + length + max(ends, default=0)) != size:
            raise ValueError(f"{file}: cut short or damaged; it has {size} bytes, its header says {whole}.")


def _is_no_report(record: logging.LogRecord) -> bool:
    """Not Transformers' table of what is wrong with the weights: the error says it in a line."""
    return "LOAD REPORT" not in record.getMessage()


def _shown(weight: str | tuple) -> str:
    """A weight's name; of one with another shape, (name, found, expected), these too."""
    return weight if isinstance(weight, str) else f"{weight[0]} {list(weight[1])} for {list(weight[2])}"


def check_values(model: nn.Module) -> None:
    """Weights and buffers are numbers, and variances not negative. Reads each weight once, about 0.2 s a gigabyte;
    what is quantised or offloaded is not looked at.

    Raises:
        ValueError: names the first tensor that is not.
    """
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and os.environ.get("LOCAL_RANK", "0") != "0":
        return  # this rank's weights are empty until rank 0 sends its own
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() < 2:
            continue
        low, high = (value.item() for value in tensor.detach().aminmax())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError(f"{name} holds NaN or infinite values; expected numbers.")
        if name.endswith("running_var") and low < 0:
            raise ValueError(f"{name} holds {low:g}; expected variances, 0 or more.")


def load_strictly(load: Callable[..., Any], name: str, whose: str, *args: Any, **kwargs: Any) -> tuple[Any, dict]:
    """A model and its loading info.

    Args:
        load: a `from_pretrained` of Transformers, called with `args` and `kwargs`.
        name, whose: what errors call the checkpoint and the model.

    Raises:
        ValueError: the checkpoint does not hold exactly the model's weights, all of them numbers; names those.
    """
    kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # told below, in one line
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_no_report)
    try:
        model, info = load(*args, **kwargs)
    finally:
        logger.removeFilter(_is_no_report)
    problems = [
        f"{title}: {', '.join(sorted(map(_shown, info[key]))[:8])}{' ...' if len(info[key]) > 8 else ''}"
        for title, key in (
            ("missing", "missing_keys"),
            ("unexpected", "unexpected_keys"),
            ("wrong shape", "mismatched_keys"),
        )
        if info[key]
    ]
    if problems:
        raise ValueError(
            f"{name} does not hold the weights of {whose}: {'; '.join(problems)}. "
            "Weights are never filled in at random."
        )
    try:
        check_values(model)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return model, info


def build_tower(config: Any) -> PreTrainedModel:
    """A vision tower or clue encoder from its config, without parts that nothing uses.

    A pooler would get no gradient, which distributed training refuses. Flash attention stays with the language model:
    few encoders have it.
    """
    if (config._attn_implementation or "").startswith("flash"):
        config._attn_implementation = None
    # On the meta device drawing is slow, and for nothing.
    empty = torch.get_default_device().type == "meta"
    with init.no_init_weights() if empty else contextlib.nullcontext():
        tower = AutoModel.from_config(config)
    # Convolutions start by their fan-out. Wrapped timm models start at a fixed deviation of 0.02 instead, at which the
    # first steps of a training from scratch change every depthwise filter beyond recognition.
    for module in tower.modules():
        if isinstance(module, nn.Conv2d) and not empty:
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
    if getattr(tower, "pooler", None) is not None and any(True for _ in tower.pooler.parameters()):
        tower.pooler = None
    return tower


class TRRGPreTrainedModel(PreTrainedModel):
    """What all TRRG models share: the configuration class, how new weights are drawn, and what may be sharded."""

    config_class = TRRGConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ClueInteraction", "ProjectionHead"]
    _skip_keys_device_placement = ["cache", "past_key_values"]  # the second name was the first one before 5.24
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False  # counts of placeholders and views are checked against the data

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, UnitLinear):
            super()._init_weights(module)
        init_connector(module, std=self.config.text_config.initializer_range)
        if isinstance(getattr(module, "logit_scale", None), nn.Parameter):
            init.constant_(module.logit_scale, 2.6592)  # log(1 / 0.07), as in CLIP

    def unused_weights(self) -> list[str]:
        """Patterns of the names of weights that no loss of this model reaches."""
        return []

    def freeze_unused(self) -> None:
        """Freeze them: plain distributed training waits for a gradient of every weight that asks for one."""
        patterns = self.unused_weights()
        for name, parameter in self.named_parameters():
            if any(re.search(pattern, name) for pattern in patterns):
                parameter.requires_grad_(False)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in Transformers; the source is saved too, but never through links into the package itself.

        Raises:
            ValueError: `save_directory` links to source files, as hub_cards/trrg-small does.
        """
        self.config.check_folder(Path(save_directory))
        # What FSDP2 or a caller derived from one of these classes is saved as that class: its own file would not load.
        registered = next(cls for cls in type(self).__mro__ if "_auto_class" in vars(cls))
        self.__module__ = registered.__module__
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in Transformers, but strict: safetensors only, and a missing, unexpected, misshapen or NaN weight raises.

        With a bitsandbytes config that names no modules to skip, only the language model is quantised.

        Raises:
            ValueError: pickled weights are asked for, a file is cut short or lies outside of the checkpoint, or it does
                not hold exactly the model's weights, all of them numbers.
            OSError: the checkpoint has no safetensors.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError("use_safetensors=False: TRRG reads safetensors only, since a pickle can run code.")
        kwargs["use_safetensors"] = True
        if kwargs.get("tp_plan") is not None and cls.main_input_name == "pixel_values":
            raise ValueError(
                f"tp_plan={kwargs['tp_plan']!r}: {cls.__name__} has no tensor-parallel plan, since its towers "
                "have none; train it data parallel or with FSDP2."
            )
        quantization = kwargs.get("quantization_config")
        if isinstance(quantization, dict) and quantization.get("quant_method", "bitsandbytes") == "bitsandbytes":
            quantization = BitsAndBytesConfig.from_dict(quantization)
        if isinstance(quantization, BitsAndBytesConfig) and quantization.llm_int8_skip_modules is None:
            quantization = copy.deepcopy(quantization)
            quantization.llm_int8_skip_modules = list(NOT_QUANTISED)
            kwargs["quantization_config"] = quantization
        return_info = kwargs.pop("output_loading_info", False)
        name = str(pretrained_model_name_or_path)
        check_weight_files(Path(name, kwargs.get("subfolder") or ""))
        load = super().from_pretrained
        model, info = load_strictly(load, name, cls.__name__, pretrained_model_name_or_path, *args, **kwargs)
        model.freeze_unused()  # loading makes weights anew
        return (model, info) if return_info else model
