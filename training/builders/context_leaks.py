"""Does the context that a model is given hold the answer? An indication that was written from the report, or cut out of
it, teaches a model to copy words instead of reading the picture, and makes its scores look better than they are."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from evaluation.reading.sentences import cut_sentences
from training.data.study import REPORT_PARTS, target_text

FIELDS = ("indication", "technique", "comparison")
LEAK = 0.6
"""Share of a sentence's words from which on it counts as told. Of 3,865 indications of the public IU reports 8 do."""
LEAST_WORDS = 3
NAMED = 5
"""Studies named in a manifest."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS = {
    "an", "and", "are", "as", "at", "be", "been", "by", "evidence", "for", "from", "has", "have", "identified", "in",
    "is", "it", "its", "noted", "of", "on", "or", "present", "seen", "that", "the", "there", "this", "to",
    "visualized", "was", "were", "which", "with", "xx", "xxx", "xxxx",
}  # fmt: skip
_DENIALS = {"negative", "no", "not", "without"}


def told_share(context: str | None, study: Mapping[str, Any]) -> float:
    """How much of the report stands in `context`: the share of the different words of a sentence, or of the whole
    report, that `context` has; the largest of all with at least `LEAST_WORDS`. 0 to 1. Function words do not count, and
    only a denial tells a denial ("rule out pneumothorax" does not)."""
    given = _words(context or "")
    if not given:
        return 0.0
    parts = [sentence for part in REPORT_PARTS for sentence in cut_sentences(study.get(part) or "")]
    shares = [
        len(words & given) / len(words)
        for words in map(_words, (*parts, target_text(study)))
        if len(words) >= LEAST_WORDS and words & _DENIALS <= given
    ]
    return max(shares, default=0.0)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _FUNCTION_WORDS


class LeakCount:
    """Counts, study by study, the contexts that hold the answer."""

    def __init__(self, studies: Iterable[Mapping[str, Any]] = ()):
        self.checked, self.told = Counter[str](), Counter[str]()
        self.studies: dict[str, list[str]] = {field: [] for field in FIELDS}
        for study in studies:
            self.add(study)

    def add(self, study: Mapping[str, Any]) -> None:
        """Count one study; one without a report holds no answer, and a field that is no text is refused where it is
        read."""
        for field in FIELDS if target_text(study) else ():
            if study.get(field) and isinstance(study[field], str):
                self.checked[field] += 1
                if told_share(study[field], study) >= LEAK:
                    self.told[field] += 1
                    self.studies[field].append(study["study_id"])

    def manifest(self, name: str) -> dict[str, Any]:
        """For a manifest: {field: {"checked", "holds_answer", "studies"}}, the first ids. Warns of each field that
        holds the answer anywhere in the set `name`."""
        for field, count in self.told.items():
            print(
                f"warning: {name}: in {count:,} of {self.checked[field]:,} studies the {field} tells {LEAK:.0%} or "
                f"more of a sentence of the report, e.g. {self.studies[field][0]}; a model learns to copy",
                file=sys.stderr,
            )
        return {
            field: {
                "checked": self.checked[field],
                "holds_answer": self.told[field],
                "studies": self.studies[field][:NAMED],
            }
            for field in FIELDS
            if self.checked[field]
        }
