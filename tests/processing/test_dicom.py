"""DICOM: polarity, LUTs and windows, bits and signs, compressed syntaxes, refusals, and nothing said of the patient."""

import logging
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from processing_trrg import RadiographError, read_radiograph, stretch
from tests.helpers.tiny_dicom import (
    PATIENT,
    dicom_bytes,
    dicom_dataset,
    jpeg_baseline,
    jpeg_lossless,
    with_stream,
    with_value,
)
from tests.helpers.tiny_processors import picture_bytes, radiograph

EIGHT, TWELVE = radiograph(), radiograph(top=4095)


def grey_of(source) -> np.ndarray:
    """Stretched from the smallest to the largest value that is not padding."""
    return stretch(*read_radiograph(source, name="view.dcm"), "min_max")


def read(dataset: pydicom.Dataset) -> np.ndarray:
    return grey_of(dicom_bytes(dataset))


def refusal(dataset: pydicom.Dataset) -> str:
    return refusal_of(dicom_bytes(dataset))


def refusal_of(data: bytes) -> str:
    with pytest.raises(RadiographError, match=r"^view\.dcm: ") as caught:
        grey_of(data)
    assert PATIENT not in str(caught.value) and caught.value.__cause__ is None
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------ polarity


def test_both_polarities_of_one_radiograph_give_the_same_pixels():
    ordinary = read(dicom_dataset(TWELVE, bits=12))
    inverted = read(dicom_dataset((4095 - TWELVE).astype(np.uint16), bits=12, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(ordinary, inverted)


def test_a_real_radiograph_in_both_polarities_gives_the_same_pixels(data_dir: Path):
    source = pydicom.dcmread(data_dir / "dicom" / "monochrome2.dcm")
    stored = source.pixel_array
    inverted = dicom_dataset(255 - stored, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(grey_of(data_dir / "dicom" / "monochrome2.dcm"), read(inverted))


def test_the_shipped_pair_differs_in_its_polarity_tag_only_so_it_reads_as_negatives(data_dir: Path):
    """monochrome1.dcm is monochrome2.dcm byte for byte, but for one digit of its header: the same *stored* values,
    which the standard shows as negatives of each other. Ignoring the tag would make these two equal, and every true
    MONOCHROME1 file wrong."""
    one, two = (data_dir / "dicom" / f"monochrome{digit}.dcm" for digit in (1, 2))
    different = [pair for pair in zip(one.read_bytes(), two.read_bytes(), strict=True) if pair[0] != pair[1]]
    assert different == [(ord("1"), ord("2"))]
    np.testing.assert_allclose(grey_of(one), 1 - grey_of(two), atol=1e-6)


# ------------------------------------------------------------------------------------------------- grey values and bits


def test_the_same_radiograph_as_png_array_and_dicom_gives_the_same_pixels():
    expected = (TWELVE / 4095).astype(np.float32)
    for source in (TWELVE, TWELVE * 7.5 - 3, picture_bytes(TWELVE), dicom_bytes(dicom_dataset(TWELVE, bits=12))):
        np.testing.assert_allclose(grey_of(source), expected, atol=1e-5)


@pytest.mark.parametrize("bits", range(8, 17))
def test_every_depth_from_8_to_16_bits_reads(bits: int):
    pixels = radiograph(top=2**bits - 1)
    np.testing.assert_allclose(read(dicom_dataset(pixels, bits)), pixels / (2**bits - 1), atol=1e-6)


def test_signed_values_and_dirt_in_the_unused_bits():
    signed = TWELVE.astype(np.int16) - 2048
    np.testing.assert_allclose(read(dicom_dataset(signed, bits=12)), TWELVE / 4095, atol=1e-6)
    dirty = (signed.view(np.uint16) & 0x0FFF) | 0xA000
    np.testing.assert_allclose(read(dicom_dataset(dirty.view(np.int16), bits=12)), TWELVE / 4095, atol=1e-6)
    np.testing.assert_allclose(read(dicom_dataset(TWELVE | 0xF000, bits=12)), TWELVE / 4095, atol=1e-6)


def test_the_modality_lut_comes_before_the_window():
    rescaled = dicom_dataset(TWELVE, bits=12, RescaleSlope=2, RescaleIntercept=-1000)
    rescaled.WindowCenter, rescaled.WindowWidth = 1000.5, 2001  # 0 to 2000 after rescaling: 500 to 1500 stored
    expected = np.clip((TWELVE.astype(float) - 500) / 1000, 0, 1)
    np.testing.assert_allclose(read(rescaled), expected, atol=1e-3)


def test_the_first_of_several_windows_is_used_and_clips():
    dataset = dicom_dataset(TWELVE, bits=12, WindowCenter=[1000.5, 3000], WindowWidth=[1001, 10])
    expected = np.clip((TWELVE.astype(float) - 500) / 1000, 0, 1)
    np.testing.assert_allclose(read(dataset), expected, atol=1e-3)


def test_a_voi_lut_is_applied_and_goes_before_a_window():
    lut = Dataset()
    lut.LUTDescriptor = [256, 0, 16]
    lut.add_new("LUTData", "US", [round(65535 * (value / 255) ** 2) for value in range(256)])
    dataset = dicom_dataset(EIGHT, WindowCenter=10, WindowWidth=2)
    dataset.VOILUTSequence = [lut]
    np.testing.assert_allclose(read(dataset), (EIGHT / 255) ** 2, atol=1e-3)


def test_padding_is_air_in_both_polarities_and_does_not_set_the_scale():
    padded = radiograph(top=4000)
    inside = (padded[10:].astype(float) - padded[10:].min()) / (padded[10:].max() - padded[10:].min())
    padded[:10] = 4095
    for polarity in ("MONOCHROME2", "MONOCHROME1"):
        grey = read(dicom_dataset(padded, 12, PhotometricInterpretation=polarity, PixelPaddingValue=4095))
        assert (grey[:10] == 0).all()
        np.testing.assert_allclose(grey[10:], inside if polarity == "MONOCHROME2" else 1 - inside, atol=1e-6)


def test_a_padding_range_is_padding():
    padded = TWELVE.copy()
    padded[:10] = np.arange(4000, 4010)[:, None]
    padded[10:] = np.minimum(padded[10:], 3000)
    grey = read(dicom_dataset(padded, 12, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095))
    assert (grey[:10] == 0).all() and grey[10:].max() == 1


# -------------------------------------------------------------------------------------------------- compressed syntaxes


def test_lossless_syntaxes_give_the_uncompressed_pixels():
    expected = read(dicom_dataset(TWELVE, bits=12))
    for syntax in (JPEG2000Lossless, RLELossless):
        dataset = dicom_dataset(TWELVE, bits=12)
        dataset.compress(syntax, generate_instance_uid=False)
        assert np.array_equal(read(dataset), expected), syntax.name
    assert np.array_equal(read(jpeg_lossless(TWELVE, bits=12)), expected)


def test_lossy_jpeg_and_jpeg_2000_read():
    lossy = dicom_dataset(TWELVE, bits=12)
    lossy.compress(JPEG2000, j2k_cr=[8], generate_instance_uid=False)
    assert np.abs(read(lossy) - TWELVE / 4095).max() < 0.05
    assert np.abs(read(jpeg_baseline(EIGHT)) - EIGHT / 255).max() < 0.05


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_jpeg_ls_and_big_endian_files_of_pydicom_give_the_uncompressed_pixels(name: str):
    datasets = [pydicom.dcmread(get_testdata_file(file, download=False)) for file in ("MR_small.dcm", name)]
    for dataset in datasets:
        dataset.Modality = "CR"  # they are MR images: only the decoding is of interest here
    assert np.array_equal(read(datasets[0]), read(datasets[1]))


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG"])
def test_projection_radiographs_are_read(modality: str):
    assert read(dicom_dataset(EIGHT, Modality=modality)).shape == EIGHT.shape


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "OT", "MG"])
def test_another_modality_is_refused_by_name(modality: str):
    assert f"its modality is {modality}, expected one of CR, DX" in refusal(dicom_dataset(EIGHT, Modality=modality))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": None}, "modality is missing"),
        ({"Modality": PATIENT}, "modality is missing or not legal"),
        ({"Modality": "ZANZIBAR"}, "modality is missing or not legal"),
        ({"PixelData": None}, "holds no pixels"),
        ({"PixelData": b""}, "holds no pixels"),
        ({"PixelData": EIGHT.tobytes()[:-500]}, "cut short: 2,572 bytes of 3,072"),
        ({"NumberOfFrames": 3}, "multi-frame DICOM (3 frames)"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour DICOM"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour DICOM"),
        ({"BitsAllocated": 32}, "expected 8 to 16 bits"),
        ({"BitsStored": 7}, "expected 8 to 16 bits"),
        ({"HighBit": 6}, "highest bit of 8 is 6, expected 7"),
        ({"Rows": 1, "Columns": 1}, "1 x 1 pixels, at least 32"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 pixels, at most"),
        ({"WindowCenter": 30_000, "WindowWidth": 2}, "same value"),
        ({"PixelPaddingValue": 7, "PixelData": bytes([7]) * EIGHT.size}, "every pixel is padding"),
        ({"PixelData": bytes([7]) * EIGHT.size}, "same value"),
    ],
)
def test_what_is_no_radiograph_is_refused_with_its_reason(tags: dict, reason: str):
    assert reason in refusal(dicom_dataset(EIGHT, **tags))


