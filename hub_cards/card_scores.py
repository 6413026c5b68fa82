"""The scores of a card, from the files that the evaluation commands wrote: one command after each new measurement.

    python -m hub_cards.card_scores R/phantom_scores.json R/label_scores.json ... [--card README.md] [--pages FILE ...]

Each metric of the card's `model-index`, which is the last entry of its metadata, names its number:
`args: {source: label_scores.json auroc/mean}`. This writes its value, its interval and its signature there, and puts
them in the place of the old ones wherever the card or a page tells "value [low, high]". "1.000 [1.000, 1.000]" may be
any score, so it is left, and told. It prints what it replaced: the words around a number are nobody's but yours. A page
that tells other models' numbers, or old ones, is none for it.
"""

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

CARD = Path(__file__).resolve().parent / "trrg-small" / "README.md"
INDEX = "\nmodel-index:\n"
NUMBERS = ("value", "low", "high")


def read_scores(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """ "label_scores.json auroc/mean" -> the score, of each score that has an interval and a signature.

    Raises:
        ValueError: two files of one name; the sources of a card would not tell them apart.
    """
    if len({file.name for file in files}) < len(files):
        raise ValueError(f"{', '.join(map(str, files))}: two files have the same name")
    scores: dict[str, dict[str, Any]] = {}
    for file in files:
        told = json.loads(file.read_text(encoding="utf-8"))
        rows = told | told.get("scores", {})
        scores |= {
            f"{file.name} {name}": row
            for name, row in rows.items()
            if isinstance(row, dict) and "signature" in row and all(map(_is_number, map(row.get, NUMBERS)))
        }
    return scores


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def fill_in(metric: dict[str, Any], scores: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """Write a metric of a `model-index` from its source; returns how it was told and how it is.

    Raises:
        ValueError: it has no source, or none of the files has that score with its interval and its signature.
    """
    args = metric.setdefault("args", {})
    if (source := args.get("source")) not in scores:
        raise ValueError(f"{metric.get('name')}: no file has the score {source!r} with interval and signature")
    old, score = told(metric), scores[source]
    metric["value"] = round(score["value"], 3)
    args |= {"interval": [round(score["low"], 3), round(score["high"], 3)], "signature": score["signature"]}
    return old, told(metric)


def told(metric: dict[str, Any]) -> str:
    """A metric in words: "0.754 [0.720, 0.785]"; empty where it has no interval yet."""
    low, high = metric["args"].get("interval", (None, None))
    return "" if low is None else f"{metric['value']:.3f} [{low:.3f}, {high:.3f}]"


def update(card: Path, pages: Sequence[Path], scores: dict[str, dict[str, Any]]) -> list[str]:
    """Write a card and the pages, and return what was replaced, one line each.

    Raises:
        ValueError: the card has no `model-index` as its last entry, a score is missing (`fill_in`), or two scores that
            were told by the same words are not the same any more. Nothing is written then.
    """
    head, _, rest = card.read_text(encoding="utf-8").partition(INDEX)
    index, _, body = rest.partition("\n---\n")
    try:
        models = yaml.safe_load(index)
    except yaml.YAMLError:
        models = None
    if not body or not isinstance(models, list):
        raise ValueError(f"{card}: expected metadata that end with model-index")
    new: dict[str, str] = {}
    lines = []
    for metric in (metric for model in models for result in model["results"] for metric in result["metrics"]):
        low, high = metric.get("args", {}).get("interval", (None, None))
        old, now = fill_in(metric, scores)
        if old and low == high:
            lines += [f"{metric['name']}: {old} -> {now}: replace it by hand"] if old != now else []
        elif old and new.setdefault(old, now) != now:
            raise ValueError(f"{card}: {old} is told of two scores, which are {new[old]} and {now}: replace it by hand")
    written = yaml.safe_dump(models, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None).rstrip()
    others = [page for page in pages if page.resolve() != card.resolve()]
    words = {card: body} | {page: page.read_text(encoding="utf-8") for page in others}
    for file, text in words.items():
        lines += [
            f"{file}: {old} -> {now} ({text.count(old)})" for old, now in new.items() if old in text and old != now
        ]
        pattern = "|".join(map(re.escape, new)) or r"(?!)"
        words[file] = re.sub(pattern, lambda match: new[match[0]], text)
    words[card] = f"{head}{INDEX}{written}\n---\n{words[card]}"
    for file, text in words.items():
        file.write_text(text, encoding="utf-8")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="+", help="files of scores, each of another name")
    parser.add_argument("--card", type=Path, default=CARD)
    parser.add_argument("--pages", type=Path, nargs="*", default=(), help="that tell the same numbers")
    options = parser.parse_args(arguments)
    try:
        lines = update(options.card, options.pages, read_scores(options.scores))
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print("\n".join(lines))
    print("Never for clinical use.")


if __name__ == "__main__":
    main()
