"""The model beside LLaVA's of the same size: look, connector, prefill, decoding, and the loop of `generate` around it.

Random weights: a ViT-S/14 at 224 pixels and a Llama of 8 layers, 768 wide; both put 256 image tokens into the prompt.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from configuration_trrg import TRRGConfig
from evaluation.bench.turns import Row, cpu_ms
from modeling_trrg import TRRGForConditionalGeneration

IMAGE_TOKEN, PATCHES, PROMPT = 3, 256, 40
LLAVA = "LlavaForConditionalGeneration"


def sizes(quick: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The configurations of tower, clue encoder and language model."""
    width, layers = (48, 1) if quick else (384, 12)
    tower = {"model_type": "dinov2", "image_size": 224, "patch_size": 14, "hidden_size": width, "mlp_ratio": 4,
             "num_hidden_layers": layers, "num_attention_heads": 6, "use_mask_token": False}  # fmt: skip
    clues = {"model_type": "bert", "vocab_size": 1000, "hidden_size": 48 if quick else 768, "num_attention_heads": 12,
             "num_hidden_layers": 1, "intermediate_size": 96 if quick else 3072}  # fmt: skip
    text = {"model_type": "llama", "vocab_size": 1000 if quick else 8000, "hidden_size": 96 if quick else 768,
            "intermediate_size": 192 if quick else 2048, "num_hidden_layers": 2 if quick else 8,
            "num_attention_heads": 12, "num_key_value_heads": 12, "max_position_embeddings": 2048}  # fmt: skip
    return tower, clues, text


def build_trrg(quick: bool, **changes: Any) -> TRRGForConditionalGeneration:
    """Ours, with as many image tokens as `build_llava`; `changes` of the configuration."""
    tower, clues, text = sizes(quick)
    fields: dict[str, Any] = {
        "vision_config": tower, "clue_config": clues, "text_config": text, "vision_hidden_size": tower["hidden_size"],
        "image_size": 224, "patch_grid": 16, "num_prefix_tokens": 1, "vision_pooling": "mean",
        "num_query_tokens": PATCHES, "image_token_id": IMAGE_TOKEN,
    }  # fmt: skip
    torch.manual_seed(0)
    return TRRGForConditionalGeneration(TRRGConfig(**fields | changes)).eval()


def build_llava(quick: bool) -> LlavaForConditionalGeneration:
    """The same tower and language model with LLaVA's two linear layers between them."""
    tower, _, text = sizes(quick)
    config = LlavaConfig(
        vision_config=tower, text_config=text, image_token_id=IMAGE_TOKEN, vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    return LlavaForConditionalGeneration(config).eval()


def clue_inputs(count: int = 14, length: int = 8) -> dict[str, torch.Tensor]:
    """A clue list of random words, `[2, C, L]`."""
    ids = torch.randint(5, 1000, (2, count, length), generator=torch.Generator().manual_seed(1))
    return {"clue_input_ids": ids, "clue_attention_mask": torch.ones_like(ids)}


def rows(quick: bool) -> Iterator[Row]:
    """Against LLaVA, the tower alone, the FLOPs, and the model's own time."""
    seconds = 0 if quick else 6
    ours, llava = build_trrg(quick), build_llava(quick)
    clues = clue_inputs()
    with torch.no_grad():
        for batch in (1, 8):
            yield from beside_llava(ours, llava, clues, batch, seconds)
        tower = build_trrg(
            quick, vision_config={"model_type": "timm_wrapper", "architecture": "resnet18", "do_pooling": False},
            vision_hidden_size=512, patch_grid=7, num_prefix_tokens=0, num_query_tokens=32,
        )  # fmt: skip
        pixels = torch.randn(1, 3, 224, 224)
        row = Row("model", "get_image_features, ResNet-18, clues known", "its vision tower alone", "<= 1.25",
                  "a call also scores the clues and runs the connector, which do not grow with the tower")  # fmt: skip
        look = partial(tower.get_image_features, pixels, **clues, return_dict=True)
        wide = pixels.to(memory_format=torch.channels_last)
        yield row.by_turns(look, partial(tower.model.vision_tower, wide), seconds / 3)
        yield long_prompt(quick)


def beside_llava(ours: Any, llava: Any, clues: dict[str, torch.Tensor], batch: int, seconds: float) -> Iterator[Row]:
    """Prefill, connector and decoding of `batch` studies."""
    ids = torch.full((batch, PATCHES + PROMPT), 7)
    ids[:, 1 : PATCHES + 1] = IMAGE_TOKEN
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(batch, 3, 224, 224)}
    look, theirs = partial(ours, **given, **clues, logits_to_keep=1), partial(llava, **given, logits_to_keep=1)
    row = Row("model", f"tower, connector, prefill; batch {batch}", LLAVA, "<= 1.03",
              "the same tower and language model; the difference is connector and clue scores")  # fmt: skip
    yield row.by_turns(look, theirs, seconds * batch**0.5)
    study = ours.get_image_features(given["pixel_values"], **clues, return_dict=True)
    patches = study.last_hidden_state
    row = Row("model", f"connector alone, batch {batch}", "LLaVA's two linear layers", "half of 10 (batch 8: of 16)",
              "3.7 GFLOP a study against 0.45, nearly all of it linear layers 1,024 wide: keys and values of the "
              "patches 1.1, the clue tokens' 1.2; learned queries, 0.5, are projected once a batch")  # fmt: skip
    project = llava.model.multi_modal_projector
    yield row.by_turns(partial(ours.model.connect, study), partial(project, patches), seconds / 6)
    caches = [run(use_cache=True).past_key_values for run in (look, theirs)]
    token = torch.full((batch, 1), 9)

    def step(model: Any, cache: Any) -> None:
        model(input_ids=token, past_key_values=cache, use_cache=True)

    ways = [partial(step, model, cache) for model, cache in zip((ours, llava), caches, strict=True)]
    row = Row("model", f"decoding, a token; batch {batch}", LLAVA, "<= 1.0",
              "the language model reads the same cache; nothing of the image is touched again")  # fmt: skip
    yield row.by_turns(ways[0], ways[1], seconds / 3)


