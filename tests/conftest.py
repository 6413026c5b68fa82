"""Tiny models, processors and the place of the real data, shared by all tests. No network, no GPU."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from configuration_trrg import TRRGConfig

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_dir_or_none() -> Path | None:
    """Real X-rays and reports (never part of the repository): $TRRG_DATA, or ../shared/data beside the checkout."""
    path = Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data"))
    return path if (path / "README.md").exists() else None


@pytest.fixture(scope="session")
def data_dir(data_dir_or_none: Path | None) -> Path:
    """`data_dir_or_none`, for tests that need it."""
    if data_dir_or_none is None:
        pytest.skip("no real data at $TRRG_DATA or ../shared/data; set TRRG_DATA to run this test")
    return data_dir_or_none


TINY_TEXT = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
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


@pytest.fixture
def tiny_config() -> Any:
    """`tiny_config("trrg" | "maira1" | "radialog", **overrides)` -> a TRRGConfig that runs in milliseconds."""
    return lambda system="trrg", **overrides: TRRGConfig(**{**TINY[system], **overrides})
