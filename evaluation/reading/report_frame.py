"""What frames a report and is no part of what it says: heads of pages, banners, titles, addenda, signatures, times."""

import re
import unicodedata

_CHEST = re.compile(r"\b(?:chest|cxr)\b", re.IGNORECASE)
_VIEW = re.compile(
    r"\b(?:xr|views?|pa|ap|lat(?:eral)?|portable|radiograph\w*|films?|frontal|x-?rays?)\b", re.IGNORECASE
)
_TITLE = re.compile(
    "a|am|and|ap|at|bedside|by|chest|cxr|dated|decubitus|erect|exam(?:ination)?|films?|frontal|hours|images?|in"
    "|lat(?:eral)?"
    "|m|mobile|obtained|of|on|one|p|pa|performed|plain|pm|portable|projections?|radiograph(?:s|ic)?|rays?|semi|single"
    "|semi(?:erect|upright)|study|supine|the|three|time|two|upright|views?|with|x|xr|xray"
)
"""Words of a line that names the examination and says nothing of it."""

_PAGE_HEAD = re.compile(r"\(over\).{0,1500}?\(cont[^()\n]{0,8}\)", re.IGNORECASE | re.DOTALL)
_OF_A_PAGE = re.compile(r"final report|clip ?#|_{10}", re.IGNORECASE)
_MARKS = re.compile(r"\((?:over|cont(?:inued|'d|d)?\.?)\)", re.IGNORECASE)
_BANNER = r"\W*(?:FINAL|PRELIMINARY|INTERIM|MAIN) REPORT\W*"
BANNER = re.compile(_BANNER)
_RULE = re.compile(rf"[\s_=*~#.-]{{5,}}|{_BANNER}")
_ADDED = re.compile(
    r"\W*(?:(?:FINAL|REVISED|PRELIMINARY|RESIDENT) )*(?:(?:ADDEND(?:UM|A)|AMENDMENT|WET ?READ)\b"
    r"|[Aa]ddend(?:um|a)(?:\W*\d*\W*$| (?:by|dated|on|to|from|made|\d|#)))"
)
_SIGNED_SO = re.compile(
    r"\b(?:electronically|digitally)[ -](?:signed|approved|authenticated|verified|reviewed)"
    r"|\b(?:signed|approved|authenticated|verified|reviewed) (?:electronically|digitally)",
    re.IGNORECASE,
)
_SIGNED = re.compile(
    r"\W{0,6}(?:"
    r"(?:this |the )?(?:final |preliminary )?(?:report|document|study|examination) (?:(?:was|is|has been) )?"
    r"(?:electronically |digitally )?(?:signed|dictated|transcribed|approved|verified|finali[sz]ed|generated"
    r"|(?:reviewed|read|interpreted|edited)(?: and \w+)? by)\b"
    r"|(?:sincerely|respectfully|yours \w+|(?:with )?(?:best |kind )?regards)\b\W*(?:$|(?=[A-Z]))|cc ?:|d[dt] ?: ?[\d_]"
    r"|i, .{0,80}?\b(?:have|attest|certify|reviewed|agree)\b"
    r"|(?:resident|attending|fellow|author|transcriptionist|reviewer|reported|typist|physician|doctor|consultant|nurse"
    r"|technologist|technician|radiographer|clinician|surgeon|provider|practitioner|gp) ?:"
    r"|radiologist\b *(?::|\W*$)|"
    r"(?-i:[A-Z])(?:igned|ictated|ranscribed|eported|pproved|erified|uthenticated|inali[sz]ed|nterpreted|yped|alidated|"
    r"o-?signed|ead|equested|eferred|rdered|erformed)(?: and \w+)? by\b"
    r"|i have (?:personally )?(?:reviewed|examined)|i,? (?:as )?the (?:teaching|attending)"
    r"|end of (?:the )?(?:report|impression)\b|thank(?:s| you) for (?:the )?(?:referr|your|this)"
    r"|(?:attending|reading|reporting|consultant|staff|interpreting) radiologist\b)",
    re.IGNORECASE,
)
"""How a sentence starts that signs."""
_FULL_STOP = re.compile("[.!?] ")
_TOLD = (
    r"(?:discussed|(?:tele)?phoned|communicated|relayed|conveyed|called|paged|notified|informed|e-?mailed"
    r"|call (?:was )?made|spoken?)"
)
_TELLS = ("discuss", "phone", "communic", "relay", "convey", "call", "paged", "notif", "inform", "mailed", "aware",
          "acknowl", "spoke", "reported to")  # fmt: skip
