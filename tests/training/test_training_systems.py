"""LoRA, the other systems, and that eight real studies can be learned, through the real entry points."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from configuration_trrg.presets_trrg import PRESETS
from evaluation.reading.labeler import label_report
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor, report_text
from tests.helpers.training_helpers import (
    SIDE,
    TINY_OVERRIDES,
    assert_same_losses,
    run_script,
    stage_2,
    weights,
)
from training.builders.small_data import write_set
from training.builders.train_tokenizers import (
    texts_for_clues,
    texts_for_reports,
    train_clue_tokenizer,
    train_text_tokenizer,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def language_model(data, tmp_path_factory):
    """A tiny pretrained language model with its tokenizer, as from the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-llama"
    settings = {**PRESETS["trrg-small"]["text_config"], **TINY_OVERRIDES["text_config"], "tie_word_embeddings": False}
    settings |= {"hidden_size": 64, "intermediate_size": 64}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(data / "tokenizer").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
def test_lora_moves_its_targets_only_and_is_merged_at_the_end(data, language_model, tmp_path, quantization):
    config = stage_2(data, tmp_path / "run")
    del config["model"]["tokenizer"]
    config["model"] |= {"language_model": str(language_model), "quantization": quantization}
    config["trained"].remove("language_model")

    config["lora"] = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj", "lm_head"]}
    config["schedule"] = {"steps": 2}
    assert run_script("finetune.py", config) == 0
    before = load_file(language_model / "model.safetensors")
    after = weights(tmp_path / "run")
    for name, tensor in before.items():
        new = after[
            "lm_head.weight" if name == "lm_head.weight" else name.replace("model.", "model.language_model.", 1)
        ]
        moved = any(target in name for target in ("q_proj", "v_proj", "lm_head"))
        assert torch.equal(tensor.to(new.dtype), new) != moved, name


def test_checkpointed_activations_change_nothing(data, language_model, tmp_path):
    """With TRRG's Swin, whose patch embeddings return a tuple, and LoRA."""
    swin = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": SIDE}
    for checkpointing in (False, True):
        config = stage_2(data, tmp_path / str(checkpointing))
        del config["model"]["tokenizer"]
        config["model"] |= {"language_model": str(language_model)}
        config["model"]["overrides"] = {
            **TINY_OVERRIDES, "vision_config": {"model_type": "swin", **swin}, "patch_grid": 8, "num_prefix_tokens": 0,
        }  # fmt: skip
        config["trained"].remove("language_model")
        config["lora"] = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "lm_head"]}
        config["run"] |= {"gradient_checkpointing": checkpointing, "generate_studies": 0}
        config["schedule"] = {"steps": 2}
        assert run_script("finetune.py", config) == 0
    assert_same_losses(tmp_path / "False", tmp_path / "True")


def test_a_lora_run_goes_on_from_its_checkpoint(data, language_model, tmp_path):
    config = stage_2(data, tmp_path / "straight")
    del config["model"]["tokenizer"]
    config["model"] |= {"language_model": str(language_model)}
    config["trained"].remove("language_model")

    config["lora"] = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    assert run_script("finetune.py", config) == 0
    config["run"] |= {"output_dir": str(tmp_path / "halted"), "stop_after": 3}
    assert run_script("finetune.py", config) == 0
    assert run_script("finetune.py", config) == 0
    assert_same_losses(tmp_path / "straight", tmp_path / "halted")


def test_every_interaction_and_none_start_from_the_same_stage_1(data, straight, tmp_path):
    for name, overrides, trained in (
        ("no-clues", {"clue_source": "none"}, ["multi_modal_projector", "language_model"]),
        ("no-interaction", {"connector": "mlp"}, ["multi_modal_projector", "report_projection", "language_model"]),
        ("cross", {"interaction": "cross"}, ["multi_modal_projector", "report_projection", "language_model"]),
    ):
        config = stage_2(data, tmp_path / name)
        config["model"] = {"checkpoint": str(straight["pretrain.py"] / "model"), "overrides": overrides}
        config["data"]["train"] = config["data"]["train"][::2]
        config["data"]["validation"] = config["data"]["validation"][:1]
        config["trained"], config["schedule"] = trained, {"steps": 1}
        assert run_script("finetune.py", config) == 0


@pytest.mark.slow
def test_8_real_studies_are_learned_by_heart(data_dir, tmp_path):
    """The small model, from new weights, repeats the reports of 8 real studies word for word after 200 steps."""
    reports = {row["uid"]: row for row in map(json.loads, (data_dir / "iu_xray" / "reports.jsonl").open())}
    frontal = {}
    for row in json.loads((data_dir / "iu_xray" / "images.json").read_text()):
        if row["projection"] == "Frontal":
            frontal.setdefault(row["uid"], row["image"])
    folder = tmp_path / "iu"
    records = [
        {
            "study_id": uid, "patient_id": uid, "split": "train", "images": [{"path": image, "view": "frontal"}],
            "indication": reports[uid]["indication"] or None, "findings": reports[uid]["findings"] or None,
            "impression": reports[uid]["impression"] or None,
            "labels": label_report(f"{reports[uid]['findings']} {reports[uid]['impression']}"),
        }
        for uid, image in sorted(frontal.items())[:8]
    ]  # fmt: skip
    assert len(records) == 8
    write_set(folder, records)
    (folder / "images").symlink_to(data_dir / "iu_xray" / "images")
    train_text_tokenizer(list(texts_for_reports([folder])), 2048).save_pretrained(tmp_path / "tokenizer")
    train_clue_tokenizer(list(texts_for_clues([folder])), 1024).save_pretrained(tmp_path / "clue_tokenizer")
    config = {
        "model": {
            "preset": "trrg-small", "tokenizer": str(tmp_path / "tokenizer"),
            "clue_tokenizer": str(tmp_path / "clue_tokenizer"),
        },
        "trained": [*stage_2(tmp_path, tmp_path)["trained"]],
        "data": {"train": [{"path": str(folder)}], "augment": False, "image_cache": str(tmp_path / "cache")},
        "optimizer": {"lr": 1e-3, "batch_size": 8, "micro_batch_size": 8},
        "schedule": {"steps": 200, "warmup_steps": 10},
        "run": {"output_dir": str(tmp_path / "run")},
    }  # fmt: skip
    start = time.perf_counter()
    assert run_script("finetune.py", config) == 0
    model = TRRGForConditionalGeneration.from_pretrained(tmp_path / "run" / "model").eval()
    processor = TRRGProcessor.from_pretrained(tmp_path / "run" / "model")
    for record in records:
        inputs = processor(images=folder / record["images"][0]["path"], indication=record["indication"])
        ids = model.generate(**inputs, max_new_tokens=300, do_sample=False)
        text = processor.post_process_report(ids, inputs)[0].text
        assert text == report_text(record["findings"], record["impression"])
    assert time.perf_counter() - start < 300
