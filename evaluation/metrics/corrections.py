"""Was a correction obeyed, and was nothing else touched? Two numbers beside the published F1 before and after.

*Obeyed* is a finding that was to be added and that the new report claims, or one that was to go and that it no longer
claims, by the labeler. *Untouched* sentences of the old report are those that speak of none of the findings asked for:
the labeler reads neither them nor what they include or belong to, and the sentence does not contradict a finding that
was to be added ("the lungs are clear" does contradict an edema). They stay when the new report has them word for word.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.reading.contradictions import inconsistencies
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import ancestors, descendants
from evaluation.reading.sentences import cut_sentences
from processing_trrg import check_clues, split_report


class CorrectionCounts(NamedTuple):
    """What one correction asked for and what came of it."""

    added: int
    added_asked: int
    removed: int
    removed_asked: int
    kept: int
    untouched: int


def sentences_of(report: str) -> list[str]:
    """The sentences of both sections."""
    return [sentence for part in split_report(report) if part for sentence in cut_sentences(part)]


def speaks_of(sentence: str, missing: Sequence[str], wrong: Sequence[str]) -> bool:
    """Whether a sentence says anything of the findings asked for."""
    labels = label_report(sentence)
    asked = [*missing, *wrong]
    if any(labels[near] is not None for name in asked for near in (name, *ancestors(name), *descendants(name))):
        return True
    added = " ".join(clue["positive"] for clue in check_clues(missing)) if missing else ""
    return bool(added) and bool(inconsistencies(f"{sentence} {added}").within)


def count_correction(before: str, correction: Mapping[str, Any]) -> CorrectionCounts:
    """Count one correction.

    Args:
        before: the old report.
        correction: `missing` and `wrong` findings, and `answer`, the new report.
    """
    missing, wrong, answer = correction["missing"], correction["wrong"], correction["answer"]
    labels = label_report(answer)
    there = Counter(sentences_of(answer))
    untouched = Counter(sentence for sentence in sentences_of(before) if not speaks_of(sentence, missing, wrong))
    asked = bool(missing or wrong)
    return CorrectionCounts(
        added=sum(labels[name] == 1 for name in missing),
        added_asked=len(missing),
        removed=sum(labels[name] != 1 for name in wrong),
        removed_asked=len(wrong),
        kept=(untouched & there).total() if asked else 0,
        untouched=untouched.total() if asked else 0,
    )
