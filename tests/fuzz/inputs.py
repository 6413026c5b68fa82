"""Where hostile inputs come from: real files and texts of every kind, and edits of them. All inputs are bytes."""

import functools
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydicom.data import get_testdata_files

from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset, jpeg_baseline, jpeg_lossless
from tests.helpers.tiny_processors import picture_bytes, radiograph

MAX_SEED = 200_000  # bytes; pydicom's larger files add time and no kind
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([2**63, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WORDS = (
    "no", "not", "without", "effusion", "pneumothorax", "pneumonia", "?pneumonia", "cannot be excluded", "left",
    "right", "bilateral", "normal", "heart", "lungs are clear", "opacity", "versus", "or", "and", ",", ".", ";", ":",
    "(N)", "1.", "FINDINGS:", "IMPRESSION:", "Findings\n", "COMPARISON: ___.", "increased", "unchanged", "5 mm",
    "3.4 x 2 cm", "XXXX", "\r\n", "\n\n", "\t", "\u00a0", "\u2028", "\ufeff", "\ud800", "\x00", "<image>", "</s>",
    "e\u0301", "\u202e", "ß",
)  # fmt: skip


@functools.cache
def own_seeds() -> list[bytes]:
    """PNG, JPEG and DICOM of each kind; all can be read."""
    eight, sixteen = radiograph(), radiograph(top=65535)
    colour = np.stack([eight, eight // 2, 255 - eight], -1)
    seeds = [picture_bytes(eight), picture_bytes(sixteen), picture_bytes(colour), dicom_bytes(dicom_dataset(sixteen))]
    seeds += [picture_bytes(eight, "JPEG", quality=80), picture_bytes(colour, "JPEG", progressive=True, quality=90)]
    seeds.append(picture_bytes(np.dstack([colour, eight])))
    seeds += [dicom_bytes(jpeg_baseline(eight)), dicom_bytes(jpeg_lossless(eight, 8))]
    palette, buffer, notes = Image.fromarray(eight).convert("P"), io.BytesIO(), PngImagePlugin.PngInfo()
    notes.add_text("Comment", "x" * 200, zip=True)
    palette.save(buffer, "PNG", transparency=3, pnginfo=notes)
    return [*seeds, buffer.getvalue()]


@functools.cache
def pydicom_seeds() -> list[bytes]:
    """pydicom's own test files, called radiographs, so that their pixels are read too."""
    files = [Path(name) for name in sorted(get_testdata_files())]
    seeds = [file.read_bytes() for file in files if file.is_file() and file.stat().st_size < MAX_SEED]
    return [re.sub(rb"(\x08\x00\x60\x00CS\x02\x00)..", rb"\1CR", seed) for seed in seeds]


def _edited(seed: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    data = bytearray(seed)
    for kind, place, new in edits:
        # half of the places lie among the first 1,024 bytes, where headers are
        reach = min(len(data), 1024) if place < 0.5 else len(data)
        at = int(place * 2 % 1 * reach)
        if kind == "cut":
            del data[at:]
        elif kind == "remove":
            del data[at : at + 4 * len(new)]
        elif kind == "insert":
            data[at:at] = new * 8
        else:
            data[at : at + len(new)] = new
    return bytes(data)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "remove", "insert", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=4)
        | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff", b"\xff\xd9"]),
    ),
    max_size=4,
)


def pictures() -> st.SearchStrategy[bytes]:
    """Picture files with a few edits."""
    return st.builds(_edited, st.sampled_from(own_seeds()) | st.sampled_from(pydicom_seeds()), EDITS)


def texts() -> st.SearchStrategy[bytes]:
    """Reports out of radiologists' words, headings, odd characters and noise, as UTF-8 with lone surrogates kept."""
    word = st.sampled_from(WORDS) | st.text(max_size=6)
    joined = st.builds(lambda words, between: between.join(words), st.lists(word, max_size=40), st.sampled_from(" \n"))
    return joined.map(lambda text: text.encode("utf-8", "surrogatepass"))


def changed(valid: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """JSON of `valid` with some fields, at any depth, replaced, removed or added."""
    paths = st.sampled_from(sorted(_paths(valid)))
    changes = st.lists(st.tuples(paths, st.booleans(), JSON), max_size=4)
    return st.builds(lambda made: json.dumps(_with(valid, made)).encode(), changes)


def _paths(value: Any, above: tuple = ()) -> set[tuple]:
    found = {above} if above else set()
    for name, inner in value.items() if isinstance(value, dict) else ():
        found |= _paths(inner, (*above, name))
    return found


def _with(valid: dict[str, Any], changes: list[tuple[tuple, bool, Any]]) -> Any:
    result = json.loads(json.dumps(valid))
    for path, remove, value in changes:
        place = result
        for name in path[:-1]:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(path[-1], None) if remove else place.update({path[-1]: value})
    return result


def files(folder: Path) -> st.SearchStrategy[bytes]:
    """One file of `folder` with a few edits: its name, a line end, its bytes."""
    found = (file for file in folder.rglob("*") if file.suffix != ".py" and file.is_file())
    names = sorted(str(file.relative_to(folder)) for file in found)
    edited = {name: st.builds(_edited, st.just((folder / name).read_bytes()), EDITS) for name in names}
    return st.sampled_from(names).flatmap(lambda name: edited[name].map(lambda data: name.encode() + b"\n" + data))
