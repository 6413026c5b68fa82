r"""How METEOR 1.5 splits a line into words with its `-norm` option: facts about its output, in our own code.

Kept for parity, because published scores contain them: a period before a lower-case word stays on its word (so
METEOR of lower-cased text without spaced periods is too low), "a.b." loses its periods, "a-b-c" splits once, and
"x,y,z" splits at its first comma only.
"""

import re
from collections.abc import Mapping

HELD_DOT = "\ue000"  # private use: stands for a dot of an ellipsis while single periods are split
LETTERS = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿ"
RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"([^{LETTERS}{HELD_DOT}0-9\s.'`,\-‘’])", r" \1 "),
        (r"([^0-9]),([^0-9])", r"\1 , \2"),
        (r"([0-9]),([^0-9])", r"\1 , \2"),
        (r"([^0-9]),([0-9])", r"\1 , \2"),
        (r"[`‘’]", "'"),
        (r"[“”]|''", ' " '),
        (r"–|--", "-"),
        (rf"([{LETTERS}0-9.])-([{LETTERS}0-9])", r"\1 \2"),
        (rf"([^{LETTERS}])'([^{LETTERS}])", r"\1 ' \2"),
        (rf"([^{LETTERS}0-9])'([{LETTERS}])", r"\1 ' \2"),
        (rf"([{LETTERS}])'([^{LETTERS}])", r"\1 ' \2"),
        (rf"([{LETTERS}])'([{LETTERS}])", r"\1 '\2"),
        (r"([0-9])'(s)", r"\1 '\2"),
    )
)
DOTS = re.compile(r"\.{2,}")
LETTER = re.compile(rf"[{LETTERS}]")
LOWER, DIGITS = re.compile("[a-z]"), re.compile("[0-9]")


def split_period(word: str, following: str, prefixes: Mapping[str, bool]) -> str:
    """A word that ends in a period: with or without the period, or as two words."""
    stem = word[:-1]
    if "." in stem and LETTER.search(stem):
        return word.replace(".", "")
    before_numbers_only = prefixes.get(stem)
    if before_numbers_only is False or LOWER.match(following) or (before_numbers_only and DIGITS.match(following)):
        return word
    return f"{stem} ."


def meteor_words(text: str, prefixes: Mapping[str, bool]) -> list[str]:
    """Lower-cased words of a text.

    Args:
        prefixes: abbreviation -> whether its period stays on only before numbers ("No. 5"); METEOR's own list.
    """
    text = DOTS.sub(lambda dots: f" {HELD_DOT * len(dots[0])} ", f" {text} ")
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    words = text.split()
    split = [
        split_period(word, following, prefixes) if len(word) > 1 and word.endswith(".") else word
        for word, following in zip(words, [*words, ""][1:], strict=True)
    ]
    return " ".join(split).replace(HELD_DOT, ".").lower().split()
