"""A table of DICOM elements and the pixels they give, worked out by hand from the standard, one row an element.

The stored picture is a ramp of columns, 0 10 20 ... 630 in each of 64 rows (as 8 bits 0 1 2 ... 63), so that the value
of any pixel is seen at once. Windows are written so that their ends are round: the linear window of centre c and width
w shows (c - 0.5) - (w - 1) / 2 to (c - 0.5) + (w - 1) / 2 (PS3.3 C.11.2.1.2.1).
"""

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import JPEG2000Lossless

from processing_trrg import RadiographError, read_radiograph, stretch
from tests.helpers.tiny_dicom import PATIENT, dicom_bytes, dicom_dataset, jpeg_lossless, with_stream, with_value

COLUMN = np.arange(64)
RAMP = np.tile(10 * COLUMN, (64, 1)).astype(np.uint16)
SMALL = np.tile(COLUMN, (64, 1)).astype(np.uint8)
SIGNED = (RAMP.astype(np.int16) - 300).astype(np.int16)  # -300 to 330


def clipped(values, low, high) -> np.ndarray:
    return (np.clip(values, low, high) - low) / (high - low)


def lut(descriptor: list[int], data, descriptor_vr: str = "US", data_vr: str = "US") -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", descriptor_vr, descriptor)
    item.add_new("LUTData", data_vr, data)
    return [item]


RISING = clipped(COLUMN, 0, 63)
BENT = clipped(COLUMN, 0, 31)
SQUARES = [entry * entry for entry in range(64)]
WINDOW = {"WindowCenter": 155.5, "WindowWidth": 311}  # of the ramp 0 to 310, columns 0 to 31

