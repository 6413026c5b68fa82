"""Reports of SYNTHETIC phantoms: what can be planted, and how it is worded. The wording is our own, no patient's.

`training/phantoms/scoring.py` reads such reports back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LABEL_OF = {
    "effusion": "Pleural Effusion",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Lung Lesion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "device": "Support Devices",
}
SIDES = ("left", "right")
SIZES = ("small", "moderate", "large")
ZONES = ("upper", "mid", "lower")
DEVICES = ("pacemaker", "port", "central line")

Pair = tuple[str, str | None]
SIDED = tuple(name for name in LABEL_OF if name != "cardiomegaly")
PAIRS: tuple[Pair, ...] = (("cardiomegaly", None), *((name, side) for name in SIDED for side in SIDES))


@dataclass(frozen=True)
class PlantedFinding:
    """One finding drawn into a phantom.

    Attributes:
        name: a key of LABEL_OF.
        side: "left" or "right" of the PATIENT (left is image right); None for cardiomegaly.
        size: one of SIZES; None for devices.
        zone: one of ZONES for nodule and consolidation, else None.
        kind: one of DEVICES for a device, else None.
        box: (x, y, w, h) in pixels of the image.
    """

    name: str
    side: str | None
    size: str | None
    zone: str | None = None
    kind: str | None = None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def pair(self) -> Pair:
        """(name, side), what a report must name."""
        return self.name, self.side

    @property
    def words(self) -> str:
        """As "small left lower consolidation", for a list of what was planted."""
        return " ".join(filter(None, (self.size, self.side, self.zone, self.kind or self.name)))


# The words in braces are filled in; the first letter is raised when the report is put together.
POSITIVE = {
    "effusion": (
        "there is a {size} {side} pleural effusion",
        "{size} {side} pleural effusion is present",
        "{size} {side}-sided pleural effusion with blunting of the costophrenic angle",
        "a {size} pleural effusion is seen on the {side}",
        "pleural fluid on the {side} forms a {size} effusion",
        "the {side} hemidiaphragm is obscured by a {size} pleural effusion",
        "blunting of the {side} costophrenic angle is in keeping with a {size} pleural effusion",
    ),
    "nodule": (
        "there is a {size} {nodule} in the {side} {zone}",
        "a {size} {side} {zone} {nodule} is noted",
        "{size} rounded {nodule} projects over the {side} {zone}",
        "a well defined {size} {nodule} is seen in the {side} {zone}",
        "{size} pulmonary {nodule} within the {side} {zone}",
    ),
    "pneumothorax": (
        "there is a {size} {side} pneumothorax",
        "{size} {side} apical pneumothorax with a visible pleural line",
        "a {size} {side}-sided pneumothorax is present",
        "a {size} pneumothorax is seen on the {side}",
        "a visceral pleural line is visible on the {side}, consistent with a {size} pneumothorax",
        "absent lung markings at the {side} apex reflect a {size} pneumothorax",
    ),
    "consolidation": (
        "there is a {size} area of consolidation in the {side} {zone}",
        "{size} {side} {zone} consolidation is present",
        "{size} patchy airspace consolidation in the {side} {zone}",
        "the {side} {zone} shows a {size} focus of consolidation",
        "a {size} ill defined consolidation is seen in the {side} {zone}",
    ),
    "cardiomegaly": (
        "there is {degree} cardiomegaly",
        "the heart is {adverb} enlarged",
        "{adverb} enlarged cardiac silhouette",
        "the cardiac silhouette is {adverb} enlarged",
        "heart size is {adverb} increased",
        "{degree} enlargement of the cardiac silhouette",
    ),
    "pacemaker": (
        "a {side} chest wall pacemaker is in place with its lead projecting over the right ventricle",
        "{side}-sided pacemaker with a single lead",
        "a {side} pectoral pacemaker generator is present, the lead ends in the right ventricle",
        "there is a {side}-sided cardiac pacemaker",
    ),
    "port": (
        "a {side} chest wall port is in place with its tip in the superior vena cava",
        "{side}-sided chest port with the catheter tip over the superior vena cava",
        "there is a {side}-sided infusion port",
        "a {side} subcutaneous port catheter is present",
    ),
    "central line": (
        "a {side}-sided central line ends in the superior vena cava",
        "{side} central venous catheter with its tip over the superior vena cava",
        "there is a {side} central venous line",
        "a central venous catheter enters from the {side}",
    ),
}
BOTH = {
    "effusion": (
        "there are bilateral pleural effusions, {sizes}",
        "bilateral pleural effusions are present, {sizes}",
        "pleural effusions on both sides, {sizes}",
    ),
    "pneumothorax": (
        "there are bilateral pneumothoraces, {sizes}",
        "bilateral pneumothoraces are present, {sizes}",
    ),
}
# What is said of a side that is free while the other side is not.
OTHER_SIDE = {
    "effusion": ("no {side} pleural effusion", "the {side} costophrenic angle is sharp", "no effusion on the {side}"),
    "pneumothorax": ("no {side} pneumothorax", "no pneumothorax on the {side}"),
    "consolidation": ("no consolidation in the {side} lung", "the {side} lung is free of consolidation"),
    "nodule": ("no {side} lung nodule", "the {side} lung contains no nodule"),
}
NEGATIVE = {
    "effusion": (
        "no pleural effusion",
        "there is no pleural effusion",
        "the costophrenic angles are sharp without pleural effusion",
        "pleural effusion is absent",
        "no left or right pleural effusion is seen",
    ),
    "nodule": (
        "no pulmonary nodule",
        "there is no lung nodule or mass",
        "no suspicious nodule is identified",
        "the lungs are free of nodules",
    ),
    "pneumothorax": (
        "no pneumothorax",
        "there is no pneumothorax",
        "no evidence of pneumothorax on either side",
        "a pneumothorax is not seen",
    ),
    "consolidation": (
        "no focal consolidation",
        "there is no airspace consolidation",
        "the lungs are free of consolidation",
        "consolidation is not identified",
    ),
    "cardiomegaly": (
        "the heart is normal in size",
        "heart size is normal",
        "the cardiac silhouette is not enlarged",
        "no cardiomegaly",
        "normal heart size",
    ),
    "device": (
        "no support devices",
        "no lines or other devices are seen",
        "there is no pacemaker, port or central line",
        "no indwelling device",
    ),
}
LISTED = {"effusion": "pleural effusion", "pneumothorax": "pneumothorax", "consolidation": "focal consolidation"}
NORMAL = {
    "mediastinum": (
        "the mediastinal contours are normal",
        "mediastinal contours are unremarkable",
        "the mediastinum is not widened",
        "the trachea is midline",
    ),
    "bones": (
        "the bones are intact",
        "osseous structures are unremarkable",
        "no acute bony abnormality",
        "the visualized skeleton is normal",
    ),
    "lungs": (
        "the lungs are well expanded",
        "lung volumes are normal",
        "the lungs are normally inflated",
    ),
}
CLEAR = ("the lungs are clear", "both lungs are clear", "clear lungs")
NORMAL_IMPRESSION = (
    "no acute cardiopulmonary abnormality",
    "normal chest radiograph",
    "no acute cardiopulmonary process",
    "unremarkable chest",
    "no active disease in the chest",
)
SHORT = {
    "effusion": ("{size} {side} pleural effusion", "{side} pleural effusion, {size}"),
    "nodule": ("{size} {nodule} in the {side} {zone}", "{side} {zone} {nodule}"),
    "pneumothorax": ("{size} {side} pneumothorax", "{side}-sided pneumothorax, {size}"),
    "consolidation": ("{size} consolidation in the {side} {zone}", "{side} {zone} consolidation"),
    "cardiomegaly": ("{degree} cardiomegaly", "{adverb} enlarged heart"),
    "pacemaker": ("{side}-sided pacemaker", "{side} chest wall pacemaker in place"),
    "port": ("{side}-sided chest port", "{side} chest port in place"),
    "central line": ("{side} central venous catheter", "{side}-sided central line in place"),
}
INDICATIONS = (
    "Shortness of breath.",
    "Cough.",
    "Chest pain.",
    "Cough and fever.",
    "Preoperative assessment.",
    "Follow-up.",
    "Routine examination.",
    "Dyspnea on exertion.",
)
SIZE_WORDS = {
    "effusion": {"small": ("small",), "moderate": ("moderate", "moderate-sized"), "large": ("large",)},
    "nodule": {"small": ("small",), "moderate": ("moderate", "medium-sized"), "large": ("large",)},
    "pneumothorax": {"small": ("small",), "moderate": ("moderate", "moderate-sized"), "large": ("large",)},
    "consolidation": {"small": ("small",), "moderate": ("moderate", "moderate-sized"), "large": ("large", "extensive")},
}
ZONE_WORDS = {
    "upper": ("upper zone", "upper lung zone", "upper lobe", "upper lung"),
    "mid": ("mid zone", "mid lung zone", "mid lung"),
    "lower": ("lower zone", "lower lung zone", "lower lobe", "lung base"),
}
DEGREES = {"small": "mild", "moderate": "moderate", "large": "severe"}
ADVERBS = {"small": "mildly", "moderate": "moderately", "large": "severely"}


class Words:
    """Words drawn for planted findings, all from one generator."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def pick(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def fill(self, template: str, finding: PlantedFinding) -> str:
        """The words in braces of a template."""
        words = {"side": finding.side or ""}
        if finding.name == "cardiomegaly" and finding.size is not None:
            words |= {"degree": DEGREES[finding.size], "adverb": ADVERBS[finding.size]}
        elif finding.size is not None:
            words["size"] = self.pick(SIZE_WORDS[finding.name][finding.size])
        if finding.zone is not None:
            words["zone"] = self.pick(ZONE_WORDS[finding.zone])
        if finding.name == "nodule":
            words["nodule"] = self.pick(("mass", "nodule")) if finding.size == "large" else "nodule"
        return template.format(**words).replace("a extensive", "an extensive")

    def phrase(self, phrases: Mapping[str, Sequence[str]], finding: PlantedFinding) -> str:
        """One of the phrases for a finding, filled."""
        return self.fill(self.pick(phrases[finding.kind or finding.name]), finding)

    def claims(self, findings: Sequence[PlantedFinding]) -> list[str]:
        """Sentences that name each finding, some that the other side is free of it."""
        said: list[str] = []
        for name, found in _by_name(findings).items():
            if len(found) == 2 and name in BOTH and self.rng.random() < 0.6:
                sizes = " and ".join(f"{f.size} on the {f.side}" for f in found)
                said.append(self.pick(BOTH[name]).format(sizes=sizes))
            else:
                said += [self.phrase(POSITIVE, f) for f in found]
            if len(found) == 1 and name in OTHER_SIDE and self.rng.random() < 0.35:
                other = SIDES[1 - SIDES.index(str(found[0].side))]
                said.append(self.pick(OTHER_SIDE[name]).format(side=other))
        return said

    def denials(self, findings: Sequence[PlantedFinding]) -> list[str]:
        """Sentences that deny what is not among the findings, and some of what is normal."""
        by_name = _by_name(findings)
        absent = [name for name in LABEL_OF if not by_name[name]]
        listed = [name for name in absent if name in LISTED]
        said: list[str] = []
        if len(listed) > 1 and self.rng.random() < 0.5:
            order = [LISTED[listed[i]] for i in self.rng.permutation(len(listed))]
            start = self.pick(("no ", "there is no ", "no evidence of ", "the chest is without "))
            said.append(start + ", ".join(order[:-1]) + " or " + order[-1])
            absent = [name for name in absent if name not in listed]
        said += [self.pick(NEGATIVE[name]) for name in absent if name != "device" or self.rng.random() < 0.4]
        collapsed = bool(by_name["pneumothorax"])
        said += [
            self.pick(NORMAL[part])
            for part in NORMAL
            if self.rng.random() < 0.6 and not (collapsed and part == "lungs")
        ]
        if not (collapsed or by_name["nodule"] or by_name["consolidation"]) and self.rng.random() < 0.5:
            said.append(self.pick(CLEAR))
        return said

    def mixed(self, sentences: list[str]) -> list[str]:
        """The sentences, in half of the draws in any order."""
        if self.rng.random() < 0.5:
            sentences = [sentences[i] for i in self.rng.permutation(len(sentences))]
        return sentences

    def short(self, findings: Sequence[PlantedFinding]) -> list[str]:
        """The impression: each finding in any order, or that there is none."""
        order = self.rng.permutation(len(findings))
        return [self.phrase(SHORT, findings[i]) for i in order] or [self.pick(NORMAL_IMPRESSION)]


def write_report(findings: Sequence[PlantedFinding], rng: np.random.Generator) -> dict[str, str]:
    """Word planted findings as a report: {"indication", "findings", "impression"}.

    Findings and impression each name every planted finding with its side.
    """
    words = Words(rng)
    sentences = words.mixed(words.claims(findings) + words.denials(findings))
    impression = words.short(findings)
    return {"indication": words.pick(INDICATIONS), "findings": prose(sentences), "impression": prose(impression)}


def prose(sentences: Sequence[str]) -> str:
    """Phrases as sentences."""
    return " ".join(s[0].upper() + s[1:] + "." for s in sentences)


def _by_name(findings: Sequence[PlantedFinding]) -> dict[str, list[PlantedFinding]]:
    return {name: [f for f in findings if f.name == name] for name in LABEL_OF}
