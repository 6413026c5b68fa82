# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""Where a finding is on the frontal image, as a model writes it.

A sentence is followed by its boxes: "There is a left effusion. [61 70 88 93]", left, top, right and bottom in 100 x 100
bins of the square that the model sees, as MAIRA-2 has it. MAIRA-2 adds 200 tokens for them. Here they are digits and
brackets, two digits a number, which every tokenizer has: new tokens would change each tokenizer, and LoRA, which leaves
the embeddings as they are, could not learn them.
"""

import re
from typing import NamedTuple

from .sentences_trrg import cut_sentences

BINS = 100
MOST_BOXES = 32
"""Of a text; a model that repeats itself writes more."""
_BRACKETS = re.compile(r"\s*\[([\d\s,.;-]{0,40}(?:\]|\Z))")
_BOX = re.compile(r"\s*(\d\d?)[\s,]+(\d\d?)[\s,]+(\d\d?)[\s,]+(\d\d?)\s*\]")

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom."""


class GroundedSentence(NamedTuple):
    """A sentence and its boxes, in fractions of the square."""

    sentence: str
    boxes: tuple[Corners, ...]


def box_text(box: Corners) -> str:
    """A box in fractions of the square as text. What lies beyond the square is cut off."""
    return f"[{' '.join(f'{min(max(int(edge * BINS), 0), BINS - 1):02d}' for edge in box)}]"


def read_grounded(text: str) -> list[GroundedSentence]:
    """Text with boxes -> its sentences, each with the boxes behind it; an edge is in the middle of its bin, a box in
    one bin as wide as that. Brackets that hold no box, and boxes without a sentence, are left out."""
    parts = _BRACKETS.split(text)
    found: list[GroundedSentence] = []
    room = MOST_BOXES
    for words, brackets in zip(parts[::2], [*parts[1::2], ""], strict=True):
        found += [GroundedSentence(sentence, ()) for sentence in cut_sentences(words)]
        if room and found and (box := _read_box(brackets)) and box not in found[-1].boxes:
            found[-1] = GroundedSentence(found[-1].sentence, (*found[-1].boxes, box))
            room -= 1
    return found


def _read_box(words: str) -> Corners | None:
    box = _BOX.fullmatch(words)
    if not box:
        return None
    left, top, right, bottom = map(int, box.groups())
    if left > right or top > bottom:
        return None
    (x, to_x), (y, to_y) = _edges(left, right), _edges(top, bottom)
    return x, y, to_x, to_y


def _edges(first: int, last: int) -> tuple[float, float]:
    half = 0.5 if first < last else 0.0
    return (first + half) / BINS, (last + (half or 1.0)) / BINS
