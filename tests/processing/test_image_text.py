"""Images as text: `data:` URIs and base64, in calls and in chats; and what is no image or lies on a network."""

import base64
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from processing_trrg import RadiographError, StudyError, image_trrg, read_radiograph
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor

GREY = radiograph(48, 40, seed=4)
FILE = picture_bytes(GREY)
TEXT = base64.b64encode(FILE).decode()
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "lines": lambda text: "\n".join(text[start : start + 76] for start in range(0, len(text), 76)),
    "uri": lambda text: f"data:image/png;base64,{text}",
    "charset": lambda text: f"DATA:image/png;charset=utf-8;BASE64,{text}",
    "no type": lambda text: f"data:;base64,{text}",
    "wrong type": lambda text: f"data:image/jpeg;base64,{text}",
}


@pytest.mark.parametrize("form", FORMS)
def test_base64_is_read_like_the_file(form: str):
    for data in (FILE, picture_bytes(GREY, "JPEG"), picture_bytes(radiograph(400, 300, 60_000))):
        text = FORMS[form](base64.b64encode(data).decode())
        assert np.array_equal(read_radiograph(text).values, read_radiograph(data).values)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": FORMS["uri"](TEXT)},
        {"type": "image", "base64": TEXT},
        {"type": "image", "image": FORMS["uri"](TEXT)},
        {"type": "image_url", "image_url": {"url": FORMS["uri"](TEXT)}},
        {"type": "image_url", "image_url": FORMS["uri"](TEXT)},
    ],
)
def test_in_a_chat(part: dict):
    processor = tiny_processor()
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What is seen?"}]}]
    batch = processor.apply_chat_template(messages, tokenize=True, return_dict=True, add_generation_prompt=True)
    assert torch.equal(batch["pixel_values"], processor(images=GREY)["pixel_values"])
    for images in (TEXT, [TEXT], [[FORMS["uri"](TEXT)]]):
        assert torch.equal(processor(images=images)["pixel_values"], batch["pixel_values"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("data:image/svg+xml,<svg/>", r"image: expected a data: URI in base64"),
        ("data:", "expected a data: URI in base64"),
        ("data:image/png;base64,", "image: the file is empty"),
        ("data:image/png;base64,####", "damaged or cut short base64"),
        ("data:image/png;base64,caf\u00e9", "damaged or cut short base64"),
        (FORMS["uri"](TEXT[:-7]), "damaged or cut short base64"),
        (FORMS["uri"](TEXT[: len(TEXT) // 8 * 4]), "cut short"),
        (FORMS["uri"](base64.b64encode(b"no picture at all" * 30).decode()), "neither a PNG, a JPEG nor a DICOM"),
        ("A" * 9000, "neither a PNG"),
        ("A" * 250 + ".png", "cannot open the file|damaged"),
        ("https://hospital.example/a.png?size=1", "a URL, and nothing is fetched.*load_image"),
        ("HTTP://hospital.example/a.png", "a URL"),
        ("s3://bucket/a.png", "a URL"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(source: str, reason: str):
    with pytest.raises(RadiographError, match=reason) as caught:
        read_radiograph(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_long_text_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_trrg, "MAX_BYTES", len(FILE))
    assert np.array_equal(read_radiograph(FORMS["uri"](TEXT)).values, GREY)
    monkeypatch.setattr(image_trrg, "MAX_BYTES", len(FILE) - 8)
    for source in (FORMS["uri"](TEXT), TEXT):
        with pytest.raises(RadiographError, match="characters of base64, at most"):
            read_radiograph(source)


def test_a_text_of_200_mb_is_refused_by_its_length():
    start = time.perf_counter()
    with pytest.raises(RadiographError, match="200,000,000 characters of base64, at most 142,606,336 bytes"):
        read_radiograph("data:image/png;base64," + "A" * 200_000_000)
    assert time.perf_counter() - start < 2


def test_a_long_text_that_is_no_image_costs_seconds_at_most():
    start = time.perf_counter()
    with pytest.raises(RadiographError, match="neither a PNG"):
        read_radiograph("data:image/png;base64," + "QUJD" * 12_500_000)
    assert time.perf_counter() - start < 10


def test_a_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ("A" * 120)).write_bytes(FILE)
    assert np.array_equal(read_radiograph("A" * 120).values, GREY)


def test_the_bad_view_of_a_chat_is_named_without_its_text():
    processor = tiny_processor()
    content = [{"type": "image", "url": "data:image/png;base64,QUJD"}, {"type": "text", "text": "?"}]
    with pytest.raises(StudyError, match=r"^study 0: view 0: neither a PNG"):
        processor.apply_chat_template([{"role": "user", "content": content}], tokenize=True)
