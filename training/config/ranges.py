"""The range of each number of a run's configuration."""

import math
from typing import Any

ABOVE_0 = {
    "data": ("views", "sentences_per_study", "turns"),
    "optimizer": ("lr", "batch_size", "micro_batch_size", "block_size", "max_grad_norm"),
    "schedule": ("steps", "epochs"),
    "run": ("log_every", "save_every", "validate_every", "stop_after", "max_new_tokens"),
    "lora": ("r", "alpha"),
}
"""None is no number: what it stands for is said where the key is."""
NOT_NEGATIVE = {
    "data": ("num_workers", "sentence_balance"),
    "optimizer": ("weight_decay",),
    "schedule": ("warmup_steps", "plateau_patience"),
    "run": ("seed", "generate_studies"),
}
SHARES = {
    "data": (
        "sides_given", "context_dropout", "paraphrase_share", "clue_wordings", "predicted_findings", "score_jitter",
    ),
    "schedule": ("warmup_ratio", "min_lr_ratio", "plateau_factor"),
    "lora": ("dropout",),
}  # fmt: skip


def out_of_range(config: Any) -> list[str]:
    """What is wrong with the numbers of a `RunConfig`, one line each."""
    tables = (
        (ABOVE_0, lambda value: value > 0, "is not above 0"),
        (NOT_NEGATIVE, lambda value: value >= 0, "is below 0"),
        (SHARES, lambda value: 0 <= value <= 1, "is not from 0 to 1"),
    )
    problems = []
    for table, fits, wrong in tables:
        for name, keys in table.items():
            section = getattr(config, name, None)
            values = {} if section is None else {key: getattr(section, key) for key in keys}
            problems += [
                f"{name}.{key}: {value} {wrong}"
                for key, value in values.items()
                if value is not None and not (math.isfinite(value) and fits(value))
            ]
    for part, value in config.optimizer.lr_by_part.items():
        if not (math.isfinite(value) and value >= 0):
            problems.append(f"optimizer.lr_by_part.{part}: {value} is below 0")
    for name in ("train", "validation"):
        for place, source in enumerate(getattr(config.data, name)):
            if source.max_studies is not None and source.max_studies < 1:
                problems.append(f"data.{name}.{place}.max_studies: {source.max_studies} is not above 0")
    return problems
