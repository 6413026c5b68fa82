"""One DICOM file -> grey values of one projection radiograph, air darker than bone.

The steps are those of the standard, in its order: stored values -> modality LUT or rescaling -> VOI LUT or first window
-> polarity (PS3.4 N.2), then square pixels. An empty element is an absent one. Where the standard leaves room this does
as dcmtk does; where dcmtk would guess at a value that decides about the picture, the file is refused, with the element
and what it should be. `tests/processing/test_dicom_table.py` has a file, an element and the expected pixels for each.

Nothing of the patient reaches a message: only the elements below are parsed, and of what they hold only numbers and the
codes that DICOM defines are quoted.
"""

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Sequence

import numpy as np

from .dicom_header_trrg import (
    INSTALL,
    MAX_ELEMENT,
    SPACINGS,
    UNDEFINED_LENGTH,
    check_end,
    check_header,
    code,
    first_frame,
    numbers,
    raw_element,
    sequence_item,
)  # fmt: skip
from .picture_trrg import MAX_PIXELS, RadiographError, check_size, decoding

try:
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.pixels import pixel_array
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
    )

    from .dicom_header_trrg import PYDICOM_ERRORS
except ImportError:
    pydicom = None  # type: ignore[assignment]

WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
DICOM_TAGS = [
    "Modality", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelData",
    *SPACINGS,
]  # fmt: skip
MAX_READS = 200_000  # of a header; each element takes one to three
ROWS = 16  # of a picture that are looked up together
SQUARE = 0.01  # how far height over width of a pixel may be from 1 without resampling
WITHOUT_PREAMBLE = re.compile(rb"(?:[\x02\x08]\0..|\0\x08..)(?:[A-Z]{2}|..\0\0)", re.DOTALL)


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


class _Quiet(contextlib.AbstractContextManager):
    """Around what pydicom does: its warnings quote values, and in a damaged file any value may hold a name.

    Filters of warnings and pydicom's settings belong to the whole process. So of several threads that read at once the
    first one changes them and the last one puts them back; none waits for another's reading.
    """

    lock, readers, changes = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if _Quiet.readers == 0:
                self.changes.enter_context(disable_value_validation())
                self.changes.enter_context(warnings.catch_warnings(action="ignore", category=UserWarning))
            _Quiet.readers += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            _Quiet.readers -= 1
            if _Quiet.readers == 0:
                self.changes.close()


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
    with _Quiet():
        with decoding(" DICOM", PYDICOM_ERRORS):
            dataset = pydicom.dcmread(
                _BoundedReader(data), defer_size=MAX_ELEMENT, force=True, specific_tags=DICOM_TAGS
            )
        pixels = raw_element(dataset, "PixelData")
        if pixels is not None and pixels.value is None:  # too large to be copied
            end = None if pixels.length == UNDEFINED_LENGTH else pixels.value_tell + pixels.length
            value = memoryview(data)[pixels.value_tell : end]
            pixels = pixels._replace(value=bytes(value) if end is None else value)
        check_header(dataset, pixels)
        stored = _stored_values(dataset, pixels)
        return _square_pixels(dataset, _looked_up(dataset, stored), _not_padding(dataset, stored))


# -------------------------------------------------------------------------------------------------------------- values


def _stored_values(dataset, pixels) -> np.ndarray:
    """The pixels of the first frame `[H, W]` as they are stored, without a copy where nothing is to be done to them."""
    syntax, bits, signed = dataset.file_meta.TransferSyntaxUID, dataset.BitsStored, dataset.PixelRepresentation
    shape = dataset.Rows, dataset.Columns
    if syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        kind = np.dtype(f"<{'iu'[not signed]}{dataset.BitsAllocated // 8}")
        stored = np.frombuffer(pixels.value, kind, shape[0] * shape[1]).reshape(shape)
        low, high = _ends(dataset)
        if bits < dataset.BitsAllocated and (stored.max() > high or stored.min() < low):
            shift = dataset.BitsAllocated - bits  # what stands in the unused bits is no value (PS3.5 8.1.1)
            stored = stored << shift >> shift
        return stored
    with decoding(" DICOM", PYDICOM_ERRORS):
        dataset.add_new("PixelData", pixels.VR, bytes(pixels.value))
        dataset["PixelData"].is_undefined_length = pixels.length == UNDEFINED_LENGTH
        stored = pixel_array(dataset, index=0)  # more frames than the header says are left alone
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1):
        check_end(first_frame(pixels), stored)
    return stored


