"""One DICOM file -> grey values of one projection radiograph, air darker than bone.

The steps are those of the standard, in its order: stored values -> modality LUT or rescaling -> VOI LUT or first window
-> polarity (PS3.4 N.2), then square pixels. An empty element is an absent one. Where the standard leaves room this does
as dcmtk does; where dcmtk would guess at a value that decides about the picture, the file is refused, with the element
and what it should be. `tests/processing/test_dicom_table.py` has a file, an element and the expected pixels for each.

Nothing of the patient reaches a message: only the elements below are parsed, and of what they hold only numbers and the
codes that DICOM defines are quoted.
"""

import io
import re
import struct
import warnings
from collections.abc import Sequence

import numpy as np

from .picture_trrg import MAX_SCANS, SCAN, RadiographError, check_size, decoding, jpeg_segments

try:
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.encaps import generate_frames
    from pydicom.errors import BytesLengthException
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, UID_dictionary

    # What pydicom and its decoders raise on damaged files; caught around their calls only.
    PYDICOM_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, OSError, EOFError,
                      OverflowError, struct.error, BytesLengthException)  # fmt: skip
except ImportError:
    pydicom = None  # type: ignore[assignment]

# CR, DX and RG are DICOM's projection radiographs; DR is written by some vendors for DX. A secondary capture (NIH's
# files are such) counts when its header says one of these; "OT" (other) does not say that it is a radiograph.
RADIOGRAPH_MODALITIES = ("CR", "DX", "DR", "RG")
# Of PS3.3 C.7.3.1.1.1, retired ones included.
MODALITIES = (
    *RADIOGRAPH_MODALITIES,
    "ANN", "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CFM", "CP", "CS", "CT", "CTPROTOCOL", "DD",
    "DF", "DG", "DM", "DMS", "DOC", "DS", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID", "FS", "GM",
    "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA", "MG", "MR", "MS", "NM",
    "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN", "POS", "PR",
    "PT", "PX", "REG", "RESP", "RF", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN",
    "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "ST", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "VF", "XA",
    "XAPROTOCOL", "XC",
)  # fmt: skip
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = (
    "RGB", "HSV", "ARGB", "CMYK", "XYB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420",
    "YBR_ICT", "YBR_RCT", "PALETTE COLOR",
)  # fmt: skip
WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# The sizes of a pixel, its height first: the first that is given counts.
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
DICOM_TAGS = [
    "Modality", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelData",
    *SPACINGS,
]  # fmt: skip
MAX_READS = 200_000  # of a header; each element takes one to three
MAX_ELEMENT = 2**21  # bytes of an element other than the pixels; a LUT has 128 kB
# Of a pixel, by frame header: a code of one bit for each of lossless JPEG; for each block of 8 x 8 two codes, in a
# progressive one a code; JPEG-LS has runs.
LEAST_BITS = {0xC0: 2 / 64, 0xC1: 2 / 64, 0xC2: 1 / 64, 0xC3: 1, 0xF7: 0}
UNDEFINED_LENGTH = 0xFFFFFFFF
SQUARE = 0.01  # how far height over width of a pixel may be from 1 without resampling
WITHOUT_PREAMBLE = re.compile(rb"(?:[\x02\x08]\0..|\0\x08..)(?:[A-Z]{2}|..\0\0)", re.DOTALL)
NEARLY_A_NUMBER = re.compile(r"(?=.{1,33}$)[\d.,+\\-]*[A-Za-z]?[\d.,+\\-]*")  # with one letter no name
INSTALL = "reading DICOM needs: pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


