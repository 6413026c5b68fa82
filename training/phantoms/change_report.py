"""How the report of a SYNTHETIC phantom compares with the report of the phantom before. The wording is our own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.reading.changes import Change
from processing_trrg import report_text
from training.phantoms.report import INDICATIONS, NORMAL_IMPRESSION, Pair, PlantedFinding, Words, prose


@dataclass(frozen=True)
class FollowedFinding:
    """What became of a finding: `before` is None where it is new, `now` where it has resolved."""

    change: Change
    before: PlantedFinding | None
    now: PlantedFinding | None

    @property
    def shown(self) -> PlantedFinding:
        """The finding as it is now, or as it was."""
        shown = self.now or self.before
        assert shown is not None
        return shown

    @property
    def pair(self) -> Pair:
        """(name, side)."""
        return self.shown.pair


NOUNS = {
    "effusion": ("{side} pleural effusion", "{side}-sided pleural effusion"),
    "nodule": ("{side} {zone} nodule", "nodule in the {side} {zone}"),
    "pneumothorax": ("{side} pneumothorax", "{side}-sided pneumothorax"),
    "consolidation": ("{side} {zone} consolidation", "consolidation in the {side} {zone}"),
    "cardiomegaly": ("cardiomegaly",),
    "pacemaker": ("{side}-sided pacemaker", "{side} chest wall pacemaker"),
    "port": ("{side}-sided chest port", "{side} chest wall port"),
    "central line": ("{side} central venous catheter", "{side}-sided central line"),
}
CHANGED: dict[Change, tuple[str, ...]] = {
    "new": (
        "there is a new {size} {noun}",
        "a new {size} {noun} is present",
        "new {size} {noun}",
        "a {size} {noun} has developed since the prior study",
        "a {size} {noun} is newly seen",
    ),
    "grown": (
        "the {noun} has increased and is now {size}",
        "the {noun} is larger than before, now {size}",
        "interval increase of the {noun}, which is now {size}",
        "{size} {noun}, which has increased",
        "{size} {noun}, larger than on the prior study",
    ),
    "unchanged": (
        "the {size} {noun} is unchanged",
        "unchanged {size} {noun}",
        "stable {size} {noun}",
        "{size} {noun}, unchanged since the prior study",
        "the {size} {noun} is stable",
    ),
    "smaller": (
        "the {noun} has decreased and is now {size}",
        "the {noun} is smaller than before, now {size}",
        "interval decrease of the {noun}, which is now {size}",
        "{size} {noun}, which has decreased",
        "{size} {noun}, smaller than on the prior study",
    ),
    "resolved": (
        "the {noun} has resolved",
        "the {noun} is no longer seen",
        "interval resolution of the {noun}",
        "resolved {noun}",
    ),
}
DEVICE_CHANGED: dict[Change, tuple[str, ...]] = {
    "new": (
        "a new {noun} is in place",
        "new {noun}",
        "a {noun} has been placed since the prior study",
    ),
    "unchanged": (
        "the {noun} is unchanged",
        "unchanged {noun}",
        "the {noun} is in unchanged position",
    ),
    "resolved": (
        "the {noun} has been removed",
        "the {noun} is no longer seen",
        "interval removal of the {noun}",
    ),
}
SHORT_CHANGED: dict[Change, tuple[str, ...]] = {
    "new": ("new {size} {noun}",),
    "grown": ("the {noun} has increased", "{noun}, larger than before"),
    "unchanged": ("unchanged {noun}", "stable {noun}"),
    "smaller": ("the {noun} has decreased", "{noun}, smaller than before"),
    "resolved": ("resolved {noun}", "the {noun} has resolved"),
}
SHORT_DEVICE_CHANGED: dict[Change, tuple[str, ...]] = {
    "new": ("new {noun}",),
    "unchanged": ("unchanged {noun}", "stable {noun}"),
    "resolved": ("the {noun} has been removed",),
}
NO_CHANGE = (
    "no change since the prior study",
    "there is no interval change",
    "unchanged from the prior study",
)
STILL_NORMAL = (
    "unchanged normal chest radiograph",
    "stable normal chest radiograph",
    "no acute cardiopulmonary abnormality, unchanged since the prior study",
    "no active disease in the chest, no interval change",
)


def write_prior(findings: Sequence[PlantedFinding], rng: np.random.Generator) -> str:
    """The report of the study before, short enough for a small model's prompt: its findings alone, or what is there
    and the impression."""
    words = Words(rng)
    claims = words.claims(findings)
    if rng.random() < 0.5:
        return prose(words.mixed(claims + words.denials(findings)))
    return report_text(prose(claims) or None, prose(words.short(findings)))


def write_changes(followed: Sequence[FollowedFinding], rng: np.random.Generator) -> dict[str, str]:
    """The report as `write_report` words it, with what became of each finding since the study before."""
    words = Words(rng)
    sentences = [_sentence(finding, CHANGED, DEVICE_CHANGED, words) for finding in followed]
    sentences += words.denials([finding.shown for finding in followed])
    if not followed and rng.random() < 0.5:
        sentences.append(words.pick(NO_CHANGE))
    sentences = words.mixed(sentences)
    order = rng.permutation(len(followed))
    impression = [_sentence(followed[i], SHORT_CHANGED, SHORT_DEVICE_CHANGED, words) for i in order]
    if not followed:
        impression = [words.pick(STILL_NORMAL)]
    elif all(finding.now is None for finding in followed):
        impression.append(words.pick(NORMAL_IMPRESSION))
    return {"indication": words.pick(INDICATIONS), "findings": prose(sentences), "impression": prose(impression)}


def _sentence(
    finding: FollowedFinding,
    changed: dict[Change, tuple[str, ...]],
    device_changed: dict[Change, tuple[str, ...]],
    words: Words,
) -> str:
    shown = finding.shown
    templates = (device_changed if shown.name == "device" else changed)[finding.change]
    noun = words.pick(NOUNS[shown.kind or shown.name])
    size = "{degree}" if shown.name == "cardiomegaly" else "{size}"
    template = words.pick(templates).replace("{noun}", noun).replace("{size}", size)
    if shown.name == "cardiomegaly":  # it takes no article
        template = template.replace("a new ", "new ").replace("a {degree}", "{degree}").replace("the card", "card")
    return words.fill(template, shown)
