"""The sections of a free-text radiology report: findings, impression, indication, technique, comparison.

`split_sections` cuts a report as it was written, line by line, for the study record.
- A heading is a name of `HEADINGS`, typing errors allowed, with a colon or a dash or alone on its line. Inside a line
  it is in capitals, or findings or impression after a full stop. A line of running text that happens to start with
  "study:" is none: small letters open a section only after a finished line.
- Words that are no names ("LUNGS:") are no headings: templates use them inside the findings. Nor is a time, "4:36".
- Findings and impression go on over blank lines. Indication, technique and comparison end at one, or where a sentence
  says how lungs or heart look (`prompt_guard.py`): they go into a prompt, and what the report says may never stand
  there. What follows them is the body of the report: its findings, put before those under a heading of their own.
- Text headed by the view ("PA AND LATERAL VIEWS OF THE CHEST:") is the findings where no findings heading exists, and
  so is text below a title line without a colon ("CHEST RADIOGRAPH, TWO VIEWS") if it says how something looks. (The
  splitter that comes with MIMIC-CXR knows no such line and leaves that text to its fallback, the last paragraph.)
- A wet read, an addendum, a signature, what was phoned to whom and the head of a page belong to no section.
`walk_sections` finds the sections of a text that may be one long line, for reading what it says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import TypedDict

from evaluation.reading.prompt_guard import cut_at_the_body, says
from evaluation.reading.report_frame import (
    BANNER,
    addendum_start,
    is_name_above,
    is_rule,
    is_stamp,
    is_title,
    may_hold_messages,
    names_the_chest,
    signature_start,
    without_messages,
    without_pages,
)


class Sections(TypedDict):
    """The text of each section, None where the report has none."""

    findings: str | None
    impression: str | None
    indication: str | None
    technique: str | None
    comparison: str | None


HEADINGS = {
    "findings": "(?:findings? *(?:and|/|&) *impressions?)|findings?|report|description|observations?|chest|results?",
    "impression": "impressions?|conclusions?|opinion|summary|assessment|interpretation",
    "technique": "techniques?|procedure(?: comments?)?",
    "examination": "(?:type of )?exam(?:ination)?|study|views?",
    "indication": (
        "(?:clinical )?indications?(?: for (?:the )?(?:exam(?:ination)?|study))?"
        "|(?:clin(?:ical)? |patient |(?:past )?medical )?(?:history|hx)|pmhx?"
        "|clinical (?:information|indication|statement|data|question|details)"
        "|reasons?(?: for (?:the )?(?:exam(?:ination)?|study))?"
    ),
    "comparison": (
        "comparisons?(?: (?:studies|study|exams?|films?))?"
        "|(?:prior|previous|reference) (?:studies|study|exam(?:ination)?s?|films?)"
    ),
    "other": (
        "wet read(?: version \\S+)?|addend(?:um|a)|notifications?|recommend(?:ations?(?:\\(s\\))?|ed follow-?up)"
        "|communications?|end of impression|(?:dictated and )?signed(?: by)?|dictated by|(?:attending"
        "|reading) radiologist"
    ),
}
"""Names of headings, as patterns by section: the five sections of a study, and what is none of them."""

# What stands before a colon in text without line breaks. A heading opens a line or sentence, or stands inside of one:
# in any case where the report goes on after it, else in capitals only ("limited comparison: ..." swallows no finding).
_GOES_ON = "|".join(HEADINGS[section] for section in ("findings", "impression", "technique", "examination"))
_OTHERS = "|".join(HEADINGS[section] for section in ("indication", "comparison", "other"))
_FLAT = re.compile(
    rf"(?:(?:^|\n|[.!?;] ?)(?:final )?({_GOES_ON}|{_OTHERS})| ({_GOES_ON}|(?-i:{_OTHERS.upper()})))"
    r"(?: ?\([^()\n]{0,40}\))? ?$",
    re.IGNORECASE,
)
_SECTION_OF = {section: re.compile(names, re.IGNORECASE) for section, names in HEADINGS.items()}

# Names that count at the start of a line only. Lines about the patient or the order stand with the examination: what
# follows them after a blank line is the report.
_AT_LINE_START = {
    "findings": "technique and findings|(?:radiological |reference )?findings?(?: *[/,&] *comments?)?|body of report",
    "impression": (
        "(?:final|overall|corrected|radiological) (?:impression|opinion)"
        "|impr?|(?:impressions?|conclusions?) *(?:and|/|&) *(?:impressions?|conclusions?|recommendations?|plan)"
    ),
    "technique": "techni(?:que|cal) (?:factors?|details?|quality)",
    "indication": (
        "(?:additional )?clinical (?:history|notes?|background|context|findings|diagnosis|query)(?: provided)?|clinical"
        "|clinic indication|(?:interval|relevant|chest) history|(?:chief |presenting )?complaints?|symptoms"
        "|reason (?:of|for) .{3,20}|history *(?:and|/|&) *indication"
    ),
    "comparison": "comparisons? (?:made )?(?:to|with) .{3,20}|compared? (?:to|with)|compare|priors?",
    "other": (
        ".{0,22}\\bwet ?read.{0,20}|amendment|correction|(?:provisional )?findings impression \\(pfi\\)|pfi|disclaimer"
        "|(?:discussed|communicated) (?:with|to)|critical (?:results?|findings?)|advi[cs]e|follow-?up|end of report"
        "|(?:report )?status"
    ),
    "examination": (
        "(?:exam(?:ination)?|study|procedure|report)? ?(?:type|name|date|time|description)(?: of .{3,20})?|modality"
        "|(?:patient )?(?:name|id)|patient|accession(?: (?:no|number))?\\.?|mrn|age|sex|gender|age ?/ ?sex|dob"
        "|(?:referr|order|request)(?:ing|ed|al)(?: (?:by|physician|doctor|provider|clinician|consultant))?|ref\\.? by"
        "|hospital|ward"
    ),
    "view": "narrative",
}
_NAMES = {
    section: re.compile("|".join(filter(None, (HEADINGS.get(section), names))), re.IGNORECASE)
    for section, names in _AT_LINE_START.items()
}
# Headings that are words of a sentence as well.
_COMMON = re.compile(
    "study|reasons?|views?|exam(?:ination)?|chest|reports?|results?|description|observations?|summary|opinion|type|date"
    "|interpretation|assessment|procedure|history|clinical|patient|name|id|age|sex|gender|time|ward|hospital|status"
    "|correction|symptoms|priors?|follow-?up|compared? (?:to|with)|compare|advi[cs]e|narrative|referr.*"
    "|order.*",
    re.IGNORECASE,
)
_SPELLED = [
    "addendum", "clinical", "comparison", "comparisons", "conclusion", "conclusions", "examination", "findings",
    "history", "impression", "impressions", "indication", "information", "notification", "reason", "recommendation",
    "recommendations", "reference", "technique",
]  # fmt: skip
_LIKE_A_NAME = 0.87
"""Least similarity, difflib's ratio, of a misspelt word to the one that is meant: one or two letters of ten."""
_MAX_NAME = 70
_COLON = re.compile("(?:(?<!\\d)[:\uff1a]|[:\uff1a](?!\\d))\\**")  # not that of a time
_BARE = re.compile("([A-Z][A-Za-z ]{3,25}?)(?: *[-\u2013\u2014]+ |  +| (?=[A-Z][a-z]))")
_INSIDE = re.compile(
    rf"(?<=[\s.!?;])(?:{'|'.join(HEADINGS.values())}|cxr|chest (?:x-?rays?|radiographs?))[ \t]*[:\uff1a]", re.IGNORECASE
)
_SEE = re.compile(r"\b(?:see|the|under|in|per|my|our) $", re.IGNORECASE)
_ODD = re.compile(
    r"\s*(?P<mark>[-<\[]|\d{1,2}[.)])? ?(?P<name>findings?|impressions?|conclusions?|history|indications?"
    r"|techniques?|comparisons?)[ \t]*(?:[;:>\]]|(?<=(?-i:[A-Z]))\.(?= )|(?(mark)-|(?!)))",
    re.IGNORECASE,
)
"""A heading with another mark than a colon: "Findings;", "[Findings]", "FINDINGS.", "1. FINDINGS:"."""
_LETTER = re.compile(r"[^\W\d_]")
_FRAME = " \t*#=>|\u2022"
_FINISHED = (".", "!", "?", ";", ":", ")", "*")
_WRAPPED = 50  # characters; a shorter line was not wrapped

