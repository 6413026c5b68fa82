"""Reads one radiograph, from a file, bytes, an array or a picture, as one channel of grey values, air darker than bone.

The values keep the unit of the source; which of them become black and white is the image processor's to say
(`grey_trrg.py`), by rules that do not depend on the unit. So the same radiograph gives the same pixels as an 8-bit PNG,
a 16-bit PNG, a float array and a DICOM of either polarity. An image without any contrast is refused.
"""

import io
import os
import re
import stat
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    import pydicom
    from pydicom.config import disable_value_validation
    from pydicom.encaps import generate_frames
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.pixels import apply_modality_lut, apply_voi_lut
except ImportError:
    pydicom = None  # type: ignore[assignment]

MIN_SIDE = 32  # pixels; nothing can be read from a smaller radiograph
MAX_PIXELS = 8192 * 8192  # twice the largest digital chest detectors, checked before anything is decoded
MAX_BYTES = 256 * 1024**2
# CR, DX and RG are DICOM's projection radiographs; DR is written by some vendors for DX. A secondary capture (NIH's
# files are such) counts when its header says one of these; "OT" (other) does not say that it is a radiograph.
RADIOGRAPH_MODALITIES = ("CR", "DX", "DR", "RG")
# Only these are parsed, so that nothing about the patient can reach a message, a warning or a log.
DICOM_TAGS = [
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelData",
]
DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"  # inflates without a bound while the header is read
# What Pillow, pydicom and the decoders raise on damaged files.
DECODING_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    OverflowError,
    OSError,
    EOFError,
    struct.error,
    zlib.error,
)

RadiographSource = str | os.PathLike | bytes | Image.Image | np.ndarray | torch.Tensor


class RadiographError(ValueError):
    """A source that cannot be read as one grey radiograph; the message names the source and the reason."""


class Radiograph(NamedTuple):
    """One view as it was read.

    values: `[H, W]` of any real type, in the unit of the source, finite, not all equal.
    valid: `[H, W]`, False where the header of a DICOM says padding; None for no padding.
    """

    values: np.ndarray
    valid: np.ndarray | None = None


def read_radiograph(source: RadiographSource, name: str = "image") -> Radiograph:
    """Reads one view.

    Args:
        source: path of a PNG, JPEG or DICOM file, the bytes of one, a PIL image, or an array or tensor of shape
            `[H, W]`, `[1, H, W]`, `[3, H, W]` or channels last, of any real type and unit, air darker than bone.
        name: what errors call a source that has no path.

    Raises:
        RadiographError: unreadable, cut short, smaller than 32 pixels a side, larger than 8192 x 8192, NaN or infinite,
            without contrast, in colour (in more than 1 % of the pixels the channels differ by more than a tenth of the
            range), partly transparent, of several frames, or a DICOM that is not a projection radiograph.
        ImportError: a DICOM is given and pydicom is not installed.
    """
    if isinstance(source, (str, os.PathLike)):
        name = str(source) if len(str(source)) < 300 else f"{str(source)[:60]}..."  # a data: URL is no name
    try:
        return _check_values(Radiograph(*_decode(source)))
    except RadiographError as error:
        raise RadiographError(f"{name}: {error}") from None


def list_views(folder: str | os.PathLike) -> list[Path]:
    """The files of a study's folder sorted by name, without hidden files and sub-folders.

    Raises:
        RadiographError: the folder holds no file, or cannot be opened.
    """
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise RadiographError(f"{folder}: cannot open the folder: {error.strerror}") from None
    if not files:
        raise RadiographError(f"{folder}: the folder holds no image")
    return files