class _BoundedReader(io.BytesIO):
    """Ends a parser that would read millions of elements, or inflate without a bound: pydicom reads without a length
    what it inflates, and nothing else."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            raise RadiographError("the deflated transfer syntax is not read")
        self.reads += 1
        if self.reads > MAX_READS:
            raise RadiographError(f"the header of the DICOM has more than {MAX_READS:,} parts")
        return super().read(size)


def is_dicom(data: bytes) -> bool:
    """Whether a file is a DICOM: it has the preamble or, as older files do, starts with an element of group 2 or 8, its
    tag followed by the kind of its value or by a small length."""
    return data[128:132] == b"DICM" or WITHOUT_PREAMBLE.match(data) is not None


def decode_dicom(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values `[H, W]` in their own unit, and which of them are not padding (None: all).

    Raises:
        RadiographError: no projection radiograph of one grey frame, damaged, cut short, deflated, or with an element
            that cannot be what it says.
        ImportError: pydicom, or the decoder of the file's transfer syntax, is not installed.
    """
    if pydicom is None:
        raise ImportError(INSTALL)
    # pydicom's warnings quote values, and in a damaged file any value may hold a name.
    with disable_value_validation(), warnings.catch_warnings(action="ignore", category=UserWarning):
        with decoding(" DICOM", PYDICOM_ERRORS):
            dataset = pydicom.dcmread(_BoundedReader(data), force=True, specific_tags=DICOM_TAGS)
        _check_header(dataset)
        with decoding(" DICOM", PYDICOM_ERRORS):
            stored = pixel_array(dataset, index=0)  # more frames than the header says are left alone
        valid = _not_padding(dataset, stored)
        values = _show(dataset, *_modality_values(dataset, stored))
        if dataset.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
            values = -values if values.dtype.kind == "f" else ~values  # of either sign, in the same bits
        return _square_pixels(dataset, values, valid)


# ------------------------------------------------------------------------------------------------------------ elements


def _raw(dataset, keyword: str):
    """An element as it stands in the file, None where it is absent."""
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        return dataset.get_item(keyword)


def _numbers(dataset, keyword: str) -> list[float]:
    """The numbers of an element, finite; none if it is absent, empty or begins with an empty value."""
    raw = _raw(dataset, keyword)
    text = raw.value if raw is not None and isinstance(raw.value, bytes) else b""
    if len(text) > MAX_ELEMENT:
        raise RadiographError(f"{keyword} has {len(text):,} bytes, at most {MAX_ELEMENT:,} are read")
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if not values or values[0] in (None, "", b""):
            return []
        numbers = [float(number) for number in values]
    except PYDICOM_ERRORS:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        shown = text.decode("latin-1").strip(" \0")
        shown = repr(shown) if NEARLY_A_NUMBER.fullmatch(shown) else "not a number"
        raise RadiographError(f"{keyword} is {shown}, expected a number")
    return numbers


def _whole(dataset, keyword: str, expected: str, default: int | None = None) -> int:
    """The whole number of an element; `default` where it is absent or empty, and an error where that is None."""
    numbers = _numbers(dataset, keyword)
    if not numbers and default is None:
        raise RadiographError(f"{keyword} is missing, expected {expected}")
    numbers = numbers or [float(default or 0)]
    if numbers[0] != int(numbers[0]):
        raise RadiographError(f"{keyword} is {numbers[0]:g}, expected {expected}")
    return int(numbers[0])


def _code(dataset, keyword: str, known: Sequence[str]) -> str | None:
    """The code of an element in capitals, as dcmtk reads it; "" where it is absent or empty, None where it is unknown
    and so never to be quoted."""
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        code = str(dataset.get(keyword) or "").strip(" \0").upper()
    return code if code in ("", *known) else None


def _sequence_item(dataset, keyword: str):
    """The first item of a sequence, None where it is absent or empty."""
    raw = _raw(dataset, keyword)
    if raw is not None and isinstance(raw.value, bytes) and len(raw.value) > MAX_ELEMENT:
        raise RadiographError(f"{keyword} has {len(raw.value):,} bytes, at most {MAX_ELEMENT:,} are read")
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        items = dataset.get(keyword)
        return items[0] if items else None


# -------------------------------------------------------------------------------------------------------------- header


