"""The sections of a free-text radiology report: findings, impression, indication, technique, comparison.

`split_sections` cuts a report as it was written, for the study record. There a section starts at a heading with a
colon: a name of `HEADINGS` at the start of a line in any case, or in capitals anywhere after a space. It ends at the
next heading. Other words in capitals with a colon ("LUNGS:") are no headings: templates use them inside the findings.
Two shapes of MIMIC-CXR need a rule of their own:
- text headed by the view ("PA AND LATERAL VIEWS OF THE CHEST:") is the findings where no findings heading exists;
- "FINDINGS AND IMPRESSION:" is findings.
A wet read, an addendum and what was phoned to whom belong to no section.
`walk_sections` finds the sections of a text that may be one long line, for reading what it says.
"""

import re
from collections.abc import Iterator
from typing import TypedDict


class Sections(TypedDict):
    """The text of each section, None where the report has none."""

    findings: str | None
    impression: str | None
    indication: str | None
    technique: str | None
    comparison: str | None


HEADINGS = {
    "findings": ("(?:findings? *(?:and|/|&) *impressions?)|findings?|report|description|observations?|chest|results?"),
    "impression": "impressions?|conclusions?|opinion|summary|assessment|interpretation",
    "technique": "techniques?|procedure(?: comments?)?",
    "examination": "(?:type of )?exam(?:ination)?|study|views?",
    "indication": (
        "(?:clinical )?indications?(?: for (?:the )?(?:exam(?:ination)?|study))?"
        "|(?:clinical |patient |medical )?history|clinical (?:information|indication|statement|data|question|details)"
        "|reasons?(?: for (?:the )?(?:exam(?:ination)?|study))?"
    ),
    "comparison": (
        "comparisons?(?: (?:studies|study|exams?|films?))?|(?:prior|previous) (?:studies|study|exams?|films?)"
    ),
    "other": (
        "wet read(?: version \\S+)?|addend(?:um|a)|notifications?|recommend(?:ations?(?:\\(s\\))?|ed follow-?up)"
        "|communications?|end of impression|signed(?: by)?|dictated by|(?:attending|reading) radiologist"
    ),
}
"""Names of headings, as patterns by section: the five sections of a study, and what is none of them."""

_NAMES = "|".join(f"(?P<{section}>{names})" for section, names in HEADINGS.items())
_VIEW = (
    r"(?P<view>(?=[A-Z ,/()\d-]*\b(?:CHEST|CXR)\b)(?=[A-Z ,/()\d-]*\b(?:VIEWS?|PA|AP|LATERAL|PORTABLE|RADIOGRAPHS?|"
    r"FRONTAL)\b)[A-Z][A-Z ,/()\d-]*)"
)
_LINE_START = re.compile(rf"^[ \t]*(?:(?i:{_NAMES})|{_VIEW})[ \t]*:", re.MULTILINE)
_CAPITALS = re.compile(rf"(?<=\s)(?:{_NAMES})[ \t]*:", re.IGNORECASE)
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
_BANNER = re.compile(r"^[ \t]*(?:FINAL|PRELIMINARY|INTERIM) REPORT[ \t]*$", re.MULTILINE)


def split_sections(report: str) -> Sections:
    """Free text -> {section: text} for every name of `SECTIONS`, white space made single, None where there is none.

    A section that comes twice (an addendum before the report) is joined in order. Text before the first heading
    belongs to no section.
    """
    starts = {match.start(): match for match in _LINE_START.finditer(report)}
    for match in _CAPITALS.finditer(report):
        inside = any(begin <= match.start() < seen.end() for begin, seen in starts.items())
        if not inside and _name(match).isupper():
            starts[match.start()] = match
    headings = [starts[start] for start in sorted(starts)]
    found: dict[str, list[str]] = {section: [] for section in (*HEADINGS, "view")}
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    for heading, end in zip(headings, ends, strict=False):  # a report without headings has one end too many
        text = report[heading.end() : end]
        assert heading.lastgroup is not None
        found[heading.lastgroup].append(clean(_BANNER.sub("", text)) or "")
    parts = {name: clean(" ".join(texts)) for name, texts in found.items()}
    return {
        "findings": parts["findings"] or parts["view"],
        "impression": parts["impression"],
        "indication": parts["indication"],
        "technique": parts["technique"],
        "comparison": parts["comparison"],
    }


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
    return single if re.search(r"[A-Za-z]", single) else None


def _name(match: re.Match[str]) -> str:
    return match.group().rstrip(": \t")
