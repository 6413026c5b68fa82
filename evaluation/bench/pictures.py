"""How long a radiograph takes to read, beside reading it by hand: `make bench`, or
`python -m evaluation.benchmark_pictures --json pictures.json`.

By hand is what a user would write with Pillow or pydicom and numpy, without a check of any kind. Both read the same
bytes by turns, in this process and on one thread; the table has the least CPU time of each and their ratio. The
pictures are drawn: noise over a soft shape, of a detector's size. `--against FOLDER`: another checkout of this
repository, read by turns too.
"""

import argparse
import importlib
import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from processing_trrg import image_trrg

HEIGHT, WIDTH = 2500, 2048
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


def least_times(readers: dict[str, Reader], data: bytes, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU time of each reader, the least of at least three turns and about `seconds`."""
    least = dict.fromkeys(readers, np.inf)
    turn, end = 0, time.process_time() + seconds
    while turn < 3 or time.process_time() < end:
        for name, read in readers.items():
            start = time.process_time()
            read(data)
            least[name] = min(least[name], 1000 * (time.process_time() - start))
        turn += 1
    return least


def other_reader(checkout: Path) -> Reader:
    """`read_radiograph` of another checkout, under a name of its own."""
    package = ModuleType("other_processing_trrg")
    package.__path__ = [str(checkout / "processing_trrg")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.image_trrg").read_radiograph


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the same numbers")
    parser.add_argument("--seconds", type=float, default=3, help="about, of each row")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    options = parser.parse_args()
    print(f"{'CPU time, ms':38} by hand     ours  ratio" + ("    other  ours/other" if options.against else ""))
    rows = []
    for name, (data, by_hand) in cases().items():
        if options.only not in name:
            continue
        readers = {"by_hand": by_hand, "ours": image_trrg.read_radiograph}
        if options.against:
            readers["other"] = other_reader(options.against)
        times = least_times(readers, data, options.seconds)
        rows.append({"picture": name, **times, "ratio": times["ours"] / times["by_hand"]})
        line = f"{name:38} {times['by_hand']:7.2f}  {times['ours']:7.2f}  {rows[-1]['ratio']:5.2f}"
        print(line + (f"  {times['other']:7.2f}  {times['ours'] / times['other']:5.2f}" if options.against else ""))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