"""One of these stands in every message."""
_WHO = (
    r"(?:Drs?|Doctor|M\.?D|nurs(?:e|ing)|RN|(?:tele)?phone|pager|physician|clinician|team|ward|service|surgeon|resident"
    r"|provider|department|patient|(?:Mr|Mrs|Ms|Miss)\.? \w+)"
)
_MESSAGE = re.compile(
    r"(?:\d[.)] )?(?:(?:(?:the|these|this|all|above|critical|urgent|important|preliminary|results?|findings?|reports?"
    rf"|was|were|and|has|have|been|case|impression|I|we|also) ){{0,8}}{_TOLD}\b(?:.{{0,80}}?\b{_WHO}\b| (?:with|to) )"
    rf"|(?:(?:the|these|results?|findings?|were|was) ){{1,4}}reported to .{{0,60}}?\b{_WHO}\b"
    rf"|(?:the )?(?:[\w-]+ ){{0,2}}?{_WHO}\b.{{0,60}}?\b(?:(?:was|were|is|are|been|made) (?:{_TOLD}|aware)"
    rf"|(?:notified|informed|paged|(?:tele)?phoned) (?:by|of|about|at|on|via|with)|acknowledged)\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[DM][rs]\.)(?<!\b[DM]rs\.)(?<!\b[A-Z]\.)(?<![.!?] \d\.)(?<!\A\d\.) (?=\S)")
_DEGREE = r"(?:,? ?(?:M\.?D\b|MBBS|MBChB|FRCR|FRCPC|DNB|DMRD|MRCP|Ph\.?D)\b|, ?D\.?O\b)"
_PERSON = re.compile(
    r"\W*(?:(?:Dr|Prof)\b\.? ?[A-Z_](?:[\w.'-]| (?=[A-Z_(]))*"
    rf"|(?:[A-Z_][\w.'-]* ){{1,4}}?[A-Z_]?[\w'-]*{_DEGREE})(?:,.*)?\W*"
)
_NAME = re.compile(r"(?:[A-Z][\w.'-]*,? ?){2,4}")
_MAX_SIGNATURE = 120
_STAMP = re.compile(
    r"[\W\d_]|\b(?:[ap]?m|[ap]|h(?:ou)?rs?|images?|views?|at|on|dated?|time|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov"
    r"|dec)\b",
    re.IGNORECASE,
)


def without_pages(report: str) -> str:
    """The report without the marks and heads of its pages, "(Over)", "(Cont)", and without invisible characters; wide
    letters are made plain (NFKC)."""
    if not report.isascii():
        report = re.sub("[\ufeff\u200b\u2060]", "", unicodedata.normalize("NFKC", report))
    lower = report.lower()
    if "(over" not in lower and "(cont" not in lower:
        return report
    report = _PAGE_HEAD.sub(lambda head: "" if _OF_A_PAGE.search(head.group()) else head.group(), report)
    return _MARKS.sub("", report)


def is_rule(line: str) -> bool:
    """Whether a line only parts what is above from what is below: "______", "FINAL REPORT"."""
    return _RULE.fullmatch(line) is not None


def names_the_chest(text: str) -> bool:
    """Whether words like "PA AND LATERAL VIEWS OF THE CHEST" head a report of these views."""
    in_capitals = re.fullmatch(r"[A-Z ,/()\d-]+", text) and _VIEW.search(text)
    return bool(_CHEST.search(text) and (in_capitals or is_title(text)))


def is_title(text: str) -> bool:
    """Whether a line names the examination and says nothing of it."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return bool(words) and all(map(_TITLE.fullmatch, words)) and bool(_VIEW.search(text) or _CHEST.search(text))


def is_stamp(text: str) -> bool:
    """Whether a text holds no more than times, dates and numbers of images."""
    return not _STAMP.sub("", text)


def addendum_start(line: str) -> int | None:
    """Where the text starts of an addendum or a wet read that the line opens without a colon; None: it opens none."""
    added = _ADDED.match(line)
    return added.end() if added else None


def signature_start(text: str) -> int | None:
    """Where in a line it stops to be the report: "Electronically signed by", a person's name; None: nowhere."""
    signed = _SIGNED.match(text)
    for stop in () if signed else _FULL_STOP.finditer(text):
        if signed := _SIGNED.match(text, stop.end()):
            break
    if "electronically" in (lower := text.lower()) or "digitally" in lower:
        signed = min(filter(None, (signed, _SIGNED_SO.search(text))), key=re.Match.start, default=None)
    if not signed and len(text) <= _MAX_SIGNATURE:
        signed = _PERSON.fullmatch(text)
    return signed.start() if signed else None


def without_messages(text: str) -> str:
    """The text without the sentences that tell who was told of it: "Discussed with Dr. Roe by phone."."""
    return " ".join(sentence for sentence in _SENTENCE.split(text) if not is_message(sentence))


def may_hold_messages(report: str) -> bool:
    """Whether a report holds one of the words that every message has: quick, to save `without_messages`."""
    lower = report.lower()
    return any(told in lower for told in _TELLS)


def is_message(sentence: str) -> bool:
    """Whether a sentence tells who was told of the report."""
    return bool(_MESSAGE.match(sentence))


def is_name_above(line: str, signature: str) -> bool:
    """Whether a line is the name of who signs as radiologist in the line below it."""
    return "radiologist" in signature.lower() and len(line) < _MAX_SIGNATURE and bool(_NAME.fullmatch(line))
