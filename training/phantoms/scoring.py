"""Findings and sides read back from a report, and their scores.

Made for the reports of SYNTHETIC phantoms; the reader also takes plain radiology English.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from training.phantoms.report import PAIRS, SIDES, Pair

MENTION = {
    "effusion": r"effusions?|pleural fluid|hydropneumothora\w+|blunt(?:ed|ing)",
    "cardiomegaly": (
        r"cardiomegaly|(?:heart|cardiac (?:silhouette|shadow|contour|size))\b[^,;]*?\b(?:enlarge[d\w]*|increased)"
        r"|enlarge\w* (?:of )?(?:the )?(?:heart|cardiac)"
    ),
    "nodule": r"nodul(?:es?|ar\w*)|mass(?:es)?|(?:lung|pulmonary) lesions?",
    "pneumothorax": r"pneumothora(?:x|ces|xes)",
    "consolidation": r"consolidat(?:ions?|ive|ed)|airspace (?:disease|opacit\w+)",
    "device": (
        r"pacemakers?|pacer|pulse generator|icd|central (?:venous )?(?:lines?|catheters?)|catheters?|picc"
        r"|port(?:-?a-?cath)?s?|(?:support|indwelling) devices?|lines? (?:or|and) (?:other )?(?:devices|tubes)"
    ),
}
_MENTION = re.compile("|".join(rf"(?P<{name}>\b(?:{pattern})\b)" for name, pattern in MENTION.items()))
_SIDE = re.compile(r"\b(?:(left)|(right)|(?:bilateral\w*|both|either|bibasilar|bibasal))\b")
# Places named left or right that are not a side of the chest, and words of negation that negate no finding.
_ASIDE = re.compile(
    r"\b(?:left|right) (?:ventric\w+|atri\w+|heart|cardiac (?:border|silhouette|contour))\b|\bto the (?:left|right)\b"
    r"|\bno (?:significant |interval |appreciable )*change (?:in|of)\b|\brather than\b|\bnot only\b"
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|nor|neither|never|free of|clear of|negative for|absence of"
    r"|absent(?! (?:lung |vascular )*markings))\b"
)
_END_OF_NEGATION = re.compile(
    r"\b(?:but|however|although|though|except(?: for)?|apart from|other than|whereas|while|with|which)\b"
    r"|(?:,|\band\b) (?=(?:there (?:is|are)|a|an|the)\b)"
)
_NEGATED_AFTER = re.compile(
    r"[^,;]*?\b(?:(?:is|are|was|were) (?:absent|excluded|resolved)|(?:has|have) (?:cleared|resolved)"
    r"|(?:is|are|was|were) (?:not|no longer) (?:seen|identified|present|visible|visuali[sz]ed|evident|demonstrated))\b"
)
_BREAK = re.compile(r",|\b(?:and|or|with|without|but|however|while|whereas|as well as|plus)\b")
_NORMAL = re.compile(r"\b(?:clear|normal|unremarkable|sharp|well expanded)\b")
# "small left" of "small left and large right effusion"; not the "on the left" that ends an earlier thought.
_BARE_SIDE = re.compile(r"(?<!on the )(?<!to the )(?<!in the )\b(?:left|right)\s*$")


def report_sides(text: str) -> set[Pair]:
    """Findings and sides that a report claims, from English text in the generator's style or plain radiology English.

    Returns pairs (name, side) as in PAIRS. "Bilateral" and "both" give both sides, negated findings give nothing, a
    hedged one ("possible") counts as claimed, and a sided finding without any side gives (name, None).
    """
    found: set[Pair] = set()
    for sentence in re.split(r"[;\n]|\.(?=\s|$)|\b(?:findings|impression):", text.lower()):
        found |= _sentence_sides(_ASIDE.sub(" ", sentence.replace("-sided", "")))
    return found


def _sentence_sides(sentence: str) -> set[Pair]:
    """The claims of one sentence, cut at commas and conjunctions.

    The sides in a part without a finding belong to the part before it, or after it where they stand alone; a finding
    without a side takes that of the part before it.
    """
    parts: list[tuple[list[re.Match[str]], list[str]]] = []  # mentions and sides of each part that has mentions
    waiting: list[str] = []
    cuts = [0, *(m.start() for m in _BREAK.finditer(sentence)), len(sentence)]
    for start, end in pairwise(cuts):
        part = sentence[start:end]
        sides = [side for word in _SIDE.finditer(part) for side in ([word.group()] if word.lastindex else SIDES)]
        mentions = list(_MENTION.finditer(sentence, start, end))
        if mentions:
            parts.append((mentions, waiting + sides))
            waiting = []
        elif parts and not _BARE_SIDE.search(part):
            parts[-1][1].extend(sides)
        elif not _NORMAL.search(part):
            waiting += sides
    if parts:
        parts[-1][1].extend(waiting)

    found: set[Pair] = set()
    known: list[str] = []
    for mentions, sides in parts:
        known = sides or known
        for mention in mentions:
            name = str(mention.lastgroup)
            if _negated(sentence, mention):
                continue
            if name == "cardiomegaly":
                found.add((name, None))
                continue
            names = ["effusion", "pneumothorax"] if mention.group().startswith("hydro") else [name]
            places: Sequence[str | None] = known or [None]
            found |= {(name, side) for name in names for side in places}
    return found


def _negated(sentence: str, mention: re.Match[str]) -> bool:
    """Whether a negation before the mention still holds there, stands in it, or follows it."""
    cues = [cue for cue in _NEGATION.finditer(sentence) if cue.end() <= mention.end()]
    if cues and not _END_OF_NEGATION.search(sentence, cues[-1].end(), mention.start()):
        return True
    return _NEGATED_AFTER.match(sentence, mention.end()) is not None


def score_sides(references: Sequence[set[Pair]], predictions: Sequence[set[Pair]]) -> dict[str, object]:
    """Precision, recall and F1 of each (finding, side) of PAIRS over studies, and their macro F1.

    0/0 counts as 0, except that a pair which is neither planted nor predicted anywhere has no F1 (None) and is left out
    of the macro mean; with no pair left, macro_f1 is None. A sided finding named without its side matches no pair.

    Returns: {"macro_f1": 0.9, "pairs": {"left effusion": {"precision", "recall", "f1", "planted", "predicted"}, ...}}.
    Raises: ValueError when the two lists differ in length.
    """
    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} references and {len(predictions)} predictions, expected as many of each")
    pairs: dict[str, dict[str, float | int | None]] = {}
    scores: list[float] = []
    for pair in PAIRS:
        planted = sum(pair in reference for reference in references)
        predicted = sum(pair in prediction for prediction in predictions)
        hits = sum(pair in r and pair in p for r, p in zip(references, predictions, strict=True))
        f1 = 2 * hits / (planted + predicted) if planted + predicted else None
        if f1 is not None:
            scores.append(f1)
        pairs[" ".join(filter(None, (pair[1], pair[0])))] = {
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / planted if planted else 0.0,
            "f1": f1,
            "planted": planted,
            "predicted": predicted,
        }
    return {"macro_f1": sum(scores) / len(scores) if scores else None, "pairs": pairs}
