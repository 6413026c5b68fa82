"""What of a report never becomes a training target: blanks of de-identification, dates, people, messages, promises.

A picture shows none of it, so a model can only make it up. `target_of` takes the sentences out and counts them by
reason; `comparison_rewriting.py` does the same for comparisons with a study that the model is not given.
"""

import re
from collections import Counter

from evaluation.reading.report_frame import is_message
from evaluation.reading.sentences import cut_sentences

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_NO_TARGET = {
    "blank of de-identification": re.compile(r"x{4}|_{2}|\[\*\*|\[(?:redacted|removed|name|date)\b", re.IGNORECASE),
    "date or time": re.compile(
        rf"\b(?:\d{{1,4}}([/.-])\d{{1,2}}\1\d{{1,4}}\b|{_MONTH},? ?\d|\d(?:st|nd|rd|th)?(?: of)? {_MONTH}"
        r"|\d{1,2}:\d{2}(?!\d)|\d{1,2} ?[ap]\.?m\b|\d{3,4} ?(?:hours|hrs|h)\b|(?:19|20)\d\d\b)",
        re.IGNORECASE,
    ),
    "person": re.compile(
        r"\b(?:Drs?|Doctor|Prof(?:essor)?|Mr|Mrs|Ms|Miss|Nurse|Sister)\b\.? ?(?-i:[A-Z])"
        r"|\b(?:physician|radiologist|nurse|clinician|resident|attending|consultant|provider) ?: ?\w"
        r"|(?-i:[A-Z])[\w'-]+,? (?-i:M\.?D\b|MBBS|FRCR|RN\b|PA-C)",
        re.IGNORECASE,
    ),
    "promise": re.compile(
        r"\b(?:will|shall|to) (?:be )?(?:follow(?:ed)?[ -]?up|contact(?:ed)?|call(?:ed)?|notif(?:y|ied)|inform(?:ed)?"
        r"|issued?|dictated?|reviewed|discuss(?:ed)?|addend\w*|communicated?|updated?|reported)\b"
        r"|\b(?:addendum|final report|results?) (?:will|shall|to follow)\b|\bplease call\b",
        re.IGNORECASE,
    ),
}
MESSAGE = "message"


def why_no_target(sentence: str) -> str | None:
    """Why a sentence of a report is nothing to learn, or None: the reason that counts are kept by."""
    if is_message(sentence):
        return MESSAGE
    return next((reason for reason, marks in _NO_TARGET.items() if marks.search(sentence)), None)


def target_of(text: str | None, removed: Counter[str]) -> str | None:
    """The text without the sentences that are nothing to learn; None where nothing is left.

    Args:
        text: findings or impression. Where nothing is taken out it stays as it is, else list numbers go too.
        removed: counts the sentences taken out, by reason.
    """
    reasons = [(sentence, why_no_target(sentence)) for sentence in cut_sentences(text or "")]
    out = [reason for _, reason in reasons if reason]
    removed.update(out)
    if not out:
        return text
    return " ".join(sentence[:1].upper() + sentence[1:] for sentence, reason in reasons if not reason) or None