def _decode(source) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values in their own unit, and which of them are not padding (None: all)."""
    if isinstance(source, (str, os.PathLike)):
        source = _read_bytes(str(source))
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise RadiographError("the file is empty")
        if source[128:132] == b"DICM":
            return _decode_dicom(bytes(source))
        return _decode_file(bytes(source)), None
    if isinstance(source, Image.Image):
        return _decode_picture(source), None
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(source, np.ndarray):
        return _grey(source), None
    raise RadiographError(f"expected a path, bytes, a PIL image, an array or a tensor, got {type(source).__name__}")


def _read_bytes(path: str) -> bytes:
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", path) or "\0" in path:
        raise RadiographError("not a path; only local files are read")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise RadiographError("not a file")
        if status.st_size > MAX_BYTES:
            raise RadiographError(f"the file has {status.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise RadiographError(f"cannot open the file: {error.strerror}") from None


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise RadiographError(f"the image is {width} x {height} pixels, at least {MIN_SIDE} a side are needed")
    if height * width > MAX_PIXELS:
        raise RadiographError(f"the image is {width} x {height} pixels, at most {MAX_PIXELS:,} in all are read")


def _check_values(radiograph: Radiograph) -> Radiograph:
    values, valid = radiograph
    _check_size(*values.shape)
    inside = values if valid is None else values[valid]
    if inside.size == 0:
        raise RadiographError("every pixel is padding")
    low, high = float(inside.min()), float(inside.max())
    if not np.isfinite([low, high]).all():
        raise RadiographError(f"{int((~np.isfinite(inside)).sum()):,} pixels are NaN or infinite")
    if low == high:
        raise RadiographError("all pixels have the same value: an image without contrast is not a radiograph")
    return radiograph


def _grey(array: np.ndarray) -> np.ndarray:
    """One grey channel of an array; a colour array is grey only if its three channels (nearly) agree."""
    if array.dtype.kind not in "uif":
        raise RadiographError(f"expected an array of integers or floats, got {array.dtype}")
    if array.ndim == 2:
        return array
    if array.ndim != 3 or not {array.shape[0], array.shape[2]} & {1, 3}:
        raise RadiographError(f"expected an array [H, W], or with 1 or 3 channels, got shape {tuple(array.shape)}")
    if array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    _check_size(*array.shape[:2])
    if array.shape[2] == 1:
        return array[..., 0]
    channels = array.astype(np.float64)
    spread = channels.max(axis=2) - channels.min(axis=2)
    coloured = (spread > 0.1 * (channels.max() - channels.min())).mean()
    if coloured > 0.01:
        raise RadiographError(f"{coloured:.0%} of the pixels are coloured: a radiograph is grey")
    return channels.mean(axis=2)


def _decode_file(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            return _decode_picture(image)
    except UnidentifiedImageError:
        raise RadiographError("neither a PNG, a JPEG nor a DICOM file, or damaged at its start") from None
    except Image.DecompressionBombError:
        raise RadiographError(f"the image claims more than {MAX_PIXELS:,} pixels") from None
    except RadiographError:
        raise
    except DECODING_ERRORS as error:
        raise RadiographError(f"damaged or cut short ({type(error).__name__})") from None


def _decode_picture(image: Image.Image) -> np.ndarray:
    _check_size(image.height, image.width)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise RadiographError(f"the file holds {frames} frames, one radiograph is expected")
    try:
        image = ImageOps.exif_transpose(image)  # shown upright, as any viewer does
    except DECODING_ERRORS as error:
        raise RadiographError(f"damaged or cut short ({type(error).__name__})") from None
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise RadiographError("the image is partly transparent")
        image = image.convert(image.mode[:-1])
    if image.mode not in ("L", "I", "F", "RGB") and not image.mode.startswith("I;16"):
        raise RadiographError(f"expected a grey image of 8 or 16 bits, or grey stored as RGB, got mode {image.mode!r}")
    return _grey(np.asarray(image))


def _decode_dicom(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    if pydicom is None:
        raise ImportError("reading DICOM needs: pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg")
    if DEFLATED_SYNTAX in data[:1024]:
        raise RadiographError("the deflated transfer syntax is not read")
    try:
        with disable_value_validation():  # its warnings quote values, and in a damaged file any value may hold a name
            return _grey_of_dataset(pydicom.dcmread(io.BytesIO(data), specific_tags=DICOM_TAGS))
    except RadiographError:
        raise
    except (*DECODING_ERRORS, BytesLengthException, InvalidDicomError) as error:
        # Only the kind of error: its text may quote the header.
        raise RadiographError(f"damaged or cut short DICOM ({type(error).__name__})") from None


def _grey_of_dataset(dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values -> modality LUT -> VOI LUT or first window -> polarity, as DICOM PS3.4 N.2 orders them."""
    _check_header(dataset)
    stored = dataset.pixel_array
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise RadiographError(f"the pixels have the shape {stored.shape}, expected rows and columns")
    valid = _not_padding(dataset, stored)
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, index=0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
        values = -values if values.dtype.kind == "f" else ~values  # of either sign, in the same bits
    return values, valid


