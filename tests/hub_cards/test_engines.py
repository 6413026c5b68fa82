"""What the Transformers backends of serving engines ask of a folder, as far as it needs neither engine nor GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForImageTextToText, AutoProcessor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.tiny_processors import radiograph, tiny_processor

SIZES = [(100, 300), (64, 64), (200, 90)]


def test_a_folder_keeps_the_contract_of_engines(tiny_config: Callable[..., TRRGConfig], tmp_path: Path) -> None:
    config = tiny_config("trrg")
    TRRGForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_processor(size=config.image_size, num_image_tokens=config.num_image_tokens).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)

    studies = [[radiograph(*SIZES[0])], [radiograph(*size) for size in SIZES[1:]]]
    inputs = processor(images=studies, return_mm_token_type_ids=True)
    kinds = inputs.pop("mm_token_type_ids")
    assert torch.equal(kinds.bool(), inputs["input_ids"] == model.config.image_token_id)
    counts = processor._get_num_multimodal_tokens(image_sizes=SIZES)["num_image_tokens"]
    pieces = [
        piece.numel()
        for row in kinds
        for piece in torch.tensor_split(row, (row.diff() != 0).nonzero()[:, 0] + 1)
        if piece[0] == 1
    ]
    assert pieces == counts

    seen = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    features = model.get_image_features(**seen).pooler_output
    assert features.shape[:2] == (len(SIZES), counts[0])
    assert features.shape[-1] == model.get_input_embeddings().embedding_dim

    called: list[Any] = []

    def engine(module: Any, *tensors: Any, **options: Any) -> Any:
        called.append(module)
        return sdpa_attention_forward(module, *tensors, **options)

    assert model._supports_attention_backend and model.model.language_model._supports_attention_backend
    expected = model(**inputs).logits
    AttentionInterface.register("engine_of_the_test", engine)
    AttentionMaskInterface.register("engine_of_the_test", sdpa_mask)
    model.model.language_model.set_attn_implementation("engine_of_the_test")
    assert torch.allclose(model(**inputs).logits, expected, atol=1e-4)
    assert len(called) == model.config.text_config.num_hidden_layers
