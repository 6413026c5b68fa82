"""Where in the indication, technique or comparison of a report what it says of the image begins.

These three go into a prompt, so none of the answer may stand there. A technique or comparison ends at the first
sentence that says something of the image, a comparison also at one that names no study, date, time or "none". An
indication may tell of findings itself: it ends at a sentence that starts like a report, or, behind its first, at one
that says of a place or finding how it is.
"""

import re

_PLACE = (
    r"(?:lungs?|heart|cardi\w+|mediastin\w+|hil(?:a|ar|um)|pulmonary|pleural?|costophrenic|(?:hemi)?diaphragms?|trachea"
    r"|osseous|bony|bones|ribs|(?:et|ng|og|endotracheal|nasogastric|enteric|chest|dobb?hoff|tracheostomy"
    r"|feeding) tubes?|dobb?hoff|picc|catheters?|aort\w+|lobes?"
    r"|bas(?:al|ilar|es?)|apex|apices|wires|clips|sternotomy|pacemaker|leads?|silhouette|vasculature|spine|skelet\w+"
    r"|stomach|carina)"
)
_FINDING = (
    r"(?:effusions?|opacit\w+|opacification|pneumothora\w+|o?edema|consolidations?|atelecta\w+|infiltrates?|pneumonia"
    r"|congestion|cardiomegaly|airspace|nodules?|mass(?:es)?|fractures?|markings|ptx|collapse|hyperinflation"
    r"|emphysema|bronchiectasis|granulomas?|scarring|thickening|pneumomediastinum|pneumoperitoneum|free air"
    r"|calcifications?|hernia|abnormalit\w+|cardiopulmonary|volumes?)"
)
_STATE = (
    r"(?:is|are|was|were|has|have|remains?|appears?|clear|normal|stable|unchanged|enlarged|seen|noted|present|in place"
    r"|increased|decreased|improved|worse\w*|persists?|terminat\w+|ends?|lies|projects?|in (?:good|standard"
    r"|satisfactory|appropriate|unchanged) position|again|interval"
    r"|worrisome|suspicious|suggest\w+|compatible with|consistent with|developed|resolved|unremarkable|hyper\w+"
    r"|flattened|demonstrates?|shows?)"
)
_ALONE = re.compile(r"\b(?:cardiomegaly|hyperinflat\w+|unremarkable|\w*scoliosis|kyphosis|flattened)\b", re.IGNORECASE)
_UNCHANGED = re.compile(
    r"(?:stable|unchanged|(?:ab)?normal|negative|clear|limited|no (?:\w+ ){0,2}change)\b(?! (?:prior|previous"
    r"|available))",
    re.IGNORECASE,
)
_HOW = re.compile(
    r"(?:tiny|small|trace|moderate|mild|minimal|bibasilar|patchy|low|clear|normal|hazy|stable|diffuse)\b", re.IGNORECASE
)
_SEEN = re.compile(rf"\b(?:{_PLACE}|{_FINDING})\b", re.IGNORECASE)
_SAID = re.compile(
    rf"\b(?:{_STATE}|no|tiny|trace|low|hazy|multiple|severe|minimal|small|moderate|large|mild|new|left|right"
    rf"|bilateral|patchy|diffuse)\b",
    re.IGNORECASE,
)
_STATED = re.compile(rf"\b{_STATE}\b", re.IGNORECASE)
_THERE_IS = re.compile(
    r"there (?:is|are|has|have)\b(?! (?:no|are|been no) (?:prior|previous|other|old|avail))", re.IGNORECASE
)
# An indication may tell of findings ("known effusion"): there only a sentence that starts like a report ends it.
_LIKE_A_REPORT = re.compile(
    r"(?:the |both |otherwise,? |again |\d[.)] ?)*(?:"
    rf"(?:right |left |bilateral )?{_PLACE}\b(?! (?:failure|disease|cancer|transplant|surgery|attack|arrest|fibrosis|"
    rf"hypertension|embol)).*\b{_STATE}\b"
    rf"|(?:no(?! (?:\w+ )?history)|there (?:is|are)(?: no)?) (?:\w+ ){{0,3}}(?:{_FINDING}|evidence of)\b"
    r"|(?:portable|frontal|pa|ap|single|two|chest)\b.*\b(?:demonstrates?|shows?|reveals?|reviewed|compar\w+)\b)",
    re.IGNORECASE,
)
_A_COMPARISON = re.compile(
    r"none|n/?a\b|nil|no\W*$|not (?:avail|appl|prov)|_|x{4}|\d(?![.)] ?[a-z])|clinical$|indication"
    r"|(?:chest|portable|p ?a|ap|lateral|frontal|single|two|same|earlier|today|yesterday|jan|feb|mar|apr|may|june?"
    r"|july?|aug"
    r"|sep|oct|nov|dec)\w*\b(?! (?:clear|normal|is))"
    r"|.{0,60}\b(?:prior|previous|dated|available|compar\w+|radiographs?|films?|stud(?:y|ies)|exams?|ct|mri?"
    r"|x-?(?:rays?|x{4}))\b",
    re.IGNORECASE,
)
_OF_THE_PATIENT = re.compile(
    r"^(?:and|or|with|of|in|for|versus|vs)\b|//|\?|\b(?:please|evaluat\w*|eval|assess\w*|rule out|r/o|query|history"
    r"|hx|known|status post|s/p|prior|recent\w*|now|"
    r"concern\w*|year|patient|pt|pain|possible|question\w*|follow\w*|f/u|presents?|admitted|symptoms|complain\w*"
    r"|pre-?op\w*"
    r"|states?|smok\w+|due to|function|surgery|diagnos\w+|shielded)\b|___ ?[fm]\b",
    re.IGNORECASE,
)
_PRIOR_HAD = re.compile(
    r"(?:[\w-]+ ){0,3}(?:ct|mri?|cxr|radiographs?|films?|x-?rays?|study) (?:of|from|dated|on) [\w/ ]+ with\b",
    re.IGNORECASE,
)
# Behind the first sentence of an indication: where a device is or that it is gone; what has become of the heart.
_OF_A_DEVICE = re.compile(
    r"(?:(?:the|a|an|new|left|right|bilateral|both|single|dual|chamber|lumen|lead|large|small|bore|internal|jugular|ij"
    r"|subclavian|femoral|central|venous|dialysis|basilar|apical|sided)[ -])*"
    r"(?:(?:et|ng|og|endotracheal|nasogastric|orogastric|enteric|chest|pleural|pigtail|feeding|tracheostomy) ?"
    r"(?:tubes?|drains?|catheters?)|ett|ngt|picc(?: line)?|central (?:venous )?(?:lines?|catheter)|lines?|catheters?"
    r"|drains?|swan[ -]ganz(?: catheter)?|pacemaker(?: leads?)?|leads|dobb?hoff(?: tube)?|icd(?: leads?)?)\b"
    r"(?:.{0,30}?\b(?:tips?|coiled|intact|overl(?:ies|ie|ying)|kinked|above|in (?:situ|place|position)|not seen)\b"
    rf"|.{{0,30}}?\b(?:removed|withdrawn|pulled)\b.*\b(?:no|small|tiny) (?:\w+ )?{_FINDING}\b)"
    r"|(?:bilateral|left|right)? ?(?:hilar|mediastinal) (?:enlargement|widening|fullness|prominence)\b",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"[\w -]{0,40}\b(?:tubes?|drains?|lines?|catheters?)\b[\w -]{0,20}\b(?:removed|withdrawn|pulled)\W*$", re.IGNORECASE
)
"""In front of the body its first sentence, else what was done to the patient."""
_COMPARES = re.compile(
    r"(?:in comparison|(?:as )?compared|comparison is made) (?:with|to)\b[^,.]*, ?(?!eval|assess|rule)\w",
    re.IGNORECASE,
)
"""A sentence of the body that names the study before: "In comparison with study of ___, there is little change"."""
_SENTENCES = re.compile(r"(?<=[.!?])(?<![.!?] \d\.)(?<!\n\d\.)(?<!\A\d\.) (?=\S)|\n")


