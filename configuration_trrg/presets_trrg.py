# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""The published systems at their published sizes, and two small ones: what `TRRGConfig.from_preset` takes."""

from typing import Any, Literal

Preset = Literal["trrg", "maira1", "radialog", "trrg-small", "radialog-small"]

# Sizes of the language models the papers used; `max_position_embeddings` and theta as in their published configs.
_MISTRAL_7B = {
    "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "sliding_window": None,
    "tie_word_embeddings": False,
}  # fmt: skip
_VICUNA_7B = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
_CLINICAL_BERT = {"model_type": "bert", "vocab_size": 28996}

PRESETS: dict[str, dict[str, Any]] = {
    # Swin-B, Bio_ClinicalBERT, Mistral-7B, 48 + 48 queries, the best 8 of 14 clues.
    "trrg": {
        "vision_config": {
            "model_type": "swin", "image_size": 224, "embed_dim": 128, "depths": [2, 2, 18, 2],
            "num_heads": [4, 8, 16, 32], "window_size": 7,
        },
        "clue_config": _CLINICAL_BERT,
        "text_config": _MISTRAL_7B,
    },
    # RAD-DINO ViT-B/14 at 518 px, four-layer MLP over all 37 x 37 patches, Vicuna-7B.
    "maira1": {
        "vision_config": {"model_type": "dinov2", "image_size": 518, "patch_size": 14, "use_mask_token": False},
        "text_config": _VICUNA_7B,
        "connector": "mlp", "clue_source": "none", "vision_hidden_size": 768, "image_size": 518,
        "patch_grid": 37, "num_prefix_tokens": 1, "vision_pooling": "cls",
    },
    # ResNet-50 at 448 px (BioViL-T's image encoder), BERT alignment module with 32 queries, Vicuna-7B.
    "radialog": {
        "vision_config": {"model_type": "resnet"},
        "query_transformer_config": {
            "model_type": "blip_2_qformer", "encoder_hidden_size": 2048, "use_qformer_text_input": True,
        },
        "text_config": _VICUNA_7B,
        "connector": "query_transformer", "clue_source": "classifier", "vision_hidden_size": 2048, "image_size": 448,
        "patch_grid": 14, "num_query_tokens": 32, "num_selected_clues": 14, "clue_threshold": 0.5,
        "consistency_kl_weight": 0.0, "consistency_bce_weight": 0.0,
    },
    # The checkpoint in hub_cards/trrg-small: every part of TRRG at a size that trains on two CPU cores.
    "trrg-small": {
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "resnet10t", "do_pooling": False,
            "model_args": {"channels": [24, 48, 96, 192], "stem_width": 16, "output_stride": 16},
        },
        "clue_config": {
            "model_type": "bert", "vocab_size": 1024, "hidden_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 256, "max_position_embeddings": 64,
            "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        "text_config": {
            "model_type": "llama", "vocab_size": 2048, "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4,
            "max_position_embeddings": 1024, "tie_word_embeddings": True, "initializer_range": 0.07,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
        "clue_scoring": "pairwise", "vision_pooling": "lse", "clue_loss_weight": 5.0,
        "vision_hidden_size": 192, "image_size": 192, "patch_grid": 12, "projection_dim": 256, "num_query_tokens": 32,
        "num_interaction_heads": 8, "num_selected_clues": 24, "clue_threshold": 0.25, "image_token_id": 3,
    },
}  # fmt: skip
# RaDialog behind the small tower: the classifier, an alignment module of four layers.
_SMALL = PRESETS["trrg-small"]
PRESETS["radialog-small"] = {
    **{name: _SMALL[name] for name in ("vision_config", "vision_pooling", "clue_loss_weight", "vision_hidden_size")},
    **{name: _SMALL[name] for name in ("image_size", "patch_grid", "projection_dim", "num_query_tokens")},
    "query_transformer_config": {
        "model_type": "blip_2_qformer", "vocab_size": 1024, "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 256, "encoder_hidden_size": 192,
        "use_qformer_text_input": True, "initializer_range": 0.09, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "text_config": _SMALL["text_config"],
    "connector": "query_transformer", "clue_source": "classifier", "num_classifier_labels": 24,
    "num_selected_clues": 24, "clue_threshold": 0.5, "image_token_id": 3, "consistency_kl_weight": 0.0,
    "consistency_bce_weight": 0.0,
}  # fmt: skip
