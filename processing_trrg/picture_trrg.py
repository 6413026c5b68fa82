"""PNG and JPEG files -> a picture of Pillow, within bounds of size and time, and never a picture of half a file.

Pillow does the decoding. Before it a file is walked once, part by part: what does not change a pixel (texts, profiles,
thumbnails, the second picture of a phone) is left out, so that none of it is inflated or kept.
"""

import contextlib
import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MIN_SIDE = 32  # pixels; nothing can be read from a smaller radiograph
MAX_PIXELS = 8192 * 8192  # twice the largest digital chest detectors, checked before anything is decoded
MAX_ASPECT = 4  # of the longer side to the shorter one; the longest of 9,245 real chest X-rays has 1.7
MAX_PARTS = 2**16  # chunks of a PNG, segments of a JPEG
MAX_SCANS = 20  # of a JPEG; encoders write up to a dozen, and each costs a pass over the picture
CUT_SHORT = "cut short: the file ends before its picture"

PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")
DEEP_CHANNELS = {b"\x10\2": 3, b"\x10\4": 2, b"\x10\6": 4}
"""Of 16-bit colours and of 16-bit grey with alpha, by depth and kind of colours in the head of a PNG."""
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and steps down and right, of each pass of an interlaced PNG (PNG 8.2)."""
ORIENTATIONS = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""How the parts begin that may say which side is up."""
JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""No stuffed byte (00), no restart (D0 to D7), and the last of fill bytes (T.81 B.1.1.2)."""
SCAN, END = 0xDA, 0xD9
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; arithmetic codes no browser reads
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


def decode_picture(data: bytes) -> list[Image.Image]:
    """The first picture of a PNG or JPEG file, decoded and upright. Pillow would cut 16-bit colours to 8 bits: of these
    the list has a grey picture for each channel, where channels are equal the same one.

    Raises:
        RadiographError: of another kind, damaged, cut short, of several frames, of too many parts or of a size that is
            not read.
    """
    if data.startswith(b"\xff\xd8"):
        return [_turned(decode_jpeg(data))]
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _decode_png(_plain_png(data))
    raise RadiographError("neither a PNG, a JPEG nor a DICOM file, or damaged at its start")


def upright(image: Image.Image) -> Image.Image:
    """A picture that someone opened, decoded and as any viewer shows it.

    Raises:
        RadiographError: damaged, of several frames or of a size that is not read.
    """
    _check_header(image)
    with decoding("", PILLOW_ERRORS):
        return ImageOps.exif_transpose(image)


def _turned(image: Any) -> Any:
    """The same picture, decoded and upright."""
    with decoding("", PILLOW_ERRORS):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _check_header(image: Image.Image) -> None:
    check_size(image.height, image.width)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's second picture is no frame
        raise RadiographError(f"the file holds {frames} frames, one radiograph is expected")


def _open(data: bytes, kind: str) -> Any:
    """A picture of Pillow, not yet decoded, of a size that is read."""
    with decoding("", PILLOW_ERRORS):
        try:
            image = Image.open(_Whole(data) if kind == "PNG" else io.BytesIO(data), formats=(kind,))
        except UnidentifiedImageError:
            raise RadiographError("damaged at its start") from None
        except Image.DecompressionBombError:
            raise RadiographError(f"the image claims more than {MAX_PIXELS:,} pixels") from None
    _check_header(image)
    return image


# ----------------------------------------------------------------------------------------------------------------- PNG


def _decode_png(data: bytes) -> list[Image.Image]:
    image = _open(data, "PNG")
    if channels := DEEP_CHANNELS.get(data[24:26]):
        return _deep_channels(data, channels)
    if _last_row_stays(image, 127) and _last_row_stays(_open(data, "PNG"), 128):
        raise RadiographError(CUT_SHORT)  # zlib's stream ended early, and Pillow left the last row as it was
    return [_turned(image)]


def _last_row_stays(image: Any, fill: int) -> bool:
    """Decodes an opened picture; whether its last row is `fill`, as it was before."""
    last, before = (0, image.height - 1, image.width, image.height), Image.new(image.mode, image.size, None)
    before.paste(fill, last)
    row = np.asarray(before.crop(last))
    with decoding("", PILLOW_ERRORS):
        image.im = before.im
        image.load()
    return np.array_equal(np.asarray(image.crop(last)), row)


def _deep_channels(data: bytes, channels: int) -> list[Image.Image]:
    """The channels of a PNG of 16-bit colours, each as a grey picture. The filters of a row look at bytes of their own
    channel only (PNG 9.2), so inflated rows fall apart into rows of grey pictures, and equal rows are equal pixels."""
    width, height = struct.unpack_from(">II", data, 16)
    grids = ADAM7 if data[28] else ((0, 0, 1, 1),)
    passes = [(-(-(height - top) // down), -(-(width - left) // right)) for top, left, down, right in grids]
    passes = [(rows, columns) for rows, columns in passes if rows > 0 and columns > 0]
    size = sum(rows * (1 + 2 * channels * columns) for rows, columns in passes)
    parts = [(kind, data[start + 8 : end - 4]) for kind, start, end in _png_parts(data)]
    with decoding("", (zlib.error,)):
        inflated = zlib.decompressobj().decompress(b"".join(body for kind, body in parts if kind == b"IDAT"), size)
    if len(inflated) < size:
        raise RadiographError(CUT_SHORT)
    filters, samples, position = [], [], 0
    for rows, columns in passes:
        stride = 1 + 2 * channels * columns
        filters.append(np.ndarray(rows, np.uint8, inflated, position, stride))
        steps = stride, 2 * channels, 2
        samples.append(np.ndarray((rows, columns, channels), np.uint16, inflated, position + 1, steps))
        position += rows * stride

    def equal(one: int, other: int) -> bool:
        return one == other or all(np.array_equal(part[..., one], part[..., other]) for part in samples)

    def plane(channel: int) -> bytes:
        rows = []
        for kind, part in zip(filters, samples, strict=True):
            rows.append(np.empty((len(kind), 1 + 2 * part.shape[1]), np.uint8))
            rows[-1][:, 0] = kind
            np.ndarray(part.shape[:2], np.uint16, rows[-1], 1, (rows[-1].shape[1], 2))[:] = part[..., channel]
        return zlib.compress(b"".join(row.tobytes() for row in rows), 0)

    head = data[:8] + _png_part(b"IHDR", data[16:25] + b"\0" + data[26:29])
    tail = b"".join(_png_part(kind, body) for kind, body in parts if kind not in PNG_CHUNKS) + _png_part(b"IEND", b"")
    first = [next(one for one in range(channel + 1) if equal(one, channel)) for channel in range(channels)]
    images = {}
    for channel in set(first):
        images[channel] = _open(head + _png_part(b"IDAT", plane(channel)) + tail, "PNG")
        images[channel] = _turned(images[channel])
    for body in (body for kind, body in parts if kind == b"tRNS" and len(body) == 6):
        images[0].info["transparency"] = struct.unpack(">3H", body)
    return [images[channel] for channel in first]


def _png_part(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _png_parts(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every chunk of a PNG, to its last one.

    Raises:
        RadiographError: cut short, or more than `MAX_PARTS` chunks.
    """
    position = 8
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise RadiographError(CUT_SHORT)
        length, kind = struct.unpack_from(">I4s", data, position)
        start, position = position, position + 12 + length
        if position > len(data):
            raise RadiographError(CUT_SHORT)
        yield kind, start, position
        if kind == b"IEND":
            return
    raise RadiographError(f"the file has more than {MAX_PARTS:,} parts")


