"""Stage 1: sentence-level image-text contrast, so that the vision tower perceives each disease.

    python training/pretrain.py --config training/configs/trrg-small-stage1.yaml [key.path=value ...]

Also aligns RaDialog's query transformer (ITC, ITM and LM): `model.preset: radialog`.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING, Labels
from modeling_trrg import TRRGForContrastivePretraining
from training.config.command_line import run_command
from training.config.run_config import ConfigError, PretrainConfig
from training.data.collate import PretrainCollator
from training.data.examples import Examples
from training.run.initial_model import build_config, build_model, build_processor, fit_vocabulary
from training.run.loop import Stage, train
from training.run.sharded_weights import fit_for_sharding, whole_state
from training.run.start import load_sources, make_optimizer, make_plan, parse_arguments, save_model, start_accelerator
from training.run.trained_parts import checkpoint_layers, freeze, set_training_mode
from training.run.validation import perceive, zero_shot


def sentence_labels(text: str) -> Labels:
    """What one sentence asserts. "No Finding" only where the sentence asserts nothing else: "no pneumothorax" is not a
    normal chest."""
    labels = label_report(text)
    if any(value is not None for name, value in labels.items() if name != NO_FINDING):
        labels[NO_FINDING] = None
    return labels


def contrastive_loss(
    model: torch.nn.Module, batch: dict[str, Any], mean_targets: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The model's loss over the studies of this forward pass on all processes, and its parts."""
    out = model(**batch)
    names = ("sentence_loss", "clue_loss", "matching_loss", "generation_loss")
    return out.loss, {name: out[name] for name in names if out.get(name) is not None}


def main() -> int:
    """The command at the top of this file. Returns its exit status (`training/config/command_line.py`)."""
    config, restart = parse_arguments(__doc__ or "", PretrainConfig)
    accelerator = start_accelerator(config, restart, some_unused=False)
    architecture = build_config(config.model)
    processor = build_processor(config.model, architecture)
    fit_vocabulary(architecture, processor, config.data.views)
    model, origins = build_model(TRRGForContrastivePretraining, config.model, architecture, config.trained)
    for part, origin in origins.items():
        accelerator.print(f"{part:<24} {origin}")
    freeze(model, config.trained)
    if config.run.gradient_checkpointing:
        checkpoint_layers(model)
    fit_for_sharding(accelerator, model, config)
    optimizer = make_optimizer(accelerator, model, config)

    aligns = architecture.connector == "query_transformer"
    if aligns and all(source.kind != "pair" for source in config.data.train):
        raise ConfigError("data.train: the query transformer is aligned with reports; expected a source of kind 'pair'")
    if architecture.clue_source != "zero_shot" and (config.data.clue_wordings or config.data.nonsense_clues):
        raise ConfigError("data.clue_wordings, data.nonsense_clues: only a model that reads clue sentences learns them")
    training, validation = load_sources(accelerator, config, processor)
    for source in [*training, *validation]:
        source.find_sentences(config.data.sentence_balance, sentence_labels, whole=aligns)
    plan, total_steps = make_plan(config, training)
    data, plain = config.data, PretrainCollator(processor, reports=aligns)
    collate = PretrainCollator(processor, reports=aligns, share=data.clue_wordings, nonsense=data.nonsense_clues)

    def validate(unwrapped: torch.nn.Module) -> dict[str, float]:
        size = config.optimizer.micro_batch_size
        return zero_shot(perceive(accelerator, unwrapped, validation, config.data, plain, size), validation[0].names)

    def export(trained: torch.nn.Module, folder: Path) -> None:
        save_model(accelerator, trained, whole_state(accelerator, trained), processor, folder)

    stage = Stage(
        loss=contrastive_loss, count_targets=None, length=None, validate=validate if validation else None, export=export
    )
    return train(
        config, accelerator, model, optimizer, Examples(training, config.data, config.run.seed, training=True), collate,
        plan, total_steps, stage, set_training_mode,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(main))
