"""PNG and JPEG files -> a picture of Pillow, within bounds of size and time, and never a picture of half a file.

Pillow does the decoding. Before it a file is walked once, part by part: what does not change a pixel (texts, profiles,
thumbnails, the second picture of a phone) is left out, so that none of it is inflated or kept.
"""

import contextlib
import io
import itertools
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MIN_SIDE = 32  # pixels; nothing can be read from a smaller radiograph
MAX_PIXELS = 8192 * 8192  # twice the largest digital chest detectors, checked before anything is decoded
MAX_ASPECT = 4  # of the longer side to the shorter one; the longest of 9,245 real chest X-rays has 1.7
MAX_PARTS = 2**16  # chunks of a PNG, segments of a JPEG
MAX_SCANS = 20  # of a JPEG; encoders write up to a dozen, and each costs a pass over the picture
CUT_SHORT = "cut short: the file ends before its picture"

PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")
LOWER_BYTES = {b"PNG\x10\2": "RGB;16L", b"PNG\x10\4": "RGBA", b"PNG\x10\6": "RGBA;16L"}
"""Pillow keeps the upper bytes of 16-bit colours. By kind of file, depth and colours: how it reads the lower ones, as
if they were the upper ones or, of grey with alpha, as the green ones."""
ORIENTATIONS = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""How the parts begin that may say which side is up."""
JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""No stuffed byte (00), no restart (D0 to D7), and the last of fill bytes (T.81 B.1.1.2)."""
SCAN, END = 0xDA, 0xD9
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; Pillow reads few others
ENOUGH = bytes(8)
"""What a Huffman decoder wants to see beyond the last bit of a picture."""
# What Pillow raises on damaged files, beside its own UnidentifiedImageError.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, struct.error)


class RadiographError(ValueError):
    """A source that cannot be read as one grey radiograph; the message names the source and the reason."""


class _Whole(io.BytesIO):
    """A file whose reader has run out of data when it reads on, whatever `ImageFile.LOAD_TRUNCATED_IMAGES` says."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data and size:
            raise RadiographError(CUT_SHORT)
        return data


def check_size(height: int, width: int) -> None:
    """
    Raises:
        RadiographError: too small, too large or too long for a chest radiograph.
    """
    if min(height, width) < MIN_SIDE:
        raise RadiographError(f"the image is {width} x {height} pixels, at least {MIN_SIDE} a side are needed")
    if height * width > MAX_PIXELS:
        raise RadiographError(f"the image is {width} x {height} pixels, at most {MAX_PIXELS:,} in all are read")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RadiographError(
            f"the image is {width} x {height} pixels; the longer side of a chest radiograph is at most {MAX_ASPECT} "
            "times the shorter one"
        )


@contextlib.contextmanager
def decoding(kind: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Around a call of a decoder and nothing else: what it raises on damaged files becomes a `RadiographError`, with
    the kind of error only, since its text may quote the file."""
    try:
        yield
    except RadiographError:
        raise
    except errors as error:
        raise RadiographError(f"damaged or cut short{kind} ({type(error).__name__})") from None


def decode_picture(data: bytes) -> tuple[Image.Image, Image.Image | None]:
    """The first picture of a PNG or JPEG file, decoded and upright; the lower bytes of 16-bit colours are a second one.

    Raises:
        RadiographError: of another kind, damaged, cut short, of several frames, of too many parts or of a size that is
            not read.
    """
    if data.startswith(b"\xff\xd8"):
        data, scans = _plain_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        data, scans = _plain_png(data), 0
    else:
        raise RadiographError("neither a PNG, a JPEG nor a DICOM file, or damaged at its start")
    image = _load(data)
    if scans == 0 and _has_row_of(image, 127) and _has_row_of(_load(data, 128), 128):
        raise RadiographError(CUT_SHORT)  # zlib's stream ended early, and Pillow left the last row as it was
    if scans > 1 and _runs_out(data):
        raise RadiographError(CUT_SHORT)
    lower_bytes = LOWER_BYTES.get(data[1:4] + data[24:26])
    lower = _load(data, rawmode=lower_bytes) if lower_bytes else None
    with decoding("", PILLOW_ERRORS):
        for picture in (image, lower) if lower else (image,):
            ImageOps.exif_transpose(picture, in_place=True)
    return image, lower.getchannel("G") if lower and lower_bytes == "RGBA" else lower