def _ends(dataset) -> tuple[float, float]:
    """The smallest and the largest value that the stored bits can have."""
    if dataset.PixelRepresentation:
        return -(2.0 ** (dataset.BitsStored - 1)), 2.0 ** (dataset.BitsStored - 1) - 1
    return 0.0, 2.0**dataset.BitsStored - 1


def _looked_up(dataset, stored: np.ndarray) -> np.ndarray:
    """What is shown of the stored values, air darker than bone. Where these are more than there can be different ones,
    each possible value is computed once."""
    low, high = _ends(dataset)
    few = high - low < stored.size
    possible = np.arange(low, high + 1).astype(stored.dtype) if few else stored
    shown = _show(dataset, *_modality_values(dataset, possible))
    if shown is possible:
        shown = stored
        few = False
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
        shown = -shown if shown.dtype.kind == "f" else ~shown  # of either sign, in the same bits
    if not few:
        return shown
    values = np.empty(stored.shape, shown.dtype)
    for top in range(0, len(stored), ROWS):
        index = stored[top : top + ROWS].astype(np.intp)
        index -= int(low)
        np.take(shown, index, out=values[top : top + ROWS], mode="clip")  # of which none is outside
    return values


def _not_padding(dataset, stored: np.ndarray) -> np.ndarray | None:
    """Pixel Padding Value (and its range limit) marks pixels outside the image, in stored values (PS3.3 C.7.5.1.1.2).
    Both may be written with the other sign than the pixels have."""
    ends = [*numbers(dataset, "PixelPaddingValue")[:1], *numbers(dataset, "PixelPaddingRangeLimit")[:1]]
    if not numbers(dataset, "PixelPaddingValue"):
        return None
    ends = [int(end) % 2**16 for end in ends]
    if dataset.PixelRepresentation:
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    return (stored < min(ends)) | (stored > max(ends))


def _modality_values(dataset, stored: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values after the modality LUT or rescaling (PS3.3 C.11.1), and the smallest and largest there can be."""
    low, high = _ends(dataset)
    if item := sequence_item(dataset, "ModalityLUTSequence"):
        table, first = _table(item, low, high, dataset.original_encoding[1])
        return _look_up(stored, table, first), 0, 2**16 - 1
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
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
    item = sequence_item(dataset, "VOILUTSequence")
    if item and numbers(item, "LUTDescriptor") and (data := raw_element(item, "LUTData")) and data.value:
        table, first = _table(item, low, high, dataset.original_encoding[1])
        return _look_up(values, table, first)
    if not (centers := numbers(dataset, "WindowCenter")) or not (widths := numbers(dataset, "WindowWidth")):
        return values
    center, width = centers[0], widths[0]
    function = code(dataset, "VOILUTFunction", (*WINDOW_FUNCTIONS, "SAMPLED_SIGMOID"))
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
    descriptor = [int(number) for number in numbers(item, "LUTDescriptor")]
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
    sizes = next((sizes for sizes in (numbers(dataset, name) for name in SPACINGS) if _are_sizes(sizes)), (1, 1))
    ratio = sizes[0] / sizes[1]
    if abs(ratio - 1) <= SQUARE:
        return values, valid
    if not 1 / MAX_PIXELS < ratio < MAX_PIXELS:
        raise RadiographError(f"the pixels are {sizes[0]:g} high and {sizes[1]:g} wide")
    rows, columns = values.shape
    height, width = round(rows * max(1, ratio)), round(columns * max(1, 1 / ratio))
    check_size(height, width)
    row = ((np.arange(height) + 0.5) * (rows / height)).astype(np.intp)
    column = ((np.arange(width) + 0.5) * (columns / width)).astype(np.intp)
    return values[row][:, column], None if valid is None else valid[row][:, column]


def _are_sizes(sizes: Sequence[float]) -> bool:
    """Some devices write 0 for a size that they do not know."""
    return len(sizes) > 1 and min(sizes[:2]) > 0
