"""A tiny LLaVA of the installed Transformers: what its users know, to compare with."""

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from tests.helpers.models import TINY_TEXT

TINY_CLIP = {
    "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "projection_dim": 16,
}  # fmt: skip


def llava() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=TINY_CLIP, text_config=TINY_TEXT, image_token_id=3)
    return LlavaForConditionalGeneration(config).eval()


def llava_inputs() -> dict[str, torch.Tensor]:
    """One study of one view: four placeholders, then a prompt."""
    ids = torch.tensor([[1, 3, 3, 3, 3, 10, 11, 12]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(1, 3, 32, 32)}