def _check_header(dataset) -> None:
    """Refuses what is no radiograph or cannot be decoded as its header says, before it is decoded; writes into the
    header what the standard or the compressed pixels say instead of it."""
    modality = _code(dataset, "Modality", MODALITIES)
    pixels = _raw(dataset, "PixelData")
    if (pixels is None or not pixels.value) and modality in ("", *RADIOGRAPH_MODALITIES):
        raise RadiographError("the DICOM holds no pixels: it is no image, or is cut short before their end")
    if modality not in RADIOGRAPH_MODALITIES:
        raise RadiographError(
            f"its modality is {modality or 'missing or not legal'}, expected one of {', '.join(RADIOGRAPH_MODALITIES)}"
        )
    if (frames := _whole(dataset, "NumberOfFrames", "1", 1)) > 1:
        raise RadiographError(f"a multi-frame DICOM ({frames} frames), one radiograph is expected")
    polarity = _code(dataset, "PhotometricInterpretation", GREY + COLOURS)
    if polarity in COLOURS:
        raise RadiographError(f"a colour DICOM ({polarity}), expected {' or '.join(GREY)}")
    if polarity not in GREY:
        unknown = "missing" if polarity == "" else "no code that DICOM defines"
        raise RadiographError(f"PhotometricInterpretation is {unknown}, expected {' or '.join(GREY)}")
    dataset.PhotometricInterpretation = polarity
    # The standard has no other number for these interpretations (PS3.3 C.7.6.3.1.2).
    if (samples := _whole(dataset, "SamplesPerPixel", "1", 1)) != 1:
        raise RadiographError(f"SamplesPerPixel is {samples}, expected 1")
    allocated = _whole(dataset, "BitsAllocated", "8 or 16")
    bits = _whole(dataset, "BitsStored", "8 to 16")
    if allocated not in (8, 16) or not 8 <= bits <= allocated:
        raise RadiographError(f"{bits} bits stored in {allocated}, expected 8 to 16 bits in 8 or 16")
    if (highest := _whole(dataset, "HighBit", f"{bits - 1}", bits - 1)) != bits - 1:
        raise RadiographError(f"the highest bit of {bits} is {highest}, expected {bits - 1}")
    signed = _whole(dataset, "PixelRepresentation", "0 or 1")
    if signed not in (0, 1):
        raise RadiographError(f"PixelRepresentation is {signed}, expected 0 or 1")
    rows, columns = _whole(dataset, "Rows", "a number of pixels"), _whole(dataset, "Columns", "a number of pixels")
    check_size(rows, columns)
    checked = {"NumberOfFrames": 1, "SamplesPerPixel": 1, "BitsAllocated": allocated, "BitsStored": bits,
               "PixelRepresentation": signed, "Rows": rows, "Columns": columns}  # fmt: skip
    for keyword, value in checked.items():
        dataset.pop(keyword, None)  # it may be of another kind, as text is, which decoders do not take
        setattr(dataset, keyword, value)
    _check_pixels(dataset, pixels)


def _check_pixels(dataset, pixels) -> None:
    enclosed = pixels.length == UNDEFINED_LENGTH
    with decoding(" DICOM, TransferSyntaxUID", PYDICOM_ERRORS):
        syntax = UID(dataset.file_meta.get("TransferSyntaxUID") or "")
    if not syntax:
        if enclosed:
            raise RadiographError("TransferSyntaxUID is missing, and the pixels are compressed: in which way?")
        implicit, little = dataset.original_encoding  # as pydicom found it
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = syntax.name if syntax in UID_dictionary else "no UID that DICOM defines"
        raise RadiographError(f"TransferSyntaxUID is {name}, expected that of a still picture") from None
    if not decoder.is_available:
        raise ImportError(f"{syntax.name}: {INSTALL}")
    if not syntax.is_encapsulated:
        expected = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
        if enclosed or len(pixels.value) < expected:
            raise RadiographError(f"the pixels are cut short: {len(pixels.value):,} bytes of {expected:,}")
    elif "RLE" not in syntax.name:
        with decoding(" DICOM", PYDICOM_ERRORS):
            stream = next(generate_frames(pixels.value, number_of_frames=1))
        _check_codestream(dataset, stream)