def upright(image: Image.Image) -> Image.Image:
    """A picture that someone opened, decoded and as any viewer shows it.

    Raises:
        RadiographError: damaged, of several frames or of a size that is not read.
    """
    _check_header(image)
    with decoding("", PILLOW_ERRORS):
        return ImageOps.exif_transpose(image)


def _check_header(image: Image.Image) -> None:
    check_size(image.height, image.width)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's second picture is no frame
        raise RadiographError(f"the file holds {frames} frames, one radiograph is expected")


def _load(data: bytes, fill: int = 127, rawmode: str | None = None) -> Image.Image:
    """A decoded picture; what the decoder does not reach stays `fill`. `rawmode`: how to read a PNG's bytes."""
    with decoding("", PILLOW_ERRORS):
        try:
            image = Image.open(_Whole(data), formats=("PNG", "JPEG"))
        except UnidentifiedImageError:
            raise RadiographError("damaged at its start") from None
        except Image.DecompressionBombError:
            raise RadiographError(f"the image claims more than {MAX_PIXELS:,} pixels") from None
    _check_header(image)
    with decoding("", PILLOW_ERRORS):
        image.im = Image.new(image.mode, image.size, fill).im
        if rawmode:
            image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        image.load()
    return image


def _has_row_of(image: Image.Image, fill: int) -> bool:
    row = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    return bool((row == np.asarray(Image.new(image.mode, (1, 1), fill))).all())


def _plain_png(data: bytes) -> bytes:
    """The chunks of a PNG that change its pixels."""
    kept, position, orientations = [data[:8]], 8, 0
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise RadiographError(CUT_SHORT)
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise RadiographError(CUT_SHORT)
        if length < 2**16 and (kind == b"eXIf" or data.startswith(ORIENTATIONS, position + 8)):
            orientations += 1
            if orientations <= 2:
                kept.append(data[position:end])
        elif kind in PNG_CHUNKS:
            kept.append(data[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end
    raise RadiographError(f"the file has more than {MAX_PARTS:,} parts")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment of a JPEG, from its first marker to its end marker; a scan's own data lie
    between its segment and the next one (T.81 B.1.1).

    Raises:
        RadiographError: more than `MAX_PARTS` segments.
    """
    segments, position = 0, 0
    while match := JPEG_MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker not in (0x01, 0xD8, END):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, match.start(), position
        segments += 1
        if marker == END:
            return
        if segments > MAX_PARTS:
            raise RadiographError(f"the file has more than {MAX_PARTS:,} parts")


def _plain_jpeg(data: bytes) -> tuple[bytes, int]:
    """The segments of a JPEG's first picture that change its pixels, and the number of its scans."""
    segments = list(jpeg_segments(data))
    if segments[-1][0] != END:
        raise RadiographError(CUT_SHORT)
    kept, orientations, scans, missing = [], 0, 0, None
    for (marker, start, end), (_, following, _) in itertools.pairwise(segments):
        if marker in FRAMES:
            missing = {(component, band) for component in data[start + 10 : end : 3] for band in range(64)}
        elif marker == SCAN:
            scans += 1
            first, last, bits = data[end - 3], data[end - 2], data[end - 1]
            if missing and not bits & 15:  # of the lowest bits
                components = data[start + 5 : end - 3 : 2]
                missing -= {(component, band) for component in components for band in range(first, last + 1)}
            end = following
        elif marker == 0xE1:
            orientations += data.startswith(ORIENTATIONS, start + 4)
            if orientations > 2 or not data.startswith(ORIENTATIONS, start + 4):
                continue
        elif marker > 0xDF and marker not in (0xE0, 0xEE):  # JFIF and Adobe, which say what the colours are
            continue
        kept.append(data[start:end])
    if scans > MAX_SCANS:
        raise RadiographError(f"the JPEG has {scans:,} scans, at most {MAX_SCANS} are read")
    if missing:
        raise RadiographError(CUT_SHORT)
    # A decoder that meets the end marker too early fills the picture up with grey, without an error; one that meets no
    # end says so. With several scans, or arithmetic coding, it needs the marker.
    kept.append(ENOUGH if scans == 1 and missing is not None else b"\xff\xd9")
    return b"".join(kept), scans


def _runs_out(data: bytes) -> bool:
    """Whether the decoder of a JPEG of several scans wants more data than there are, in the midst of a scan: then it
    leaves bytes of a block that it cannot finish. Not seen where `ImageFile.LOAD_TRUNCATED_IMAGES` is set."""
    try:
        Image.open(io.BytesIO(data[:-2] + ENOUGH)).load()
    except OSError as error:
        return "(0 bytes" not in str(error)
    return False
