"""One YAML file -> one typed configuration of a run.

Unknown keys, wrong types and impossible values are collected and reported in one message, so a run never starts with a
setting that is ignored. `key.path=value` arguments override the file; the resolved configuration is saved with the run.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from processing_trrg.prompt_trrg import PromptStyle
from training.config.ranges import out_of_range
from training.config.yaml_config import ConfigError, build, flatten, override, read_yaml

PARTS = (
    "vision_tower",
    "clue_encoder",
    "image_projection",
    "clue_projection",
    "classifier",
    "query_transformer",
    "logit_scale",
    "multi_modal_projector",
    "report_projection",
    "language_model",
)
"""Parts of a TRRG model by the name a configuration uses for them; `run/trained_parts.py` maps parameters to them."""

DialogueKind = Literal[
    "findings_qa", "finding_qa", "region_qa", "easy_language", "summary", "correction", "explanation", "impression",
    "view", "detailed_qa", "grounding",
]  # fmt: skip
DIALOGUE_KINDS = get_args(DialogueKind)
"""Turns after the report; `data/dialogue.py` makes them."""


@dataclass
class ModelSection:
    """Which model is trained and where its first weights come from.

    Attributes:
        preset: name of a `TRRGConfig` preset; the architecture is built from it.
        checkpoint: folder of a TRRG checkpoint (a stage-1 folder for stage 2); its architecture and weights are used.
        overrides: fields of `TRRGConfig` set after the preset, sub-configurations by `vision_config: {...}`.
        vision_model, clue_model, language_model: Hub name or folder whose pretrained weights (and architecture) are
            used. A clue encoder and a language model bring their tokenizers.
        tokenizer, clue_tokenizer: with `preset`, Hub name or folder; required unless the model above brings one.
        clues: with `preset`, names, or {name, positive, negative}; null: the 14 CheXpert clues. "Left Pleural Effusion"
            and the like are labelled by the side a report names (`evaluation/reading/sides.py`).
        prompt_style: whose prompt is learned; null: the preset's or the checkpoint's own.
        quantization: 4- or 8-bit language model through bitsandbytes (QLoRA when `lora` is set).
    """

    preset: str | None = None
    checkpoint: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    vision_model: str | None = None
    clue_model: str | None = None
    language_model: str | None = None
    tokenizer: str | None = None
    clue_tokenizer: str | None = None
    clues: list[Any] | None = None
    prompt_style: PromptStyle | None = None
    quantization: Literal["nf4", "int8"] | None = None


@dataclass
class Source:
    """One set of studies.

    Attributes:
        path: folder with `studies.jsonl` (image paths relative to it) or with `datasets` shards, made by a data
            builder.
        kind: "pair" image and report of one study; "image" image with labels, no report (stage 1 only); "clue_report"
            report without its image, the clues being the study's labels (stage 2 only); "matched" an image of `path`
            with the report of another patient of `reports` who has the same labels (stage 2 only); "composed" an image
            with clue scores that are drawn, and a report composed of sentences that say them (stage 2 only).
        reports: folder of the reports of a "matched" source; of a "composed" one, whose denials are taken.
        weight: share of the drawn studies, relative to the other sources.
        balance: exponent b, so that rare findings are not drowned by normal studies: a study is drawn (m / n)^b times
            an epoch (rounded), n the studies with its rarest positive label, m those with the most frequent one; 0 is
            once.
        mirrored: "image", half of the draws are mirrored, but for studies with a box or a label of a side.
        split: value of the record's `split` field.
        max_studies: the first so many of the split; null takes all.
    """

    path: str
    kind: Literal["pair", "image", "clue_report", "matched", "composed"] = "pair"
    reports: str | None = None
    weight: float = 1.0
    balance: float = 0.0
    mirrored: bool = False
    split: str = "train"
    max_studies: int | None = None


@dataclass
class DataSection:
    """What is learned from. All that is drawn at random for a study is keyed by (seed, epoch, study).

    Attributes:
        train, validation: sets of studies, each a `Source`.
        views: most views of a study that enter; the first ones of the record are taken.
        sentences_per_study: stage 1, sentences drawn from each study and step (1 as published).
        sentence_balance: stage 1, exponent b of the weight (count of the sentence's rarest statement)^-b; 0 draws
            uniformly (as published), 0.5 keeps rare positive sentences from being drowned by "no ..." ones.
        score_jitter: clue_report, half-width of the noise that softens oracle clue scores (0 keeps them 0 and 1).
        sides_given: clue_report, probability that a draw gives the sided clues; else the language model has the others
            alone, as in a study that is labelled without sides.
        augment: small rotation, shift, scale and gamma; no flip, since sides matter (`mirrored` of a source).
        strong_augment: with `augment`, more of it, and contrast, noise, blur and boxes over parts of the picture.
        paraphrases: JSON Lines of rewritten reports (`training/builders/paraphrases.py`), as MAIRA-1's augmentation.
        paraphrase_share: probability that a draw of a study that has paraphrases takes one of them.
        clue_wordings: probability that a clue of a batch has other words (`training/data/clue_wordings.py`).
        nonsense_clues: clues behind the list of each batch that mean nothing here, absent from every study.
        findings_only: stage 2, reports are learned without their impression, as in MAIRA-1.
        positive_first: stage 2, sentences that claim or suspect something come before those that deny (README.md).
        without_degrees: stage 2, claims have no severity and size, which no clue tells (`degree_rewriting.py`).
        dialogue: stage 2, share of the draws that become a question after the report (`training/data/dialogue.py`):
            kind -> probability, together at most 1; the rest are reports. A study without an answer of the drawn kind
            stays one.
        turns: stage 2, most of these questions about one study, one behind the other, each drawn by the same shares.
        context_dropout: stage 2, probability that a study's indication is left out, and on its own each of technique,
            comparison and prior report, so that the model works without them.
        predicted_findings: stage 2, probability that a prompt names what the clues see in the image, at the start of
            the run, not the labels. A "composed" report then says the same, "is there ...?" is answered by its odds.
        image_cache: folder for uint8 arrays at model size; null decodes the files at every epoch.
        num_workers: processes that read and augment beside each training process; 0: it reads by itself.
    """

    train: list[Source] = field(default_factory=list)
    validation: list[Source] = field(default_factory=list)
    views: int = 2
    sentences_per_study: int = 1
    sentence_balance: float = 0.5
    score_jitter: float = 0.1
    sides_given: float = 1.0
    augment: bool = True
    strong_augment: bool = False
    paraphrases: str | None = None
    clue_wordings: float = 0.0
    nonsense_clues: int = 0
    paraphrase_share: float = 0.5
    findings_only: bool = False
    positive_first: bool = False
    without_degrees: bool = False
    dialogue: dict[DialogueKind, float] = field(default_factory=dict)
    turns: int = 1
    context_dropout: float = 0.0
    predicted_findings: float = 0.0
    image_cache: str | None = None
    num_workers: int = 0


@dataclass
class LoraSection:
    """LoRA on the language model.

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: on the input of the adapters.
        target_modules: leaf names inside the language model ("q_proj", "lm_head").
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.1
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    )


