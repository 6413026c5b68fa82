"""What only a GPU shows: number formats, attention, static cache with `torch.compile`, bandwidth, MFU.

Without a GPU each way runs once on a tiny model on the CPU, where that is possible, and its row says "not measured".
"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BitsAndBytesConfig

from configuration_trrg import TRRGConfig
from evaluation.bench.model import IMAGE_TOKEN, build_trrg, clue_inputs
from evaluation.bench.turns import Row
from modeling_trrg import TRRGForConditionalGeneration
from modeling_trrg.pretrained_trrg import NOT_QUANTISED

PEAKS = {"H100": (989e12, 3.35e12), "H200": (989e12, 4.8e12), "A100": (312e12, 2.0e12)}
"""Of a card: dense bfloat16 FLOPs and bytes of memory a second, by its data sheet."""
NOT_MEASURED = "not measured: no GPU"


def build(gpu: bool, attention: str = "sdpa") -> Any:
    """TRRG of 7B in bfloat16 with random weights on the card; without one, a tiny one on the CPU."""
    if not gpu:
        return build_trrg(True, num_query_tokens=32).to(torch.bfloat16)
    config: Any = TRRGConfig.from_preset("trrg", image_token_id=IMAGE_TOKEN)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            config.text_config._attn_implementation = attention
            return TRRGForConditionalGeneration(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def given(model: Any, batch: int) -> dict[str, torch.Tensor]:
    """Studies of random pixels with a prompt of 40 tokens."""
    tokens, size = model.config.num_image_tokens, model.config.image_size
    ids = torch.full((batch, tokens + 40), 7)
    ids[:, 1 : tokens + 1] = IMAGE_TOKEN
    pixels = torch.randn(batch, 3, size, size, dtype=model.dtype)
    some = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, **clue_inputs()}
    return {name: value.to(model.device) for name, value in some.items()}


def wall_ms(work: Callable[[], object]) -> float:
    """Milliseconds of the second of two runs, until the card has done it."""
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def rows(quick: bool) -> Iterator[Row]:
    """Decoding in each way beside bfloat16 with a growing cache, and a training step."""
    gpu = torch.cuda.is_available() and not quick
    model = build(gpu)
    peak = next((peak for name, peak in PEAKS.items() if gpu and name in torch.cuda.get_device_name()), None)
    new, batch = (128, 16) if gpu else (2, 1)
    length: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    bytes_read = sum(p.numel() * p.element_size() for p in model.model.language_model.parameters())

    def a_token(model: Any, **options: Any) -> float:
        return wall_ms(partial(model.generate, **given(model, batch), **length, **options)) / new

    plain = a_token(model)
    if gpu:
        share = (
            ""
            if peak is None
            else f"; the weights alone are {bytes_read / (plain / 1000) / peak[1]:.0%} of the bandwidth"
        )
        yield Row(
            "device",
            f"bfloat16, a step of {batch}",
            "",
            "",
            f"{1000 * batch / plain:,.0f} tokens a second{share}",
            ours=plain,
        )
    ways: dict[str, tuple[str, Callable[[], float]]] = {
        "static cache, compiled": (
            "one graph a token in place of thousands of launches",
            lambda: a_token(model, cache_implementation="static", disable_compile=not gpu),
        ),
    }
    if gpu and importlib.util.find_spec("flash_attn") is not None:
        ways["flash attention"] = (
            "no row of scores is written to memory",
            lambda: a_token(build(gpu, "flash_attention_2")),
        )
    for bits in (4, 8):
        why = "fewer bytes a weight, and work to unpack them"
        ways[f"{bits} bits"] = (why, lambda bits=bits: a_token(quantised(model, bits)))  # type: ignore[misc]
    for name in ("static cache, compiled", "flash attention", "4 bits", "8 bits"):
        row = Row(
            "device", f"{name}, a token", "bfloat16, growing cache", "<= 1.0" if "static" in name else "", NOT_MEASURED
        )
        if name in ways and (gpu or "bits" not in name):
            why, measure = ways[name]
            found = measure()
            if gpu:
                row.why = why
                row.measured([found], [plain])
        yield row
    yield training_step(model, gpu, peak)


def quantised(model: Any, bits: int) -> Any:
    """The model saved and loaded with bitsandbytes; towers and connector stay as they are."""
    import tempfile

    options = {f"load_in_{bits}bit": True, "llm_int8_skip_modules": list(NOT_QUANTISED)}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return TRRGForConditionalGeneration.from_pretrained(
            folder, quantization_config=BitsAndBytesConfig(**options), device_map="cuda"
        )


def training_step(model: Any, gpu: bool, peak: tuple[float, float] | None) -> Row:
    """MFU of forward and backward: FLOPs that the model needs over those that the card can do."""
    inputs = given(model.train(), 16 if gpu else 1)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN, -100)

    def step() -> None:
        model(**inputs, labels=labels).loss.backward()
        model.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter:
        step()
    row = Row("device", "training step, forward and backward", "the card's peak", "MFU >= 45 %", NOT_MEASURED)
    if gpu:
        row.ours = wall_ms(step)
        if peak is not None:
            row.theirs = 1000 * counter.get_total_flops() / peak[0]
            row.ratio = row.ours / row.theirs
            row.why = f"MFU {1 / row.ratio:.0%}; the vision tower and short texts fill the card less than long ones"
    return row
