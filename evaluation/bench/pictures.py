"""Reading a radiograph beside reading it by hand.

By hand is what a user would write with Pillow or pydicom and numpy, without a check of any kind. The pictures are
drawn: noise over a soft shape, of a detector's size.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from evaluation.bench.turns import Row
from processing_trrg import read_radiograph

HEIGHT, WIDTH = 2500, 2048
GOALS = {
    "PNG, grey as RGB": "<= 1.2", "JPEG, grey as RGB": "<= 1.2", "DICOM, 8 bits": "<= 1.0", "DICOM, 12 bits": "<= 1.0",
    "DICOM, 12 bits, MONOCHROME1": "<= 1.0", "DICOM, 12 bits, window": "<= 0.4",
}  # fmt: skip
Reader = Callable[[bytes], Any]


def draw(height: int, width: int, bits: int = 8) -> np.ndarray:
    """uint8 or uint16 `[height, width]`: a soft shape and the noise of a detector."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    noise = np.random.default_rng(0).normal(0, 0.01, (height, width))
    grey = (0.2 + 0.6 * np.exp(-2 * (x * x + y * y)) + 0.1 * np.sin(9 * x) + noise).clip(0, 1)
    return (grey * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def deep_colours(pixels: np.ndarray) -> bytes:
    """Grey of 16 bits stored as a PNG of three colours, which Pillow does not write: its rows, each sample thrice."""
    data = picture(pixels)
    rows = np.frombuffer(zlib.decompress(b"".join(body for kind, body in chunks(data) if kind == b"IDAT")), np.uint8)
    rows = rows.reshape(len(pixels), -1)
    thrice = np.repeat(rows[:, 1:].reshape(*pixels.shape, 1, 2), 3, axis=2).reshape(len(pixels), -1)
    body = zlib.compress(np.hstack([rows[:, :1], thrice]).tobytes(), 6)
    parts = (b"IHDR", struct.pack(">IIBBBBB", *pixels.shape[::-1], 16, 2, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and body of each part of a PNG."""
    found, position = [], 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def dicom(pixels: np.ndarray, bits: int, compressed: bytes = b"", **tags: Any) -> bytes:
    """The file of a chest radiograph."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if compressed else ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", "CR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.PixelRepresentation = 8 * pixels.dtype.itemsize, 0
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([compressed]) if compressed else pixels.tobytes()
    dataset["PixelData"].VR = "OB" if compressed or bits == 8 else "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def picture_by_hand(data: bytes) -> np.ndarray:
    """Grey of a PNG or JPEG; of 16-bit colours Pillow knows the upper bytes alone."""
    image = Image.open(io.BytesIO(data))
    return np.asarray(image if image.mode in ("L", "I;16") else image.convert("L"))


def dicom_by_hand(data: bytes) -> np.ndarray:
    """Grey as pydicom shows it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    grey = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return grey.max() - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def cases(height: int = HEIGHT, width: int = WIDTH) -> dict[str, tuple[bytes, Reader]]:
    """By name: a file, and how it is read by hand."""
    eight, twelve, sixteen = (draw(height, width, bits) for bits in (8, 12, 16))
    small = draw(512, 512)
    window: dict[str, Any] = {"WindowCenter": 2000, "WindowWidth": 3000}
    pictures = {
        "JPEG of 128 pixels": picture(draw(128, 128), "JPEG"),
        "JPEG of 512 pixels": picture(small, "JPEG"),
        "JPEG, grey as RGB, of 512 pixels": picture(np.stack([small] * 3, 2), "JPEG"),
        "JPEG": picture(eight, "JPEG"),
        "JPEG, grey as RGB": picture(np.stack([eight] * 3, 2), "JPEG"),
        "progressive JPEG of 512 pixels": picture(small, "JPEG", progressive=True),
        "progressive JPEG": picture(eight, "JPEG", progressive=True),
        "PNG of 512 pixels": picture(small),
        "PNG": picture(eight),
        "PNG, grey as RGB": picture(np.stack([eight] * 3, 2)),
        "PNG, grey as RGBA": picture(np.stack([eight] * 3 + [np.full_like(eight, 255)], 2)),
        "PNG of 16 bits": picture(sixteen),
        "PNG of 16 bits, grey as RGB": deep_colours(sixteen),
    }
    dicoms = {
        "DICOM, 8 bits": dicom(eight, 8),
        "DICOM, 12 bits": dicom(twelve, 12),
        "DICOM, 12 bits, MONOCHROME1": dicom(twelve, 12, PhotometricInterpretation="MONOCHROME1"),
        "DICOM, 12 bits, window": dicom(twelve, 12, **window),
        "DICOM, 12 bits, window, MONOCHROME1": dicom(twelve, 12, PhotometricInterpretation="MONOCHROME1", **window),
        "DICOM, 12 bits, sigmoid": dicom(twelve, 12, VOILUTFunction="SIGMOID", **window),
        "DICOM, 12 bits, rescaled, window": dicom(twelve, 12, RescaleSlope="1.5", RescaleIntercept="-10", **window),
        "DICOM, 16 bits, window": dicom(sixteen, 16, WindowCenter=30000, WindowWidth=50000),
        "DICOM, JPEG": dicom(eight, 8, picture(eight, "JPEG")),
    }
    return {name: (data, picture_by_hand) for name, data in pictures.items()} | {
        name: (data, dicom_by_hand) for name, data in dicoms.items()
    }


def rows(quick: bool) -> Iterator[Row]:
    """A row a kind of picture."""
    for name, (data, by_hand) in (cases(120, 96) if quick else cases()).items():
        window, colours = "window" in name or "sigmoid" in name, "grey as RGB" in name
        reach = GOALS.get(name, "")
        why = "checked part by part, then decoded by the same libraries"
        if window:
            why = "each stored value is shown once, in a table, and the pixels are looked up in it"
        elif colours:
            why = "equal channels are found without a copy of the picture, and one of them is taken"
        row = Row("pictures", name, "Pillow or pydicom, and numpy", reach, why)
        yield row.by_turns(partial(read_radiograph, data), partial(by_hand, data), 0 if quick else 0.7)
