"""A report without its comparisons with an earlier study, for training where the model is given none.

    >>> without_comparisons("Stable cardiomegaly. No change. The lungs remain clear, unchanged from the prior film.")
    'Cardiomegaly. The lungs are clear.'

A model that learns from "unchanged" without an earlier study says "unchanged" of any picture. Of each sentence that
compares (`prior_comparisons.py`) the first of these stands in its place that compares no more and leaves the labels of
the report as they were: the sentence in words of one picture; nothing; its subject, which "is present"; the clauses
that compare with nothing; its labels in words.
"""

import re
from collections.abc import Iterator

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import ABSENT, NO_FINDING, PRESENT, UNCERTAIN, Labels
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.sentences import cut_sentences

_HOW = (
    r"(?:(?:(?!cardiomegaly)\w+ly|overall|otherwise|slight|mild|marked|minimal|further|again|much|somewhat|very|more"
    r"|little) )*"
)
_SAME = (
    r"(?:stable|unchanged|unaltered|similar|constant|the same|persist(?:ent|ing)|re-?demonstrated|larger|smaller|worse"
    r"|better|new|(?:increas|decreas|improv|worsen)(?:ed|ing)|diminished|(?:resolv|enlarg|evolv|develop)ing)"
)
_CHANGE = (
    r"(?:increase|decrease|improvement|worsening|progression|development|enlargement|redemonstration|persistence"
    r"|reaccumulation|reduction|clearing|recurrence|placement|insertion)"
)
_STUDY_BEFORE = (
    r"(?:the |that |a |an |his |her |any |multiple |most |recent |immediate |several |chest )*"
    r"(?:prior|previous|earlier|last|old(?:er)?|outside|comparison|before|yesterday|study|exam\w*|radiographs?)\b"
)
_REST = r"[^,;]*?(?=,|;|[.?]?$| with\b| without\b| but\b| and (?:is|are|there|no)\b)"
_LOOKS = r"(?:in|with) (?:(?:its|their|overall|general) )?(?:size|appearance|position|contour|extent|configuration)"
_OF_THE = r"(?:in|of) (?:the )?(?:(?:size|appearance|position|extent|degree) of )?(?:the )?"
_ANATOMY = (
    r"(?:(?:the|and|heart|cardiac|cardio\w*|mediastin\w+|hil(?:ar|um|a)|contours?|silhouettes?|size|pulmonary"
    r"|vasculature|vascularity|appearance|of)\b ?)+(?=[,.;]|$)"
)
_SAID_NEXT = r"(?=normal|within|unremarkable|clear|enlarged|mildly|moderately|upper|borderline|prominent|tortuous)"
_IN_ONE_PICTURE = [
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rf",? ?\(?\b(?:as |when |in )?(?:compared|comparison|relative) (?:to|with|from)\b{_REST}\)?", ""),
        (rf"^(?:since|from) {_STUDY_BEFORE}{_REST},? ?", ""),
        (rf",? ?\(?\b(?:and )?{_HOW}{_SAME} (?:to|from|since|than|as) {_STUDY_BEFORE}{_REST}\)?", ""),
        (rf",? ?\b(?:since|from|than|as (?:seen )?(?:on|in)|on|to|like) {_STUDY_BEFORE}{_REST}", ""),
        (r",? ?\b(?:in|during|over) the interval\b,?|,? ?\bas (?:before|previously \w+)\b", ""),
        (rf",? which (?:is|are|has|have) (?:been )?{_HOW}{_SAME}(?=[,.?]|$)|\bpersistently ", ""),
        (r",? ?\bwithout (?:\w+ )*changes?\b(?! (?:of|to)\b)", ""),
        (rf"^(?:there(?:'s| is| has been| have been) )?no (?:\w+ )*?changes? (?:{_OF_THE})?(?=\w)", ""),
        (rf"(?:,| and| with| show| demonstrate) (?:an? )?{_HOW}(?:stable|unchanged) {_ANATOMY}", ""),
        (r"(?:,| or| and) (?:\w+ )?interval changes?(?=[,.?]|$)", ""),
        (
            rf"\b(?:there(?:'s|(?: is| has| have))(?: been)? )?(?:an? )?{_HOW}(?:interval )?{_HOW}{_CHANGE} {_OF_THE}",
            "",
        ),
        (r"^(?:again|re-?)[- ]?(?:seen|noted|demonstrated|identified|visuali[sz]ed) (is|are)\b", r"there \1"),
        (r"\b(?:continues?|remains?) to be\b|\bremain(?:s|ed)\b(?! which| that|[.,;]|$)|\bpersists as\b", "is"),
        (r"\bcontinue to be\b|\bremain\b(?! which| that|[.,;]|$)", "are"),
        (rf"\b(?:has|have) {_HOW}(?:(?:in|de)creased|enlarged|grown|improved|worsened) and (is|are)(?: now)?\b", r"\1"),
        (r"\bhas (?:been (?:placed|inserted)|developed|appeared)\b", "is present"),
        (r"\bhave (?:been (?:placed|inserted)|developed|appeared)\b", "are present"),
        (rf"\b(is|are|appears?) {_HOW}{_SAME}(?: {_LOOKS})?,? (?:and|but|with) {_SAID_NEXT}", r"\1 "),
        (rf"\b(is|are) {_HOW}(?:stable|unchanged) (?=with |at |over )", r"\1 present "),
        (rf",? ?\b(?:and|but|yet|or|both) {_HOW}{_SAME}(?: {_LOOKS})?(?=[,.?]|$)", ""),
        (rf",? {_HOW}{_SAME}(?: {_LOOKS})?(?=,|[.?]?$)", ""),
        (r"\b(is|are) no longer\b", r"\1 not"),
        (r"\bno longer (?=seen|visible|present|visualized|identified)", "not "),
        (r",? ?\bagain\b|,? ?\b(?:now|still|newly)\b(?= \w)", ""),
        (r"\b(there (?:is|are)|(?:is|are)(?= ?, most)) ?,", r"\1"),
        (r"\bresol(?:ved|ution of)\b (?:the )?(?=\w)", "no "),
    )
]
_ADJECTIVE = re.compile(
    rf"(\ban? )?(?<!has )(?<!have )(?<!been )\b(?:(?!cardiomegaly)\w+ly )*(?:{_SAME}|interval|residual|recurrent"
    r"|progressive|continued|continuing|previously \w+ed|previously (?:seen|known)),? "
    r"(?:(?:appearance|position|size|extent|degree) of (?:the )?)?"
    r"(?!(?:and|or|in|with|from|to|of|but|as|since|for|than|on|at|by|when|which|is|are|remain)\b)(?=(\w))",
    re.IGNORECASE,
)
"""Words of change before a noun, and an article before them."""
_PREDICATE = re.compile(
    r"(?:,? (?:which|that|but|and))? (is|are|was|were|appears?|remains?|has|have|looks?|seems?)\b(?: been| to be)? ?"
    rf"{_HOW}(?:{_SAME}|progressed|cleared|grown|moved|persist\w*|(?:develop|improv)ed)?\b.*",
    re.IGNORECASE,
)
_MANY = ("are", "were", "have", "appear", "remain", "look", "seem")
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|no|not|without|normal|clear|within|unremarkable|seen|noted|present|may)\b",
    re.IGNORECASE,
)
_UNFINISHED = re.compile(
    r"\b(?:is|are|was|were|has|have|appears?)(?: \w+ly)? ?,"
    r"|\b(?:has|have) (?:\w+ly )?(?:tiny|small|large|mild|moderate|minimal|normal|clear)\b"
    r"|(?:^|\b)(?:is|are|was|were|be|been|with|of|and|or|in|to|from|the|an?|for|by|at|on|has|have|appears?|but|than|as"
    r"|which|since|there|no|not|shows?|demonstrates?)[.?,]*$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,:]|\bbut\b|\bwith\b")
