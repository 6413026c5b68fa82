"""Weights that wait in memory or on the disk: Accelerate brings each part for its own pass alone."""

import copy

import pytest
import torch
from accelerate import cpu_offload, disk_offload

from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.models import CLUE_NAMES, SYSTEMS, build, clues, studies


def answers(model, inputs):
    """Loss, text, and what is seen."""
    study = model.read_study(**inputs)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    return [
        model(**inputs, labels=inputs["input_ids"]).loss,
        model.generate(**inputs, max_new_tokens=4, do_sample=False),
        model.generate(**text, study=study, max_new_tokens=4, do_sample=False),
        study.pooler_output,
        *(study[name] for name in ("clue_scores", "evidence_maps") if name in study),
    ]


def assert_same(model, offloaded, inputs):
    assert any(parameter.is_meta for parameter in offloaded.parameters())
    for one, other in zip(answers(model, inputs), answers(offloaded, inputs), strict=True):
        torch.testing.assert_close(one, other)  # tokens exactly; a sum may depend on where a weight begins in memory


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_offloaded_models_answer_the_same(tiny_config, tmp_path, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2))
    assert_same(model, cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu")), inputs)
    stored = disk_offload(copy.deepcopy(model), tmp_path / "disk", execution_device=torch.device("cpu"))
    assert_same(model, stored, inputs)


@torch.no_grad()
def test_parts_on_the_disk_by_a_device_map(tiny_config, tmp_path):
    own = clues()
    pairs = zip(own["clue_input_ids"], own["clue_attention_mask"], strict=True)
    rows = [[row[keep.bool()].tolist() for row, keep in zip(*pair, strict=True)] for pair in pairs]
    config = tiny_config("trrg", clue_token_ids=rows)
    model, inputs = build(config), studies(config)
    inputs = {name: value for name, value in inputs.items() if name not in CLUE_NAMES}  # the checkpoint's own clues
    model.save_pretrained(tmp_path / "model")
    parts = {".".join(name.split(".")[: 2 if name.startswith("model.") else 1]) for name in model.state_dict()}
    by_hand = dict.fromkeys(parts, "cpu") | dict.fromkeys(("model.clue_encoder", "model.clue_projection"), "disk")
    for plan, limit in ((by_hand, None), ("balanced", {"cpu": 60_000})):
        placed = TRRGForConditionalGeneration.from_pretrained(
            tmp_path / "model", device_map=plan, max_memory=limit, offload_folder=tmp_path / "disk"
        )
        assert_same(model, placed, inputs)