@pytest.mark.parametrize("digits", [1, 1200])
def test_a_deflated_file_is_refused_before_it_inflates(digits: int, monkeypatch: pytest.MonkeyPatch):
    """However far a long element of the file meta pushes the transfer syntax."""
    dataset = dicom_dataset(EIGHT)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPInstanceUID = "1." + "2" * digits
    data = dicom_bytes(dataset)
    monkeypatch.setattr("pydicom.filereader.zlib.decompress", lambda *_: pytest.fail("inflated"))
    assert "deflated" in refusal_of(data)


def test_a_header_of_millions_of_elements_is_bounded():
    data = dicom_bytes(dicom_dataset(EIGHT))
    start = data.index(b"\x08\0\x60\0CS")
    many = b"\x08\0\x01\0LO\0\0" * 300_000
    assert "more than 200,000 parts" in refusal_of(data[:start] + many + data[start:])
    wide = with_value(dicom_dataset(EIGHT, WindowCenter=9), "WindowWidth", "UN", b"1\\" * (2**20 + 1))
    assert "WindowWidth has 2,097,154 bytes" in refusal_of(wide)


@pytest.mark.filterwarnings("error")
def test_a_file_cut_anywhere_is_refused():
    compressed = dicom_dataset(TWELVE, bits=12)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    for dataset in (dicom_dataset(TWELVE, bits=12), jpeg_baseline(EIGHT), jpeg_lossless(TWELVE, 12), compressed):
        data = dicom_bytes(dataset)
        for share in (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99):
            if len(cut := data[: int(share * len(data))]) > 132:
                assert "cut short" in refusal_of(cut)


