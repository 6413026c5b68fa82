"""A report in plain words, by a lexicon of radiology terms (`plain_words.json`, ours).

A sentence whose labels the plain words would change keeps the medical word in brackets behind them ("air leak around
the lung (pneumothorax)"), and stays as it is where that does not help either.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from evaluation.reading.attributes import finding_attributes
from evaluation.reading.labeler import CACHED_SENTENCES, label_report, mentions

PLAIN: dict[str, str] = json.loads(Path(__file__).with_name("plain_words.json").read_text(encoding="utf-8"))
"""Term -> plain words, both in lower case; a term also stands for its plural in -s."""
_TERM = re.compile(rf"\b({'|'.join(sorted(map(re.escape, PLAIN), key=len, reverse=True))})(s?)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w))")


def plain_report(sentences: Sequence[str]) -> str | None:
    """The sentences in plain words, each one once; None where no word changes."""
    plain = list(dict.fromkeys(map(plain_sentence, sentences)))
    return None if all(map(str.__eq__, sentences, map(plain_sentence, sentences))) else " ".join(plain)


@lru_cache(maxsize=CACHED_SENTENCES)
def plain_sentence(sentence: str) -> str:
    """One sentence in plain words, with the labels, sides and sizes it has."""
    labels, attributes = label_report(sentence), finding_attributes(sentence)
    named = " ".join(mention.phrase for mention in mentions(sentence))
    for keep in ("", named, sentence.lower()):  # the terms that stay in brackets

        def write(match: re.Match[str], keep: str = keep) -> str:
            term = match[0].lower()
            return (
                f"{_plain(match)} ({term})" if term in keep or any(w in keep for w in term.split()) else _plain(match)
            )

        text = _ARTICLE.sub(_fitting_article, _TERM.sub(write, sentence))
        text = text[0].upper() + text[1:]
        if label_report(text) == labels and finding_attributes(text) == attributes:
            return text
    return sentence


def _plain(match: re.Match[str]) -> str:
    plain, plural = PLAIN[match[1].lower()], match[2]
    if not plural:
        return plain
    head, space, tail = plain.partition(" of ") if " of " in plain else plain.partition(" around ")
    return f"{head}s{space}{tail}"


def _fitting_article(match: re.Match[str]) -> str:
    return f"{match[1]}{'n' if match[2].lower() in 'aeio' else ''} "
