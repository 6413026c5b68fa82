"""Images that are no DICOM: every source, every refusal, the square, and evidence back on the radiograph."""

import io
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from processing_trrg import Radiograph, RadiographError, TRRGImageProcessor, list_views, read_radiograph, stretch
from processing_trrg.image_processing_trrg import Placement, content_box
from tests.helpers.deep_png import chunk
from tests.helpers.tiny_processors import picture_bytes, radiograph

GREY = radiograph()
EXPECTED = (GREY / 255).astype(np.float32)
RGB = np.repeat(GREY[..., None], 3, axis=2)


def grey_of(source) -> np.ndarray:
    """Stretched from the smallest to the largest value."""
    return stretch(*read_radiograph(source), "min_max")


def refusal(source) -> str:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(source)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------------- sources


def test_every_source_of_one_radiograph_gives_the_same_pixels(tmp_path: Path):
    path = tmp_path / "view.png"
    path.write_bytes(picture_bytes(GREY))
    alpha = np.concatenate([RGB, np.full_like(GREY, 255)[..., None]], axis=2)
    sources = [
        path, str(path), path.read_bytes(), bytearray(path.read_bytes()),
        Image.fromarray(GREY), Image.fromarray(RGB), Image.fromarray(alpha), Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY).convert("LA"), Image.fromarray(GREY.astype(np.int32)), Image.fromarray(EXPECTED * 9),
        GREY, RGB, RGB.transpose(2, 0, 1), GREY[None], GREY[..., None], GREY.astype(np.int64) - 100, GREY / 255,
        GREY.astype(np.float16), torch.from_numpy(GREY), torch.from_numpy(RGB / 9).permute(2, 0, 1).requires_grad_(),
        picture_bytes(GREY.astype(np.uint16) * 257), picture_bytes(GREY.astype(np.uint16)),
    ]  # fmt: skip
    for source in sources:
        grey = grey_of(source)
        assert grey.dtype == np.float32 and grey.shape == GREY.shape
        np.testing.assert_allclose(grey, EXPECTED, atol=2e-3, err_msg=str(type(source)))


def test_jpeg_and_bfloat16_read_nearly_the_same():
    assert np.abs(grey_of(picture_bytes(GREY, "JPEG", quality=95)) - EXPECTED).max() < 0.05
    assert np.abs(grey_of(torch.from_numpy(EXPECTED).bfloat16()) - EXPECTED).max() < 0.01


def test_a_rotated_jpeg_is_shown_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned = grey_of(picture_bytes(GREY, "JPEG", quality=95, exif=exif))
    assert turned.shape == (48, 64) and np.abs(turned - np.rot90(EXPECTED, -1)).max() < 0.05


