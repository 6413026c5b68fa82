"""`conventions="chexpert"`: what the published CheXpert labeler makes of the mentions that our reader finds.

Phrases, rules and aggregation are facts of Irvin et al. (2019) and of the lists that stanfordmlgroup/chexpert-labeler
publishes; nothing is parsed here, so a slip of its parser is not repeated. Rules about words that our reader meets on
its way ("A or B", "A versus B", a stable heart, "probable") stand in `labeler_scope` behind `published`. The
departures stand side by side in evaluation/README.md, and each row of that table is a test.
"""

import re
from collections.abc import Iterator

from evaluation.reading.labeler_phrases import OTHER
from evaluation.reading.labeler_terms import SentenceMention
from evaluation.reading.observations import ABSENT, PRESENT, UNCERTAIN

_HELD = {
    "Cardiomegaly": r"cardiomegaly|the heart|heart size|cardiac (?:enlargement|size|shadow|contours?|silhouettes?)"
    r"|enlarged heart",
    "Enlarged Cardiomediastinum": r"mediastinum|contours?|(?:mediastinal|pericardial) silhouettes?"
    r"|mediastinal configuration",
    "Lung Opacity": r"opaci|infiltrat|air[ -]?space disease|interstitial (?:marking|pattern|lung)|reticul|scar"
    r"|wall thickening|peribronchial thickening|increased density|decreased translucency",
    "Lung Lesion": r"mass|nodul|lump|cavitary lesion|carcinoma|neoplasm|tumor",
    "Edema": r"edema|odema",
    "Pneumonia": r"pneumonia|infectio",
    "Fracture": r"fractur",
    "Atelectasis": r"atelecta|collapse",
    "Pneumothorax": r"pneumothora[xc]",
    "Pleural Effusion": r"effusion|pleural fluid",
    "Pleural Other": r"pleural (?:\w+ )?(?:thickening|scar)|parenchymal scar|fibrosis|fibrothorax",
}
"""The phrases that the published lists hold, of the observations where ours hold more."""
_PHRASES = {name: re.compile(pattern) for name, pattern in _HELD.items()}
_OTHERS = re.compile(
    r"emphysem|blunt|elevat|eventrat|scoliosis|degenerat|calcif|hyper-?(?:infl|expan)|hernia|copd|plaque|osteophyt"
    r"|bronchi"
    r"|thicken|cephaliz|aspirat|bulla|contusion|athero|osteopen|metasta|granuloma|pneumo(?:medi|peri)|cuffing|inflam"
    r"|kyphosis|volume loss|deformit|hemorrhage|hematoma|prominen|density|densities|fissure"
)
"""Abnormalities beside the observations that stand against "No Finding" there too."""
_UNSURE_EDEMA = re.compile(r"congesti|vascular prominence|indistinct")
_FAILURE = re.compile(r"heart failure|chf")
_UNMENTIONED = re.compile(r"calcified .*nodul")


def as_published(sentence: str, mention: SentenceMention) -> Iterator[SentenceMention]:
    """The mentions that the published labeler has in place of ours, in the same lower-case sentence."""
    name, phrase = mention.observation, mention.phrase
    if name == OTHER and _UNSURE_EDEMA.match(phrase):
        yield mention._replace(observation="Edema", polarity=mention.polarity and UNCERTAIN)
    elif name == OTHER and _FAILURE.match(phrase):
        yield mention._replace(observation="Edema")
        if mention.polarity != ABSENT:
            yield mention._replace(observation="Cardiomegaly", polarity=UNCERTAIN)
    elif name in _PHRASES or name == OTHER:
        if phrase == "heart" and sentence[: mention.start].endswith("the "):
            phrase = "the heart"
        if name == OTHER or not _PHRASES[name].search(phrase) or _UNMENTIONED.match(phrase):
            if _OTHERS.search(phrase):
                yield mention._replace(observation=OTHER)
        elif not (name == "Cardiomegaly" and "mediastinal" in phrase):
            yield mention
    else:
        yield mention


def published_label(polarities: set[int]) -> int:
    """One label of all mentions of an observation: a doubt beside a denial is uncertain, even beside a claim."""
    if {ABSENT, UNCERTAIN} <= polarities:
        return UNCERTAIN
    return PRESENT if PRESENT in polarities else polarities.pop()
