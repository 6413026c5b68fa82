"""The words by which `contradictions.py` tells what a claim or a denial is about and what limits it."""

import re

CLAUSE_END = re.compile(r"[,;:()]|\b(?:and|but|however|although|though|while|whereas|with|without)\b")
ZONES = {
    "upper": r"upper|apic\w+|apex|biapical|rul|lul",
    "mid": r"mid(?:dle)?|perihilar|lingula\w*|rml",
    "lower": r"lower|bas(?:e|es|al|ilar)|bibas\w+|retrocardiac|costophrenic|rll|lll",
}
ZONE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in ZONES.items()))
RESTRICTING = re.compile(
    r"\b(?:new|newly|large|larger|gross|sizable|sizeable|significant|substantial|frank|overt|typical|acute|active"
    r"|suspicious|other|additional|further|residual|recurrent|displaced|discrete|tension|lobar|confluent|pulmonary"
    r"|alveolar|interstitial|compression|calcified|noncalcified|dominant|definitive|worrisome|cavitary|upper|top"
    r"|borderline|laryngeal|pelvic|rib|vertebral|spinal|bony|xxxx)\b"
)
FOCAL = re.compile(r"\b(?:focal|airspace|air space)\b")
PAST = re.compile(r"\b(?:prior|previous(?:ly)?|earlier|formerly|history|treated|yesterday)\b")
THERE = re.compile(r"\b(?:persist\w*|unchanged|stable|again|remains?|still)\b")
# What the words "clear" and "no acute disease" leave room for: old, thin, faint; of fluid and opacities, small too.
MINOR = re.compile(
    r"\b(?:minimal\w*|tiny|trace|subtle|minor|linear|streaky|subsegmental|discoid|plate-?\w*|band-?\w*|scar\w*|fibro\w*"
    r"|granulom\w*|\w*calcif\w+|chronic|old|remote|heal(?:ed|ing)|stable|unchanged|prior|previous\w*|known|crowding"
    r"|reticul\w+|dependent|post-?\w+|resolv\w+|resolution|improv\w+)\b"
)
OUTSIDE = re.compile(r"\b(?:mediastin\w+|paratracheal|soft tissues?|overl(?:ying|ap)\w*|hernia\w*|goiter|fat)\b")
SMALL = re.compile(r"\b(?:small|mild\w*|slight\w*|faint\w*)\b")
OF_METAL = re.compile(r"\b(?:screws?|leads?|wires?|rods?|plates?|hardware|pacemaker|catheter)\b")
ACUTE_FRACTURE = re.compile(r"\b(?:acute\w*|displaced|recent)\b")
LOBAR = re.compile(r"\b(?:lob(?:e|es|ar)|base|r[uml]l|l[ul]l)\b")

