"""What became of findings since a prior report: the difference between what two reports state.

    compare(report, "There is a large left pleural effusion. No nodule.", names)   # in place
    report.findings   # "... The right lung lesion is new. The left pleural effusion is smaller than before."

No prior image is looked at, and both are read by a few plain words. So nothing is said where either report is not
plain: a doubt, another name of what may be the same disease, a side that the clues do not know, a size of which it is
not said whose it is. Places within a lung are not compared. Our addition; no paper has such a step. Research only,
never for clinical use.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .findings_trrg import FINDING_WORDS, SIDES, finding_of
from .report_trrg import Report, report_text
from .sentences_trrg import cut_sentences
from .statements_trrg import NO_FINDING, OF_THE_LUNGS, read_statements

DEVICES, OPACITY = "Support Devices", "Lung Opacity"
SIZES = tuple(
    re.compile(rf"\b(?:{words})\b(?!-| (?:interval )?(?:increas|decreas|improv|wors|reduc|progress|resol))", re.I)
    for words in (
        r"tiny|trace|minimal(?:ly)?|small|mild(?:ly)?|slight(?:ly)?",
        r"moderate(?:ly)?|moderate-sized|medium-sized",
        r"large|big|extensive|massive|severe(?:ly)?|marked(?:ly)?",
    )
)
"""Small, moderate, large; "marked improvement" is no size, and "small-bore" none of a finding."""
BECAME = {(0, 2): "smaller than before", (2, 0): "larger than before"}
"""Only from small to large or back: the small models' sizes are not to be trusted to one grade."""
SAME_DISEASE = (OPACITY, "Consolidation", "Pneumonia", "Atelectasis")
"""What one reader calls so, another calls otherwise."""
SPOKEN = {"Enlarged Cardiomediastinum": "mediastinal widening", "Pleural Other": "pleural thickening"}
_READ = r"findings?|impression|conclusions?|opinion"
_HEADING = re.compile(
    rf"\b({_READ}|indications?|(?:clinical )?(?:history|information)|reason(?: for \w+)?|comparisons?|techniques?"
    r"|exam(?:ination)?|procedure|recommendations?|advice)\s*:",
    re.I,
)
_ASIDE = re.compile(
    r"\b(?:rule out|r/o|evaluat\w+ for|(?:history|risk) of|recommend\w*|advised?|consider|mimics?|follow[- ]up)\b", re.I
)
_DEVICE = re.compile(rf"\b(?:{FINDING_WORDS[DEVICES]})\b(?<!lead)(?<!leads)(?<!wire)(?<!wires)")  # parts of one
_PARTLY = re.compile(r"\b(?:nearly|almost|partial(?:ly)?|mostly|largely)\b", re.I)
_TO_A_SIDE = re.compile(
    r"\b(?:shift\w*|deviat\w*|displace\w*|to the|(?:left|right) (?:heart|\w*ventric\w*|atri\w*|main))\b", re.I
)


