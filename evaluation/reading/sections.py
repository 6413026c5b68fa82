"""The sections of a free-text radiology report: findings, impression, indication, technique, comparison.

A section starts at a heading with a colon: a name of `HEADINGS` at the start of a line in any case, or in capitals
anywhere after a space. It ends at the next heading. Other words in capitals with a colon ("LUNGS:") are no headings:
templates use them inside the findings. Two shapes of MIMIC-CXR need a rule of their own:
- text headed by the view ("PA AND LATERAL VIEWS OF THE CHEST:") is the findings where no findings heading exists;
- "FINDINGS AND IMPRESSION:" is findings.
A wet read, an addendum and what was phoned to whom belong to no section.
"""

import re

SECTIONS = ("findings", "impression", "indication", "technique", "comparison")

HEADINGS = {
    "findings": "findings?|(?:findings? *(?:and|/|&) *impressions?)",
    "impression": "impressions?|conclusions?|opinion",
    "indication": (
        "(?:clinical )?indications?|(?:clinical |patient |medical )?history|clinical (?:information|data|details)"
        "|(?:reason|indication)s? for (?:the )?(?:exam(?:ination)?|study)|reason"
    ),
    "technique": "techniques?|procedure(?: comments?)?",
    "comparison": "comparisons?(?: (?:studies|study|exams?|films?))?|prior (?:studies|study|exams?|films?)",
    "": (
        "(?:type of )?exam(?:ination)?|study|wet read(?: version \\S+)?|addend(?:um|a)|notifications?"
        "|recommendations?(?:\\(s\\))?|communications?|end of impression|signed(?: by)?|dictated by"
        "|(?:attending|reading) radiologist"
    ),
}
"""Heading names as patterns by section; "" is read over."""

_NAMES = "|".join(f"(?P<{section or 'other'}>{names})" for section, names in HEADINGS.items())
_VIEW = (
    r"(?P<view>(?=[A-Z ,/()\d-]*\b(?:CHEST|CXR)\b)(?=[A-Z ,/()\d-]*\b(?:VIEWS?|PA|AP|LATERAL|PORTABLE|RADIOGRAPHS?|"
    r"FRONTAL)\b)[A-Z][A-Z ,/()\d-]*)"
)
_LINE_START = re.compile(rf"^[ \t]*(?:(?i:{_NAMES})|{_VIEW})[ \t]*:", re.MULTILINE)
_CAPITALS = re.compile(rf"(?<=\s)(?:{_NAMES})[ \t]*:", re.IGNORECASE)
_BANNER = re.compile(r"^[ \t]*(?:FINAL|PRELIMINARY|INTERIM) REPORT[ \t]*$", re.MULTILINE)


def split_sections(report: str) -> dict[str, str | None]:
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
    found: dict[str, list[str]] = {section: [] for section in (*SECTIONS, "other", "view")}
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    for heading, end in zip(headings, ends, strict=False):  # a report without headings has one end too many
        text = report[heading.end() : end]
        assert heading.lastgroup is not None
        found[heading.lastgroup].append(clean(_BANNER.sub("", text)) or "")
    parts = {section: clean(" ".join(found[section])) for section in SECTIONS}
    if parts["findings"] is None:
        parts["findings"] = clean(" ".join(found["view"]))
    return parts


def clean(text: str | None) -> str | None:
    """White space made single; None when no letter is left."""
    single = " ".join((text or "").split())
    return single if re.search(r"[A-Za-z]", single) else None


def _name(match: re.Match[str]) -> str:
    return match.group().rstrip(": \t")