@dataclass
class OptimizerSection:
    """AdamW.

    Attributes:
        lr: learning rate, for every trained part not named in lr_by_part.
        lr_by_part: part -> learning rate.
        weight_decay: of weight matrices; biases, norms and scales have none.
        betas: decay of the averages of the gradient and of its square.
        max_grad_norm: longer gradients are clipped; null clips none.
        batch_size: studies an optimizer step, all processes.
        micro_batch_size: studies a forward pass and process; in stage 1 the contrast is over micro_batch_size *
            processes.
        block_size: studies in a row that come from one source; null means batch_size. It divides micro_batch_size *
            processes or is a multiple of it. Stage 2 cannot mix studies with and without images in a forward pass, so
            there it is a multiple. Stage 1 with a tower that has batch norm wants small blocks: statistics of batches
            that each come from one source fit no source in the end.
    """

    lr: float = 1e-4
    lr_by_part: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    max_grad_norm: float | None = 1.0
    batch_size: int = 32
    micro_batch_size: int = 8
    block_size: int | None = None


@dataclass
class ScheduleSection:
    """Length of the run, in optimizer steps or in epochs (one of the two), and the shape of the learning rate.

    Attributes:
        steps, epochs: one of the two; an epoch is as many draws as all sources hold.
        shape: how the rate goes down after the warm-up; plateau: where the validation loss stops falling.
        warmup_steps, warmup_ratio: steps of linear warm-up, or their share of all steps (one of the two).
        min_lr_ratio: last learning rate over the first, for cosine and linear.
        plateau_factor, plateau_patience: of "plateau": what the rate is multiplied by after this number of validations
            without a lower loss.
    """

    steps: int | None = None
    epochs: float | None = None
    shape: Literal["cosine", "linear", "plateau"] = "cosine"
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    min_lr_ratio: float = 0.0
    plateau_factor: float = 0.8
    plateau_patience: int = 1