_REMOVED = re.compile(rf"(?:there(?:'s| is| has been) )?(?:an? )?{_HOW}(?:interval )?removal\b", re.IGNORECASE)
_WORDS = {PRESENT: "{} present.", ABSENT: "No {}.", UNCERTAIN: "Possible {}."}


def without_comparisons(*texts: str | None) -> tuple[str | None, ...]:
    """The parts of one report, findings and impression, without what compares with an earlier study.

    The 14 labels of the whole report stay as they were; where nothing keeps them, a sentence stays as it is. A part in
    which nothing compares is returned unchanged, one of which nothing is left is None.
    """
    if not any(comparison_sentences(text) for text in texts):
        return texts
    parts = [list(cut_sentences(text or "")) if comparison_sentences(text) else [text or ""] for text in texts]
    wanted = label_report(_joined(parts))
    for part, text in zip(parts, texts, strict=True):
        if not comparison_sentences(text):
            continue
        for n, sentence in enumerate(part):
            if comparison_sentences(sentence):
                part[n] = next(_kept(parts, part, n, wanted), sentence)
    return tuple(_text(part) or None for part in parts)


def _kept(parts: list[list[str]], part: list[str], n: int, wanted: Labels) -> Iterator[str]:
    """What may stand in place of sentence `n` of a part, best first."""
    sentence = part[n]
    for words in _candidates(sentence):
        if not words or not comparison_sentences(words):
            part[n] = words
            same = label_report(_joined(parts)) == wanted
            part[n] = sentence
            if same:
                yield words