def long_prompt(quick: bool, new_tokens: int = 64) -> Row:
    """A report behind 1,369 image tokens (MAIRA-1) and behind 96, in time and in FLOPs."""
    from transformers import AutoConfig

    text = sizes(quick)[2]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**text)).eval()

    def write(tokens: int) -> None:
        ids = torch.full((1, tokens + PROMPT), 7)
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens,
                       min_new_tokens=new_tokens, do_sample=False, pad_token_id=0)  # fmt: skip

    flops, prefill = [], 0.0
    for tokens in (1369, 96):
        ids = torch.full((1, tokens + PROMPT), 7)
        with FlopCounterMode(display=False) as counter:
            model(ids, logits_to_keep=1)
        flops.append(counter.get_total_flops())
        prefill = min(cpu_ms(partial(model, ids, logits_to_keep=1)) for _ in range(3))
    row = Row("model", f"1,369 image tokens, {new_tokens} tokens written", "96 image tokens", "", "")
    row.by_turns(partial(write, 1369), partial(write, 96), 0 if quick else 1, turns=3)
    assert row.theirs is not None
    predicted = 1 + (flops[0] / flops[1] - 1) * prefill / row.theirs
    row.reach = f"within 20 % of {predicted:.2f}"
    row.why = (
        f"predicted: the prompt of 96 takes {prefill:.0f} ms, the longer one {flops[0] / flops[1]:.1f} times that; "
        "a token that is written costs by the bytes of the weights, the same for both"
    )
    return row


def loop_rows(model: Any, inputs: dict[str, Any], new_tokens: int, runs: int) -> Iterator[Row]:
    """The loop of `generate` beside the calls of the model in it, in the same run; and with a static cache."""
    inside: list[float] = []
    study = model.get_image_features(inputs["pixel_values"], **{k: v for k, v in inputs.items() if "clue" in k})
    write = partial(model.generate, input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], study=study,
                    max_new_tokens=new_tokens)  # fmt: skip
    write()

    def add(sign: int, *_: Any) -> None:
        inside[-1] += sign * 1000 * time.process_time()

    whole: list[float] = []
    still: list[float] = []
    for _ in range(runs):
        hooks = model.register_forward_pre_hook(partial(add, -1)), model.register_forward_hook(partial(add, 1))
        inside.append(0.0)
        whole.append(cpu_ms(write))
        for hook in hooks:
            hook.remove()
        still.append(cpu_ms(partial(write, cache_implementation="static")))
    row = Row("model", "the loop of generate, small checkpoint", "the model's calls in it", "<= 1.11 (10 % outside)",
              "what is left outside is Transformers' own: inputs made anew for each token, its logits processors and "
              "its criteria of stopping; no step is ours but for the placeholder that is forbidden")  # fmt: skip
    yield row.measured(whole, inside)
    row = Row("model", "the same with a static cache", "a growing cache", "",
              "a CPU gains nothing: it copies what is written, reads the empty places too, and Transformers compiles "
              "for GPUs alone (see `device`)")  # fmt: skip
    yield row.measured(still, whole)