def test_the_kind_of_a_file_is_its_content_not_its_name(tmp_path: Path):
    (tmp_path / "view.txt").write_bytes(picture_bytes(GREY))
    np.testing.assert_allclose(grey_of(tmp_path / "view.txt"), EXPECTED, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_files_that_are_no_image_name_themselves(tmp_path: Path):
    files = {
        "text.png": b"no image",
        "empty.png": b"",
        "cut.png": picture_bytes(GREY)[:700],
        "pickle.png": b"\x80\x04.",
    }
    files["cut.jpg"] = picture_bytes(GREY, "JPEG")[:500]
    reasons = {"text.png": "neither", "empty.png": "empty", "cut.png": "cut short", "pickle.png": "neither"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: ") and reasons.get(name, "cut short") in message
    assert "No such file" in refusal(tmp_path / "missing.png")
    for special in (tmp_path, "/dev/zero"):
        assert f"{special}: not a file" in refusal(special)
    with pytest.raises(RadiographError, match="cannot open the folder: No such file"):
        list_views(tmp_path / "missing")
    assert "only local files are read" in refusal("view\0.png")
    assert "no file name can have" in refusal("view\ud800.png")


def test_a_colon_in_a_name_makes_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("p10:view.png").write_bytes(picture_bytes(GREY))
    assert np.array_equal(read_radiograph("p10:view.png").values, GREY)


KINDS = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {}),
    "with restarts": ("JPEG", {"restart_marker_rows": 1}),
    "progressive": ("JPEG", {"progressive": True}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("careless", [False, True])
def test_a_picture_cut_anywhere_is_refused(kind: str, end: bytes, careless: bool, monkeypatch: pytest.MonkeyPatch):
    """Also where someone closed a cut JPEG with an end marker, so that its decoder fills it up with grey, and where
    another library told Pillow to read cut files."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", careless and kind != "progressive")
    data = picture_bytes(radiograph(200, 160), KINDS[kind][0], **KINDS[kind][1])
    assert read_radiograph(data).values.shape == (200, 160)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        assert "cut short" in refusal(data[: int(share * len(data))] + end)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_claims_more_than_it_holds_is_refused(kind: str, colours: int):
    """What the decoder does not reach stays black in a PNG, and becomes grey in a JPEG."""
    data = bytearray(picture_bytes(GREY if colours == 1 else RGB, KINDS[kind][0], **KINDS[kind][1]))
    for height, width in ((64 + 24, 48), (2000, 2000)):
        if kind == "png":
            width = 48 if height < 100 else width
            data[16:24] = struct.pack(">II", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        else:
            start = next(match.start() for match in re.finditer(b"\xff[\xc0\xc2]\0", data))
            data[start + 5 : start + 9] = struct.pack(">HH", height, width)
        assert "cut short" in refusal(bytes(data))


def test_a_last_row_of_any_grey_is_no_cut():
    for grey in (0, 127, 128):
        even = GREY.copy()
        even[-16:] = grey
        for pixels in (even, np.repeat(even[..., None], 3, axis=2)):
            assert np.array_equal(read_radiograph(picture_bytes(pixels)).values, even)
            for progressive in (False, True):
                read_radiograph(picture_bytes(pixels, "JPEG", progressive=progressive))


def test_parts_that_change_no_pixel_are_neither_read_nor_counted_for_ever():
    data = picture_bytes(GREY)
    bomb = chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(10**6)))
    assert np.array_equal(read_radiograph(data[:33] + 1000 * bomb + data[33:]).values, GREY)  # a gigabyte, inflated
    assert "more than 65,536 parts" in refusal(data[:33] + 70_000 * chunk(b"tEXt", b"a\0b") + data[33:])
    jpeg = picture_bytes(GREY, "JPEG")
    assert "more than 65,536 parts" in refusal(jpeg[:2] + 70_000 * b"\xff\xfe\0\2" + jpeg[2:])
    progressive = picture_bytes(GREY, "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    assert "301 scans, at most 20" in refusal(progressive[:last] + 296 * progressive[last:-2] + b"\xff\xd9")


def test_the_second_picture_of_a_phone_is_left_out():
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(255 - GREY[:40])])
    first = np.asarray(Image.open(buffer))
    assert np.array_equal(read_radiograph(buffer.getvalue()).values, first)
    assert np.array_equal(read_radiograph(Image.open(buffer)).values, first)


def test_grey_stored_as_colours_takes_no_copies():
    """numpy's memory beside Pillow's own: 4 MB as a picture in colour, in floats 33 MB a copy."""
    data = picture_bytes(np.repeat(radiograph(1024, 1024)[..., None], 4, axis=2) | np.uint8([0, 0, 0, 255]))
    tracemalloc.start()
    try:
        assert read_radiograph(data).values.dtype == np.uint8
        assert tracemalloc.get_traced_memory()[1] < 2 * 4 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_png_has_one_head_and_starts_with_it():
    data = picture_bytes(GREY)
    assert "damaged at its start" in refusal(data[:8] + chunk(b"tEXt", b"a\0b") + data[8:])
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
    assert np.array_equal(read_radiograph(data[:33] + second + data[33:]).values, GREY)


def noise(height: int = 64, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [
        noise(), noise(512, 400), noise() / 255, noise().astype(np.uint16) * 257,
        np.random.default_rng(0).normal(0, 1, (300, 300)), np.pad(noise(), 8), noise() // 200 * 255,
    ],
)  # fmt: skip
def test_noise_is_refused(pixels: np.ndarray):
    assert "the pixels are noise" in refusal(pixels)
    if pixels.dtype == np.uint8:
        assert "noise" in refusal(picture_bytes(pixels, "JPEG", quality=60))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [8e307, 1e-290])
def test_noise_is_told_from_radiographs_in_any_unit(scale: float):
    assert "the pixels are noise" in refusal((noise() / 127.5 - 1) * scale)
    signed = (EXPECTED.astype(np.float64) * 2 - 1) * scale
    assert np.array_equal(read_radiograph(signed).values, signed)
    np.testing.assert_allclose(grey_of(signed), EXPECTED, atol=1e-3)


def test_no_real_radiograph_is_taken_for_noise_or_blank(data_dir: Path):
    for folder in ("nih", "nih_128", "jsrt", "wingspan_ctr", "covid_notes", "vqa_rad", "iu_xray"):
        files = sorted((data_dir / folder / "images").iterdir())
        for file in files[:: 1 + len(files) // 40]:
            read_radiograph(file)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((1, 1)), "1 x 1 pixels, at least 32"),
        (picture_bytes(np.zeros((1, 1), np.uint8)), "1 x 1 pixels, at least 32"),
        (GREY[:31], "48 x 31 pixels"),
        (np.broadcast_to(np.uint8(0), (9000, 9000)), "9000 x 9000 pixels, at most 67,108,864"),
        (np.full((64, 64), 7), "same value"),
        (np.pad(np.full((9, 9), 200), 90), "99.7% of the pixels have the same value"),
        (radiograph(100, 401), "401 x 100 pixels; the longer side"),
        (radiograph(401, 100), "100 x 401 pixels; the longer side"),
        (picture_bytes(np.full((64, 64), 7, np.uint8)), "same value"),
        (np.where(GREY > 250, np.nan, GREY), "NaN or infinite"),
        (np.where(GREY > 250, -np.inf, GREY), "NaN or infinite"),
        ((GREY / 127.5 - 1) * 1.7e308, "from -1.7e+308 to 1.7e+308: nothing can be computed"),
        (GREY.astype(complex), "complex128"),
        (GREY > 99, "integers or floats, got bool"),
        (np.array([["a"] * 64] * 64), "integers or floats"),
        (np.zeros((2, 64, 64)), "1 or 3 channels"),
        (np.zeros((1, 1, 64, 64)), "1 or 3 channels"),
        (np.zeros(64), "expected an array"),
        (np.zeros((0, 0)), "0 x 0 pixels"),
        (Image.fromarray(GREY).convert("1"), "mode '1'"),
        (Image.fromarray(RGB).convert("CMYK"), "mode 'CMYK'"),
        (Image.fromarray(np.dstack([RGB, GREY])), "partly transparent"),
        (7, "got int"),
        ({"path": "view.png"}, "got dict"),
    ],
)
def test_what_is_no_radiograph_is_refused_with_its_reason(source, reason: str):
    assert reason in refusal(source)


def test_a_huge_png_is_refused_before_it_is_decoded():
    header = bytearray(picture_bytes(GREY))
    header[16:24] = (50_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    assert "pixels" in refusal(bytes(header))


def test_an_animation_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    assert "2 frames" in refusal(buffer.getvalue())


def test_a_colour_photo_is_refused_and_a_coloured_marker_is_not():
    photo = np.stack([radiograph(seed=seed) for seed in range(3)], axis=2)
    assert "coloured: a radiograph is grey" in refusal(photo)
    assert "coloured" in refusal(picture_bytes(photo, "JPEG"))
    marked = RGB.copy()
    marked[2:6, 2:6] = (0, 255, 0)
    assert read_radiograph(marked).values.shape == GREY.shape


def test_a_folder_gives_its_views_by_name(tmp_path: Path):
    with pytest.raises(RadiographError, match="holds no image"):
        list_views(tmp_path)
    for name in ("b.png", "a.png", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    assert [path.name for path in list_views(tmp_path)] == ["a.png", "b.png"]


# ----------------------------------------------------------------------------------------------------------- the square


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (64, 64), (37, 200), (500, 33)])
def test_the_aspect_ratio_is_kept_and_the_rest_is_air(shape: tuple[int, int]):
    processor = TRRGImageProcessor(size=56)
    white = np.ones(shape, np.float32)
    white[0, 0] = 0
    square = processor.square(Radiograph(white))
    top, left, height, width = content_box(*shape, 56)
    inside = np.zeros((56, 56), np.uint8)
    inside[top : top + height, left : left + width] = 255
    assert np.abs(square.astype(int) - inside)[top + 3 :].max() <= 1 and not square[inside == 0].any()
    assert Placement(*shape, 56).box_on_square((0, 0, shape[1], shape[0])) == pytest.approx((left, top, width, height))
    assert max(height, width) == 56 and abs(height / width - shape[0] / shape[1]) < 0.5 * max(shape) / 56


def test_a_fine_pattern_does_not_alias():
    stripes = np.tile(np.array([0, 1], np.float32), (512, 256))
    assert np.abs(TRRGImageProcessor(size=64).square(Radiograph(stripes)) / 255 - 0.5).max() < 0.05


def test_pixels_are_the_squares_less_the_mean_over_the_deviation():
    processor = TRRGImageProcessor(size=64, image_mean=[0.5, 0.4, 0.0], image_std=[0.5, 0.2, 1.0])
    square = processor.square(Radiograph(GREY))
    pixels = processor.normalise(square[None])
    assert torch.equal(pixels, processor.preprocess([GREY])["pixel_values"]) and pixels.shape == (1, 3, 64, 64)
    grey = square / 255
    np.testing.assert_allclose(pixels[0], [(grey - 0.5) / 0.5, (grey - 0.4) / 0.2, grey], atol=1e-6)


@pytest.mark.parametrize("square", [np.zeros((64, 64), np.float32), np.zeros((63, 64), np.uint8)])
def test_what_is_no_square_of_the_processor_is_refused(square: np.ndarray):
    with pytest.raises(ValueError, match=r"squares: expected uint8 \[n, 64, 64\], got"):
        TRRGImageProcessor(size=64).normalise(square[None])


def test_evidence_lands_on_the_place_it_was_seen_and_not_on_padding():
    processor = TRRGImageProcessor(size=64)
    for height, width, row, column in [(200, 100, 150, 25), (100, 200, 20, 170), (128, 128, 10, 10)]:
        radiograph_with_spot = np.zeros((height, width), np.float32)
        radiograph_with_spot[row - 8 : row + 8, column - 8 : column + 8] = 1
        seen = processor.preprocess([radiograph_with_spot])["pixel_values"][0, 0].reshape(8, 8, 8, 8).mean((1, 3))
        found = processor.evidence_on_image(seen.numpy(), height, width)
        assert found.shape == (height, width)
        peak = np.unravel_index(found.argmax(), found.shape)
        assert abs(peak[0] - row) <= height / 8 and abs(peak[1] - column) <= width / 8
    only_padding = np.zeros((8, 8), np.float32)
    only_padding[:, :2] = only_padding[:, 6:] = 1  # of a radiograph twice as high as wide
    on_image = processor.evidence_on_image(only_padding, 200, 100)
    assert on_image[:, 15:85].max() == 0 and on_image.shape == (200, 100)


@pytest.mark.parametrize("fields", [{"size": 0}, {"size": "224"}, {"image_std": [1, 1, 0]}, {"image_mean": [0.5]}])
def test_illegal_settings_are_refused(fields: dict):
    with pytest.raises(ValueError, match="expected"):
        TRRGImageProcessor(**fields)
