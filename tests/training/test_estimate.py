"""The estimate of memory and time: against published counts, and against what a small run really takes."""

import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import torch

from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.paths import ROOT
from training.config.run_config import (
    ConfigError,
    DataSection,
    FinetuneConfig,
    LoraSection,
    ModelSection,
    OptimizerSection,
    PretrainConfig,
    RunSection,
    load_config,
)
from training.finetune import language_loss
from training.measure.estimate import (
    GIB,
    NF4_BYTES,
    architecture_of,
    count_weights,
    estimate,
    memory_of,
    model_without_weights,
    report,
    sizes_of,
)
from training.measure.fake_pass import Pass
from training.run.initial_model import build_config
from training.run.trained_parts import add_lora, checkpoint_layers, freeze, parts_table, set_training_mode

CONFIGS = ROOT / "training" / "configs"
SMALL = {
    "text_config": {
        "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip
CLUES = ["clue_encoder", "image_projection", "clue_projection", "multi_modal_projector", "report_projection"]
EVERYTHING: dict[str, Any] = {"trained": [*CLUES, "vision_tower", "logit_scale", "language_model"]}
RUNS: dict[str, dict[str, Any]] = {
    "all weights": EVERYTHING,
    "all weights, checkpointing": {**EVERYTHING, "run": RunSection(gradient_checkpointing=True)},
    "LoRA": {"trained": CLUES, "lora": LoraSection(r=8, target_modules=["q_proj", "v_proj", "lm_head"])},
}
TOLERANCE = 1.2
"""Factor, either way, between the estimate and the peak of a process whose allocator gives memory back at once."""


def small_config(name: str) -> FinetuneConfig:
    return FinetuneConfig(
        model=ModelSection(preset="trrg-small", overrides=SMALL),
        data=DataSection(views=1),
        optimizer=OptimizerSection(batch_size=8, micro_batch_size=8),
        **RUNS[name],
    )


def measured(name: str) -> int:
    """Bytes that two optimizer steps add to this process's peak, model and optimizer and all."""
    torch.set_num_threads(1)
    config = small_config(name)
    architecture = build_config(config.model)
    sizes = sizes_of(config, architecture, 224, 32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model: Any = TRRGForConditionalGeneration(architecture)
    if config.lora:
        add_lora(model, config.lora)
    freeze(model, config.trained)
    if config.run.gradient_checkpointing:
        checkpoint_layers(model)
    set_training_mode(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.full((sizes.studies, architecture.num_image_tokens + sizes.text_tokens), 7)
    ids[:, : architecture.num_image_tokens] = architecture.image_token_id
    clue = torch.full((2, sizes.clues, sizes.clue_tokens), 7)
    batch = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids,
        "pixel_values": torch.zeros(sizes.studies, 1, 3, architecture.image_size, architecture.image_size),
        "clue_input_ids": clue, "clue_attention_mask": torch.ones_like(clue),
    }  # fmt: skip
    for _ in range(2):
        language_loss(model, batch, torch.tensor(100.0))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


@pytest.fixture(scope="module")
def peaks() -> dict[str, int]:
    """Each run in a process of its own, forked from one that has imported everything and computed nothing."""
    server = get_context("forkserver")
    server.set_forkserver_preload(["tests.training.test_estimate"])
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # else freed blocks stay with the process and are counted
        for name in RUNS:
            with ProcessPoolExecutor(1, mp_context=server) as pool:
                found[name] = pool.submit(measured, name).result(timeout=300)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_memory_of_a_small_run_is_as_estimated(peaks, name):
    config = small_config(name)
    found = estimate(config, CONFIGS, 1, sizes_of(config, architecture_of(config.model, CONFIGS), 224, 32))
    total = sum(found.memory["ddp"].values())
    print(f"{name}: estimated {total / GIB:.3f} GiB, measured {peaks[name] / GIB:.3f} GiB")
    assert peaks[name] / TOLERANCE < total < peaks[name] * TOLERANCE


def test_trrg_has_the_weights_of_the_author_s_training_log():
    """The log of the public author code: 42,520,576 LoRA weights of 7.284 B, 177 M trained in all."""
    config = load_config(FinetuneConfig, CONFIGS / "trrg-stage2-mimic.yaml", [])
    model = model_without_weights(config, CONFIGS)
    assert "language_model             7,284,252,672      42,520,576" in parts_table(model, 1e-4, {})
    half = count_weights(model, config.model)
    assert half.trained == pytest.approx(177e6, rel=0.005)
    config.model.quantization = "nf4"  # QLoRA: the linear layers of the language model in four bits, on every GPU
    quarter = count_weights(model, config.model)
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert half.stored - quarter.stored == pytest.approx(linear * (2 - NF4_BYTES), rel=1e-6)
    assert memory_of("fsdp2", quarter, Pass(0, 0, 0, 0), 8, True, config)["weights"] > linear * NF4_BYTES


def test_sharding_divides_what_it_can():
    config = load_config(
        FinetuneConfig, CONFIGS / "trrg-stage2-mimic.yaml", ["model.overrides={text_config: {num_hidden_layers: 2}}"]
    )
    sizes = sizes_of(config, architecture_of(config.model, CONFIGS), 256, 32)
    found = estimate(config, CONFIGS, 8, sizes)
    for row, each in (("gradients", 4), ("optimizer (AdamW)", 8)):
        assert found.memory["fsdp2"][row] == pytest.approx(each * found.weights.trained / 8)
    assert found.memory["ddp"]["weights"] == pytest.approx(8 * found.memory["fsdp2"]["weights"])
    assert found.run.saved_with_checkpointing < found.run.saved
    page = report(config, found, sizes, 8, 312.0, 0.35, 150_000)
    assert "ddp     fsdp2     zero3" in page and "15,625 steps" in page
    with pytest.raises(ConfigError, match=r"48 is no multiple of micro_batch_size 6 x 3 GPU"):
        estimate(config, CONFIGS, 3, sizes)


@pytest.mark.parametrize(
    ("cls", "name"), [(PretrainConfig, "trrg-stage1-mimic"), (PretrainConfig, "radialog-stage1-mimic")]
)
def test_stage_1_and_the_query_transformer_are_estimated_too(cls, name):
    config = load_config(cls, CONFIGS / f"{name}.yaml", ["optimizer.micro_batch_size=1"])
    found = estimate(config, CONFIGS, 1, sizes_of(config, architecture_of(config.model, CONFIGS), 8, 8))
    assert found.flops > 1e12 and found.run.saved > 50e6


def test_a_checkpoint_that_no_configuration_writes_is_named():
    with pytest.raises(ConfigError, match="runs/elsewhere does not exist"):
        architecture_of(ModelSection(checkpoint="runs/elsewhere"), CONFIGS)
