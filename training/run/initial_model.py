"""The model and processor a run starts from, and where each of its weights comes from.

Weights come from a TRRG checkpoint (a stage-1 folder gives the vision and clue parts, a full one everything), from
pretrained towers of the Hub, or are new. What each part got is printed; a frozen part with new weights is refused.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
)
from transformers.image_processing_utils import BaseImageProcessor

from configuration_trrg import TRRGConfig
from configuration_trrg.presets_trrg import PRESETS
from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from modeling_trrg.modeling_trrg import max_context
from processing_trrg import GreyRange, TRRGImageProcessor, TRRGProcessor
from processing_trrg.image_processing_trrg import SETTINGS
from processing_trrg.prompt_trrg import PromptStyle
from training.config.command_line import loading
from training.config.run_config import ConfigError, ModelSection
from training.run.trained_parts import part_of

PROMPT_STYLES: dict[str, PromptStyle] = {
    "trrg": "trrg",
    "trrg-small": "trrg",
    "maira1": "maira1",
    "radialog": "radialog",
    "radialog-small": "radialog",
}
GREY_RANGES: dict[str, GreyRange] = {"maira1": "min_max", "radialog": "min_max"}
"""As published; the others take the image processor's default."""
STAGES = {stage.__name__: stage for stage in (TRRGForContrastivePretraining, TRRGForConditionalGeneration)}
STAGE_1_HEADS = ("query_projection.", "text_projection.", "matching_head.", "generation_head.")
"""Weights of stage 1 that stage 2 has no use for."""


def build_processor(section: ModelSection, config: TRRGConfig) -> TRRGProcessor:
    """The checkpoint's processor, or a new one from the tokenizers the configuration names. A language model or clue
    encoder that is named brings its own tokenizer."""
    if section.checkpoint is not None:
        with loading("model.checkpoint", section.checkpoint):
            processor = TRRGProcessor.from_pretrained(section.checkpoint)
        processor.num_image_tokens = config.num_image_tokens  # the connector may be another than stage 1's
        if section.vision_model is not None:
            grey_range = processor.image_processor.grey_range
            processor.image_processor = _image_processor(section, config, grey_range)
        new = section.language_model or section.clue_model
        if new is None and section.prompt_style in (None, processor.prompt_style):
            return processor
        return TRRGProcessor(
            processor.image_processor,
            processor.tokenizer if section.language_model is None else _text_tokenizer(section),
            processor.clue_tokenizer if section.clue_model is None else _clue_tokenizer(section),
            config.num_image_tokens,
            processor.clues,
            section.prompt_style or processor.prompt_style,
        )
    assert section.preset is not None
    return TRRGProcessor(
        image_processor=_image_processor(section, config, GREY_RANGES.get(section.preset, "percentiles")),
        tokenizer=_text_tokenizer(section),
        clue_tokenizer=_clue_tokenizer(section),
        num_image_tokens=config.num_image_tokens,
        clues=section.clues,
        prompt_style=section.prompt_style or PROMPT_STYLES[section.preset],
    )


def _text_tokenizer(section: ModelSection) -> Any:
    """The one that is named, or the language model's, with a token for an image and one for padding."""
    tokenizer = _tokenizer(section, "tokenizer", section.language_model)
    if tokenizer.convert_tokens_to_ids("<image>") in (None, tokenizer.unk_token_id):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def _clue_tokenizer(section: ModelSection) -> Any:
    return _tokenizer(section, "clue_tokenizer", section.clue_model)


def _image_processor(section: ModelSection, config: TRRGConfig, grey_range: GreyRange) -> TRRGImageProcessor:
    """Grey values as the pretrained vision tower takes them: by its preprocessor_config.json, or by timm's entry in its
    config.json. They are stretched by `grey_range` where its checkpoint names no rule."""
    settings: dict[str, Any] = {"grey_range": grey_range}
    if section.vision_model is not None:
        try:
            saved, _ = BaseImageProcessor.get_image_processor_dict(section.vision_model)
        except OSError:
            published = getattr(config.vision_config, "pretrained_cfg", None) or {}
            saved = {f"image_{name}": published[name] for name in ("mean", "std") if name in published}
            if not saved:
                print(
                    f"{section.vision_model}: no preprocessor_config.json; its pixels get ImageNet's mean and deviation"
                )
        settings |= {name: saved[name] for name in SETTINGS if saved.get(name) is not None}
    return TRRGImageProcessor(**settings | {"size": config.image_size})


