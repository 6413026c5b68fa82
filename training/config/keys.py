"""The page of every key of a run's YAML, from the dataclasses that read it.

    python -m training.config.keys > training/KEYS.md

`tests/training/test_config_page.py` fails where page and code differ, and where a key says nothing of itself.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from training.config.run_config import FinetuneConfig, PretrainConfig

UNITS = {
    "steps": "optimizer steps", "warmup_steps": "optimizer steps", "stop_after": "optimizer steps",
    "log_every": "optimizer steps", "save_every": "optimizer steps", "validate_every": "optimizer steps",
    "epochs": "epochs", "warmup_ratio": "share of all steps", "min_lr_ratio": "share of lr", "plateau_factor": "factor",
    "plateau_patience": "validations", "batch_size": "studies", "micro_batch_size": "studies", "block_size": "studies",
    "max_studies": "studies", "generate_studies": "studies", "views": "images", "sentences_per_study": "sentences",
    "num_workers": "processes", "max_new_tokens": "tokens", "dropout": "probability", "sides_given": "probability",
    "context_dropout": "probability", "paraphrase_share": "probability", "predicted_findings": "probability",
    "clue_wordings": "probability", "nonsense_clues": "clues",
    "dialogue": "probability of each kind",
    "turns": "questions", "score_jitter": "clue score (0 to 1)", "weight": "relative share",
    "balance": "exponent", "sentence_balance": "exponent", "max_grad_norm": "L2 norm",
}  # fmt: skip
"""What a number counts; keys that are not here have no unit."""

HEAD = """# Every key of a run's YAML

Made by `python -m training.config.keys > training/KEYS.md` from the dataclasses of `config/run_config.py`; a test says
that both agree. Unknown keys and wrong types are refused, all in one message. `key.path=value` on the command line
overrides the file; `base: other.yaml` lays the file over another. `data.validation` has the keys of `data.train`.

| key | type | unit | default | what |
|---|---|---|---|---|
"""


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """(key, type, unit, default, meaning) of every key of both stages."""
    stages = {row[0]: row for stage in (PretrainConfig, FinetuneConfig) for row in _rows_of(stage, "")}
    yield from stages.values()


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows())


def _rows_of(cls: type, prefix: str) -> Iterator[tuple[str, str, str, str, str]]:
    hints, said = typing.get_type_hints(cls), _said(cls)
    for key in dataclasses.fields(cls):
        hint, name = hints[key.name], f"{prefix}{key.name}"
        sections = [part for part in (hint, *typing.get_args(hint)) if isinstance(part, type) and _is_section(part)]
        listed = typing.get_origin(hint) is list
        if sections == [hint]:
            yield from _rows_of(hint, f"{name}.")
            continue
        yield f"`{name}`", _type_name(hint), UNITS.get(key.name, ""), _default(key), said[key.name]
        for section in sections if name != "data.validation" else ():
            yield from _rows_of(section, f"{name}.0." if listed else f"{name}.")


def _is_section(hint: type) -> bool:
    return dataclasses.is_dataclass(hint)


def _default(key: dataclasses.Field[Any]) -> str:
    if key.name == "trained":
        return f"stage 1: `{_plain(PretrainConfig().trained)}`; stage 2: `{_plain(FinetuneConfig().trained)}`"
    if key.default_factory is not dataclasses.MISSING:
        return f"`{_plain(key.default_factory())}`"
    return "required" if key.default is dataclasses.MISSING else f"`{_plain(key.default)}`"


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return '""' if value == "" else str(value)


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if one is type(None) else _type_name(one) for one in arguments)
    if origin is Literal:
        return ", ".join(f'"{one}"' for one in arguments)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_name(arguments[0])} to {_type_name(arguments[1])}"
    return {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any"}.get(hint, "section")


def _said(cls: type) -> dict[str, str]:
    """Field -> its lines of the docstring's "Attributes:", those of the classes above it too."""
    said: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        part = (one.__doc__ or "").partition("Attributes:\n")[2]
        for names, text in re.findall(r"^ {8}(\w[\w, ]*): (.*(?:\n {12}.*)*)", part, re.MULTILINE):
            said |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return said | {name: said.get(name, _first_line(hint)) for name, hint in typing.get_type_hints(cls).items()}


def _first_line(hint: Any) -> str:
    return (getattr(hint, "__doc__", None) or "").partition("\n")[0]


if __name__ == "__main__":
    print(page(), end="")