PROMPT_SECTIONS = ("indication", "technique", "comparison")
"""Sections that a prompt quotes."""
_ENDS_AT_BLANK = (*PROMPT_SECTIONS, "examination")
_OPEN = re.compile(r".*(?:\b(?:with|and|of|for|or|an?|the|to|in|from|by|on|at|has|is|status|post)|,)", re.IGNORECASE)
_REQUEST = re.compile(r"//|\?|please |evaluat|eval\b|assess |rule out|r/o|query ", re.IGNORECASE)


@dataclass
class _Part:
    """A stretch of the report under one heading; "" is before the first, "body" behind a section that ended, "title"
    below a line that names the examination ("CHEST RADIOGRAPH, TWO VIEWS")."""

    section: str
    lines: list[str] = field(default_factory=list)
    apart: bool = False  # a blank line stands between the heading and the text

    @property
    def text(self) -> str:
        return " ".join(self.lines)


def split_sections(report: str) -> Sections:
    """Free text -> the text of each section, white space made single, None where the report has none.

    A section that comes twice (an addendum before the report) is joined in order. Text before the first heading
    belongs to no section. Linear in the length of the report.
    """
    parts = _parts(report)
    headed = any(part.section == "findings" and clean(part.text) for part in parts)
    parts = [part for whole in parts for part in _without_the_report(whole, headed)]
    told = without_messages if may_hold_messages(report) else str
    findings = [
        part.text
        for part in parts
        if part.section == "findings"
        or (part.section == "body" and (not headed or says(part.text)))
        or (part.section == "view" and not headed and not is_stamp(part.text))
        or (part.section == "title" and not headed and says(part.text))
    ]

    def joined(section: str) -> str | None:
        return clean(told(" ".join(part.text for part in parts if part.section == section)))

    return {
        "findings": clean(told(" ".join(findings))),
        "impression": joined("impression"),
        "indication": joined("indication"),
        "technique": joined("technique"),
        "comparison": joined("comparison"),
    }


