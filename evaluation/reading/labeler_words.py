"""The words of a sentence as the tables of the labeler spell them: abbreviations, British spelling, typing errors.

    >>> plain_words("nil oedema, small effuson c/w chf")
    'no edema, small effusion consistent with chf'

A typing error is mended by distance (letters left out, added, changed, or two swapped): one step in words of four to
nine letters, two in longer ones, no changed letter in the shortest; only towards a word of `MENDED`, and only where a
single one is that near, so no finding ever becomes another. Each word is looked at once and remembered, so the cost of
a report is one look-up a word.
"""

import re
from bisect import bisect_left, bisect_right

ABBREVIATIONS = {
    "(n)": "(nil)", "(-)": "absent", "(+)": "present", "-ve": "negative", "+ve": "positive", "opac": "opacity",
    "opacs": "opacities", "nl": "normal", "nml": "normal", "wnl": "normal", "clr": "clear", "nad": "no abnormality",
    "abnl": "abnormal",
    "\u00f8": "no", "\u2205": "no",
    "nil": "no", "zero": "no", "w/": "with", "w/o": "without", "c/w": "consistent with", "c/f": "concerning for",
    "s/o": "suggestive of", "s/p": "after", "h/o": "history of", "hx": "history of", "pmh": "history of",
    "pmhx": "history of", "e/o": "evidence of", "r/o": "rule out", "d/t": "due to", "a/w": "associated with",
    "ddx": "differential", "dd": "differential", "d/d": "differential", "dx": "diagnosis", "neg": "negative",
    "poss": "possible", "prob": "probable", "susp": "suspicious", "b/l": "bilateral", "bilat": "bilateral",
    "mod": "moderate", "sm": "small", "lg": "large", "incr": "increased", "unch": "unchanged", "abt": "about",
    "pna": "pneumonia", "ptx": "pneumothorax", "pntx": "pneumothorax", "pnx": "pneumothorax", "atx": "atelectasis",
    "atel": "atelectasis", "consol": "consolidation", "eff": "effusion", "effs": "effusions", "fx": "fracture",
    "fxs": "fractures", "fxr": "fracture", "#": "fracture", "#s": "fractures", "infilt": "infiltrate",
    "cmegaly": "cardiomegaly", "ctr": "cardiothoracic ratio",
    "lrti": "chest infection", "ggo": "ground glass opacity", "ggos": "ground glass opacities",
    "mets": "metastases", "tb": "tuberculosis",
    "ccf": "chf", "hf": "heart failure", "mediast": "mediastinum", "-": ",", "\u2013": ",",
    "\u2014": ",", "--": ",", "->": ",", "&": "and", "+": "and", "+/-": "possible", "wo": "without",
    **{f"t{number}": "vertebra" for number in range(1, 13)}, **{f"l{number}": "vertebra" for number in range(1, 6)},
}  # fmt: skip
"""A word of a report, as it stands between spaces and without "," and ":" -> its meaning."""

_MENDED = """
heart tube drain clear effusion effusions pneumothorax pneumothoraces hydropneumothorax hemothorax pneumonia pneumonias
bronchopneumonia consolidation consolidations consolidative atelectasis atelectatic opacity opacities
opacification infiltrate infiltrates infiltration edema cardiomegaly cardiac cardiothoracic cardiomediastinal
mediastinum mediastinal silhouette nodule nodules nodular neoplasm metastasis metastases malignancy fracture
fractures fractured infection infectious catheter catheters pacemaker tracheostomy endotracheal nasogastric
interstitial reticular thickening pleural airspace shadowing collapse emphysema enlarged enlargement prominent
widened widening normal unremarkable evidence without cannot excluded exclude negative resolved removed absent
possible possibly probable probably suspicious suspected represent represents reflect unlikely questionable
concerning suggestive suggesting consistent differential bilateral unchanged moderate persistent identified
visualized demonstrated previously haziness scarring calcified granuloma hyperinflated hyperinflation scoliosis
degenerative
"""
MENDED = tuple(_MENDED.split())
"""The words that typing errors are mended towards."""