TABLE = {
    # name: (stored pixels, elements, grey of each column between black 0 and white 1)
    "no element": (RAMP, {}, RISING),
    "MONOCHROME1: the smallest is white": (RAMP, {"PhotometricInterpretation": "MONOCHROME1"}, 1 - RISING),
    "in small letters, as dcmtk reads it": (RAMP, {"PhotometricInterpretation": "monochrome1"}, 1 - RISING),
    "SamplesPerPixel can only be 1": (RAMP, {"SamplesPerPixel": None}, RISING),
    "a window": (RAMP, WINDOW, BENT),
    "a negative slope turns the values, not the window": (
        # value = -10 s + 3000; window 2,450 to 2,990 of the values 3,000 down to 2,370: columns 55 to 1
        SMALL, {"RescaleSlope": -10, "RescaleIntercept": 3000, "WindowCenter": 2720.5, "WindowWidth": 541},
        clipped(3000 - 10 * COLUMN, 2450, 2990),
    ),
    "a negative slope and MONOCHROME1": (
        SMALL, {"RescaleSlope": -10, "RescaleIntercept": 3000, "PhotometricInterpretation": "MONOCHROME1"}, RISING,
    ),
    "a slope without an intercept is none": (RAMP, {"RescaleSlope": -10}, RISING),
    "empty rescaling": (RAMP, {"RescaleSlope": "", "RescaleIntercept": ""}, RISING),
    "an empty function is linear": (RAMP, {**WINDOW, "VOILUTFunction": ""}, BENT),
    "LINEAR_EXACT": (RAMP, {"WindowCenter": 155, "WindowWidth": 310, "VOILUTFunction": "LINEAR_EXACT"}, BENT),
    "LINEAR_EXACT of less than 1": (
        RAMP, {"WindowCenter": 300.25, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}, COLUMN > 30,
    ),
    "a window of 1 is a step": (RAMP, {"WindowCenter": 300.5, "WindowWidth": 1}, COLUMN > 30),
    "SIGMOID": (
        RAMP, {"WindowCenter": 315, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
        clipped(1 / (1 + np.exp(-4 * (10 * COLUMN - 315) / 100)), 1 / (1 + np.exp(12.6)), 1 / (1 + np.exp(-12.6))),
    ),
    "a window without a centre is none": (RAMP, {"WindowWidth": 311}, RISING),
    "an empty centre is none": (RAMP, {"WindowCenter": "", "WindowWidth": 311}, RISING),
    "the first of two windows": (RAMP, {"WindowCenter": [155.5, 9], "WindowWidth": [311, 2]}, BENT),
    "a VOI LUT goes before a window": (
        SMALL, {**WINDOW, "VOILUTSequence": lut([64, 0, 16], SQUARES)}, clipped(COLUMN**2, 0, 63**2),
    ),
    "an empty LUT sequence is none": (RAMP, {**WINDOW, "VOILUTSequence": []}, BENT),
    "a LUT that starts later gives its first entry before": (
        SMALL, {"VOILUTSequence": lut([32, 32, 16], SQUARES[:32])}, clipped(np.maximum(COLUMN - 32, 0) ** 2, 0, 31**2),
    ),
    "a LUT of signed values, written unsigned": (
        SIGNED, {"VOILUTSequence": lut([601, 2**16 - 300, 16], list(range(601)))}, clipped(10 * COLUMN, 0, 600),
    ),
    "a LUT of values beyond 8 bits with entries of 8 bits": (
        RAMP, {"VOILUTSequence": lut([256, 200, 8], list(range(256)))}, clipped(10 * COLUMN, 200, 455),
    ),
    "two entries of 8 bits in a word": (
        SMALL, {"VOILUTSequence": lut([64, 0, 8], bytes(range(63, -1, -1)), data_vr="OW")}, 1 - RISING,
    ),
    "a modality LUT before a window": (
        # the squares 0 to 3,969; the window ends at 900, the square of 30
        SMALL, {"ModalityLUTSequence": lut([64, 0, 16], SQUARES), "WindowCenter": 450.5, "WindowWidth": 901},
        clipped(COLUMN**2, 0, 900),
    ),
    "signed values": (SIGNED, {}, RISING),
    "signed MONOCHROME1": (SIGNED, {"PhotometricInterpretation": "MONOCHROME1"}, 1 - RISING),
}  # fmt: skip


def grey_of(data: bytes) -> np.ndarray:
    return stretch(*read_radiograph(data, name="view.dcm"), "min_max")


def refusal(data: bytes) -> str:
    with pytest.raises(RadiographError, match=r"^view\.dcm: ") as caught:
        grey_of(data)
    assert PATIENT not in str(caught.value) and "damaged" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", TABLE)
def test_pixels_by_hand(name: str):
    stored, elements, expected = TABLE[name]
    grey = grey_of(dicom_bytes(dicom_dataset(stored, **elements)))
    np.testing.assert_allclose(grey, np.tile(expected, (64, 1)), atol=2e-4)


# ------------------------------------------------------------------------------------------------ padding and geometry


@pytest.mark.parametrize(
    ("stored", "vr", "padding"),
    [
        (SIGNED, "US", struct.pack("<H", 2**16 - 2000)),
        (SIGNED, "SS", struct.pack("<h", -2000)),
        (RAMP, "SS", struct.pack("<h", -5536)),  # 60,000
        (RAMP, "US", struct.pack("<H", 60_000)),
    ],
)
def test_padding_of_either_sign_is_air_and_does_not_set_the_scale(stored: np.ndarray, vr: str, padding: bytes):
    padded = stored.copy()
    padded[:8] = np.frombuffer(padding, stored.dtype)[0]
    expected = np.vstack([np.zeros((8, 64)), np.tile(RISING, (56, 1))])
    data = with_value(dicom_dataset(padded), "PixelPaddingValue", vr, padding)
    np.testing.assert_allclose(grey_of(data), expected, atol=1e-4)
    empty_limit = with_value(
        pydicom.dcmread(io.BytesIO(data)), "PixelPaddingRangeLimit", vr, b""
    )  # an empty element is an absent one
    np.testing.assert_allclose(grey_of(empty_limit), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("elements", "shape"),
    [
        ({"PixelAspectRatio": [1, 2]}, (64, 128)),  # twice as wide as high
        ({"PixelSpacing": [0.2, 0.1]}, (128, 64)),
        ({"ImagerPixelSpacing": [0.1, 0.15]}, (64, 96)),
        ({"PixelSpacing": [0.1, 0.1], "PixelAspectRatio": [1, 2]}, (64, 64)),  # the spacing goes before
        ({"PixelSpacing": [0, 0], "NominalScannedPixelSpacing": [0.1, 0.2]}, (64, 128)),  # 0 is unknown
        ({"PixelSpacing": [0.143, 0.1431]}, (64, 64)),
        ({"PixelSpacing": ""}, (64, 64)),
    ],
)
def test_pixels_that_are_not_square_are_resampled(elements: dict, shape: tuple[int, int]):
    padded = RAMP.copy()
    padded[:8] = 4095
    values, valid = read_radiograph(dicom_bytes(dicom_dataset(padded, PixelPaddingValue=4095, **elements)))
    assert values.shape == valid.shape == shape
    assert np.array_equal(values[-1], 10 * ((np.arange(shape[1]) + 0.5) * 64 // shape[1]))
    assert np.array_equal(valid, np.repeat((np.arange(shape[0]) + 0.5) * 64 // shape[0] >= 8, shape[1]).reshape(shape))


# ------------------------------------------------------------------------------------------------- compressed streams


@pytest.mark.parametrize("pixels", [SIGNED, (SMALL.astype(np.int16) - 30).astype(np.int8), SMALL * 4, RAMP * 100])
def test_the_sign_of_a_jpeg_2000_stream_counts_and_not_the_header(pixels: np.ndarray):
    dataset = dicom_dataset(pixels)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.PixelRepresentation = 1 - dataset.PixelRepresentation
    assert np.array_equal(read_radiograph(dicom_bytes(dataset)).values, pixels)


def test_a_stream_of_more_bits_than_the_header_says_is_not_wrapped_round():
    dataset = jpeg_lossless(RAMP, bits=12)
    dataset.BitsStored, dataset.HighBit = 9, 8  # 630 does not fit
    assert np.array_equal(read_radiograph(dicom_bytes(dataset)).values, RAMP)


@pytest.mark.parametrize("frames", [None, 1])
@pytest.mark.parametrize("offsets", [True, False])
def test_more_frames_than_the_header_says_are_not_decoded(frames: int | None, offsets: bool):
    dataset = jpeg_lossless(RAMP, bits=12)
    stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([stream] * 3, has_bot=offsets)
    if frames:
        dataset.NumberOfFrames = frames
    assert np.array_equal(read_radiograph(dicom_bytes(dataset)).values, RAMP)


def test_fill_bytes_before_a_marker_are_skipped():
    dataset = jpeg_lossless(RAMP, bits=12)
    stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    filled = stream.replace(b"\xff\xc3", b"\xff\xff\xff\xc3", 1)
    data = dicom_bytes(with_stream(dicom_dataset(RAMP, 12), filled, dataset.file_meta.TransferSyntaxUID))
    assert np.array_equal(read_radiograph(data).values, RAMP)


# ------------------------------------------------------------------------------------------- files without their head


@pytest.mark.parametrize("preamble", [b"", b"\0" * 128 + b"DICM"])
@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_preamble_or_transfer_syntax_is_read(preamble: bytes, implicit: bool, little: bool):
    dataset = dicom_dataset(RAMP)
    dataset.file_meta, dataset.preamble = FileMetaDataset(), None
    dataset.PixelData = RAMP.astype("<u2" if little else ">u2").tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    assert np.array_equal(read_radiograph(preamble + buffer.getvalue()).values, RAMP)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"WindowCenter": 9, "WindowWidth": 0}, "WindowWidth is 0, expected 1 or more"),
        ({"WindowCenter": 9, "WindowWidth": 0.5}, "WindowWidth is 0.5, expected 1 or more"),
        ({"WindowCenter": 9, "WindowWidth": -100}, "WindowWidth is -100, expected 1 or more"),
        ({"WindowCenter": 9, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, "WindowWidth is 0, expected more than 0"),
        ({**WINDOW, "VOILUTFunction": "SAMPLED_SIGMOID"}, "VOILUTFunction is SAMPLED_SIGMOID, expected one of LINEAR"),
        ({**WINDOW, "VOILUTFunction": PATIENT}, "VOILUTFunction is no code that DICOM defines"),
        ({"RescaleSlope": 0, "RescaleIntercept": 9}, "RescaleSlope is 0"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation is missing, expected MONOCHROME1 or"),
        ({"PhotometricInterpretation": PATIENT}, "PhotometricInterpretation is no code that DICOM defines"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "a colour DICOM (YBR_FULL)"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel is 3, expected 1"),
        ({"PixelRepresentation": None}, "PixelRepresentation is missing, expected 0 or 1"),
        ({"PixelRepresentation": 5}, "PixelRepresentation is 5, expected 0 or 1"),
        ({"BitsStored": None}, "BitsStored is missing, expected 8 to 16"),
        ({"BitsAllocated": None}, "BitsAllocated is missing, expected 8 or 16"),
        ({"Rows": None}, "Rows is missing, expected a number of pixels"),
        ({"VOILUTSequence": lut([64, 0, 16], SQUARES[:9])}, "LUTData has 18 bytes, LUTDescriptor says 64 entries"),
        ({"VOILUTSequence": lut([64, 0], SQUARES)}, "LUTDescriptor has 2 values, expected 3"),
        ({"PixelAspectRatio": [1, 100]}, "at most 4 times"),
        ({"Modality": "MG"}, "its modality is MG"),
    ],
)
def test_an_element_that_cannot_be_is_named_with_what_it_should_be(elements: dict, reason: str):
    assert reason in refusal(dicom_bytes(dicom_dataset(SMALL, **elements)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"2O48", "'2O48'"), (b"40,9", "'40,9'"), (PATIENT.encode(), "not a number"), (b"Doe 1950", "not a number")],
)
def test_a_window_that_is_no_number_is_shown_only_if_it_cannot_be_a_name(value: bytes, shown: str):
    data = with_value(dicom_dataset(SMALL, WindowCenter=9), "WindowWidth", "DS", value)
    assert f"WindowWidth is {shown}, expected a number" in refusal(data)


@pytest.mark.parametrize("name", ["Rows", "Columns", "BitsAllocated", "PixelRepresentation", "BitsStored"])
def test_a_whole_number_written_as_a_decimal_is_read(name: str):
    value = str(dicom_dataset(SMALL)[name].value).encode().ljust(2)
    assert np.array_equal(read_radiograph(with_value(dicom_dataset(SMALL), name, "DS", value)).values, SMALL)


def test_an_unknown_transfer_syntax_is_named_as_far_as_dicom_defines_it():
    dataset = dicom_dataset(SMALL)
    for uid, shown in (("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.3.4.5", "no UID that DICOM defines")):
        compressed = with_stream(dataset, b"\xff\xd8\xff\xd9", uid)
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, compressed, implicit_vr=False, little_endian=True)
        message = refusal(buffer.getvalue())
        assert "TransferSyntaxUID is" in message and shown in message and "1.2.3" not in message
    del compressed.file_meta.TransferSyntaxUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, compressed, implicit_vr=False, little_endian=True)
    assert "TransferSyntaxUID is missing, and the pixels are compressed" in refusal(buffer.getvalue())
