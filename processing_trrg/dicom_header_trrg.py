"""The header of one DICOM file: its elements one by one, and whether its pixels can be what it says.

An empty element is an absent one. Nothing of the patient reaches a message: of what the elements hold only numbers and
the codes that DICOM defines are quoted.
"""

import math
import re
import struct
from collections.abc import Sequence

import numpy as np

from .picture_trrg import CUT_SHORT, MAX_SCANS, SCAN, RadiographError, check_size, decode_jpeg, decoding, jpeg_segments

try:
    from pydicom.encaps import generate_frames
    from pydicom.errors import BytesLengthException
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, UID_dictionary

    # What pydicom and its decoders raise on damaged files; caught around their calls only.
    PYDICOM_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, OSError, EOFError,
                      OverflowError, struct.error, BytesLengthException)  # fmt: skip
except ImportError:
    pass

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
# View positions of headers and tables; others (oblique, decubitus, swimmer's, not given) have no name here.
VIEWS = dict.fromkeys(("PA", "AP", "AP AXIAL"), "frontal") | dict.fromkeys(("LATERAL", "LL", "RL"), "lateral")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = (
    "RGB", "HSV", "ARGB", "CMYK", "XYB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420",
    "YBR_ICT", "YBR_RCT", "PALETTE COLOR",
)  # fmt: skip
# The sizes of a pixel, its height first: the first that is given counts.
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
MAX_ELEMENT = 2**21  # bytes of an element other than the pixels; a LUT has 128 kB
# Of a pixel, by frame header: a code of one bit for each of lossless JPEG; for each block of 8 x 8 two codes, in a
# progressive one a code; JPEG-LS has runs.
LEAST_BITS = {0xC0: 2 / 64, 0xC1: 2 / 64, 0xC2: 1 / 64, 0xC3: 1, 0xF7: 0}
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
UNDEFINED_LENGTH = 0xFFFFFFFF
NEARLY_A_NUMBER = re.compile(r"(?=.{1,33}$)[\d.,+\\-]*[A-Za-z]?[\d.,+\\-]*")  # with one letter no name
INSTALL = "reading DICOM needs: pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


# ------------------------------------------------------------------------------------------------------------ elements


def raw_element(dataset, keyword: str):
    """An element as it stands in the file, None where it is absent."""
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        return dataset.get_item(keyword, keep_deferred=True)


def _check_length(keyword: str, raw) -> None:
    if raw.value is None and hasattr(raw, "length") and raw.length:  # left in the file by `defer_size`
        raise RadiographError(f"{keyword} has {raw.length:,} bytes, at most {MAX_ELEMENT:,} are read")


def numbers(dataset, keyword: str) -> list[float]:
    """The numbers of an element, finite; none if it is absent, empty or begins with an empty value."""
    if (raw := raw_element(dataset, keyword)) is None:
        return []
    _check_length(keyword, raw)
    text = raw.value if isinstance(raw.value, bytes) else b""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if not values or values[0] in (None, "", b""):
            return []
        found = [float(number) for number in values]
    except PYDICOM_ERRORS:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        shown = text.decode("latin-1").strip(" \0")
        shown = repr(shown) if NEARLY_A_NUMBER.fullmatch(shown) else "not a number"
        raise RadiographError(f"{keyword} is {shown}, expected a number")
    return found


def whole_number(dataset, keyword: str, expected: str, default: int | None = None) -> int:
    """The whole number of an element; `default` where it is absent or empty, and an error where that is None."""
    found = numbers(dataset, keyword)
    if not found and default is None:
        raise RadiographError(f"{keyword} is missing, expected {expected}")
    number = found[0] if found else default or 0
    if number != int(number):
        raise RadiographError(f"{keyword} is {number:g}, expected {expected}")
    return int(number)


def code(dataset, keyword: str, known: Sequence[str]) -> str | None:
    """The code of an element in capitals, as dcmtk reads it; "" where it is absent or empty, None where it is unknown
    and so never to be quoted."""
    if raw_element(dataset, keyword) is None:
        return ""
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        written = str(dataset.get(keyword) or "").strip(" \0").upper()
    return written if written in ("", *known) else None


def sequence_item(dataset, keyword: str):
    """The first item of a sequence, None where it is absent or empty."""
    if (raw := raw_element(dataset, keyword)) is None:
        return None
    _check_length(keyword, raw)
    with decoding(f" DICOM, {keyword}", PYDICOM_ERRORS):
        items = dataset.get(keyword)
        return items[0] if items else None


# -------------------------------------------------------------------------------------------------------------- header