def _candidates(sentence: str) -> Iterator[str]:
    own, abnormal = _findings(sentence), _is_abnormal(sentence)
    seen = abnormal or PRESENT in own.values()
    words = sentence
    for pattern, instead in _IN_ONE_PICTURE:
        words = pattern.sub(instead, words)
    words = _ADJECTIVE.sub(_article, words)
    said = (seen or _VERB.search(words) or ABSENT in own.values()) and not _UNFINISHED.search(words)
    if said and not _REMOVED.match(sentence) and (_findings(words), _is_abnormal(words)) == (own, abnormal):
        yield _finished(words)
    for subject in (sentence, words) if seen else ():
        predicate = _PREDICATE.search(subject)
        if predicate and not re.fullmatch(rf"(?:.*\b)?there|{_ANATOMY}", subject[: predicate.start()], re.IGNORECASE):
            verb = "are" if predicate.group(1).lower() in _MANY else "is"
            yield _finished(f"{subject[: predicate.start()]} {verb} present")
    yield ""
    clauses = [clause for clause in _CLAUSE.split(sentence) if not comparison_sentences(clause)]
    yield _finished(",".join(clauses))
    yield " ".join(_finished(_WORDS[value].format(name.lower())) for name, value in own.items() if value is not None)


def _findings(sentence: str) -> Labels:
    return {name: value for name, value in label_report(sentence).items() if name != NO_FINDING}


def _is_abnormal(sentence: str) -> bool:
    """Whether a sentence names anything that is not normal, of the 14 observations or not."""
    return label_report(f"The heart is normal. {sentence}")[NO_FINDING] is None


def _article(found: re.Match[str]) -> str:
    if not found.group(1):
        return ""
    return f"{found.group(1)[0]}{'n' if found.group(2).lower() in 'aeiou' else ''} "


def _finished(words: str) -> str:
    """Spaces, commas, the first letter and the full stop as they should be."""
    words = " ".join(words.split()).strip(" ,;.-")
    words = re.sub(r" +([,.;])", r"\1", re.sub(r"(?:,\s*)+,", ",", words))
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _text(part: list[str]) -> str:
    return " ".join(filter(None, part))


def _joined(parts: list[list[str]]) -> str:
    return "\n\n".join(map(_text, parts))
