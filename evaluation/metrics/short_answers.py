"""Are two short answers the same? Exact match and word F1 of visual question answering."""

import re
from collections import Counter

from evaluation.metrics.classification import precision_recall_f1

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_SYMBOLS = re.compile(r"[^\w.%]+|\.(?!\d)")


def answer_words(answer: str) -> list[str]:
    """Lower-case words without articles and punctuation; "3.4 cm" keeps its point."""
    return _ARTICLES.sub(" ", _SYMBOLS.sub(" ", answer.lower())).split()


def same_answer(reference: str, answer: str) -> bool:
    """Whether both have the same words in the same order."""
    return answer_words(reference) == answer_words(answer)


def shared_words(reference: str, answer: str) -> float:
    """F1 of the words, each as often as it stands there; 0 where one has none."""
    true, told = Counter(answer_words(reference)), Counter(answer_words(answer))
    both = (true & told).total()
    return float(precision_recall_f1(both, told.total() - both, true.total() - both)["f1"])