def test_a_compressed_picture_of_too_few_bits_is_refused_before_it_is_decoded():
    for dataset, marker in ((jpeg_baseline(EIGHT), b"\xff\xc0"), (jpeg_lossless(TWELVE, 12), b"\xff\xc3")):
        stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        start = stream.index(marker) + 5
        stream = stream[:start] + struct.pack(">HH", 8191, 8191) + stream[start + 4 :]
        claims = with_stream(dicom_dataset(EIGHT, dataset.BitsStored), stream, dataset.file_meta.TransferSyntaxUID)
        claims.Rows = claims.Columns = 8191
        claims.BitsAllocated = 16
        assert "cut short" in refusal(claims)


def test_our_own_faults_are_not_called_damage(monkeypatch: pytest.MonkeyPatch):
    def fault(*_):
        raise TypeError("a fault of ours")

    for name, source in (("dicom_trrg._show", dicom_bytes(dicom_dataset(EIGHT))),
                         ("dicom_trrg.check_header", dicom_bytes(dicom_dataset(EIGHT))),
                         ("picture_trrg._plain_png", picture_bytes(EIGHT)),
                         ("image_trrg._grey_of_picture", picture_bytes(EIGHT))):  # fmt: skip
        with monkeypatch.context() as patch, pytest.raises(TypeError, match="a fault of ours"):
            patch.setattr(f"processing_trrg.{name}", fault)
            read_radiograph(source)


@pytest.mark.parametrize("kind", ["jpeg", "jpeg 2000"])
def test_a_stream_larger_than_its_header_is_refused_before_it_is_decoded(kind: str):
    if kind == "jpeg":
        dataset = jpeg_baseline(EIGHT)
        stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        stream = stream.replace(struct.pack(">HH", *EIGHT.shape), struct.pack(">HH", 60_000, 60_000), 1)
    else:
        dataset = dicom_dataset(EIGHT)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        stream = stream.replace(struct.pack(">II", *EIGHT.shape[::-1]), struct.pack(">II", 60_000, 60_000), 1)
    bomb = with_stream(dataset, stream, dataset.file_meta.TransferSyntaxUID)
    assert "60000 x 60000 of 1 components, the header says 48 x 64" in refusal(bomb)


@pytest.mark.parametrize("name", ["Rows", "PixelPaddingValue", "PixelData"])
@pytest.mark.parametrize(("kind", "value"), [("US", b"123"), ("Oz", b""), ("UL", b"1")])
def test_an_element_of_a_wrong_kind_or_length_is_refused(name: str, kind: str, value: bytes):
    data = with_value(dicom_dataset(EIGHT), name, kind, value)
    with pytest.raises(RadiographError):
        grey_of(data)