_SIMILAR = """
tubes tubed tuber drained drains cleared clears rain lear hear heat heath hearth hearts
infarction infarct infraction refection inflection injection injections injected affection fraction fractional
traction retraction extraction absence absents notable nominal nodal module modules modular model models
reflects reflected reflex represented representing representation recurrent percutaneous cardial cardio
pneumonic pneumonectomy pneumonitis malignant malignancies thickened thinning collapsed collapses exclusion
excludes excluding removal remove removes resolve resolves resolving resolution suspect suspects suspicion
concern concerned suggests suggested suggestion consist consistency consistently differentials persists
persistently persisting moderately negatives native probability possibility impossible improbable visible
visualize demonstrate demonstrates demonstrating identify identifies previous unchanging widen widens width
normally formal normals abnormal enlarge enlarges engorged prominence eminent edematous lateral catheterization
emphysematous calcific calcify calcification calcifications granulomas granulomatous scarred shadow shadowed
opaque opacified consolidated infiltrated infiltrating interstitium retinacular reticulation reticulations
pleura plural fractious facture factures lurid diffusion infusion effusive calcined excluder secluded evident
evidenced evidences cannon cannons enema eczema edentate median medial medially medium cartilage cardinal unlike
likely remarkable hyperinflate hypoinflated hypoinflation suggestible mediastinitis atelectases fractured
silhouettes nasogastrically infections infective infiltrative collapsing features feature featured hemithorax
hemithoraces engorgement metastatic metastasize bilaterally bilateralis degeneration degenerate differentiate
differentiated persistence coexistent prominently questionably suspended subjected suspiciously radicular
converting concurring converging reticulum reticula retinula engagement unsuspected unsuspicious cardia
scoliotic insertion inspection inflation ingestion intention induction granulomata normality normalize
consistence remover resolver removals unquestionable
"""
_LEFT_ALONE = frozenset(_SIMILAR.split())
"""Words of reports that are right although they look like a word of `MENDED` with a typing error."""

_BRITISH = re.compile(r"\bo(?=ed|esoph)|(?<=h)a(?=em)|(?<=tumo|favo)u(?=r)")
_PART = re.compile(r"[a-z#]+")
MAX_REMEMBERED, MAX_LETTERS, SHORT = 50_000, 24, 6


def _mask(word: str) -> int:
    mask = 0
    for letter in word:
        mask |= 1 << (ord(letter) & 31)  # "#", which stands for a fracture, falls on a letter; the distance decides
    return mask


_TARGETS: dict[str, list[tuple[str, int]]] = {}
for _target in MENDED:
    for _first in set(_target[:2]):
        _TARGETS.setdefault(_first, []).append((_target, _mask(_target)))
_KNOWN = frozenset(MENDED) | _LEFT_ALONE


def _distance(one: str, other: str, most: int) -> int:
    """Steps between two words, two swapped neighbours counted as one step; more than `most` is only known as more."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, other_letter in enumerate(other, 1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other_letter))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == other_letter:
                steps = min(steps, older[j - 2] + 1)
            row.append(steps)
        if min(row) > most:
            return most + 1
    return row[-1]


def mend_word(word: str) -> str:
    """The word of `MENDED` that a lower-case word is a typing error of, else the word itself."""
    if word in _KNOWN or not 4 <= len(word) <= MAX_LETTERS:
        return word
    letters = _mask(word)
    nearest: dict[int, list[str]] = {1: [], 2: []}
    for target, mask in _TARGETS.get(word[0], ()):
        most = 2 if len(target) > 9 and len(word) > 8 else 1
        if abs(len(target) - len(word)) <= most and (letters ^ mask).bit_count() <= 2 * most:
            steps = _distance(word, target, most)
            short = len(target) <= SHORT and len(target) == len(word) and sorted(target) != sorted(word)
            if steps <= most and not short:
                nearest[steps].append(target)
    near = nearest[1] or nearest[2]
    return near[0] if near and len({target[:6] for target in near}) == 1 else word


def _spell(found: re.Match[str]) -> str:
    part = found.group()
    return ABBREVIATIONS.get(part) or mend_word(_BRITISH.sub("", part))


class _Spelled(dict[str, str]):
    """Words with their marks, as they stand between spaces -> how the tables spell them; filled as they come."""

    def __missing__(self, word: str) -> str:
        bare = word.rstrip(",:?")
        spelled = ABBREVIATIONS.get(bare)
        spelled = _PART.sub(_spell, word) if spelled is None else spelled + word[len(bare) :]
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        if len(word) <= 2 * MAX_LETTERS:
            self[word] = spelled
        return spelled


_SPELLED = _Spelled()


def plain_words(sentence: str) -> str:
    """A lower-case sentence with single spaces as the tables spell its words: as many words, abbreviations aside."""
    return " ".join([_SPELLED[word] for word in sentence.split(" ")])


class Places:
    """Where the characters of `plain_words(sentence)` stand in `sentence` itself, by whole words."""

    def __init__(self, sentence: str) -> None:
        self.words = sentence.split(" ")
        self.plain, self.written = [0], [0]  # where each word starts
        for word in self.words:
            self.plain.append(self.plain[-1] + len(_SPELLED[word]) + 1)
            self.written.append(self.written[-1] + len(word) + 1)

    def __call__(self, start: int, end: int) -> tuple[int, int]:
        """The characters `start` to `end` of the plain sentence in the one that was written."""
        first, last = bisect_right(self.plain, start) - 1, bisect_left(self.plain, end) - 1
        kept = self.words[first], self.words[last]
        same = [_SPELLED[word] == word for word in kept]
        return (
            self.written[first] + (start - self.plain[first] if same[0] else 0),
            self.written[last] + (end - self.plain[last] if same[1] else len(kept[1].rstrip(",:?"))),
        )