ELSEWHERE = re.compile(r"\b(?:remaining|remainder|rest|elsewhere|otherwise)\b")
EXCEPTION = re.compile(
    r"\b(?:otherwise|other|except\w*|apart|aside|besides|remain(?:ing|der)|rest|elsewhere|additional|further|new"
    r"|beyond|xxxx lungs?)\b"
)
ORGAN = r"(?:cardio-?pulmonary|pulmonary|intra-?thoracic|thoracic|chest|lung|cardiac|or|and|and/or|radiographic|xxxx)"
ILLNESS = r"(?:abnormalit\w+|diseases?|process\w*|findings?|patholog\w+|illness)"
NO_ACUTE = (
    r"\b(?:no|without|negative for)(?: (?:\w+ ){0,3}(?:of|for))?(?: (?:definite|radiographic|convincing))?"
    r" (?:acute|active)"
)
AREAS = {
    "lungs": (
        ("lung",),
        r"(?:\w+ ){0,2}\blungs?(?! volumes?)\b(?: \w+|:){0,5}? (?:clear|normal|unremarkable)\b"
        r"(?! (?:of|from|size|volumes?|airspace)\b)(?: bilaterally)?"
        r"|\b(?:clear|unremarkable|normal) (?:\w+ ){0,2}lungs?\b(?! volumes?)",
    ),
    "acute": (("acute", "active"), rf"{NO_ACUTE} {ILLNESS}|\bnothing acute"),
    "acute chest": (("acute", "active"), rf"{NO_ACUTE}(?: {ORGAN})+ {ILLNESS}"),
    "acute bones": (("acute", "active"), rf"{NO_ACUTE} (?:osseous|bony|skeletal|bone) {ILLNESS}"),
    "chest": (
        ("normal", "unremark", "negative", "pathol"),
        r"^(?:(?:radiographically |essentially |completely |overall )?normal|unremarkable|negative)"
        r"(?: (?:xxxx|frontal|lateral|portable|pa|ap|two|2|view|and|chest|radiographic))*"
        r" (?:chest|exam|examination|study|radiographs?|x-?rays?|film|chest x-?xxxx)\b(?! (?:for|without|with))"
        r"|^no (?:(?:significant|radiographic|cardio-?pulmonary|pulmonary|intra-?thoracic|definite|gross) ){0,2}"
        r"(?:abnormalit\w+|pathology)(?: (?:is|are|was|seen|identified|detected|noted))*$",
    ),
    "pleural angles": (
        ("costophrenic",),
        r"(?:\w+ )?\bcostophrenic (?:angles?|sulc\w+)(?: \w+){0,3}? (?:sharp|clear|preserved)"
        r"|\bsharp (?:\w+ )?costophrenic",
    ),
    "pleural spaces": (
        ("pleural",),
        r"(?:\w+ )?\bpleural spaces?(?: \w+){0,3}? (?:clear|normal|unremarkable)|\bno pleural abnormalit\w+",
    ),
    "bones": (
        ("bon", "osse", "skelet", "rib"),
        r"\b(?:bones?|osseous|bony|skelet\w+|ribs|rib cage)(?: \w+){0,4}? (?:intact|normal|unremarkable)"
        r"|\b(?:intact|normal|unremarkable) (?:bon|osse|skelet|ribs)\w*"
        r"|\bno (?:osseous|bony|skeletal) abnormalit\w+",
    ),
    "tubes": (
        ("no ",),
        r"\bno (?:support )?(?:lines?|tubes?|catheters?)(?:,? (?:or|and) (?:lines|tubes|catheters|drains))+",
    ),
    "devices": (("device", "hardware"), r"\bno (?:\w+ ){0,2}(?:devices?|hardware)"),
}
"""What excludes many findings at once: words of which a sentence holds one, and the pattern. Which findings is in
`_areas_of`."""
DEVICES = {
    "airway": r"endotracheal|\bett?\b|tracheostomy",
    "stomach": r"nasogastric|orogastric|enteric|feeding|\b[no]g\b|\bngt\b",
    "drain": r"chest tube|drain|thoracostomy|pigtail",
    "vein": r"central|\bpicc\b|jugular|subclavian|\bport\b|port-a|swan|venous",
    "heart": r"pace|\bicd\b|defibrillator|\bleads?\b",
}
DEVICE_PATTERN = re.compile("|".join(rf"(?P<{name}>{words})" for name, words in DEVICES.items()))
SECOND_DEVICE = re.compile(r"\b(?:new|second|another|other|one of|remaining|replac\w+|exchang\w+|two|both)\b")

ONE_A_SIDE = frozenset(("Pleural Effusion", "Pneumothorax", "Cardiomegaly", "Edema", "Consolidation"))
ZONED = frozenset(("Consolidation", "Atelectasis"))
SHADOW = (
    ("Consolidation", ""),
    ("Pneumonia", ""),
    ("Lung Opacity", "opac"),
    ("Lung Opacity", "airs"),
    ("Lung Opacity", "infi"),
)
"""Things that may be one shadow, the first stands for all."""
GRADES = {
    "size": {
        "small": r"tiny|trace|small|minimal\w*|mild\w*|slight\w*|minor",
        "large": r"large|massive\w*|extensive\w*|severe\w*|marked\w*|huge|tension",
    },
    "change": {
        "more": r"increas\w+|worse\w*|larger|progress\w+|enlarging|grown|new",
        "less": r"decreas\w+|improv\w+|smaller|resolving|diminish\w+",
        "same": r"unchanged|stable",
    },
}
GRADE_PATTERNS = {
    name: re.compile("|".join(rf"(?P<{grade}>\b(?:{words})\b)" for grade, words in grades.items()))
    for name, grades in GRADES.items()
}
OPPOSITES = {
    "Trachea": (
        "trache",
        r"trachea\w* (?:is |remains )?(?:midline|central)",
        r"trache\w+ (?:is )?(?:\w+ly )?(?:deviat|shift|displac)",
    ),
    "Mediastinum": (
        "mediastin",
        r"no mediastinal shift|mediastinum (?:is )?midline",
        r"(?<!no )mediastinal shift (?:to|toward)",
    ),
    "Lung Volumes": (
        "lung",
        r"low lung volumes|lung volumes (?:is |are )?low",
        r"(?<!no )\b(?:lungs (?:are )?)?hyper-?(?:inflat|expan)ed",
    ),
}
