"""What only a GPU shows: number formats, attention, static cache with `torch.compile`, bandwidth, MFU.

TRRG of 7B with random weights. Without a GPU each way runs once on a tiny model on the CPU, where that is possible, and
its row says "not measured". Numbers are wall time, until the card has done the work; the ways run one after the other.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BitsAndBytesConfig

from configuration_trrg import TRRGConfig
from evaluation.bench.model import IMAGE_TOKEN, build_trrg, clue_inputs
from evaluation.bench.turns import Row
from modeling_trrg import TRRGForConditionalGeneration
from modeling_trrg.pretrained_trrg import NOT_QUANTISED

PEAKS = {
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12),
    "NVIDIA H200": (989e12, 4.8e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.04e12),
}
"""Of a card, by PyTorch's name: dense bfloat16 FLOPs and bytes of memory a second, by its data sheet."""
NOT_MEASURED = "not measured: no GPU"
TURNS = 2


def build(gpu: bool) -> Any:
    """TRRG of 7B in bfloat16 with random weights on the card; without one, a tiny one on the CPU."""
    if not gpu:
        return build_trrg(True, num_query_tokens=32).to(torch.bfloat16)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            return TRRGForConditionalGeneration(TRRGConfig.from_preset("trrg", image_token_id=IMAGE_TOKEN)).eval()
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


def wall_ms(work: Callable[[], object], turns: int) -> list[float]:
    """Milliseconds of each of so many runs, after one that is not counted."""
    times = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def rows(quick: bool) -> Iterator[Row]:
    """Reports, a training step, attention, and decoding in each way beside bfloat16 with a growing cache."""
    gpu = torch.cuda.is_available() and not quick
    turns = TURNS if gpu else 1
    model = build(gpu)
    peak = PEAKS.get(torch.cuda.get_device_name()) if gpu else None
    new, batch, many = (64, 16, 64) if gpu else (2, 1, 2)
    weights = sum(p.numel() * p.element_size() for p in model.model.language_model.parameters())

    def a_token(model: Any, batch: int = batch, **options: Any) -> list[float]:
        length = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        times = wall_ms(partial(model.generate, **given(model, batch), **length, **options), turns)
        return [one / new for one in times]

    plain = a_token(model)
    for size, times in ((batch, plain), (many, a_token(model, many))):
        row = Row("device", f"a token of {size} reports, with its part of look and prompt",
                  "one read of the weights, by the data sheet", "", NOT_MEASURED)  # fmt: skip
        if gpu:
            beside(row, times, None if peak is None else 1000 * weights / peak[1])
            rate = 1000 * size / min(times)
            row.why = f"{rate:,.0f} tokens and {rate / new:.1f} reports of {new} tokens a second"
        yield row
    yield training_step(model, gpu, peak, turns)
    yield attention(model.eval(), gpu, turns)
    row = decoding("static cache, compiled", "<= 1.0")
    compiled = a_token(model, cache_implementation="static", disable_compile=not gpu)
    if gpu:
        row.measured(compiled, plain)
        breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
        row.why = f"graphs in place of launches, {breaks} breaks between them"
    yield row
    with tempfile.TemporaryDirectory() as folder:
        possible = gpu and importlib.util.find_spec("bitsandbytes") is not None
        if possible:
            model.save_pretrained(folder)
        for bits in (4, 8):
            row = decoding(f"{bits} bits", "")
            if possible:
                smaller = quantised(folder, bits)
                row.measured(a_token(smaller), plain)
                row.why = "fewer bytes a weight, and work to unpack them"
                del smaller
            elif gpu:
                row.why = "bitsandbytes is not installed"
            yield row


def beside(row: Row, times: list[float], least: float | None) -> None:
    """The row with its times, beside what the card's data sheet allows where there is one for this card."""
    if least is None:
        row.ours, row.baseline = min(times), f"no data sheet here for {torch.cuda.get_device_name()}"
    else:
        row.measured(times, [least] * len(times))


def decoding(what: str, reach: str) -> Row:
    """A row of one way to decode, not measured yet."""
    return Row("device", f"{what}, a token", "bfloat16, growing cache", reach, NOT_MEASURED)


def attention(model: Any, gpu: bool, turns: int) -> Row:
    """A prompt as long as MAIRA-1's through the language model, torch's flash kernel beside eager attention."""
    decoder, batch, length = model.model.language_model, *((8, 1409) if gpu else (1, 8))
    states = torch.randn(batch, length, decoder.config.hidden_size, dtype=model.dtype, device=model.device)

    @torch.no_grad()
    def prefill(kind: str) -> None:
        decoder.set_attn_implementation(kind)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            decoder(inputs_embeds=states, use_cache=False)

    eager, flash = (wall_ms(partial(prefill, kind), turns) for kind in ("eager", "sdpa"))
    row = Row("device", "prefill of 1,409 tokens, flash attention", "eager attention", "", NOT_MEASURED)
    if gpu:
        row.measured(flash, eager)
        row.why = "no row of scores is written to memory"
    return row


def quantised(folder: str, bits: int) -> Any:
    """A saved model with the language model's weights in so many bits; towers and connector stay as they are."""
    options: dict[str, Any] = {f"load_in_{bits}bit": True, "llm_int8_skip_modules": list(NOT_QUANTISED)}
    if bits == 4:
        options |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return TRRGForConditionalGeneration.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**options), device_map="cuda"
    )


def training_step(model: Any, gpu: bool, peak: tuple[float, float] | None, turns: int) -> Row:
    """MFU of forward and backward: FLOPs that the model needs over those that the card can do."""
    inputs = given(model.train(), 16 if gpu else 1)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN, -100)

    def step() -> None:
        model(**inputs, labels=labels).loss.backward()
        model.zero_grad(set_to_none=True)

    decoder = model.model.language_model
    decoder.set_attn_implementation("eager")  # PyTorch 2.11 cannot count grouped heads of the other one
    with FlopCounterMode(display=False) as counter:
        step()
    decoder.set_attn_implementation("sdpa")
    row = Row("device", "training step of 16 studies, forward and backward", "its FLOPs at the card's peak",
              "MFU >= 45 %", NOT_MEASURED)  # fmt: skip
    if gpu:
        times = wall_ms(step, turns)
        least = None if peak is None else 1000 * counter.get_total_flops() / peak[0]
        beside(row, times, least)
        told = "" if least is None else f"MFU {least / min(times):.0%}; "
        row.why = f"{told}the vision tower and short texts fill the card less than long ones"
    return row
