"""Comparisons with an earlier study: which sentences make one, and whether the writer was given an earlier study.

    >>> comparison_sentences("Heart size is unchanged. No prior studies for comparison. No degenerative change.")
    ['Heart size is unchanged']
    >>> comparison_sentences("Effusion larger than yesterday. Effusion larger on the right. Increased markings.")
    ['Effusion larger than yesterday']

What counts: a state that needs two films ("new", "stable", "residual", "larger"), a change ("increasing", "has grown",
"development of"), a device that was moved, an earlier film or day. What does not: two places of one picture ("larger
on the right"), more or less than normal ("increased markings", "decreased lung volumes"), a norm ("wider than
expected"), advice, the patient ("clinically stable"), age ("old fracture"), and that nothing can be compared.
Never for clinical use.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evaluation.reading.sentences import split_sentences

_STUDY = (
    r"(?:exams?|examinations?|stud(?:y|ies)|radiographs?|films?|x-?rays?|images?|imaging|ct|scans?|chest|comparisons?)"
)
_UNEVEN = (
    r"(?:larger|smaller|bigger|worse|better|greater|denser|wider|fewer|(?:more|less) (?:prominent|conspicuous"
    r"|pronounced|extensive|apparent|evident|dense|marked|visible|confluent|severe|diffuse|opaque))"
)
_CHANGED = (
    r"(?:increased|decreased|enlarged|grown|changed|diminished|reduced|developed|appeared|become|worsened|improved"
    r"|deteriorated|subsided|abated|receded|shrunk|spread|shifted|migrated|doubled|returned|formed|accumulated|moved"
    r"|extended|lessened|evolved|stabili[sz]ed|gone|placed|inserted|expanded)"
)
_DEVICE = (
    r"(?:tubes?|lines?|catheters?|drains?|leads?|picc|pacemakers?|port|cannulas?|balloon|ett|ngt|wires?|device|patient)"
)
_MOVED = r"(?:withdrawn|removed|repositioned|advanced|retracted|exchanged|replaced|pulled|adjusted|taken out)"
_COMPARISON = re.compile(
    r"\b(?:"
    + "|".join(
        (
            # a state that needs two films
            r"unchanged|unaltered|stable|interval|new|newly|again|re-?demonstrat\w+|persist(?:s|ed|ent|ently|ing)",
            r"remains?|remained|no longer|still|now|any ?more|residual|gone|(?:at|to) baseline",
            r"similar (?:appearance|position|extent|degree|exam\w*|in \w+|to)|(?:is|are|appears?) (?:\w+ly )?similar",
            r"(?:no|without|little)(?: (?:significant|interval|appreciable|substantial|definite|major|further|marked"
            r"|real))* changes?(?! (?:of|to)\b)",
            _UNEVEN,
            # a change
            r"(?:increas|decreas|enlarg|grow|evolv|diminish|shrink|develop|deteriorat|worsen|improv|progress|regress"
            r"|resolv|resorb|clear|wax|wan|fluctuat)ing(?:ly)?",
            r"increased?|decreased?|diminished|reduced|reduction|changed?(?= since)|improve(?:d|ment)|worsened",
            r"progress(?:ed|ion|ive|ively)|regress(?:ed|ion)|deteriorat(?:ed|ion)|resolved|cleared|developed",
            r"development of|re-?(?:accumulat|expan[ds]|appear|collect|collaps)\w*|recurr(?:ent|ence|ed|ing)",
            r"continu(?:es|ed|ing) to|continued",
            rf"(?:has|have|had) (?:(?:\w+ly|since|now|also|been) ){{0,3}}{_CHANGED}",
            rf"{_DEVICE} (?:(?:has|have|had|was|were|is|are|since|now|been|\w+ly) ){{1,3}}{_MOVED}",
            rf"{_DEVICE} {_MOVED}(?= ?(?:$|[.,;)]|and\b|since|by\b|back\b|\d))|extubated",
            # an earlier film or day
            r"previously|compared|comparisons?|formerly|yesterday|overnight|over time|in the (?:interim|meantime)",
            r"(?:as|than|from|to|seen|noted|present|like) (?:before|earlier)|than (?:(?:at|on) admission|it was)",
            r"(?:to|from|than|since|on) (?:the )?(?:priors?|previous)(?= ?(?:$|[.,;)]|and\b|xxxx))",
            r"last (?:\w+day|night|week|month|year|time)|(?:hours?|days?|weeks?|months?|years?) (?:ago|earlier|before)",
            rf"(?:prior|previous|earlier|older|last)(?: [\w/-]+){{0,3}} {_STUDY}",
            r"since (?:the )?(?:prior|previous|last|earlier|\d+|xxxx|\w+day)|(?:up|down) from|serial",
        )
    )
    + r")\b"
)

# What looks like a comparison and is none; cut out of a sentence before it counts.
_HERE = (
    r"(?:left|right|bas(?:e|es|al|ilar)|bibasilar|apic\w+|apex|upper|mid\w*|lower|lung|perihilar|peripher\w+|central\w*"
    r"|dependent|medial\w*|lateral\w*|anterior\w*|posterior\w*|lingula|side|hil(?:um|ar?))"
)
_OF_ONE_PICTURE = (  # markings, volumes, the heart: more or less than normal
    r"(?:markings?|opaci\w+|densit\w+|(?:hyper)?lucenc\w+|attenuation|volumes?|kyphosis|lordosis|curvature|retrosternal"
    r"|diameter|dimensions?|prominen\w+|fullness|tortuosity|calcific\w+|interstiti\w+|vascular\w*|vasculature|heart|cardiac|cardio\w+|silhouette|reticul\w+|peribronchial"
    r"|bronchovascular|inspir\w+|effort|expansion|aeration|translucency|bone|mineral\w*|breath sounds?|air entry)"
)
_MEASURED = r"(?:in|de)creased?|reduced|diminished|reduction"
_NO_COMPARISON = re.compile(
    "|".join(
        (
            # nothing to compare with: "no prior studies are available for comparison"
            r"\b(?:no|without|lack of|absence of|none)"
            r"(?: (?:available|relevant|direct|recent|other|chest|remote|radiographic|any|a|old))*"
            r" (?:priors?|previous|comparisons?|earlier|older)\b(?: \w+){0,6}",
            r"\b(?:priors?|comparisons?)(?: \w+){0,3} (?:not|unavailable)\b(?: \w+){0,3}",
            r"\bno (?:\w+ )?(?:films?|studies|images?) (?:\w+,? ){0,4}comparison",
            r"^(?:comparison|prior|previous|old)\b.*\b(?:would|could|useful|helpful|if available)\b",
            # two places of one picture
            r"\b(?:compared|comparison|relative|similar) (?:to|with) (?:the|that (?:of|on) the)"
            r" (?:left|right|contralateral|opposite|other)\b",
            rf"\b{_UNEVEN} (?:\w+ ){{0,2}}(?:on|in|at|along|towards?|over|within) (?:the )?(?:\w+ ){{0,2}}?{_HERE}\b",
            rf"\b{_HERE},? (?:(?:is|are|appears|side) ){{0,2}}{_UNEVEN}(?: \w+)? (?:than )?(?:the )?{_HERE}\b",
            r"\b(?:and|with|,) (?:an? )?(?:larger|smaller|greater)\b|\bthe (?:larger|smaller|greater|bigger|better)\b",
            rf"\b{_UNEVEN} (?:\w+ ){{0,2}}than (?!before|yesterday|previous|prior|earlier|last|at|it\b"
            r"|on (?:the )?\w+ \w+)",
            r"\b(?:better|worse) (?:seen|visuali[sz]ed|appreciated|evaluated?|assess(?:ed)?|defined?|characteri[sz]\w+"
            r"|demonstrated|delineated|shown|depicted)\b",
            # more or less than normal
            rf"\b(?:{_MEASURED})"
            r"(?: (?!effusion|edema|oedema|pneumothora|consolid|atelec|nodules?\b|mass)[\w-]+){0,4}?"
            rf" {_OF_ONE_PICTURE}\b",
            rf"\b{_OF_ONE_PICTURE} (?:size )?(?:is|are|appears?) (?:\w+ly )?(?:{_MEASURED})\b",
            # the patient, the past and names
            r"\b(?:ha?emodynamically|clinically|neurologically|patient(?: is| remains)?) stable\b|\bstable patient\b"
            r"|\bnew york\b|\bnew[- ]onset\b",
            r"\b(?:prior|previous|old|earlier|last) (?:\w+ )?(?:surg\w+|sternotomy|cabg|fractures?|granulomatous"
            r"|infection|trauma|disease|thoracotomy|injury|tuberculosis|procedure|operation)\b",
            r"\bno longer than\b|\b(?:at|regular|short|\w+[- ](?:day|week|month|year)) intervals?\b",
            r"\bpersistent left (?:superior|svc)|\bprogressive massive|\brecurrent laryngeal",
            r"\b(?:evidence (?:of|for)|disease) recurrence\b",
            r"\bwell[- ]developed\b|\bgrowing (?:child|skeleton)",
            r"\bresidual (?:contrast|barium|thym\w+|lung|\w+ sutures?)",
            r"\bchanges? in (?:management|treatment|therapy)|\b(?:may|might|could|possibly) (?:be )?(?:still|new)\b",
            r"\bstill images?\b|\bcontinued (?:clinical|concern|follow|monitor\w*|surveillance|attention)",
        )
    )
)
# Advice and conditions: from these words to the end of the clause, or the clause that ends in them.
_ADVICE_AHEAD = re.compile(
    r"\b(?:recommend|correlate|advise|suggest (?:an? )?(?:follow|repeat|ct|further|correl|compar|refer)\w*|consider"
    r"|please|if|whether|should|in order to)\b.*"
)
_ADVICE = re.compile(
    r"\b(?:recommend\w*|correlat\w*|advis\w*|suggested|should|would|could be (?:obtained|performed)|helpful|cannot be"
    r" (?:\w+ly )?(?:determined|assessed|established|judged|excluded)|unknown|indeterminate)\b"
)
_CLAUSE = re.compile(r"[,;:]|\bbut\b|\bfor which\b")
_NO_PRIOR = re.compile(r"\W*(?:$|(?:none|no|n/?a|nil|not|unavailable)\b)", re.IGNORECASE)


def comparison_sentences(text: str | None) -> list[str]:
    """Sentences of the report that claim something about an earlier study: unchanged, new, improved, again seen.

    The section "Comparison: ..." and advice ("correlate with prior films") claim nothing and are left out.
    """
    return [sentence for _, sentence in split_sentences(text or "") if _compares(sentence.lower())]


@lru_cache(maxsize=16_384)
def _compares(sentence: str) -> bool:
    if not _COMPARISON.search(sentence):
        return False
    claims = (_ADVICE_AHEAD.sub(" ", clause) for clause in _CLAUSE.split(_NO_COMPARISON.sub(" ", sentence)))
    return any(_COMPARISON.search(claim) and not _ADVICE.search(claim) for claim in claims)


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
    told = not _NO_PRIOR.match(texts["comparison"])
    return bool(texts["prior_report"].strip()) or told
