"""What all TRRG models share: what they support, how weights start, and strict loading."""

import copy
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers import initialization as init

from .configuration_trrg import TRRGConfig
from .connector_trrg import UnitLinear, init_connector

# Module names that are no part of the language model, as patterns; bitsandbytes leaves them in full precision.
NOT_QUANTISED = [
    r".*vision_tower", r".*clue_encoder", r".*image_projection", r".*clue_projection", r".*classifier",
    r".*query_transformer", r".*multi_modal_projector", r".*report_projection", "lm_head",
]  # fmt: skip


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
        for name, parameter in self.named_parameters():
            if any(re.search(pattern, name) for pattern in self.unused_weights()):
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
        """As in Transformers, but strict: safetensors only, and a missing, unexpected or misshapen weight raises.

        With a bitsandbytes config that names no modules to skip, only the language model is quantised.

        Raises:
            ValueError: pickled weights are asked for, or the checkpoint does not hold exactly the model's weights.
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
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        problems = [
            f"{title}: {', '.join(sorted(map(str, info[key]))[:8])}{' ...' if len(info[key]) > 8 else ''}"
            for title, key in (
                ("missing", "missing_keys"),
                ("unexpected", "unexpected_keys"),
                ("wrong shape", "mismatched_keys"),
            )
            if info[key]
        ]
        if problems:
            raise ValueError(
                f"{pretrained_model_name_or_path} does not hold the weights of {cls.__name__}: {'; '.join(problems)}. "
                "Weights are never filled in at random."
            )
        model.freeze_unused()  # loading makes weights anew
        return (model, info) if return_info else model