def check_header(dataset, pixels) -> None:
    """Refuses what is no radiograph or cannot be decoded as its header says, before it is decoded; writes into the
    header what the standard or the compressed pixels say instead of it."""
    modality = code(dataset, "Modality", MODALITIES)
    if (pixels is None or not pixels.value) and modality in ("", *RADIOGRAPH_MODALITIES):
        raise RadiographError("the DICOM holds no pixels: it is no image, or is cut short before their end")
    if modality not in RADIOGRAPH_MODALITIES:
        raise RadiographError(
            f"its modality is {modality or 'missing or not legal'}, expected one of {', '.join(RADIOGRAPH_MODALITIES)}"
        )
    if (frames := whole_number(dataset, "NumberOfFrames", "1", 1)) > 1:
        raise RadiographError(f"a multi-frame DICOM ({frames} frames), one radiograph is expected")
    polarity = code(dataset, "PhotometricInterpretation", GREY + COLOURS)
    if polarity in COLOURS:
        raise RadiographError(f"a colour DICOM ({polarity}), expected {' or '.join(GREY)}")
    if polarity not in GREY:
        unknown = "missing" if polarity == "" else "no code that DICOM defines"
        raise RadiographError(f"PhotometricInterpretation is {unknown}, expected {' or '.join(GREY)}")
    dataset.PhotometricInterpretation = polarity
    # The standard has no other number for these interpretations (PS3.3 C.7.6.3.1.2).
    if (samples := whole_number(dataset, "SamplesPerPixel", "1", 1)) != 1:
        raise RadiographError(f"SamplesPerPixel is {samples}, expected 1")
    allocated = whole_number(dataset, "BitsAllocated", "8 or 16")
    bits = whole_number(dataset, "BitsStored", "8 to 16")
    if allocated not in (8, 16) or not 8 <= bits <= allocated:
        raise RadiographError(f"{bits} bits stored in {allocated}, expected 8 to 16 bits in 8 or 16")
    if (highest := whole_number(dataset, "HighBit", f"{bits - 1}", bits - 1)) != bits - 1:
        raise RadiographError(f"the highest bit of {bits} is {highest}, expected {bits - 1}")
    signed = whole_number(dataset, "PixelRepresentation", "0 or 1")
    if signed not in (0, 1):
        raise RadiographError(f"PixelRepresentation is {signed}, expected 0 or 1")
    rows, columns = (whole_number(dataset, side, "a number of pixels") for side in ("Rows", "Columns"))
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
        _check_codestream(dataset, first_frame(pixels))


def first_frame(pixels) -> bytes:
    """The compressed stream of the first frame."""
    with decoding(" DICOM", PYDICOM_ERRORS):
        return next(generate_frames(pixels.value, number_of_frames=1))


def check_end(stream: bytes, stored: np.ndarray) -> None:
    """A decoder of JPEG that meets the end marker too early fills the picture up without an error: with its last block,
    or in lossless JPEG its last value. So a picture that ends in equal ones is looked at again.

    Raises:
        RadiographError: its stream ends before it.
    """
    frame = next(marker for marker, _, _ in jpeg_segments(stream) if marker in LEAST_BITS)
    if frame == 0xC3:
        short = _ends_too_early(stream, stored)
    else:
        top, left = (len(stored) - 1) // 8 * 8, (stored.shape[1] - 1) // 8 * 8
        last = stored[top:, left:]
        repeated = np.array_equal(last, stored[top:, left - 8 : left][:, : last.shape[1]])
        short = (repeated or frame == 0xC2) and _is_cut(stream)
    if short:
        raise RadiographError("the compressed pixels are cut short: they end before the picture does")


def _is_cut(stream: bytes) -> bool:
    try:
        decode_jpeg(stream)
    except RadiographError as error:
        return str(error) == CUT_SHORT  # what else Pillow cannot read, as 12 bits, tells nothing
    return False


def _ends_too_early(stream: bytes, stored: np.ndarray) -> bool:
    """Equal values have equal codes, of 1 to 16 bits: so a lossless picture that does end in rows of one value has a
    stream that ends in a pattern."""
    if (stored[-2:] != stored[-1, -1]).any():
        return False
    other = (stored != stored[-1, -1]).any(1)
    rows = len(other) - 1 - int(np.flatnonzero(other).max(initial=-1))
    length = (rows - 1) * stored.shape[1] // 8 - 8  # bytes at least; the first row may differ from what is above
    scan = RESTART.split(stream[: stream.rindex(b"\xff\xd9")].rstrip(b"\xff"))[-1].replace(b"\xff\0", b"\xff")
    tail = scan[8:-4][-max(0, length) :]
    return length > 48 and len(tail) > 48 and not any(tail[period:] == tail[:-period] for period in range(1, 17))


def _check_parts(stream: bytes) -> None:
    """JPEG 2000: each part of a tile says its length, or 0 (ISO/IEC 15444-1 A.4.2)."""
    start = stream.find(b"\xff\x90\0\x0a")
    while stream[start : start + 2] == b"\xff\x90":
        length = int.from_bytes(stream[start + 6 : start + 10])
        if length == 0:
            return
        start += length
    if not 0 < start < len(stream):
        raise RadiographError("the compressed pixels are cut short: a part of them is longer than they are")


def _check_codestream(dataset, stream: bytes) -> None:
    """A JPEG, JPEG-LS or JPEG 2000 stream must be complete and as large as the header says: decoders believe it. Of
    depth and, in JPEG 2000, of sign it is the stream that decides (PS3.5 8.2).

    A stream that was cut and closed with an end marker is found by its parts in JPEG 2000, in JPEG of 8 bits and
    lossless JPEG by `check_end`. In JPEG of 12 bits, in JPEG-LS and where JPEG 2000 leaves the lengths out
    it is not found: their decoders fill the picture up without a word.
    """
    if not stream.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise RadiographError("the compressed pixels are cut short: no end marker")
    with decoding(" DICOM, the head of its compressed pixels", (struct.error, IndexError, StopIteration)):
        start = stream.find(b"\xff\x4f\xff\x51")  # JPEG 2000: SOC, SIZ
        if start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
            components, depth = struct.unpack_from(">HB", stream, start + 40)
            size, signed, depth, least = (bottom - top, right - left), depth >> 7, (depth & 127) + 1, 0.0
            _check_parts(stream)
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