def _check_header(dataset) -> None:
    modality = str(dataset.get("Modality", ""))
    if modality not in RADIOGRAPH_MODALITIES:
        shown = modality if re.fullmatch("[A-Z]{2,10}", modality) else "missing or not legal"
        raise RadiographError(f"its modality is {shown}, expected one of {', '.join(RADIOGRAPH_MODALITIES)}")
    if "PixelData" not in dataset or not dataset.PixelData:
        raise RadiographError("the DICOM holds no pixels")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise RadiographError(f"a multi-frame DICOM ({frames} frames), one radiograph is expected")
    colours = str(dataset.PhotometricInterpretation)
    if int(dataset.SamplesPerPixel) != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise RadiographError("a colour DICOM, expected MONOCHROME1 or MONOCHROME2")
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16) or not 8 <= bits <= allocated:
        raise RadiographError(f"{bits} bits stored in {allocated}, expected 8 to 16 bits in 8 or 16")
    if int(dataset.get("HighBit", bits - 1)) != bits - 1:
        raise RadiographError(f"the highest bit of {bits} is {int(dataset.HighBit)}, expected {bits - 1}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    _check_size(rows, columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        expected = rows * columns * allocated // 8
        if len(dataset.PixelData) < expected:
            raise RadiographError(f"the pixels are cut short: {len(dataset.PixelData):,} bytes of {expected:,}")
    elif "RLE" not in syntax.name:
        _check_codestream(next(generate_frames(dataset.PixelData, number_of_frames=1)), rows, columns)


def _check_codestream(stream: bytes, rows: int, columns: int) -> None:
    """A JPEG, JPEG-LS or JPEG 2000 stream must be complete and as large as the header says: decoders believe it."""
    if not stream.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise RadiographError("the compressed pixels are cut short: no end marker")
    start = stream.find(b"\xff\x4f\xff\x51")  # JPEG 2000: SOC, SIZ
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        size, components = (bottom - top, right - left), struct.unpack_from(">H", stream, start + 40)[0]
    else:
        position = 2
        while stream[position + 1] not in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):  # the frame headers of JPEG and JPEG-LS
            position += 2 + struct.unpack_from(">H", stream, position + 2)[0]
        height, width, components = struct.unpack_from(">HHB", stream, position + 5)
        size = (height, width)
    if size != (rows, columns) or components != 1:
        raise RadiographError(
            f"the compressed pixels are {size[1]} x {size[0]} of {components} components, "
            f"the header says {columns} x {rows} of 1"
        )


def _not_padding(dataset, stored: np.ndarray) -> np.ndarray | None:
    """Pixel Padding Value (and its range limit) marks pixels outside the image, in stored values."""
    if dataset.get("PixelPaddingValue") is None:
        return None
    first = int(dataset.PixelPaddingValue)
    last = int(dataset.get("PixelPaddingRangeLimit", first))
    return (stored < min(first, last)) | (stored > max(first, last))
