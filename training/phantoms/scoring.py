"""What a report claims of what can be planted in a phantom: findings with their sides, by the project's own readers."""

from itertools import groupby

from evaluation.reading.labeler import Mention, explain_report
from evaluation.reading.observations import ABSENT
from evaluation.reading.sides import sides_of
from training.phantoms.report import LABEL_OF, SIDED, Pair

_NAME_OF = {label: name for name, label in LABEL_OF.items()}


def report_sides(text: str) -> set[Pair]:
    """Findings and sides that a report claims, from English text in the generator's style or plain radiology English.

    Returns:
        Pairs (name, side) as in `PAIRS`. A finding on both sides gives two, a denied one nothing, a doubted one counts
        as claimed, and a sided finding without any side gives (name, None).
    """
    found: set[Pair] = set()
    for sentence, group in groupby(explain_report(text).mentions, key=lambda mention: mention.sentence):
        named = [(name, mention) for mention in group if (name := _name(mention)) is not None]
        named.sort(key=lambda row: row[1].start)
        for (name, mention), sides in zip(named, sides_of(sentence, [m.start for _, m in named]), strict=True):
            if mention.polarity != ABSENT:
                found |= {(name, side) for side in sides} if name in SIDED and sides else {(name, None)}
    return found


def _name(mention: Mention) -> str | None:
    """Which finding of `LABEL_OF` a mention is, None for any other. Blunting of an angle is how a phantom's report may
    word an effusion, airspace disease a consolidation."""
    if mention.phrase.startswith("blunt"):
        return "effusion"
    if mention.phrase.startswith(("airspace", "air space", "air-space")):
        return "consolidation"
    return _NAME_OF.get(mention.observation)