def test_random_damage_is_read_or_refused_and_never_names_the_patient(caplog: pytest.LogCaptureFixture):
    compressed = dicom_dataset(TWELVE, bits=12)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    files = [dicom_bytes(dataset) for dataset in (dicom_dataset(EIGHT), jpeg_baseline(EIGHT), compressed)]
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        for trial in range(300):
            damaged = bytearray(files[trial % len(files)])
            for position in rng.integers(0, min(len(damaged), 900), 4):
                damaged[position] = rng.integers(256)
            try:
                grey = grey_of(bytes(damaged))
            except RadiographError as error:
                assert PATIENT not in str(error)
            else:
                assert np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1
    assert not [text for text in [*caplog.messages, *(str(warning.message) for warning in caught)] if PATIENT in text]


def grown(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(32, axis=0).repeat(24, axis=1)


WINDOW = {"WindowCenter": 900, "WindowWidth": 1700}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("tags", [
    {}, WINDOW, {"RescaleSlope": "0.3", "RescaleIntercept": "-7"}, {"PixelPaddingValue": 17},
    WINDOW | {"VOILUTFunction": "SIGMOID", "RescaleSlope": "-1.7", "RescaleIntercept": "5"},
])  # fmt: skip
def test_a_large_picture_has_the_values_of_its_small_parts(tags: dict, polarity: str, signed: bool):
    """Of a large one each possible value is computed once, of a small one each pixel; whatever the unused bits hold."""
    clean = TWELVE.astype(np.int16) - 2048 if signed else TWELVE
    tags = tags | {"PhotometricInterpretation": polarity}
    large = grown(clean)  # 4.7 MB; the small one has fewer pixels than there are values
    other_bits = large ^ np.array(0x7000, clean.dtype)
    small = read_radiograph(dicom_bytes(dicom_dataset(clean, 12, **tags)))
    for pixels in (large, other_bits):
        read = read_radiograph(dicom_bytes(dicom_dataset(pixels, 12, **tags)))
        assert read.values.dtype == small.values.dtype
        assert np.array_equal(read.values, grown(small.values))
        assert read.valid is None or np.array_equal(read.valid, grown(small.valid))
    whole = dicom_bytes(dicom_dataset(large, 12, **tags))
    assert "cut short: 4,718,492 bytes of 4,718,592" in refusal_of(whole[:-100])


def cut(dataset: pydicom.Dataset, share: float) -> bytes:
    """The file with its compressed pixels cut short and closed with an end marker."""
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return dicom_bytes(
        with_stream(dataset, stream[: int(share * len(stream))] + b"\xff\xd9", dataset.file_meta.TransferSyntaxUID)
    )


SMOOTH = radiograph(200, 160)


@pytest.mark.parametrize(
    "kind", ["baseline", "restarts", "progressive", "lossless", "lossless of 12 bits", "JPEG 2000"]
)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.97])
def test_a_stream_that_was_cut_and_closed_is_refused(kind: str, share: float):
    """Its decoder fills the picture up with grey, or with the last value, and says nothing."""
    options = {"restarts": {"restart_marker_rows": 1}, "progressive": {"progressive": True}}.get(kind, {})
    if kind == "JPEG 2000":
        dataset = pydicom.dcmread(get_testdata_file("J2K_pixelrep_mismatch.dcm"))
        dataset.Modality = "CR"
    elif kind.startswith("lossless"):
        twelve = radiograph(200, 160, top=4095)
        dataset = jpeg_lossless(twelve, 12) if kind.endswith("bits") else jpeg_lossless(SMOOTH, 8)
    else:
        dataset = with_stream(dicom_dataset(SMOOTH), picture_bytes(SMOOTH, "JPEG", **options), JPEGBaseline8Bit)
    read(dataset)
    assert "cut short" in refusal_of(cut(dataset, share))


@pytest.mark.parametrize("rows", [1, 2, 3, 20, 100])
@pytest.mark.parametrize("value", [0, 93, 255])
def test_a_lossless_picture_that_ends_in_one_value_is_no_cut(rows: int, value: int):
    pixels = SMOOTH.copy()
    pixels[-rows:] = value
    assert np.array_equal(read_radiograph(dicom_bytes(jpeg_lossless(pixels, 8))).values, pixels)


def test_many_threads_leave_warnings_and_settings_as_they_were():
    data, before = dicom_bytes(dicom_dataset(EIGHT)), list(warnings.filters)
    mode = pydicom.config.settings.reading_validation_mode
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(read_radiograph, [data] * 400))) == 400
    assert warnings.filters == before and pydicom.config.settings.reading_validation_mode == mode


@pytest.mark.parametrize("sizes", [["1e300", "1e-300"], ["1e-300", "1e300"]])
def test_pixels_of_a_size_that_cannot_be_are_refused(sizes: list[str]):
    assert "the pixels are" in refusal(dicom_dataset(EIGHT, PixelSpacing=sizes))
