"""Tiny configurations of the three systems, models with weights far from zero, and random batches for them."""

from typing import Any

import torch

from modeling_trrg import TRRGForConditionalGeneration

SYSTEMS = ["trrg", "maira1", "radialog"]
CLUE_NAMES = ("clue_input_ids", "clue_attention_mask")
TINY_TEXT = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TINY_BERT = {
    "model_type": "bert", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
TINY_VIT = {
    "model_type": "dinov2", "image_size": 32, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "use_mask_token": False,
}  # fmt: skip
TINY_TIMM = {"model_type": "timm_wrapper", "architecture": "test_efficientnet", "do_pooling": False}
TINY: dict[str, dict[str, Any]] = {
    "trrg": {
        "vision_config": TINY_VIT, "clue_config": TINY_BERT, "text_config": TINY_TEXT, "vision_hidden_size": 16,
        "image_size": 32, "patch_grid": 2, "num_prefix_tokens": 1, "projection_dim": 16, "num_query_tokens": 6,
        "num_interaction_heads": 2, "num_selected_clues": 3, "image_token_id": 3, "clue_scoring": "pairwise",
    },
    "maira1": {
        "vision_config": TINY_VIT, "text_config": TINY_TEXT, "connector": "mlp", "clue_source": "none",
        "vision_hidden_size": 16, "image_size": 32, "patch_grid": 2, "num_prefix_tokens": 1, "image_token_id": 3,
        "vision_pooling": "cls",
    },
    "radialog": {
        "vision_config": {
            "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
            "layer_type": "basic",
        },
        "query_transformer_config": {
            "model_type": "blip_2_qformer", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
            "encoder_hidden_size": 16, "use_qformer_text_input": True,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        "text_config": TINY_TEXT, "connector": "query_transformer", "clue_source": "classifier",
        "vision_hidden_size": 16, "image_size": 32, "patch_grid": 4, "num_query_tokens": 5, "projection_dim": 16,
        "num_classifier_labels": 4, "image_token_id": 3,
    },
}  # fmt: skip


def build(config, seed=0):
    torch.manual_seed(seed)
    model = TRRGForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # far from zero, so that differences would show
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def clues(count=4, length=6, seed=1):
    """Random clues `[2, C, L]` of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 60, (2, count, length), generator=generator)
    lengths = torch.randint(2, length + 1, (2, count, 1), generator=generator)
    return {"clue_input_ids": ids, "clue_attention_mask": (torch.arange(length) < lengths).long()}


def studies(config, views=(1, 1), text=(5, 5), seed=2, **clue_kwargs):
    """A left-padded batch: for each study its number of views and of prompt tokens."""
    generator = torch.Generator().manual_seed(seed)
    most, n = max(views), config.num_image_tokens
    pixels = torch.randn(len(views), most, 3, 32, 32, generator=generator)
    mask = torch.tensor([[v < count for v in range(most)] for count in views])
    rows = [
        [1] + [3] * (n * count) + torch.randint(4, 60, (length,), generator=generator).tolist()
        for count, length in zip(views, text, strict=True)
    ]
    width = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        "pixel_values": pixels,
        "image_mask": mask,
    }
    return {**inputs, **clues(**clue_kwargs)} if config.uses_clue_encoder else inputs


def only(inputs, row, views):
    """Study `row` alone, without its padding."""
    keep = inputs["attention_mask"][row].bool()
    alone = {
        "input_ids": inputs["input_ids"][row : row + 1, keep],
        "attention_mask": inputs["attention_mask"][row : row + 1, keep],
        "pixel_values": inputs["pixel_values"][row : row + 1, :views],
        "image_mask": inputs["image_mask"][row : row + 1, :views],
    }
    return {**alone, **{name: inputs[name] for name in CLUE_NAMES if name in inputs}}


def stage1_inputs(system, batch=4):
    torch.manual_seed(3)
    inputs = {
        "pixel_values": torch.randn(batch, 1, 3, 32, 32),
        "sentence_input_ids": torch.randint(4, 60, (batch, 7)),
        "sentence_attention_mask": torch.ones(batch, 7, dtype=torch.long),
        "sentence_study": torch.arange(batch),
        "sentence_keys": torch.arange(batch),
        "clue_targets": torch.tensor([[1, 0, -1, -100], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]])[:batch],
    }
    return {**inputs, **clues()} if system == "trrg" else inputs
