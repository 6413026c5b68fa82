"""Tokenizers, processors and radiographs of a few hundred bytes, made on the fly. Nothing here is a real X-ray."""

import io
import string
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from processing_trrg import TRRGImageProcessor, TRRGProcessor
from processing_trrg.prompt_trrg import default_clues


def text_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, lower case: 57 tokens, <pad> 0, <s> 1, </s> 2, <image> 3."""
    characters = [
        "<pad>",
        "<s>",
        "</s>",
        "<image>",
        "<unk>",
        *string.ascii_lowercase,
        *string.digits,
        *" .,:;?!'-/()<>%\n",
    ]
    vocabulary = {token: index for index, token in enumerate(characters)}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    model.normalizer = normalizers.Lowercase()
    model.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip


def clue_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of the default clues, with BERT's [CLS] and [SEP], at most 32 tokens a sentence."""
    sentences = [clue[sign] for clue in default_clues() for sign in ("positive", "negative")]
    words = sorted({word for sentence in sentences for word in sentence.lower().rstrip(".").split()} | {"."})
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip


def tiny_processor(style: str = "trrg", size: int = 32, num_image_tokens: int = 4, **overrides: Any) -> TRRGProcessor:
    return TRRGProcessor(
        TRRGImageProcessor(size=size),
        text_tokenizer(),
        clue_tokenizer(),
        num_image_tokens,
        prompt_style=style,
        **overrides,
    )


def radiograph(height: int = 64, width: int = 48, top: int = 255, seed: int = 0) -> np.ndarray:
    """Smooth random grey values from 0 to `top`, uint8 or uint16, `[height, width]`."""
    coarse = Image.fromarray(np.random.default_rng(seed).random((6, 6)).astype(np.float32))
    grey = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    grey = (grey - grey.min()) / (grey.max() - grey.min()) * top
    return grey.round().astype(np.uint8 if top < 256 else np.uint16)


def picture_bytes(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
