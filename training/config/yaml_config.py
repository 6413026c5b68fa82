"""YAML to typed dataclasses: unknown keys and wrong types are collected, never ignored."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml


class ConfigError(ValueError):
    """A run configuration that cannot be run; the message lists every problem found."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file, laid over the one it names as `base` (relative to it): mappings merge, all else is replaced."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {_one_line(error)}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(raw).__name__}")
    base = raw.pop("base", None)
    return raw if base is None else _over(read_yaml(path.parent / base), raw)


def _over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = _over(low[key], value) if both else value
    return merged


def override(raw: dict[str, Any], item: str, problems: list[str]) -> None:
    """Put `key.path=value` into `raw`; the value is YAML, list items are named by their number."""
    key, equals, text = item.partition("=")
    if not equals:
        problems.append(f"override {item!r}: expected key.path=value")
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problems.append(f"override {item!r}: the value is not YAML: {_one_line(error)}")
        return
    _set(raw, key.split("."), value, item, problems)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _set(raw: dict[str, Any], keys: list[str], value: Any, item: str, problems: list[str]) -> None:
    node: Any = raw
    for key in keys[:-1]:
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
            continue
        if not isinstance(node, dict):
            problems.append(f"override {item!r}: {key!r} is not inside a mapping")
            return
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
    if isinstance(node, list) and keys[-1].isdigit() and int(keys[-1]) < len(node):
        node[int(keys[-1])] = value
    elif isinstance(node, dict):
        node[keys[-1]] = value
    else:
        problems.append(f"override {item!r}: {keys[-1]!r} is not inside a mapping")


def build(cls: type, raw: Any, where: str, problems: list[str]) -> Any:
    """`raw` as the dataclass `cls`, nested ones too; None when anything was added to `problems`."""
    if not isinstance(raw, dict):
        problems.append(f"{where or 'file'}: expected a mapping, got {raw!r}")
        return None
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        if key not in fields:
            problems.append(f"{where}{key}: unknown key; known here: {', '.join(fields)}")
            continue
        values[key] = _convert(hints[key], value, f"{where}{key}", problems)
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and name not in values
    ]
    problems.extend(f"{where}{name}: missing" for name in required)
    return None if problems else cls(**values)


def _convert(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, problems)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"{where}.", problems)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], item, f"{where}.{i}", problems) for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}", problems) for key, item in value.items()}
    if origin is Literal:
        if value is False and "no" in arguments:  # YAML reads a bare `no` as false
            value = "no"
        if value in arguments:
            return value
        problems.append(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return None
    if hint is float and isinstance(value, str):
        try:  # YAML reads 1e-4 (no dot) as a string
            return float(value)
        except ValueError:
            problems.append(f"{where}: expected float, got {value!r}")
            return None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is hint:
        return value
    problems.append(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return None


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = ((str(i), item) for i, item in enumerate(value))  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat
