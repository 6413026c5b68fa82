# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""Where a finding is on the frontal image, in boxes: as evidence shows it, without training, and as a model writes it.

A sentence is followed by its boxes: "There is a left effusion. [61 70 88 93]", left, top, right and bottom in 100 x 100
bins of the square that the model sees, as MAIRA-2 has it. MAIRA-2 adds 200 tokens for them. Here they are digits and
brackets, two digits a number, which every tokenizer has: new tokens would change each tokenizer, and LoRA, which leaves
the embeddings as they are, could not learn them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from .findings_trrg import FINDING_WORDS, finding_of, stated, states
from .image_processing_trrg import Placement
from .sentences_trrg import cut_sentences

BINS = 100
MOST_BOXES = 32
"""Of a text; a model that repeats itself writes more."""
_BRACKETS = re.compile(r"\s*\[([\d\s,.;-]{0,40}(?:\]|\Z))")
_BOX = re.compile(r"\s*(\d\d?)[\s,]+(\d\d?)[\s,]+(\d\d?)[\s,]+(\d\d?)\s*\]")

HALF = 0.5
"""Of the way from a map's median to its peak: what is above it around the peak is the box."""
SECOND_PEAK = 0.8
"""Of the same way: a second place as high as that gets a box too."""
MOST_PLACES = 2
FINE = 4
"""Cells of a patch's side, between which evidence is interpolated."""

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in fractions of the square that the model sees."""


@dataclass(frozen=True)
class FindingBox:
    """Where a finding is, in whole pixels of the first view's file, which is the frontal one.

    Attributes:
        finding: name of the clue; of a text the finding that the sentence states, or the sentence.
        x, y, w, h: the upper left corner, width and height.
        source: "evidence", from a clue's map, or "text", as the model wrote it.
    """

    finding: str
    x: int
    y: int
    w: int
    h: int
    source: Literal["evidence", "text"]


class GroundedSentence(NamedTuple):
    """A sentence and its boxes."""

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


def evidence_boxes(evidence: np.ndarray, frontal: Placement) -> list[Corners]:
    """The boxes of a map `[h, w]`: around what is connected to its peak, and to a second one nearly as high."""
    size = [side * FINE for side in evidence.shape]
    cells = torch.from_numpy(np.ascontiguousarray(evidence, dtype=np.float32))[None, None]
    fine = torch.nn.functional.interpolate(cells, size, mode="bilinear", align_corners=False)[0, 0].numpy()
    left, top, width, height = (
        edge / frontal.size for edge in frontal.box_on_square((0, 0, frontal.width, frontal.height))
    )
    rows, columns = ((np.arange(side) + 0.5) / side for side in size)
    inside = ((rows >= top) & (rows < top + height))[:, None] & (columns >= left) & (columns < left + width)
    low = np.median(fine[inside])
    high = fine[inside].max()
    if not high > low:
        return []
    strength = np.where(inside, (fine - low) / (high - low), -np.inf)
    strong, found = strength >= HALF, []
    for _ in range(MOST_PLACES):
        peak = np.unravel_index(strength.argmax(), strength.shape)
        if strength[peak] < SECOND_PEAK:
            break
        place = _connected(strong, peak)
        (y, to_y), (x, to_x) = (np.flatnonzero(place.any(axis))[[0, -1]] for axis in (1, 0))
        found.append((x / size[1], y / size[0], (to_x + 1) / size[1], (to_y + 1) / size[0]))
        strength[place] = -np.inf
    return found


def _connected(mask: np.ndarray, start: Any) -> np.ndarray:
    """The cells of a mask `[h, w]` that are reached from one of them, side by side."""
    reached, before = np.zeros_like(mask), 0
    reached[start] = True
    while (count := int(reached.sum())) > before:
        before = count
        grown = np.pad(reached, 1)
        reached = mask & (reached | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:])
    return reached


def clue_boxes(clue: Any, frontal: Placement) -> list[FindingBox]:
    """The boxes of a clue, with `name` and `evidence` `[V, h, w]`, on the first view."""
    return [
        box
        for corners in evidence_boxes(clue.evidence[0], frontal)
        for box in _on_image(clue.name, corners, frontal, "evidence")
    ]


def finding_boxes(
    text: str, clues: Sequence[Any], grounded: Sequence[GroundedSentence], frontal: Placement | None
) -> list[FindingBox]:
    """The boxes of the selected clues whose finding a report states, and of the sentences that a model wrote with
    boxes. A finding whose side was selected too has the boxes of that side alone.

    Args:
        text: of the report.
        clues: with `name`, `selected` and `evidence` `[V, h, w]` or None.
        frontal: None where no image was seen: no boxes.
    """
    if frontal is None:
        return []
    seen = [clue for clue in clues if clue.selected and clue.evidence is not None]
    shown = [clue for clue in seen if stated(text, finding_of(clue.name))]
    told_by_side = {finding_of(clue.name) for clue in shown if finding_of(clue.name) != clue.name}
    found = [box for clue in shown if clue.name not in told_by_side for box in clue_boxes(clue, frontal)]
    names = dict.fromkeys([*FINDING_WORDS, *(finding_of(clue.name) for clue in clues)])
    for sentence, boxes in grounded:
        said = {name: states(sentence, name) for name in names}
        claimed = [name for name, value in said.items() if value]
        if claimed or False not in said.values():  # a denied finding has no place
            for finding in claimed or [sentence]:
                found += [box for corners in boxes for box in _on_image(finding, corners, frontal, "text")]
    return found


def _on_image(
    finding: str, corners: Corners, frontal: Placement, source: Literal["evidence", "text"]
) -> Iterator[FindingBox]:
    """The box in whole pixels of the radiograph, cut at its border, a pixel at least; none where it is beyond."""
    left, top, right, bottom = (edge * frontal.size for edge in corners)
    x, y, w, h = frontal.box_on_image((left, top, right - left, bottom - top))
    if x < frontal.width and y < frontal.height and x + w > 0 and y + h > 0:
        x, to_x = _pixels(x, x + w, frontal.width)
        y, to_y = _pixels(y, y + h, frontal.height)
        yield FindingBox(finding, x, y, to_x - x, to_y - y, source)


def _pixels(low: float, high: float, side: int) -> tuple[int, int]:
    first = min(max(round(low), 0), side - 1)
    return first, min(max(round(high), first + 1), side)