def unheaded_text(report: str) -> str | None:
    """All of a report that has no heading, its signature cut off; None where one opens a section."""
    parts = _parts(report)
    if any(part.section not in ("", "title", "other") for part in parts):
        return None
    return clean(" ".join(part.text for part in parts if part.section != "other"))


def walk_sections(text: str) -> Iterator[tuple[str, str]]:
    """(section, text) of a report whose line breaks may be gone, in order: "" before the first heading, else a key of
    `HEADINGS`. Linear in the length of the text."""
    section = ""
    start = colon = 0
    while (colon := text.find(":", searched := colon)) >= 0:
        heading = _FLAT.search(text, searched, colon)
        colon += 1
        if heading:
            yield section, text[start : heading.start()]
            name = heading.group(1) or heading.group(2)
            section = next(section for section, names in _SECTION_OF.items() if names.fullmatch(name))
            start = colon
    yield section, text[start:]


def clean(text: str | None) -> str | None:
    """White space made single; None when no letter is left."""
    single = " ".join((text or "").split())
    return single if _LETTER.search(single) else None


def _parts(report: str) -> list[_Part]:
    """The report cut at its headings, at the blank lines that end a section, and at signatures."""
    lines = [
        f"{odd['name']}:{line[odd.end() :]}" if (odd := _ODD.match(line)) else line
        for line in without_pages(report).splitlines()
    ]
    lines = [line if line.isprintable() else re.sub(r"\s", " ", line.expandtabs(4)) for line in lines]
    case = _Case(lines)
    parts, before = [_Part("")], ""
    for line in lines:
        text = " ".join(line.split())
        if not text or is_rule(text):
            if BANNER.fullmatch(text) and parts[-1].section == "other":
                parts.append(_Part(""))
            before = ""
            continue
        start = 0
        if heading := case.heading_at_start(line, before, parts[-1].section):
            section, start = heading
            _drop_name_above(parts[-1].lines, text if section == "other" else "")
            parts.append(_Part(section))
        elif not before:
            _after_a_blank_line(parts, text)
        for section, name, text_start in case.headings_inside(line, start, parts[-1].section):
            _add(parts, " ".join(line[start:name].split()))
            parts.append(_Part(section))
            start = text_start
        _add(parts, " ".join(line[start:].split()) if start else text)
        before = text
    return parts


def _after_a_blank_line(parts: list[_Part], text: str) -> None:
    part = parts[-1]
    if part.section in _ENDS_AT_BLANK:
        if not part.lines:
            part.apart = True
        elif not (_REQUEST.match(text) or _OPEN.fullmatch(part.lines[-1])):
            parts.append(_Part("body"))


def _add(parts: list[_Part], text: str) -> None:
    if not text or (parts[-1].section == "body" and not parts[-1].lines and is_title(text)):
        return
    end, lines = signature_start(text), parts[-1].lines
    if end == 0:
        _drop_name_above(lines, text)
    if end != 0:
        lines.append(text[:end])
    if end is not None:
        parts.append(_Part("other"))


def _drop_name_above(lines: list[str], signature: str) -> None:
    if lines and is_name_above(lines[-1], signature):
        lines.pop()


