"""What a report says became of a finding since an earlier study: new, grown, unchanged, smaller or resolved.

    >>> [(found.observation, found.change) for found in finding_changes("The left effusion is larger. Resolved edema.")]
    [('Pleural Effusion', 'grown'), ('Edema', 'resolved')]

Only sentences that compare (`prior_comparisons.py`) are read. Words of change belong to the findings of their part of
the sentence, cut as `attributes.py` cuts it; a part without a finding belongs to the one before it, and a finding
without such a word takes that of the next part that has one, or of the last ("the effusion and the consolidation have
increased"). Never for clinical use.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from evaluation.reading.attributes import PART_END
from evaluation.reading.labeler import mentions
from evaluation.reading.observations import ABSENT
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.sides import sides_of

Change = Literal["new", "grown", "unchanged", "smaller", "resolved"]
CHANGES: tuple[Change, ...] = get_args(Change)

_SIZED = r"(?:(?:in|de)crease[ds]?|enlarge(?:d|ment)|improve[dm]\w*|worse\w*|progress\w*|larger|smaller|better|grown)"
_READ: tuple[tuple[Change, str], ...] = (
    ("unchanged", rf"(?:no|not|without|nor|neither)(?: \w+){{0,3}} (?:changed?|{_SIZED})|unchanged"),
    ("resolved", r"resolved|resolution|cleared|clearance|disappeared|vanished|gone|removed|removal|no longer"),
    (
        "new",
        r"new|newly|(?:has|have) (?:\w+ly )?(?:developed|appeared)|(?:has|have) been (?:placed|inserted)"
        r"|(?:development|placement|insertion|appearance) of|not (?:seen|there|present) (?:before|previously)",
    ),
    (
        "smaller",
        r"smaller|decreas\w+|improv\w+|reduced|reduction|diminish\w+|lessened|shrunk|shrinking|regress\w+|less|better"
        r"|resolving|clearing",
    ),
    (
        "grown",
        r"larger|bigger|greater|increas\w+|grown|growing|wors\w+|progress\w+|enlarging|deteriorat\w+|more"
        r"|(?:has|have) (?:\w+ly )?enlarged",
    ),
    ("unchanged", r"unaltered|stable|constant|similar|same|persist\w*|remains?|remained|again|still|residual"),
)
"""The first that a part says decides."""
_WORDS = tuple((change, re.compile(rf"\b(?:{words})\b")) for change, words in _READ)


class FindingChange(NamedTuple):
    """What became of one finding: its sides ("left", "right", or none said) and the sentence that says it."""

    observation: str
    sides: frozenset[str]
    change: Change
    phrase: str
    sentence: str


def finding_changes(text: str) -> Iterator[FindingChange]:
    """The findings of a report that it compares with an earlier study, in its order.

    A finding that "nearly resolved" is smaller. One that the report denies is only ever resolved ("no new effusion"
    says nothing of a change).
    """
    for sentence in comparison_sentences(text):
        found = sorted(mentions(sentence), key=lambda mention: mention.start)
        starts = [mention.start for mention in found]
        changes = _changes(sentence.lower(), starts)
        for mention, sides, change in zip(found, sides_of(sentence, starts), changes, strict=True):
            if change is None or (mention.polarity == ABSENT) != (change == "resolved"):
                if change != "resolved":
                    continue
                change = "smaller"
            yield FindingChange(mention.observation, sides, change, mention.phrase, sentence)


def _changes(sentence: str, starts: list[int]) -> list[Change | None]:
    """The change of each finding, by the parts of the sentence; `starts` ascending."""
    cuts = [0, *(cut.start() for cut in PART_END.finditer(sentence)), len(sentence) + 1]
    parts: list[tuple[int, Change | None]] = []  # where a part with findings starts, and what it says
    ahead: Change | None = None
    for start, end in pairwise(cuts):
        said = _change(sentence[start:end])
        if any(start <= place < end for place in starts):
            parts.append((start, said or ahead))
            ahead = None
        elif parts:
            parts[-1] = parts[-1][0], parts[-1][1] or said
        else:
            ahead = said
    words = [said for _, said in parts]
    for n in reversed(range(len(words) - 1)):
        words[n] = words[n] or words[n + 1]
    for n in range(1, len(words)):
        words[n] = words[n] or words[n - 1]
    return [words[bisect_right([place for place, _ in parts], start) - 1] for start in starts]


def _change(part: str) -> Change | None:
    return next((change for change, pattern in _WORDS if pattern.search(part)), None)
