"""Comparisons with an earlier study: which sentences make one, and whether the writer was given an earlier study.

    >>> comparison_sentences("Heart size is unchanged. No prior studies for comparison. No degenerative change.")
    ['Heart size is unchanged']

Never for clinical use.
"""

import re
from collections.abc import Mapping
from typing import Any

from evaluation.reading.sentences import split_sentences

# "No prior studies are available for comparison" compares nothing.
_NO_PRIOR = re.compile(
    r"\b(?:no|without|lack of|absence of|none)"
    r"(?: (?:available|relevant|direct|recent|other|chest|remote|radiographic|any|a|old))*"
    r" (?:priors?|previous|comparisons?|earlier|older)\b(?: \w+){0,6}"
    r"|\b(?:priors?|comparisons?)(?: \w+){0,3} (?:not|unavailable)\b(?: \w+){0,3}"
    r"|\bno (?:\w+ )?(?:films?|studies|images?) (?:\w+,? ){0,4}comparison"
)
# What was before, but not on an image, or is no comparison in time.
_NOT_IN_TIME = re.compile(
    r"\b(?:compared|comparison|relative) (?:to|with) the (?:left|right|contralateral|opposite|other)\b"
    r"|\b(?:prior|previous|old) (?:\w+ )?(?:surgery|surgical|sternotomy|cabg|fractures?|granulomatous|infection|trauma"
    r"|disease|thoracotomy|injury|tuberculosis|procedure)\b"
    r"|\b(?:hemodynamically|clinically) stable\b|\bnew york\b|\bno longer than\b"
)
_STUDY = (
    r"(?:exams?|examinations?|stud(?:y|ies)|radiographs?|films?|x-?rays?|images?|imaging|ct|scans?|chest|comparisons?)"
)
_COMPARISON = re.compile(
    r"\b(?:unchanged|stable|interval|new|newly|again|re-?demonstrat\w+|persist(?:s|ent|ently|ing)|remains?|remained"
    r"|improv(?:ed|ing|ement)|worsen(?:ed|ing)|progress(?:ed|ion|ing)|regress(?:ed|ion|ing)"
    r"|resolved|resolving|cleared|clearing|no longer|previously|compared|comparisons?)\b"
    r"|\b(?:no|without|little)(?: (?:significant|interval|appreciable|substantial|definite|major|further|marked|real))*"
    r" changes?\b(?! (?:of|to)\b)"
    r"|\b(?:has|have) (?:\w+ly )?(?:increased|decreased|enlarged|grown|changed)\b"
    r"|\b(?:increased?|decreased?|larger|smaller|greater|less|changed?) (?:\w+ ){0,3}?(?:since|from the|than on)\b"
    rf"|\b(?:prior|previous|earlier|older|last)(?: [\w/-]+){{0,3}} {_STUDY}\b"
    r"|\bsince (?:the )?(?:prior|previous|last|earlier|\d|xxxx)"
)
_ADVICE = re.compile(r"\b(?:recommend\w*|correlat\w*|advis\w*|if (?:possible|available))\b")
_NO_COMPARISON = re.compile(r"\W*(?:$|(?:none|no|n/?a|nil|not|unavailable)\b)", re.IGNORECASE)


def comparison_sentences(text: str | None) -> list[str]:
    """Sentences of the report that claim something about an earlier study: unchanged, new, improved, again seen.

    The section "Comparison: ..." and advice ("correlate with prior films") claim nothing and are left out.
    """
    return [sentence for _, sentence in split_sentences(text or "") if _compares(sentence.lower())]


def _compares(sentence: str) -> bool:
    if _ADVICE.search(sentence):
        return False
    return _COMPARISON.search(_NOT_IN_TIME.sub(" ", _NO_PRIOR.sub(" ", sentence))) is not None


def has_prior(record: Mapping[str, Any]) -> bool:
    """Whether the model is told of an earlier study: by a prior report, or a comparison that is not "None". Prior
    images do not count, `generate.py` does not show them.

    Raises:
        ValueError: the comparison or the prior report is no text.
    """
    texts = {name: record.get(name) or "" for name in ("prior_report", "comparison")}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"study {record.get('study_id')!r}: {name} is {text!r:.80}, expected text or null")
    told = not _NO_COMPARISON.match(texts["comparison"])
    return bool(texts["prior_report"].strip()) or told
