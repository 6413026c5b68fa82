"""TRRGConfig: presets of the published size, and every illegal value refused by name."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from peft import LoraConfig, get_peft_model

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.models import TINY_BERT, TINY_TEXT, TINY_VIT

LINEAR = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj|lm_head"
Q_AND_V = r".*language_model.*\.(q|v)_proj"


def trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("preset", "placeholders"),
    [("trrg", 96), ("maira1", 1369), ("radialog", 32), ("trrg-small", 32), ("radialog-small", 32)],
)
def test_presets_have_the_published_number_of_placeholders(preset, placeholders):
    assert TRRGConfig.from_preset(preset).num_image_tokens == placeholders


@pytest.mark.parametrize(
    ("preset", "rank", "targets", "expected"),
    [("trrg", 16, LINEAR, 42_520_576), ("radialog", 8, Q_AND_V, 4_194_304), ("maira1", 8, Q_AND_V, 4_194_304)],
)
def test_lora_of_the_presets_trains_as_many_parameters_as_published(preset, rank, targets, expected):
    with torch.device("meta"):
        model = TRRGForConditionalGeneration(TRRGConfig.from_preset(preset))
        assert trainable(get_peft_model(model, LoraConfig(r=rank, target_modules=targets))) == expected


def test_seven_billion_parameters_are_there():
    with torch.device("meta"):
        model = TRRGForConditionalGeneration(TRRGConfig.from_preset("trrg"))
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.model.named_children()}
    assert sizes["language_model"] + model.lm_head.weight.numel() == 7_241_732_096  # Mistral-7B
    assert 86e6 < sizes["vision_tower"] < 88e6  # Swin-B
    assert 107e6 < sizes["clue_encoder"] < 109e6  # Bio_ClinicalBERT without its pooler


def test_round_trip(tiny_config, tmp_path):
    config = tiny_config("trrg", clue_threshold=0.25, clue_token_ids=[[[5, 6]], [[5, 7]]])
    config.save_pretrained(tmp_path)
    again = TRRGConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.auto_map["AutoModel"] == "modeling_trrg.TRRGModel"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"connector": "mlp", "interaction": "cross"}, ["interaction", "cross", "connector='mlp'"]),
        ({"connector": "qformer"}, ["connector", "qformer", "clue_interaction", "mlp", "query_transformer"]),
        ({"clue_source": "oracle"}, ["clue_source", "oracle", "zero_shot", "classifier", "none"]),
        ({"clue_scoring": "cosine"}, ["clue_scoring", "cosine", "softmax", "pairwise"]),
        ({"image_size": "224"}, ["image_size", "int", "224"]),
        ({"patch_grid": 0}, ["patch_grid", "0", "at least 1"]),
        ({"max_views": 0}, ["max_views", "0", "at least 1"]),
        ({"num_query_tokens": 10**9}, ["num_query_tokens", "1000000000", "at most 16384"]),
        ({"image_size": 10**6}, ["image_size", "1000000", "at most 8192"]),
        ({"image_token_id": 2**40}, ["image_token_id", "2**31"]),
        ({"num_labels": 10**9}, ["num_labels", "at most"]),
        ({"num_query_tokens": 7}, ["num_query_tokens", "7", "even"]),
        ({"num_interaction_heads": 3}, ["num_interaction_heads", "3", "projection_dim=16"]),
        ({"clue_threshold": 1.0}, ["clue_threshold", "1.0", "[0, 1)"]),
        ({"consistency_kl_weight": -1.0}, ["consistency_kl_weight", "-1.0", "0 or more"]),
        ({"clue_config": None}, ["clue_config", "None", "clue encoder"]),
        ({"vision_config": {"model_type": "vgg99"}}, ["vision_config", "vgg99", "timm_wrapper"]),
        ({"connector": "query_transformer"}, ["query_transformer_config", "None"]),
        ({"vision_pooling": "cls", "num_prefix_tokens": 0}, ["num_prefix_tokens", "cls"]),
        ({"clue_token_ids": [[[1]]]}, ["clue_token_ids", "[1] sentences", "2 statement(s)"]),
        ({"clue_token_ids": [[[1], [2]], [[1]]]}, ["clue_token_ids", "[2, 1] sentences"]),
        ({"clue_token_ids": [[], []]}, ["clue_token_ids", "empty"]),
        ({"clue_token_ids": [[1], [2]]}, ["clue_token_ids", "[[1], [2]]", "int in 3 lists"]),
        ({"clue_parents": [False]}, ["clue_parents", "[False]", "int in 1 lists"]),
        ({"clue_calibration": [[1, "0", 0.5]]}, ["clue_calibration", "'0'", "int or float in 2 lists"]),
        ({"clue_token_ids": [[[1]], [[]]]}, ["clue_token_ids", "empty"]),
        ({"consistency_kl_weight": float("nan")}, ["consistency_kl_weight", "nan"]),
    ],
)
def test_illegal_values_are_refused_by_name(tiny_config, override, words):
    with pytest.raises((ValueError, StrictDataclassFieldValidationError)) as error:
        tiny_config("trrg", **override)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("part", "sizes", "named"),
    [
        ("text_config", TINY_TEXT | {"num_hidden_layers": 10**7}, "text_config.num_hidden_layers is 10000000"),
        ("text_config", TINY_TEXT | {"vocab_size": 10**10}, "text_config.vocab_size"),
        ("text_config", TINY_TEXT | {"num_labels": 10**9}, "text_config.num_labels"),
        ("text_config", {"model_type": "gpt2", "n_layer": 10**6}, "text_config.n_layer"),
        ("clue_config", TINY_BERT | {"intermediate_size": 10**8}, "clue_config.intermediate_size"),
        ("clue_config", TINY_BERT | {"max_position_embeddings": 10**12}, "clue_config.max_position_embeddings"),
        ("vision_config", TINY_VIT | {"image_size": 10**5}, "vision_config.image_size"),
        ("vision_config", {"model_type": "swin", "depths": [500, 500, 500]}, "vision_config.depths is 1500"),
        (
            "vision_config",
            {"model_type": "timm_wrapper", "architecture": "resnet10t", "model_args": {"channels": [9, 10**9]}},
            "vision_config.model_args.channels",
        ),
    ],
)
def test_a_model_too_large_to_exist_is_refused_before_it_is_built(tiny_config, part, sizes, named):
    with pytest.raises(ValueError, match=rf"^{named}.*; expected at most \d+\.$"):
        tiny_config("trrg", **{part: sizes})


def test_a_config_made_illegal_later_is_neither_built_nor_saved(tiny_config, tmp_path):
    config = tiny_config("trrg", consistency_kl_weight=1, clue_threshold=0)
    config.num_query_tokens = 7
    with pytest.raises(ValueError, match="num_query_tokens is 7"):
        TRRGForConditionalGeneration(config)
    with pytest.raises(ValueError, match="num_query_tokens is 7"):
        config.save_pretrained(tmp_path)


@pytest.mark.parametrize("text", [{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2}])
def test_language_models_that_would_be_wrong_are_refused(tiny_config, text):
    with pytest.raises(ValueError, match=r"text_config\.model_type is 'gpt2'; expected a decoder with `embed_tokens`"):
        TRRGForConditionalGeneration(tiny_config("trrg", text_config=text))


def test_unknown_presets_and_fields_are_refused():
    with pytest.raises(ValueError, match="preset is 'gpt'; expected one of trrg, maira1"):
        TRRGConfig.from_preset("gpt")
    with pytest.raises(ValueError, match="unknown fields for the preset 'trrg': conector"):
        TRRGConfig.from_preset("trrg", conector="mlp")