class _Case:
    """Headings by what capitals mean in this report."""

    def __init__(self, lines: list[str]):
        self.shouts = not any(map(str.islower, "".join(lines)))
        names = (line[: colon.start()].strip(_FRAME) for line in lines if (colon := _COLON.search(line[:_MAX_NAME])))
        self.told = not self.shouts and any(name[:1].isupper() and section_of(name) for name in names)

    def heading_at_start(self, line: str, before: str, current: str) -> tuple[str, int] | None:
        """(section, where its text starts) of the heading that opens the line."""
        finished = not before or before.endswith(_FINISHED)
        if (added := addendum_start(line)) is not None:
            return "other", added
        if ":" in line and (colon := _COLON.search(line, 0, _MAX_NAME)):
            name, end = line[: colon.start()].strip(_FRAME), colon.end()
            section = section_of(name)
            if section == "impression" and name.lower() == "summary" and re.match(r" *\d *[A-Z-]", line[end:]):
                section = "other"  # a code, "SUMMARY: 2 ABNORMAL"
        elif len(line) <= 2 * _MAX_NAME and (section := section_of(line.strip(_FRAME + "_-."))):
            name, end = line.strip(_FRAME + "_-."), len(line)
            below = finished or len(before) < _WRAPPED
            if section == "view" and current in ("", "indication") and below and name[0].isupper() and is_title(name):
                return "title", len(line)
            wrapped = not finished and not name.isupper() and len(before) >= _WRAPPED
            if wrapped or line.rstrip().endswith(".") or section == "view" or name.lower() == "chest":
                return None
        elif bare := _BARE.match(line.lstrip(_FRAME)):
            name, section = bare.group(1), section_of(bare.group(1))
            end = bare.end() + len(line) - len(line.lstrip(_FRAME))
            dashed = bare.group().rstrip()[-1] in "-\u2013\u2014"
            if _COMMON.fullmatch(name) or not (name.isupper() or dashed):
                return None
        else:
            return None
        if section is None or (section == "view" and current in ("findings", "impression")[: 1 + (not name.isupper())]):
            return None
        if not finished and (name[:1].islower() or self.shouts) and (self.told or _COMMON.fullmatch(name)):
            return None
        return section, end

    def headings_inside(self, line: str, start: int, current: str) -> Iterator[tuple[str, int, int]]:
        """(section, start of its name, start of its text) of the headings behind `start`."""
        if line.find(":", start) < 0:
            return
        for found in _INSIDE.finditer(line, start):
            name = found.group().rstrip(" :\uff1a")
            section, common = section_of(name), _COMMON.fullmatch(name) is not None
            between = line[max(start, found.start() - _WRAPPED) : found.start()]
            free = not between.strip() or between.endswith("  ") or between.rstrip().endswith(_FINISHED)
            goes_on = section in ("findings", "impression") and not common
            if section == "view":  # "Fever. Chest X-ray: The lungs are clear."
                counts = free and bool(between.strip()) and current in ("", "indication", "technique")
            elif current == "findings" and goes_on and section == "impression" and name[0].isupper():
                counts = not _SEE.search(between)
            elif self.shouts:
                counts = free or goes_on
            elif name.isupper():
                counts = free or not common
            elif current in ("findings", "impression"):  # which swallow no finding into another section
                first = current == "findings" and start > 0 and not between.strip() and section in PROMPT_SECTIONS
                counts = free and (goes_on or first) and (name[0].isupper() or not self.told)
            else:
                counts = not common and (name[0].isupper() or (free and not self.told))
            if counts and section:
                yield section, found.start(), found.end()
                start, current = found.end(), section


@lru_cache(maxsize=4096)
def section_of(name: str) -> str | None:
    """The section that a heading without its colon opens: a key of `HEADINGS`, "view", or None."""
    name = " ".join(re.sub(r"\((?!s\))[^()]*\)", "", name).split()).strip("*_ ")
    if not 1 < len(name) <= _MAX_NAME or re.search(r"[.!?;]", name):
        return None
    words = [word if len(word) < 6 or not word.isalpha() else _spelled(word) for word in name.lower().split()]
    for spelling in (name, " ".join(words)):
        for section, names in _NAMES.items():
            if names.fullmatch(spelling):
                return section
    return "view" if names_the_chest(name) else None


def _spelled(word: str) -> str:
    return (get_close_matches(word, _SPELLED, 1, _LIKE_A_NAME) or [word])[0]


def _without_the_report(part: _Part, headed: bool) -> list[_Part]:
    """A section of the prompt, and apart from it, as body, what in it says how something looks."""
    if part.section not in (("technique", "comparison") if headed else _ENDS_AT_BLANK):
        return [part]
    lines = "".join(line + ("\n" if len(line) < _WRAPPED else " ") for line in part.lines)
    asked, said = cut_at_the_body(part.section, lines.strip(), part.apart)
    return [_Part(part.section, asked), _Part("body", said)] if said else [part]
