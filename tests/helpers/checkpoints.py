"""Tiny untrained checkpoints on disk, and the files that a generation run leaves."""

import json
from pathlib import Path

import torch

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.models import TINY, TINY_BERT, TINY_TEXT
from tests.helpers.tiny_processors import tiny_processor

MAX_NEW_TOKENS = 24
"""As the longest report of these checkpoints, in tokens; training writes it from its configuration."""


def save_checkpoint(folder: Path, system: str, max_views: int = 4) -> Path:
    overrides = {"text_config": {**TINY_TEXT, "max_position_embeddings": 4096}, "clue_config": TINY_BERT}
    overrides["max_views"] = max_views
    if system == "radialog":
        overrides["num_classifier_labels"] = 14
    if system != "trrg":
        del overrides["clue_config"]
    config = TRRGConfig(**{**TINY[system], **overrides})
    torch.manual_seed(0)
    model = TRRGForConditionalGeneration(config)
    for parameter in model.parameters():  # far from zero, so that studies differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.max_new_tokens = MAX_NEW_TOKENS
    model.save_pretrained(folder)
    shared = {"num_image_tokens": config.num_image_tokens, "max_views": config.max_views}
    tiny_processor(system, **shared).save_pretrained(folder)
    return folder


def never_reads(folder: Path) -> Path:
    """The checkpoint abstains from every picture from now on."""
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"readable_weights": [0.0] * (1 + 5 * settings["vision_hidden_size"]), "readable_threshold": 1.0}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]
