"""Stage 2: instruct tuning of the language model on what the first stage sees, with the consistency loss.

    python training/finetune.py --config training/configs/trrg-small-stage2.yaml [key.path=value ...]

MAIRA-1 (one stage) and RaDialog (alignment, then LoRA) are configurations of this script.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from modeling_trrg import TRRGForConditionalGeneration
from training.config.command_line import run_command
from training.config.run_config import ConfigError, FinetuneConfig
from training.data.collate import FinetuneCollator, count_targets, text_length
from training.data.examples import Examples
from training.data.given_scores import own_thresholds
from training.run.generation import generation_metrics
from training.run.initial_model import build_config, build_model, build_processor, fit_vocabulary, masked_words
from training.run.loop import Stage, train
from training.run.predicted_findings import check_predictions, predict_findings
from training.run.sharded_weights import fit_for_sharding, whole_state
from training.run.start import load_sources, make_optimizer, make_plan, parse_arguments, save_model, start_accelerator
from training.run.trained_parts import add_lora, checkpoint_layers, freeze, set_training_mode, without_lora
from training.run.validation import report_loss


def language_loss(
    model: torch.nn.Module, batch: dict[str, Any], mean_targets: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Cross entropy over the target tokens plus consistency.

    The sum of this forward pass is divided by the mean number of target tokens a forward pass of this step, so that the
    average Accelerate takes over passes and processes is the step's sum over its tokens: each token weighs alike.
    """
    out = model(**batch, num_items_in_batch=mean_targets)
    logged = {} if out.consistency_loss is None else {"consistency_loss": out.consistency_loss}
    return out.loss, logged


def main() -> int:
    """The command at the top of this file. Returns its exit status (`training/config/command_line.py`)."""
    config, restart = parse_arguments(__doc__ or "", FinetuneConfig)
    accelerator = start_accelerator(config, restart, some_unused=True)
    architecture = build_config(config.model)
    processor = build_processor(config.model, architecture)
    fit_vocabulary(architecture, processor, config.data.views)
    architecture.learned_dialogue = any(config.data.dialogue.values())
    model, origins = build_model(TRRGForConditionalGeneration, config.model, architecture, config.trained)
    for part, origin in origins.items():
        accelerator.print(f"{part:<24} {origin}")
    model.generation_config.max_new_tokens = config.run.max_new_tokens
    model.generation_config.bad_words_ids = masked_words(processor.tokenizer) or None
    if config.data.predicted_findings:
        check_predictions(config, model, processor)
    if config.lora:
        add_lora(model, config.lora)
    freeze(model, config.trained)
    if config.run.gradient_checkpointing:
        checkpoint_layers(model)
    fit_for_sharding(accelerator, model, config)
    optimizer = make_optimizer(accelerator, model, config)

    if architecture.clue_source != "zero_shot" and (config.data.clue_wordings or config.data.nonsense_clues):
        raise ConfigError("data.clue_wordings, data.nonsense_clues: only a model that reads clue sentences learns them")
    plain = FinetuneCollator(processor)
    thresholds = own_thresholds(architecture), architecture.clue_threshold
    collate = FinetuneCollator(processor, config.data.clue_wordings, config.data.nonsense_clues, thresholds)
    training, validation = load_sources(accelerator, config, processor, collate.is_too_long)
    plan, total_steps = make_plan(config, training)
    if config.data.predicted_findings:
        predict_findings(accelerator, model, training, processor, config.optimizer.micro_batch_size)

    def validate(trained: torch.nn.Module) -> dict[str, float]:
        size, run = config.optimizer.micro_batch_size, config.run
        metrics = report_loss(accelerator, trained, validation, config.data, plain, size)
        if run.generate_studies:
            metrics |= generation_metrics(
                accelerator, trained, validation, config.data, processor, run.generate_studies, size
            )
        return metrics

    def export(trained: torch.nn.Module, folder: Path) -> None:
        state = whole_state(accelerator, trained)
        if config.lora and accelerator.is_main_process:
            quantized_from = config.model.language_model if config.model.quantization else None
            state = without_lora(accelerator.unwrap_model(trained), state, quantized_from)
        save_model(accelerator, trained, state, processor, folder)

    stage = Stage(
        loss=language_loss,
        count_targets=count_targets,
        length=text_length,
        validate=validate if validation else None,
        export=export,
    )
    examples = Examples(training, config.data, config.run.seed, training=True, config=architecture)
    return train(config, accelerator, model, optimizer, examples, collate, plan, total_steps, stage, set_training_mode)


if __name__ == "__main__":
    sys.exit(run_command(main))