@dataclass
class Told:
    """What a report says of the clues.

    Attributes:
        values: 1 stated, -1 doubted, 0 denied, by clue; what is stated anywhere is stated.
        sizes: of stated ones, a place in `SIZES`.
        sides: that stand in the sentences of stated ones.
        devices: the words for devices that it states.
    """

    values: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    sides: dict[str, set[str]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def all_of(self, name: str) -> set[int]:
        """Its values of a clue; one without a side is any side's."""
        finding = finding_of(name)
        sides = [f"{side.title()} {finding}" for side in SIDES] if finding == name else [finding]
        return {self.values[other] for other in (name, *sides) if other in self.values}

    def denies(self, name: str) -> bool:
        """Whether it plainly says that a finding is not there."""
        finding = finding_of(name)
        normal = self.values.get(NO_FINDING) == 1 and finding not in (DEVICES, "Fracture")
        clear = finding in OF_THE_LUNGS and self.values.get(OPACITY) == 0
        return normal or clear or 0 in (self.values.get(name), self.values.get(finding))

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
    said = " ".join(changes(report, prior_report, names))
    section = "findings" if report.findings else "impression"
    before = getattr(report, section)
    if not said or not before or report.complete is False:
        return False
    setattr(report, section, f"{before.rstrip()}{'' if before.rstrip()[-1] in '.!?' else '.'} {said}")
    report.text = report_text(report.findings, report.impression)
    return True


def changes(report: Report, prior_report: str, names: Sequence[str]) -> list[str]:
    """A sentence for each finding of which it can be said what became of it, in the order of the clues; arguments as in
    `compare`. A finding that the report does not mention is gone where its own clue is not over its threshold."""
    known = [name for name in names if finding_of(name) in FINDING_WORDS or name == NO_FINDING]
    now, before = told(f"{report.findings}\n{report.impression or ''}", known), told(prior_report, known)
    unseen = {clue.name for clue in report.clues if not clue.selected}
    sentences = []
    for name in known if before.values else []:
        if name != NO_FINDING and (became := _became(name, now, before, unseen)):
            side, finding = name[: -len(finding_of(name))].lower(), finding_of(name)
            is_are = "are" if finding == DEVICES else "is"
            sentences.append(f"The {side}{SPOKEN.get(finding, finding.lower())} {is_are} {became}.")
    return sentences


def _became(name: str, now: Told, before: Told, unseen: set[str]) -> str | None:
    is_there, was_there = now.values.get(name) == 1, before.values.get(name) == 1
    general = {finding_of(other) for one in (now, before) for other, value in one.values.items() if value == 1}
    if name == OPACITY and general.intersection(OF_THE_LUNGS):
        return None  # another word for one of these
    if is_there and not before.all_of(name) & {1, -1} and not before.same_disease(name):
        return "new" if before.denies(name) else "new, or not mentioned in the prior report"
    if was_there and not now.all_of(name) & {1, -1} and not now.same_disease(name):
        return "no longer seen" if now.denies(name) or name in unseen else None
    if not is_there or 1 not in before.all_of(name):
        return None
    sides = [one.sides.get(finding_of(name), set()) for one in (now, before)]
    other_side = finding_of(name) == name and all(sides) and not sides[0] & sides[1]
    other_device = finding_of(name) == DEVICES and not now.devices <= before.devices
    if other_side or other_device:
        return None
    return BECAME.get((now.sizes.get(name, 1), before.sizes.get(name, 1)), "seen again")


def told(text: str, names: Sequence[str]) -> Told:
    """What a report states, doubts and denies, by clue. Indication, comparison and advice are not read."""
    parts = _HEADING.split(text)
    sections = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    wanted = [part for heading, part in sections if re.fullmatch(_READ, heading, re.I)]
    wanted = wanted or [part for heading, part in sections if not heading]
    sentences = [one for part in wanted for one in cut_sentences(part) if not _ASIDE.search(one)]
    found = Told()
    for said in read_statements(Report(" ".join(sentences), None, ""), names):
        values = dict(said.clues)
        stated = [name for name, value in values.items() if value == 1 and name != NO_FINDING]
        if len(stated) == 1 and said.side in SIDES and not _TO_A_SIDE.search(said.text):
            sided = f"{said.side.title()} {stated[0]}"  # "blunting of the right angle, in keeping with an effusion"
            values = {sided if name == stated[0] and sided in names else name: v for name, v in values.items()}
        sizes = [size for size, words in enumerate(SIZES) if words.search(said.text)]
        one = len({finding_of(name) for name in stated}) == len(sizes) == 1
        for name, value in values.items():
            if value == 0 and (sizes or _PARTLY.search(said.text)):  # "no large effusion" leaves room for a small one
                continue
            found.values[name] = max((value, found.values.get(name, 0)), key=lambda v: (v == 1, v == -1))
            if value == 1 and finding_of(name) == DEVICES:
                found.devices |= set(_DEVICE.findall(said.text.lower()))
            elif value == 1 and one:
                found.sizes[name] = sizes[0]
            if value == 1 and said.side:
                found.sides.setdefault(finding_of(name), set()).update(SIDES if said.side == "both" else (said.side,))
    with_side = {finding_of(name) for name, value in found.values.items() if value == 1 and finding_of(name) != name}
    found.values = {name: value for name, value in found.values.items() if name not in with_side}
    return found