@dataclass
class RunSection:
    """Where a run lives and how often it speaks. All `*_every` in optimizer steps.

    Attributes:
        output_dir: folder of the run: config.json, metrics.jsonl, checkpoints/, model/.
        seed: of all that is drawn at random.
        log_every, save_every, validate_every: between two lines of metrics, checkpoints, validations.
        mixed_precision: of the forward and backward pass; weights stay in 32 bits.
        gradient_checkpointing: computes activations a second time instead of keeping them: less memory, more time.
        export: weights written to `model/` at the end, the last ones or those of the best validation.
        best_metric: validation metric that decides; a name ending in "loss" is better when lower.
        generate_studies: stage 2, validation studies of each source whose report is written and judged; 0 for none.
        max_new_tokens: stage 2, longest report in tokens; the checkpoint carries it, so that every use of it agrees.
        stop_after: end (with a checkpoint) after this many steps of this process; the schedule keeps its full length.
    """

    output_dir: str = ""
    seed: int = 42
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 500
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    export: Literal["last", "best"] = "last"
    best_metric: str = "loss"
    stop_after: int | None = None
    generate_studies: int = 0
    max_new_tokens: int = 256


@dataclass
class RunConfig:
    """What both stages have.

    Attributes:
        trained: parts with gradient; every other part is frozen and in eval mode.
    """

    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    run: RunSection = field(default_factory=RunSection)
    trained: list[str] = field(default_factory=list)


@dataclass
class PretrainConfig(RunConfig):
    """Stage 1: sentence-level contrast. Kinds of source: "pair" and "image"."""

    trained: list[str] = field(
        default_factory=lambda: ["vision_tower", "clue_encoder", "image_projection", "clue_projection", "logit_scale"]
    )


@dataclass
class FinetuneConfig(RunConfig):
    """Stage 2: instruct tuning. Kinds of source: all but "image".

    Attributes:
        lora: null trains or freezes the language model as `trained` says.
    """

    trained: list[str] = field(
        default_factory=lambda: ["clue_encoder", "image_projection", "clue_projection", "multi_modal_projector"]
    )
    lora: LoraSection | None = None


Config = TypeVar("Config", bound=RunConfig)

RESUMABLE = ("run", "data.num_workers", "data.image_cache", "optimizer.micro_batch_size")
"""Keys that may change between a run and its resumption: none of them changes what is learned from (run.seed is checked
apart)."""


