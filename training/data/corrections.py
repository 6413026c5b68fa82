"""Corrections of a report: one to three findings put in, taken out, denied or moved to the other side, and the words of
a user who asks for it. All other sentences stay word for word (`report_edits.py`).

The user is right in one half of the draws because the report was spoiled (the answer is the true report), and in the
other because the user says so (the answer is the true report with the changes). A denial ("there is no effusion") is
written down; what is only to be taken out leaves no trace.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from evaluation.reading.observations import NO_FINDING, Labels
from evaluation.reading.sentences import cut_sentences
from processing_trrg import correction_request
from training.data.report_edits import (
    Change,
    Clues,
    Report,
    apply,
    as_asked,
    as_text,
    claimed_sides,
    family,
    one_side,
    says,
)

WORDS = json.loads(Path(__file__).with_name("dialogue_words.json").read_text(encoding="utf-8"))
"""Wordings: `questions` a kind, `requests` of corrections, `names` of findings with their articles, `sided` findings,
`signs` that show a finding, `regions` by the words that name them."""
TRIES = 6
"""Draws of changes before a report is given up."""
LISTED = 0.3
"""Share of the requests that are RaDialog's lists of findings (`correction_request`)."""
COUNTS = (0.5, 0.3, 0.2)
"""Probabilities of one, two and three changes."""
Pool = Callable[[str, int], str]
"""(finding, 1 or 0) -> a sentence that claims or denies it."""
_ARTICLE = re.compile(r"^(?:another|an?) ")


def make_correction(
    sections: Mapping[str, str | None],
    names: Sequence[str],
    clues: Clues,
    labeler: Callable[[str], Labels],
    rng: np.random.Generator,
    pool: Pool | None = None,
) -> tuple[str, str, str] | None:
    """A report, a request and the corrected report; None where no change could be made alone.

    Args:
        sections: findings and impression of the true report.
        names: findings that may be asked for.
        clues: by name, with the sentences that claim and deny them.
        labeler: text to labels; it confirms that the change is the asked one and no other.
        pool: gives the sentences that spoil a report; without it they are the clues'.
    """
    true = {part: list(cut_sentences(text)) if text else [] for part, text in sections.items()}
    if not any(true.values()):
        return None
    read = labeler(as_text(true))
    writer = _Writer(true, read, [name for name in names if name in read and name != NO_FINDING], clues, rng)
    for _ in range(TRIES):
        spoil, listed = rng.random() < 0.5, rng.random() < LISTED
        changes = writer.draw(int(rng.choice(3, p=COUNTS)) + 1, listed, spoil, pool)
        changed: Report | None = true
        for change in changes:
            changed = changed and apply(changed, change, clues)
        if not changes or not changed or not any(changed.values()):
            continue
        if (spoil and not _restorable(true, changed, changes)) or not as_asked(true, changed, changes, labeler):
            continue
        asked = [writer.undone(change) for change in changes] if spoil else changes
        before, after = (changed, true) if spoil else (true, changed)
        question = _list_request(asked) if listed else None
        return as_text(before), question or _free_request(asked, rng), as_text(after)
    return None


def _restorable(true: Report, spoiled: Report, changes: Sequence[Change]) -> bool:
    """Whether only findings that are asked for come back: nobody could tell that the lungs were called clear before."""
    names = {change.name for change in changes}
    gone = (line for line in true["findings"] if line not in spoiled["findings"])
    return all(names & set(says(line).labels) for line in gone)


