"""Which grey values become black and white: what is burned in moves nothing else, and the unit does not matter."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing_trrg import TRRGImageProcessor, read_radiograph, stretch
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import radiograph
from training.measure.grey_levels import burn, letter, name_box
from training.phantoms.generate import generate_phantom

WHITE, BLACK_FRAME, BLACK_BOX = 6, 16, 28
"""Most that a pixel elsewhere may move, of 255 levels: by a white letter or frame, by a black frame, by a black box
beyond what hiding its place moves."""


@pytest.fixture(params=["phantoms", "nih", "jsrt", "wingspan_ctr"])
def pictures(request, data_dir_or_none: Path | None) -> list[np.ndarray]:
    """Phantoms, and real X-rays where they are."""
    if request.param == "phantoms":
        return [generate_phantom(3, index, 224).image for index in range(25)]
    if data_dir_or_none is None:
        pytest.skip("no real data; set TRRG_DATA to run this test")
    files = sorted((data_dir_or_none / request.param / "images").iterdir())
    return [np.asarray(Image.open(file).convert("L")) for file in files[:: len(files) // 25]]


def moved(before: np.ndarray, after: np.ndarray, but: np.ndarray | bool = False) -> float:
    """Most that a pixel moves, of 255 levels."""
    return float((255 * np.abs(after - before))[~np.broadcast_to(but, before.shape)].max())


def percentiles(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    return stretch(values, valid, "percentiles")


def test_a_letter_of_full_brightness_moves_nothing_else(pictures):
    for picture in pictures:
        mark = letter(picture.shape)
        assert moved(percentiles(picture), percentiles(burn(picture, mark, 255)), mark) <= WHITE


def test_a_frame_moves_nothing_inside(pictures):
    for picture in pictures:
        width = round(0.03 * len(picture))
        for grey, most in ((255, WHITE), (0, BLACK_FRAME)):
            framed = np.pad(picture, width, constant_values=grey)
            assert moved(percentiles(picture), percentiles(framed)[width:-width, width:-width]) <= most


def test_a_black_box_over_a_name_moves_what_padding_in_its_place_would(pictures):
    moves, beyond = [], []
    for picture in pictures:
        box = name_box(picture.shape)
        covered = percentiles(burn(picture, box, 0))
        moves.append(moved(percentiles(picture), covered, box))
        beyond.append(moved(percentiles(picture, valid=~box), covered, box))
    assert np.median(moves) <= 4 and np.median(beyond) <= 1 and max(beyond) <= BLACK_BOX


def test_one_letter_takes_the_range_of_min_max(pictures):
    """What the rule "percentiles" is for, and what is left of a picture that was never brighter than half."""
    picture = pictures[0] // 2
    marked = burn(picture, letter(picture.shape), 255)
    assert moved(stretch(picture, None, "min_max"), stretch(marked, None, "min_max"), letter(picture.shape)) > 120


@pytest.mark.parametrize("grey_range", ["percentiles", "min_max"])
def test_unit_type_order_and_polarity_do_not_matter(grey_range):
    grey = radiograph(top=200)
    expected = stretch(grey, None, grey_range)
    assert expected.dtype == np.float32 and expected.min() == 0 and expected.max() == 1
    wide = grey.astype(np.int16)
    for same in (grey.astype("u2"), wide - 100, wide * 150 - 15_000, grey * 257.0 - 3, grey / 7, grey.astype("i8")):
        np.testing.assert_allclose(stretch(same, None, grey_range), expected, atol=2e-5, err_msg=str(same.dtype))
    for negative in (~grey, ~wide):
        np.testing.assert_allclose(stretch(negative, None, grey_range), 1 - expected, atol=1e-6)
    np.testing.assert_allclose(stretch(-(grey / 7), None, grey_range), 1 - expected, atol=2e-5)
    order = np.random.default_rng(0).permutation(grey.size)
    shuffled = stretch(grey.ravel()[order].reshape(grey.shape), None, grey_range)
    assert np.array_equal(shuffled.ravel(), expected.ravel()[order])


@pytest.mark.parametrize("grey_range", ["percentiles", "min_max"])
@pytest.mark.parametrize("padding", [-30_000, 30_000, 57.5])
def test_padding_is_black_and_counts_for_nothing(grey_range, padding):
    for grey in (radiograph().astype(np.int16) if padding != 57.5 else radiograph() / 3, radiograph() / 3.0):
        framed = np.pad(grey, 9, constant_values=padding)
        valid = np.pad(np.ones(grey.shape, bool), 9)
        stretched = stretch(framed, valid, grey_range)
        assert np.array_equal(stretched[9:-9, 9:-9], stretch(grey, None, grey_range)) and (stretched[~valid] == 0).all()


def test_the_range_can_be_done_in_the_head():
    """Levels 0 to 255 once each: 0, 1, 254 and 255 are ends, then 2, 3, 252 and 253. One in 200 of the 248 pixels left
    is 1.24 pixels, which the second on either side exceeds: 5 and 250."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(percentiles(ramp).ravel(), np.clip((np.arange(256) - 5) / (250 - 5), 0, 1), atol=1e-6)
    spots = np.full((64, 64), 7, np.uint8)
    spots[3:5, 3:5] = 20
    assert np.array_equal(percentiles(spots), (spots == 20).astype(np.float32))  # no percentiles: smallest to largest


def test_a_dicom_window_that_clips_is_kept_and_a_wider_one_is_narrowed(pictures):
    for picture in pictures[:9]:
        low, high = (float(level) for level in np.percentile(picture, (10, 80)))
        clipped = dicom_dataset(picture, WindowCenter=(low + high) / 2 + 0.5, WindowWidth=high - low + 1)
        view = read_radiograph(dicom_bytes(clipped))
        assert moved(stretch(*view, "min_max"), stretch(*view, "percentiles")) <= 0.08 * 255
        wide = read_radiograph(dicom_bytes(dicom_dataset(picture, WindowCenter=128, WindowWidth=1000)))
        np.testing.assert_allclose(stretch(*wide, "percentiles"), percentiles(picture), atol=1e-3)


def test_a_saved_processor_keeps_its_rule_and_an_old_one_the_rule_it_had(tmp_path: Path):
    TRRGImageProcessor(size=40).save_pretrained(tmp_path)
    assert TRRGImageProcessor.from_pretrained(tmp_path).grey_range == "percentiles"
    file = tmp_path / "preprocessor_config.json"
    saved = json.loads(file.read_text())
    del saved["grey_range"]
    file.write_text(json.dumps(saved))
    assert TRRGImageProcessor.from_pretrained(tmp_path).grey_range == "min_max"
    with pytest.raises(ValueError, match="grey_range: expected one of percentiles, min_max, got 'equalise'"):
        TRRGImageProcessor(grey_range="equalise")