def load_config(cls: type[Config], path: str | Path, overrides: list[str]) -> Config:
    """Read `path` (over the file its key `base` names, if any), apply `key.path=value` overrides (values are YAML),
    check, and return a `cls`.

    Raises:
        ConfigError: naming every unknown key, wrong type and impossible value at once.
    """
    problems: list[str] = []
    raw = read_yaml(Path(path))
    for item in overrides:
        override(raw, item, problems)
    config: Config = build(cls, raw, "", problems)
    if not problems:
        problems.extend(_impossible(config))
    if problems:
        if len(problems) == 1:
            raise ConfigError(f"{path}: {problems[0]}")
        raise ConfigError(f"{path}: {len(problems)} problems\n" + "\n".join(f"  - {p}" for p in problems))
    return config


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Plain values of a configuration, as they are saved with the run."""
    return dataclasses.asdict(config)


def differences(config: RunConfig, saved: dict[str, Any]) -> list[str]:
    """Keys whose value differs from the saved configuration of the run that is resumed, outside `RESUMABLE`."""
    now, then = flatten(json.loads(json.dumps(to_dict(config)))), flatten(saved)
    changed = [key for key in sorted(now.keys() | then.keys()) if now.get(key) != then.get(key)]
    kept = [key for key in changed if key == "run.seed" or not key.startswith(RESUMABLE)]
    return [f"{key}: {then.get(key)!r} -> {now.get(key)!r}" for key in kept]


def _impossible(config: RunConfig) -> list[str]:
    problems = []
    model, data, optimizer, schedule = config.model, config.data, config.optimizer, config.schedule
    if (model.preset is None) == (model.checkpoint is None):
        problems.append("model: exactly one of preset and checkpoint must be set")
    brought = [key for key in ("tokenizer", "clue_tokenizer", "clues") if model.checkpoint and getattr(model, key)]
    problems.extend(f"model.{key}: expected none beside model.checkpoint, which brings its own" for key in brought)
    if (schedule.steps is None) == (schedule.epochs is None):
        problems.append("schedule: exactly one of steps and epochs must be set")
    if schedule.warmup_steps and schedule.warmup_ratio:
        problems.append("schedule: set warmup_steps or warmup_ratio, not both")
    if not config.run.output_dir:
        problems.append("run.output_dir: missing")
    if not data.train:
        problems.append("data.train: no source")
    pretrains = isinstance(config, PretrainConfig)
    allowed = ("pair", "image") if pretrains else ("pair", "clue_report", "matched", "composed")
    for name in ("train", "validation"):
        for i, source in enumerate(getattr(data, name)):
            if source.kind not in allowed:
                kinds = ", ".join(allowed)
                problems.append(f"data.{name}.{i}.kind: {source.kind!r} is not one of {kinds} in this stage")
            if (source.kind in ("matched", "composed")) != (source.reports is not None):
                problems.append(f"data.{name}.{i}.reports: set it for kinds 'matched' and 'composed' and for no other")
            if source.mirrored and (source.kind != "image" or name == "validation" or not data.augment):
                problems.append(f"data.{name}.{i}.mirrored: needs kind 'image', a training source and data.augment")
            if not source.weight > 0:
                problems.append(f"data.{name}.{i}.weight: {source.weight} is not above 0")
            if not source.balance >= 0 or (source.balance and name == "validation"):
                expected = "expected 0 or more, and 0 in validation, which sees each study once"
                problems.append(f"data.{name}.{i}.balance: {source.balance}; {expected}")
    if data.strong_augment and not data.augment:
        problems.append("data.strong_augment: set data.augment too")
    known = ", ".join(DIALOGUE_KINDS)
    wrong = {kind: share for kind, share in data.dialogue.items() if kind not in DIALOGUE_KINDS or not share >= 0}
    problems.extend(f"data.dialogue.{kind}: {wrong[kind]}; expected a share of 0 or more of {known}" for kind in wrong)
    if sum(data.dialogue.values()) > 1 + 1e-9:
        problems.append(f"data.dialogue: shares add up to {sum(data.dialogue.values()):g}; expected at most 1")
    if pretrains:
        for key in ("dialogue", "positive_first", "without_degrees", "findings_only", "predicted_findings"):
            if getattr(data, key):
                problems.append(f"data.{key}: only stage 2 learns to write")
    for key, named in (("trained", config.trained), ("optimizer.lr_by_part", optimizer.lr_by_part)):
        unknown = [part for part in named if part not in PARTS]
        problems.extend(f"{key}: {part!r} is not a part; parts: {', '.join(PARTS)}" for part in unknown)
    problems += out_of_range(config)
    if not 0 <= data.nonsense_clues <= 50:
        problems.append(f"data.nonsense_clues: {data.nonsense_clues}; expected 0 to 50")
    if not all(math.isfinite(b) and 0 <= b < 1 for b in optimizer.betas) or len(optimizer.betas) != 2:
        problems.append(f"optimizer.betas: {optimizer.betas} is not two numbers in [0, 1)")
    if (batch := optimizer.batch_size) % (micro := optimizer.micro_batch_size):
        problems.append(f"optimizer.batch_size: {batch} is no multiple of micro_batch_size {micro}")
    if (block := optimizer.block_size) and batch % block:
        problems.append(f"optimizer.block_size: {block} does not divide batch_size {batch}")
    if isinstance(config, FinetuneConfig) and config.lora and "language_model" in config.trained:
        problems.append("trained: language_model is trained by LoRA; take it out of `trained` or set lora to null")
    if model.quantization and isinstance(config, FinetuneConfig) and not config.lora:
        problems.append("model.quantization: a quantized language model is trained through lora only (QLoRA)")
    return problems