class _Writer:
    """Draws changes of one report and says them."""

    def __init__(self, report: Report, read: Labels, names: Sequence[str], clues: Clues, rng: np.random.Generator):
        self.read, self.names, self.clues, self.rng = read, names, clues, rng
        self.lines = [line for lines in report.values() for line in lines]

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def claims(self, name: str) -> list[str]:
        """The sentences that claim a finding."""
        return [line for line in self.lines if says(line).labels.get(name) == 1]

    def word(self, name: str, claims: Sequence[str] = ()) -> str:
        """See `name_of`."""
        return name_of(name, claims, self.rng)

    def draw(self, count: int, listed: bool, spoil: bool, pool: Pool | None) -> list[Change]:
        """At most `count` changes of unrelated findings."""
        present = [name for name in self.names if self.read[name] == 1]
        absent = [name for name in self.names if self.read[name] in (0, None)]
        placed = {} if listed else {name: s for name in present if (s := one_side(self.claims(name)))}
        changes: list[Change] = []
        modes: tuple[Literal["deny"], Literal["drop"]] = ("deny", "drop")
        mode = modes[int(self.rng.integers(2))]
        for _ in range(count):
            used = {name for change in changes for name in family(change.name)}
            groups = [[n for n in group if n not in used] for group in (present, absent, [*placed])]
            shares = np.array([0.4, 0.4, 0.2]) * [bool(group) for group in groups]
            if not shares.any():
                break
            kind = int(self.rng.choice(3, p=shares / shares.sum()))
            name = self.pick(groups[kind])
            if kind == 0:
                act = mode if listed else modes[int(self.rng.integers(2))]
                changes.append(self._removal(name, act, listed))
            elif kind == 1:
                changes.append(self._addition(name, listed, pool if spoil else None))
            else:
                word = self.word(name, self.claims(name))
                changes.append(Change("side", name, word, "left" if placed[name] == "right" else "right"))
        return changes

    def _removal(self, name: str, act: Literal["deny", "drop"], listed: bool) -> Change:
        claims = self.claims(name)
        sides = {side for line in claims for side in claimed_sides(line, name)}
        side = None
        partly = len(sides) == 2 and not listed and all(len(claimed_sides(line, name)) == 1 for line in claims)
        if partly or (len(sides) == 1 and not listed and self.rng.random() < 0.5):
            side = self.pick(sorted(sides))
        word = self.word(name, claims)
        sentence = ""
        if act == "deny":
            sentence = f"There is no {side} {name.lower()}." if side else self.clues[name].get("negative", "")
        return Change("drop" if partly else act, name, word, side, "" if partly else sentence, partly)

    def _addition(self, name: str, listed: bool, pool: Pool | None) -> Change:
        if pool and (sentence := pool(name, 1)):
            return Change("add", name, self.word(name, [sentence]), one_side([sentence]), sentence)
        word = self.word(name)
        side = self.pick(("left", "right")) if name in WORDS["sided"] and self.rng.random() < 0.5 else None
        if listed or (bare(word) == name.lower() and not side):
            return Change("add", name, word, None, self.general_claim(name))
        return Change("add", name, word, side, f"There is {with_side(word, side)}.")

    def general_claim(self, name: str) -> str:
        """ "There is <name>.", with an article where the name takes one; else the clue's own sentence."""
        spoken = (word for word in WORDS["names"].get(name, ()) if _ARTICLE.match(word) and bare(word) == name.lower())
        return next((f"There is {word}." for word in spoken), self.clues[name]["positive"])

    def undone(self, change: Change) -> Change:
        """What to ask of the changed report to have the true one again."""
        if change.act == "add":
            return replace(change, act="deny" if self.read[change.name] == 0 else "drop")
        if change.act == "side":
            return replace(change, side="left" if change.side == "right" else "right")
        claims = [
            line
            for line in self.claims(change.name)
            if not change.partly or change.side in claimed_sides(line, change.name)
        ]
        side = change.side if change.partly else one_side(claims)
        word = self.word(change.name, claims)
        return Change("add", change.name, word, side if change.partly or self.rng.random() < 0.5 else None)


def name_of(name: str, claims: Sequence[str], rng: np.random.Generator) -> str:
    """A name of a finding, with its article. That of sentences which claim it is one that they all use, or the general
    one: a nodule is not called a mass."""
    words = WORDS["names"].get(name, [name.lower()])
    if claims:
        said = {says(line).words.get(name) for line in claims}
        words = [words[0], *(word for word in words[1:] if said == {bare(word)})]
    return words[int(rng.integers(len(words)))]


def bare(word: str) -> str:
    """A name without its article: "an effusion" -> "effusion"."""
    return _ARTICLE.sub(lambda match: "other " if match[0] == "another " else "", word, count=1)


def with_side(word: str, side: str | None) -> str:
    """ "an effusion", "left" -> "a left effusion"."""
    if side is None:
        return word
    article = _ARTICLE.match(word)
    return f"{article[0].replace('an ', 'a ') if article else ''}{side} {_ARTICLE.sub('', word)}"


def _list_request(changes: Sequence[Change]) -> str | None:
    """RaDialog's request, where it says all that is asked: alone it denies, beside an addition it takes out."""
    added = [change.name for change in changes if change.act == "add"]
    removed = [change for change in changes if change.act != "add"]
    if any(change.partly or change.act != ("drop" if added else "deny") for change in removed):
        return None
    return correction_request(added, [change.name for change in removed])


def _free_request(changes: Sequence[Change], rng: np.random.Generator) -> str:
    """The changes in a user's words."""
    words = WORDS["requests"]

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    def say(change: Change) -> str:
        side = change.side
        if change.act == "side":
            old = "left" if side == "right" else "right"
            return pick(words["side"]).format(x=bare(change.word), new=side, old=old)
        if side and rng.random() < 0.5:
            a = f"{change.word} on the {side}"
            return pick(words[change.act]).format(a=a, x=bare(a))
        a = with_side(change.word, side)
        return pick(words[change.act]).format(a=a, x=bare(a))

    joint = pick(words["between"])
    said = [say(change) for change in changes]
    if joint == ". ":
        said = [part[0].upper() + part[1:] for part in said]
    text = joint.join(said)
    return " ".join(filter(None, (pick(words["before"]), text[0].upper() + text[1:] + ".", pick(words["after"]))))