def _check_codestream(dataset, stream: bytes) -> None:
    """A JPEG, JPEG-LS or JPEG 2000 stream must be complete and as large as the header says: decoders believe it. Of
    depth and, in JPEG 2000, of sign it is the stream that decides (PS3.5 8.2)."""
    if not stream.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise RadiographError("the compressed pixels are cut short: no end marker")
    with decoding(" DICOM, the head of its compressed pixels", (struct.error, IndexError, StopIteration)):
        start = stream.find(b"\xff\x4f\xff\x51")  # JPEG 2000: SOC, SIZ
        if start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
            components, depth = struct.unpack_from(">HB", stream, start + 40)
            size, signed, depth, least = (bottom - top, right - left), depth >> 7, (depth & 127) + 1, 0.0
        else:
            frame, start = next((marker, start) for marker, start, _ in jpeg_segments(stream) if marker in LEAST_BITS)
            depth, height, width, components = struct.unpack_from(">BHHB", stream, start + 4)
            size, signed, least = (height, width), dataset.PixelRepresentation, LEAST_BITS[frame]
    if size != (dataset.Rows, dataset.Columns) or components != 1:
        raise RadiographError(
            f"the compressed pixels are {size[1]} x {size[0]} of {components} components, "
            f"the header says {dataset.Columns} x {dataset.Rows} of 1"
        )
    if 8 * len(stream) < least * size[0] * size[1]:
        raise RadiographError(f"the compressed pixels are cut short: {len(stream):,} bytes")
    if depth > dataset.BitsAllocated:
        raise RadiographError(f"the compressed pixels have {depth} bits, BitsAllocated is {dataset.BitsAllocated}")
    if stream.count(bytes((0xFF, SCAN))) > MAX_SCANS:
        raise RadiographError(f"the compressed pixels have more than {MAX_SCANS} scans")
    dataset.PixelRepresentation = signed
    dataset.BitsStored = max(depth, dataset.BitsStored)
    dataset.HighBit = dataset.BitsStored - 1


# -------------------------------------------------------------------------------------------------------------- values


def _not_padding(dataset, stored: np.ndarray) -> np.ndarray | None:
    """Pixel Padding Value (and its range limit) marks pixels outside the image, in stored values (PS3.3 C.7.5.1.1.2).
    Both may be written with the other sign than the pixels have."""
    ends = [*_numbers(dataset, "PixelPaddingValue")[:1], *_numbers(dataset, "PixelPaddingRangeLimit")[:1]]
    if not _numbers(dataset, "PixelPaddingValue"):
        return None
    ends = [int(end) % 2**16 for end in ends]
    if dataset.PixelRepresentation:
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    return (stored < min(ends)) | (stored > max(ends))


