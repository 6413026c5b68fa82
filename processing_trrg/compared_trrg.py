"""What became of findings since a prior report: the difference between what two reports state.

    compare(report, "There is a large left pleural effusion.", names)   # in place
    report.findings   # "... The left pleural effusion is no longer seen."

No prior image is looked at, and the prior is read by a few plain words, so every sentence says no more than that: a
finding is "new, or not read in the prior report", "seen again" whatever its size and place, or "no longer seen", where
its clue is absent. Nothing is said of a finding that either report doubts, or that may be the same disease by another
name, nor beside a prior that is not in English. Free wording may still be misread. Our addition; no paper has such a
step. Research only, never for clinical use.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers.utils import logging

from .findings_trrg import FINDING_WORDS, SIDES, finding_of
from .report_trrg import Report, report_text
from .sentences_trrg import cut_sentences
from .statements_trrg import NO_FINDING, OF_THE_LUNGS, read_statements

logger = logging.get_logger(__name__)

DEVICES, OPACITY, LESION = "Support Devices", "Lung Opacity", "Lung Lesion"
SAME_DISEASE = (OPACITY, "Consolidation", "Pneumonia", "Atelectasis")
"""What one reader calls so, another calls otherwise."""
SPOKEN = {"Enlarged Cardiomediastinum": "mediastinal widening", "Pleural Other": "pleural thickening"}
SEEN_AGAIN = "seen again"
"""Of a finding that is still there, whether it has changed or not."""
NOT_READ = "not read in the prior report"
"""Of a finding that is new, or that the prior report tells in words which are not known."""
_READ = r"findings?|impression|conclusions?|opinion"
_HEADING = re.compile(
    rf"\b({_READ}|indications?|(?:clinical )?(?:history|information)|reason(?: for \w+)?|comparisons?|techniques?"
    r"|exam(?:ination)?|procedure|recommendations?|advice)\s*:",
    re.I,
)
_DOUBT = re.compile(
    r"\b(?:rule out|r/o|evaluat\w+|history|risk of|recommend\w*|advised?|consider\w*|mimics?|follow[- ]up"
    r"|(?<!nodule )or|concerning|worrisome|compatible|redistribution|borderline|limits? of normal"
    r"|(?:top|high) normal)\b|/",
    re.I,
)
"""What such a sentence states is taken as doubted."""
_IN_PART = re.compile(
    r"\b(?:nearly|almost|partial(?:ly)?|mostly|largely|no (?:\w+ )?(?:acute|new|other|further|additional|displaced"
    r"|tension|definite|obvious|overt|residual|large|significant|improvement|resolution|decrease))\b",
    re.I,
)
"""What such a sentence denies may be there all the same."""
_ELSEWHERE = re.compile(r"\b(?:ribs?|breasts?|mediastin\w+|hilar|hilum|hiatal|bon[ey]\w*|vertebra\w*|thyroid)\b", re.I)
_TO_A_SIDE = re.compile(
    r"\b(?:shift\w*|deviat\w*|displace\w*|to the|(?:left|right) (?:heart|\w*ventric\w*|atri\w*|main))\b", re.I
)
_DEVICE = re.compile(rf"\b(?:{FINDING_WORDS[DEVICES]})\b(?<!lead)(?<!leads)(?<!wire)(?<!wires)")  # parts of one
_LINES = {"line", "lines", "clip", "clips", "suture", "sutures"}  # septal lines, of a cholecystectomy
_OF_A_DEVICE = re.compile(r"\b(?:central|venous|arterial|dialysis)\b", re.I)
_OTHER_LANGUAGES = re.compile(
    r"\b(?:und|oder|mit|ohne|nicht|keine?[nrms]?|der|das|beidseits|pas|avec|sans|une|aucune?|les|sin|con"
    r"|hay|ni|nessun\w*|senza|della|sem|com|uma|geen|zonder|het)\b",
    re.I,
)
_ENGLISH = re.compile(r"\b(?:the|there|is|are|was|no|not|of|with|without|and|or|small|seen|normal)\b", re.I)


@dataclass
class Told:
    """What a report says of the clues.

    Attributes:
        values: 1 stated, -1 doubted, 0 denied, by clue; the first of these that any sentence says.
        sides: in the sentences that state a finding.
        devices: the words for the devices that it states.
    """

    values: dict[str, int] = field(default_factory=dict)
    sides: dict[str, set[str]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def all_of(self, name: str) -> set[int]:
        """Its values of a finding; one without a side is meant of either."""
        finding = finding_of(name)
        others = [f"{side.title()} {finding}" for side in SIDES] if finding == name else [finding]
        return {self.values[other] for other in (name, *others) if other in self.values}

    def same_disease(self, name: str) -> bool:
        """Whether it states or doubts another finding that may be the same disease."""
        others = {finding_of(other) for other, value in self.values.items() if value} - {finding_of(name)}
        return finding_of(name) in SAME_DISEASE and bool(others.intersection(SAME_DISEASE))


def compare(report: Report, prior_report: str, names: Sequence[str]) -> bool:
    """Put what became of each finding behind the findings of a report, or behind its impression where it has none.

    Args:
        report: whole, without words of change.
        prior_report: of the study before it, from any clinic.
        names: of the clues, by which both are read.

    Returns:
        whether there was something to say.
    """
    if not is_english(prior_report):
        logger.warning_once("prior_report: by its words it is not in English; reports are not compared with it.")
        return False
    said = " ".join(changes(report, prior_report, names))
    section = "findings" if report.findings else "impression"
    before = getattr(report, section)
    if not said or not before or report.complete is False:
        return False
    setattr(report, section, f"{before.rstrip()}{'' if before.rstrip()[-1] in '.!?' else '.'} {said}")
    report.text = report_text(report.findings, report.impression)
    return True


def is_english(text: str) -> bool:
    """Whether no more of its little words are of other languages than of English; a text that has none may be it."""
    return len(_OTHER_LANGUAGES.findall(text)) <= len(_ENGLISH.findall(text))


def changes(report: Report, prior_report: str, names: Sequence[str]) -> list[str]:
    """A sentence for each finding of which it can be said what became of it, in the order of the clues; arguments as in
    `compare`."""
    known = [name for name in names if finding_of(name) in FINDING_WORDS or name == NO_FINDING]
    now, before = read_told(f"{report.findings}\n{report.impression or ''}", known), read_told(prior_report, known)
    answers = {clue.name: clue.answer for clue in report.clues}
    sentences = []
    for name in known if before.values else []:
        if name != NO_FINDING and (became := _became(name, now, before, answers.get(name))):
            side, finding = name[: -len(finding_of(name))].lower(), finding_of(name)
            is_are = "are" if finding == DEVICES else "is"
            sentences.append(f"The {side}{SPOKEN.get(finding, finding.lower())} {is_are} {became}.")
    return sentences


def _became(name: str, now: Told, before: Told, answer: str | None) -> str | None:
    is_there, was_there = now.values.get(name) == 1, before.values.get(name) == 1
    stated = {finding_of(other) for one in (now, before) for other, value in one.values.items() if value == 1}
    if name == OPACITY and stated.intersection(OF_THE_LUNGS):
        return None  # another word for one of these
    if is_there and not before.all_of(name) & {1, -1} and not before.same_disease(name):
        return f"new, or {NOT_READ}"
    if was_there and not now.all_of(name) & {1, -1} and not now.same_disease(name):
        denied = 0 in (now.values.get(name), now.values.get(finding_of(name)))
        return "no longer seen" if answer == "absent" or (answer is None and denied) else None
    if not is_there or 1 not in before.all_of(name):
        return None
    sides = [one.sides.get(finding_of(name), set()) for one in (now, before)]
    other_side = finding_of(name) == name and all(sides) and not sides[0] & sides[1]
    other_device = finding_of(name) == DEVICES and not now.devices <= before.devices
    return None if other_side or other_device else SEEN_AGAIN


def read_told(text: str, names: Sequence[str]) -> Told:
    """What a report states, doubts and denies, by clue. Sections of indication, comparison and advice are not read."""
    parts = _HEADING.split(text)
    sections = [("findings", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    wanted = [part for heading, part in sections if re.fullmatch(_READ, heading, re.I)]
    sentences = [one for part in wanted for one in cut_sentences(part)]
    found = Told()
    for said in read_statements(Report(" ".join(sentences), None, ""), names):
        values = dict(said.clues)
        stated = [name for name, value in values.items() if value == 1 and name != NO_FINDING]
        if len(stated) == 1 and said.side in SIDES and not _TO_A_SIDE.search(said.text):
            sided = f"{said.side.title()} {stated[0]}"  # "blunting of the right angle, in keeping with an effusion"
            values = {sided if name == stated[0] and sided in names else name: v for name, v in values.items()}
        devices = set(_DEVICE.findall(said.text.lower()))
        for name, value in values.items():
            finding = finding_of(name)
            if finding == LESION and value and _ELSEWHERE.search(said.text):
                continue
            if finding == DEVICES and value and devices <= _LINES and not _OF_A_DEVICE.search(said.text):
                continue
            if value == 0 and _IN_PART.search(said.text):
                continue
            if value == 1 and _DOUBT.search(said.text):
                value = -1
            found.values[name] = max((value, found.values.get(name, 0)), key=(0, -1, 1).index)
            if value == 1 and finding == DEVICES:
                found.devices |= devices
            if value == 1 and said.side:
                found.sides.setdefault(finding, set()).update(SIDES if said.side == "both" else (said.side,))
    with_side = {finding_of(name) for name, value in found.values.items() if value == 1 and finding_of(name) != name}
    found.values = {name: value for name, value in found.values.items() if name not in with_side}
    return found