def says(text: str) -> bool:
    """Whether a text says how lungs, heart or a device look."""
    return bool(
        (_SEEN.search(text) and _SAID.search(text))
        or _ALONE.search(text)
        or _UNCHANGED.match(text)
        or _THERE_IS.match(text)
    )


def cut_at_the_body(section: str, text: str, apart: bool) -> tuple[list[str], list[str]]:
    """The sentences of a section of the prompt, and those of the report's body that follow it there, mostly none.

    `apart`: a blank line stands between the heading and the text. Line breaks in `text` end a sentence.
    """
    sentences = _SENTENCES.split(text)

    def is_body(n: int, sentence: str) -> bool:
        if _COMPARES.match(sentence):
            return True
        if sentence.endswith("?"):
            return False
        if section == "indication":
            tells = n > 0 and not _OF_THE_PATIENT.search(sentence)
            of_image = _ALONE.search(sentence) or (
                _SEEN.search(sentence) and (_HOW.match(sentence) or _STATED.search(sentence))
            )
            return bool(_LIKE_A_REPORT.match(sentence) or (tells and (of_image or _OF_A_DEVICE.match(sentence))))
        if section == "comparison" and (n or apart) and not _A_COMPARISON.match(sentence):
            return True
        return says(sentence) and not _PRIOR_HAD.match(sentence)

    body = next((n for n, sentence in enumerate(sentences) if is_body(n, sentence)), len(sentences))
    if 1 < body < len(sentences) and section == "indication" and _GONE.match(sentences[body - 1]):
        body -= 1
    return sentences[:body], sentences[body:]