def _plain_png(data: bytes) -> bytes:
    """A PNG with those of its chunks alone that change its pixels; one head, at its start (PNG 5.6)."""
    kept, orientations = [], 0
    for kind, start, end in _png_parts(data):
        if (kind == b"IHDR") != (start == 8):
            if start == 8:
                raise RadiographError("damaged at its start")
            continue
        if end - start < 2**16 and (kind == b"eXIf" or data.startswith(ORIENTATIONS, start + 8)):
            orientations += 1
            if orientations > 2:
                continue
        elif kind not in PNG_CHUNKS:
            continue
        kept.append((start, end))
    if sum(end - start for start, end in kept) + 8 == len(data):
        return data
    return data[:8] + b"".join(data[start:end] for start, end in kept)


# ---------------------------------------------------------------------------------------------------------------- JPEG


def decode_jpeg(data: bytes) -> Image.Image:
    """The first picture of a JPEG file, as it lies in the file.

    A decoder that meets the end marker too early fills the picture up with grey, without an error; one that meets no
    end asks for more. So it gets all but the marker first, and must have all that it needs, or of several scans at
    least no part of a block that it cannot finish.

    Raises:
        RadiographError: see `decode_picture`.
    """
    data, scans = _plain_jpeg(data)
    image = _open(data, "JPEG")
    with decoding("", PILLOW_ERRORS):
        image.load_prepare()
        codec, extents, _, options = image.tile[0]
        decoder = Image._getdecoder(image.mode, codec, options, image.decoderconfig)
        try:
            decoder.setimage(image.im, extents)
            read, error = decoder.decode(data)
            if read == len(data) and scans > 1:
                read, error = decoder.decode(b"\xff\xd9")
        finally:
            decoder.cleanup()
        if read >= 0:
            raise RadiographError(CUT_SHORT)
        if error < 0:
            raise OSError
    image.tile = []
    return image


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
    if missing is None:
        raise RadiographError("the JPEG is of a kind that is not read, neither baseline nor progressive")
    if missing:
        raise RadiographError(CUT_SHORT)
    kept.append(ENOUGH)
    return b"".join(kept), scans