def build_config(section: ModelSection) -> TRRGConfig:
    """The architecture: a checkpoint's or a preset's, with the overrides and the named towers put in."""
    if section.checkpoint is not None:
        with loading("model.checkpoint", section.checkpoint):
            config = TRRGConfig.from_pretrained(section.checkpoint)
        if (config.architectures or ["none"])[0] not in STAGES:
            raise ConfigError(
                f"model.checkpoint: {section.checkpoint}: its config.json names the architectures "
                f"{config.architectures}; expected one of {', '.join(STAGES)}"
            )
        values = config.to_dict()
        values["readable_weights"] = None  # fitted on a tower that may now be trained on
    else:
        assert section.preset is not None
        if section.preset not in PRESETS:
            raise ConfigError(f"model.preset: {section.preset!r} is not one of {', '.join(PRESETS)}")
        values = copy.deepcopy(PRESETS[section.preset])
    for key, value in section.overrides.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            same = value.get("model_type", values[key].get("model_type")) == values[key].get("model_type")
            values[key] = {**values[key], **value} if same else value
        else:
            values[key] = value
    for part in ("vision", "clue", "text"):
        key, field = f"{part}_config", "language_model" if part == "text" else f"{part}_model"
        if (name := getattr(section, field)) is not None:
            with loading(f"model.{field}", name):
                inner = AutoConfig.from_pretrained(name)
            values[key] = getattr(inner, "text_config", inner).to_dict() if key == "text_config" else inner.to_dict()
    if section.vision_model is not None:
        tower = AutoConfig.for_model(**values["vision_config"])
        size = section.overrides.get("image_size") or getattr(tower, "image_size", None)
        values.update(shape_of_tower(tower, size or values.get("image_size", 224)))
        if values.get("query_transformer_config") is not None:
            values["query_transformer_config"]["encoder_hidden_size"] = values["vision_hidden_size"]
        if not values["num_prefix_tokens"] and "vision_pooling" not in section.overrides:
            pooling = values.get("vision_pooling", "mean")
            values["vision_pooling"] = "mean" if pooling == "cls" else pooling  # convolutions have no class token
    if section.checkpoint is not None:
        return TRRGConfig.from_dict(values)
    return TRRGConfig(**values)


def fit_vocabulary(config: TRRGConfig, processor: TRRGProcessor, views: int) -> None:
    """Take the image token and, for clues, the sentences' ids from the processor; check that both embeddings hold the
    tokenizers' ids. What the model is trained with, at most `views` of a study and texts as long as the language
    model's context, is the most that both take.

    Raises:
        ConfigError: a tokenizer has more tokens than its model has embeddings.
    """
    config.max_views = processor.max_views = views
    processor.max_length, processor.max_prompt_length = max_context(config), None
    config.image_token_id = processor.image_token_id
    for name, tokenizer in (
        ("text_config", processor.tokenizer),
        ("clue_config", processor.clue_tokenizer),
        ("query_transformer_config", processor.clue_tokenizer),
    ):
        inner = getattr(config, name)
        size = max(tokenizer.get_vocab().values()) + 1
        if name == "text_config" and processor.image_token_id == size - 1:
            size -= 1  # the placeholder's row is replaced, it needs no embedding
        if inner is not None and inner.vocab_size < size:
            raise ConfigError(f"model: {name}.vocab_size is {inner.vocab_size}, its tokenizer has {size} tokens")
    if config.uses_clue_encoder:
        tensors = processor.clue_tensors()
        pairs = zip(tensors["clue_input_ids"], tensors["clue_attention_mask"], strict=True)
        config.clue_token_ids = [
            [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)] for ids, mask in pairs
        ]
        config.clue_parents = tensors["clue_parents"].tolist() if "clue_parents" in tensors else None
        config.pad_clue_token_id = processor.clue_tokenizer.pad_token_id


def masked_words(tokenizer: Any) -> list[list[int]]:
    """What stands in public reports for names and dates that were taken out, "XXXX" and "___", as token ids that
    `generate` never writes (its `bad_words_ids`): a model that saw them would say them as words."""
    texts = {id_: tokenizer.decode([id_]).strip() for id_ in tokenizer.get_vocab().values()}
    singles = [[id_] for id_, text in texts.items() if "XX" in text or "__" in text]
    for mark in "X_":
        same = [id_ for id_, text in texts.items() if text == mark]
        singles += [[first, second] for first in same for second in same]
    return sorted(singles)


def build_model(
    model_class: Any, section: ModelSection, config: TRRGConfig, trained: list[str]
) -> tuple[Any, dict[str, str]]:
    """A model of `model_class` with its first weights, and where each part's came from.

    Raises:
        ConfigError: a part would stay frozen at new (random) weights.
        ValueError: a checkpoint's weight has no place in the model, or another shape.
    """
    replaced = section.language_model is not None and model_class is TRRGForConditionalGeneration
    saved_class: Any = None
    if section.checkpoint is not None:
        saved_class = STAGES[config.architectures[0]]
    if saved_class is model_class and not replaced:
        with loading("model.checkpoint", section.checkpoint):
            model = model_class.from_pretrained(section.checkpoint, config=config)
        origins = {part_of(name): str(section.checkpoint) for name, _ in model.named_parameters()}
    else:
        model, origins = _new_model(model_class, saved_class, section, config, replaced)
    for part, field in (("vision_tower", "vision_model"), ("clue_encoder", "clue_model")):
        if (name := getattr(section, field)) is not None:
            with loading(f"model.{field}", name):
                _load_tower(getattr(model.model, part), name)
            origins[part] = name
    frozen = [part for part, origin in origins.items() if origin == "new" and part not in trained]
    if frozen:
        raise ConfigError(
            f"trained: {', '.join(frozen)} would stay frozen at new (random) weights; train it, or give its weights by "
            "model.checkpoint, vision_model, clue_model or language_model"
        )
    model.model.vision_tower.to(memory_format=torch.channels_last)  # convolutions take 0.6 of the time on a CPU
    return model, origins