def _modality_values(dataset, stored: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values after the modality LUT or rescaling (PS3.3 C.11.1), and the smallest and largest there can be."""
    low, high = 0.0, 2.0**dataset.BitsStored - 1
    if dataset.PixelRepresentation:
        low, high = -(2.0 ** (dataset.BitsStored - 1)), 2.0 ** (dataset.BitsStored - 1) - 1
    if item := _sequence_item(dataset, "ModalityLUTSequence"):
        table, first = _table(item, low, high, dataset.original_encoding[1])
        return _look_up(stored, table, first), 0, 2**16 - 1
    slope, intercept = _numbers(dataset, "RescaleSlope"), _numbers(dataset, "RescaleIntercept")
    if not slope or not intercept:
        return stored, low, high
    if slope[0] == 0:
        raise RadiographError("RescaleSlope is 0, expected another number")
    values = stored.astype(np.float64) * slope[0]
    values += intercept[0]
    low, high = sorted(end * slope[0] + intercept[0] for end in (low, high))
    return values, low, high


def _show(dataset, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values after the first VOI LUT or else the first window (PS3.3 C.11.2), a window's from `low` to `high`."""
    item = _sequence_item(dataset, "VOILUTSequence")
    if item and _numbers(item, "LUTDescriptor") and (data := _raw(item, "LUTData")) and data.value:
        table, first = _table(item, low, high, dataset.original_encoding[1])
        return _look_up(values, table, first)
    if not (centers := _numbers(dataset, "WindowCenter")) or not (widths := _numbers(dataset, "WindowWidth")):
        return values
    center, width = centers[0], widths[0]
    function = _code(dataset, "VOILUTFunction", (*WINDOW_FUNCTIONS, "SAMPLED_SIGMOID"))
    if function not in ("", *WINDOW_FUNCTIONS):
        shown = function or "no code that DICOM defines"
        raise RadiographError(f"VOILUTFunction is {shown}, expected one of {', '.join(WINDOW_FUNCTIONS)}")
    linear = function in ("", "LINEAR")
    if width < 1 if linear else width <= 0:
        raise RadiographError(f"WindowWidth is {width:g}, expected {'1 or more' if linear else 'more than 0'}")
    grey = values.astype(np.float64)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return (high - low) / (1 + np.exp(-4 * (grey - center) / width)) + low
    if linear:
        center, width = center - 0.5, width - 1
    if width == 0:
        return np.where(grey > center, high, low)
    grey -= center
    grey /= width
    grey += 0.5
    grey *= high - low
    grey += low
    return grey.clip(low, high, out=grey)


def _table(item, low: float, high: float, little: bool) -> tuple[np.ndarray, int]:
    """A LUT's entries and the value that gets the first of them (PS3.3 C.11.1.1.1), which of signed values may be
    written unsigned."""
    descriptor = [int(number) for number in _numbers(item, "LUTDescriptor")]
    if len(descriptor) != 3:
        raise RadiographError(f"LUTDescriptor has {len(descriptor)} values, expected 3")
    entries, first = descriptor[0] % 2**16 or 2**16, descriptor[1]
    if low < 0 and first > high:
        first -= 2**16
    with decoding(" DICOM, LUTData", PYDICOM_ERRORS):
        data = item.get("LUTData") or b""
        if not isinstance(data, bytes):
            data, little = np.asarray(data, np.int64).astype("<u2").tobytes(), True
    kind = np.dtype(np.uint8) if len(data) < 2 * entries else np.dtype("<u2" if little else ">u2")  # two to a word
    if len(data) < kind.itemsize * entries:
        raise RadiographError(f"LUTData has {len(data):,} bytes, LUTDescriptor says {entries:,} entries")
    return np.frombuffer(data, kind, entries).astype(np.uint16), first


def _look_up(values: np.ndarray, table: np.ndarray, first: int) -> np.ndarray:
    index = values.astype(np.float64 if values.dtype.kind == "f" else np.int32)
    np.subtract(index, first, out=index)
    return table[index.clip(0, len(table) - 1, out=index).astype(np.intp)]


def _square_pixels(dataset, values: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The picture with pixels as high as wide: rows or columns are repeated, so that no value is invented."""
    sizes = next((sizes for sizes in (_numbers(dataset, name) for name in SPACINGS) if _are_sizes(sizes)), (1, 1))
    ratio = sizes[0] / sizes[1]
    if abs(ratio - 1) <= SQUARE:
        return values, valid
    rows, columns = values.shape
    height, width = round(rows * max(1, ratio)), round(columns * max(1, 1 / ratio))
    check_size(height, width)
    row = ((np.arange(height) + 0.5) * (rows / height)).astype(np.intp)
    column = ((np.arange(width) + 0.5) * (columns / width)).astype(np.intp)
    return values[row][:, column], None if valid is None else valid[row][:, column]


def _are_sizes(sizes: Sequence[float]) -> bool:
    """Some devices write 0 for a size that they do not know."""
    return len(sizes) > 1 and min(sizes[:2]) > 0
