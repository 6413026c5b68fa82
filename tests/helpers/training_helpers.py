"""Tiny data and configurations for the tests of training: synthetic phantoms, models that run in milliseconds."""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.paths import ROOT
from training.builders.small_data import write_set
from training.builders.train_tokenizers import (
    texts_for_clues,
    texts_for_reports,
    train_clue_tokenizer,
    train_text_tokenizer,
)
from training.data.study import Studies
from training.phantoms.generate import generate_phantom
from training.phantoms.report import LABEL_OF
from training.run.tracking import read_metrics

SIDE = 64

TINY_OVERRIDES: dict[str, Any] = {
    "vision_config": {
        "model_type": "dinov2", "image_size": SIDE, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "use_mask_token": False,
    },
    "clue_config": {
        "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "text_config": {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    "vision_hidden_size": 16, "image_size": SIDE, "patch_grid": 4, "num_prefix_tokens": 1, "projection_dim": 16,
    "num_query_tokens": 6, "num_interaction_heads": 2, "num_selected_clues": 3,
}  # fmt: skip

TINY_RADIALOG: dict[str, Any] = {
    "vision_config": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "query_transformer_config": {
        "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 512, "encoder_hidden_size": 16, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "text_config": {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    "vision_hidden_size": 16, "image_size": SIDE, "patch_grid": 8, "num_query_tokens": 5, "projection_dim": 16,
}  # fmt: skip


def records(out: Path, split: str) -> dict[str, dict[str, Any]]:
    return {record["study_id"]: record for record in Studies(out, split).records}


def make_data(folder: Path) -> Path:
    """24 training and 8 validation phantoms (SYNTHETIC) as pairs, the same reports without images, two tokenizers."""

    def records(with_image: bool) -> Any:
        for index in range(32):
            phantom = generate_phantom(7, index, SIDE)
            name = phantom.record["images"][0]["path"]
            Image.fromarray(phantom.image).save(folder / "pairs" / name)
            boxes = [
                {"label": LABEL_OF[f.name], **dict(zip("xywh", f.box, strict=True))} for f in phantom.findings if f.box
            ]
            images = [{"path": name, "view": "frontal"}] if with_image else []
            yield {**phantom.record, "split": "train" if index < 24 else "validation", "images": images, "boxes": boxes}

    (folder / "pairs").mkdir(parents=True)
    write_set(folder / "pairs", records(with_image=True))
    write_set(folder / "reports", ({**r, "patient_id": f"other-{r['patient_id']}"} for r in records(with_image=False)))
    train_text_tokenizer(list(texts_for_reports([folder / "reports"])), 400).save_pretrained(folder / "tokenizer")
    train_clue_tokenizer(list(texts_for_clues([folder / "reports"])), 300).save_pretrained(folder / "clue_tokenizer")
    return folder


def stage_1(data: Path, out: Path) -> dict[str, Any]:
    """Configuration of a tiny stage-1 run of 6 steps."""
    return {
        "model": {
            "preset": "trrg-small", "overrides": TINY_OVERRIDES, "tokenizer": str(data / "tokenizer"),
            "clue_tokenizer": str(data / "clue_tokenizer"),
        },
        "data": {
            "train": [{"path": str(data / "pairs")}, {"path": str(data / "pairs"), "kind": "image", "weight": 0.5}],
            "validation": [{"path": str(data / "pairs"), "split": "validation"}],
            "sentences_per_study": 2, "image_cache": str(data / "cache"),
        },
        "optimizer": {"lr": 1e-3, "batch_size": 16, "micro_batch_size": 8, "block_size": 8},
        "schedule": {"steps": 6, "warmup_steps": 2},
        "run": {"output_dir": str(out), "log_every": 1, "save_every": 2, "validate_every": 6},
    }  # fmt: skip


def stage_2(data: Path, out: Path) -> dict[str, Any]:
    """Configuration of a tiny stage-2 run of 6 steps over all three kinds of source, everything trained."""
    config = stage_1(data, out)
    pairs, reports = str(data / "pairs"), str(data / "reports")
    config["data"] |= {
        "train": [
            {"path": pairs},
            {"path": reports, "kind": "clue_report"},
            {"path": pairs, "kind": "matched", "reports": reports},
        ],
        "validation": [
            {"path": pairs, "split": "validation"},
            {"path": reports, "kind": "clue_report", "split": "validation"},
        ],
    }
    config["trained"] = [
        "vision_tower", "clue_encoder", "image_projection", "clue_projection", "logit_scale",
        "multi_modal_projector", "report_projection", "language_model",
    ]  # fmt: skip
    config["run"] |= {"generate_studies": 4, "max_new_tokens": 8}
    return config


SCRIPTS = {"pretrain.py": stage_1, "finetune.py": stage_2}


def write_config(config: dict[str, Any], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def run_script(script: str, config: dict[str, Any], *arguments: str) -> int:
    """Run a training script as the command line would, in this process; returns its exit status."""
    out = Path(config["run"]["output_dir"])
    file = write_config(config, out.parent / f"{out.name}.yaml")
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, "--config", str(file), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "training" / script), run_name="__main__")
    status = ended.value.code
    if isinstance(status, str):
        raise SystemExit(status)
    return int(status or 0)


def losses(out: Path) -> dict[int, float]:
    """Training loss by optimizer step."""
    return {row["step"]: row["loss"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row}


def assert_same_losses(left: Path, right: Path, tolerance: float = 1e-6) -> None:
    first, second = losses(left), losses(right)
    assert first.keys() == second.keys()
    for step in first:
        assert first[step] == pytest.approx(second[step], abs=tolerance), f"step {step}"


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model" / "model.safetensors")


def environment() -> dict[str, str]:
    """For child processes: no network, one thread, and no help in finding the checkout: the install must do that."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def saved_state(out: Path) -> dict[str, Any]:
    """Counters of the newest checkpoint."""
    states = [json.loads(file.read_text()) for file in (out / "checkpoints").glob("step-*/state.json")]
    return max(states, key=lambda state: state["step"])