def _new_model(
    model_class: Any, saved_class: Any, section: ModelSection, config: TRRGConfig, replaced: bool
) -> tuple[Any, dict[str, str]]:
    """A model with new weights, and over them what the other stage's checkpoint and the language model's bring."""
    empty: Any = copy.deepcopy(config)
    if replaced:  # a 7B language model is not first made at random to be thrown away
        empty.text_config.num_hidden_layers = 1
        if getattr(empty.text_config, "layer_types", None):
            empty.text_config.layer_types = empty.text_config.layer_types[:1]
    model = model_class(empty)
    model.config = config
    if replaced:
        _put_language_model(model, section)
    origins = {part_of(name): "new" for name, _ in model.named_parameters()}
    if saved_class is not None:
        with loading("model.checkpoint", section.checkpoint):
            source = saved_class.from_pretrained(section.checkpoint)
        for part in _copy_checkpoint(model, source, str(section.checkpoint)):
            origins[part] = str(section.checkpoint)
    if replaced:
        origins["language_model"] = str(section.language_model)
    return model, origins


def _tokenizer(section: ModelSection, field: str, fallback: str | None) -> Any:
    name = getattr(section, field) or fallback
    if name is None:
        raise ConfigError(f"model.{field}: missing; needed with model.preset {section.preset!r}")
    with loading(f"model.{field}", name):
        return AutoTokenizer.from_pretrained(name)


def shape_of_tower(tower: PreTrainedConfig, size: int) -> dict[str, int]:
    """The fields of `TRRGConfig` that a vision tower decides: width, grid and prefix tokens, measured with an empty
    image of `size` pixels a side."""
    with torch.device("meta"):
        hidden = AutoModel.from_config(tower)(torch.empty(1, 3, size, size)).last_hidden_state
    if hidden.dim() == 4:
        return {
            "image_size": size,
            "vision_hidden_size": hidden.shape[1],
            "patch_grid": hidden.shape[2],
            "num_prefix_tokens": 0,
        }
    grid = int(hidden.shape[1] ** 0.5)
    return {
        "image_size": size,
        "vision_hidden_size": hidden.shape[2],
        "patch_grid": grid,
        "num_prefix_tokens": hidden.shape[1] - grid**2,
    }


def _load_tower(tower: nn.Module, name: str) -> None:
    loaded, info = AutoModel.from_pretrained(name, output_loading_info=True)
    weights, wanted = loaded.state_dict(), tower.state_dict()
    missing = sorted(wanted.keys() & info["missing_keys"] | wanted.keys() - weights.keys())
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} weights of the tower: {', '.join(missing[:5])}")
    tower.load_state_dict({key: weights[key] for key in wanted})


def _put_language_model(model: Any, section: ModelSection) -> None:
    quantization = {
        None: None,
        "nf4": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        ),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }[section.quantization]
    with loading("model.language_model", section.language_model):
        loaded = AutoModelForCausalLM.from_pretrained(
            str(section.language_model), quantization_config=quantization, dtype="auto"
        )
    model.model.language_model = loaded.get_decoder()
    model.lm_head = loaded.get_output_embeddings()


def _copy_checkpoint(model: nn.Module, source: nn.Module, folder: str) -> set[str]:
    """Copy what a checkpoint of the other stage shares with the model; returns the parts that got all their weights.

    Raises:
        ValueError: a weight of the checkpoint has no place in the model or another shape, or a part is there by half.
    """
    target, given = dict(model.named_parameters()) | dict(model.named_buffers()), source.state_dict()
    present = {part_of(name) for name in target}
    dropped = sorted({part_of(key) for key in given} - present)
    if dropped:
        print(f"{folder}: {', '.join(dropped)} not in this model, left out")
    given = {
        key: value for key, value in given.items() if part_of(key) in present and not key.startswith(STAGE_1_HEADS)
    }
    strangers = sorted(given.keys() - model.state_dict().keys())
    if strangers:
        raise ValueError(f"{folder}: {len(strangers)} weights have no place in the model: {', '.join(strangers[:5])}")
    with torch.no_grad():
        for key, value in given.items():
            if key in target and value.shape != target[key].shape:
                raise ValueError(f"{folder}: {key} is {list(value.shape)}, the model expects {list(target[key].shape)}")
            if key in target:
                target[key].copy_(value)
    parts: dict[str, list[bool]] = {}
    for name, _ in model.named_parameters():
        parts.setdefault(part_of(name), []).append(name in given)
    half = [part for part, have in parts.items() if any(have) and not all(have)]
    if half:
        raise ValueError(f"{folder}: holds only some of the weights of {', '.join(half)}")
    return {part for part, have in parts.items() if all(have)}
