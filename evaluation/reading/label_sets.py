"""Label sets of the user's own: names with their phrases in a YAML, read in a report by the labeler's own rules.

    name: icu                       # of the set; it goes into signatures
    labels:
      Tracheal tube: [endotracheal tube, ett, "tracheostom*"]
      Any tube: ["*tube", ett, chest drain]

A phrase is plain words in any case; a space also stands for a hyphen, and "*" at an end of a word for more letters.
Each name is read by itself: phrases of two names may be the same or overlap. A report is read sentence by sentence: the
word "consolidation" takes the place of the name's phrases, "opacity" that of all others, and what `label_report` says
of the consolidation is the label. So negation, doubt, history and scope are the labeler's. Over a report, present wins
over uncertain and uncertain over absent, as there. Never for clinical use.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.reading.labeler import CACHED_SENTENCES, label_report
from evaluation.reading.observations import ABSENT, PRESENT, UNCERTAIN, Labels
from evaluation.reading.sentences import split_sentences

MAX_BYTES, MAX_LABELS, MAX_PHRASES, MAX_LETTERS = 2**18, 200, 2000, 100
_NAME = re.compile(r"[^\W_](?:[\w ,()-]{0,58}[\w)])?")
_PHRASE = re.compile(r"\*?\w+\*?(?:[ -]\*?\w+\*?)*")


class LabelSet:
    """Names and phrases, checked and compiled.

    Attributes:
        name: of the set with eight digits of a hash of its content: "icu-1a2b3c4d", for signatures.
        labels: the names, in the order of the file.

    Args:
        content: `{"name": text, "labels": {name: [phrase, ...]}}`.
        where: starts the message of an error, the file for example.

    Raises:
        ValueError: `content` is anything else, or is larger than the bounds above.
    """

    def __init__(self, content: Any, where: str = "label set"):
        if not isinstance(content, dict) or content.keys() != {"name", "labels"}:
            raise ValueError(f"{where}: got {_short(content)}; expected the two keys name and labels")
        labels = content["labels"]
        _check_name(content["name"], f"{where}: name")
        if not isinstance(labels, dict) or not 1 <= len(labels) <= MAX_LABELS:
            raise ValueError(f"{where}: labels is {_short(labels)}; expected 1 to {MAX_LABELS} names with phrases")
        for label, phrases in labels.items():
            _check_name(label, f"{where}: label")
            if not isinstance(phrases, list) or not phrases:
                raise ValueError(f"{where}: label {label!r} is {_short(phrases)}; expected a list of phrases")
            for phrase in phrases:
                if not isinstance(phrase, str) or len(phrase) > MAX_LETTERS or not _PHRASE.fullmatch(phrase):
                    raise ValueError(
                        f"{where}: label {label!r}: phrase {_short(phrase)}; expected at most {MAX_LETTERS} letters "
                        'of plain words, with "*" only at an end of a word (quoted in YAML: "effus*")'
                    )
        every = [phrase for phrases in labels.values() for phrase in phrases]
        if len(every) > MAX_PHRASES:
            raise ValueError(f"{where}: {len(every)} phrases; at most {MAX_PHRASES} are read")
        digits = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:8]
        self.name = f"{content['name']}-{digits}"
        self.labels = tuple(labels)
        self._given = (content, where)
        self._every = _pattern([*every, "consol*"])  # this word as such would be read as a phrase
        self._patterns = {label: _pattern(phrases) for label, phrases in labels.items()}
        self._read = lru_cache(maxsize=CACHED_SENTENCES)(self._read_sentence)

    def __reduce__(self):
        return LabelSet, self._given

    def label(self, text: str) -> Labels:
        """The labels of a report: 1 present, 0 absent, -1 uncertain, None not mentioned."""
        result: Labels = dict.fromkeys(self.labels)
        for _, sentence in split_sentences(text):
            for name, value in self._read(sentence):
                result[name] = max(result[name], value, key=(None, ABSENT, UNCERTAIN, PRESENT).index)
        return result

    def _read_sentence(self, sentence: str) -> list[tuple[str, int | None]]:
        """What the sentence says of every name that it mentions."""
        if not self._every.search(sentence):
            return []
        found = []
        for name, pattern in self._patterns.items():
            parts = pattern.split(sentence)
            if len(parts) > 1:
                read = "consolidation".join(self._every.sub("opacity", part) for part in parts)
                found.append((name, label_report(read)["Consolidation"]))
        return found


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{where} is {_short(name)}; expected a text of at most 60 letters, digits, spaces and ,()-")


def _short(value: Any) -> str:
    """A value as an error quotes it; a container could be endless."""
    return f"{value!r:.80}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of the phrases, the longest first."""
    words = [re.sub("[ -]", "[ -]", phrase).replace("*", r"\w*") for phrase in sorted(phrases, key=len, reverse=True)]
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)


def read_label_set(path: Path) -> LabelSet:
    """The label set of a YAML file.

    Raises:
        ValueError: the file is too large, no YAML, names a key twice, or is no label set (`LabelSet`).
    """
    import yaml  # here: who reads labels without a set of their own does not need it

    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f'{path}: YAML aliases are not read; quote a phrase that starts with a star: "*tube"')
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 3:  # PyYAML takes cubic time over deep nesting
                raise ValueError(f"{path}: nested deeper than labels: name: phrases")
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        content = yaml.load(text, Loader=yaml.BaseLoader)  # every scalar is a text
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    label_set = LabelSet(content, str(path))
    assert root is not None
    for mapping in (root, *(value for _, value in root.value)):
        keys = [key.value for key, _ in mapping.value] if isinstance(mapping, yaml.MappingNode) else []
        if doubled := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"{path}: {min(doubled)!r} is doubled; expected each name once")
    return label_set
