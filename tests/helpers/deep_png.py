"""PNG files of 16-bit colours, and their parts: no installed encoder writes them."""

import struct
import zlib

import numpy as np

from processing_trrg.picture_trrg import ADAM7
from tests.helpers.tiny_processors import radiograph

DEEP = np.random.default_rng(0).integers(0, 40, (64, 48), np.uint16) + radiograph().astype(np.uint16) * 16  # 12 bits


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(*channels: np.ndarray | int, parts: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of 16 bits a sample, which no installed encoder writes."""
    samples = np.stack([np.broadcast_to(channel, DEEP.shape) for channel in channels], axis=2).astype(">u2")
    kind = {2: 4, 3: 2, 4: 6}[len(channels)]
    grids = ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = b"".join(filtered(samples[top::down, left::right], 2 * len(channels)) for top, left, down, right in grids)
    head = struct.pack(">IIBBBBB", DEEP.shape[1], DEEP.shape[0], 16, kind, 0, 0, interlaced)
    parts += chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + parts


def filtered(samples: np.ndarray, pixel: int) -> bytes:
    """Rows of a PNG, by turns with what is above and what is left of a byte taken off (filters 2 and 1)."""
    rows = np.frombuffer(samples.tobytes(), np.uint8).reshape(len(samples), -1)
    above = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    left = rows - np.pad(rows, ((0, 0), (pixel, 0)))[:, :-pixel]
    return b"".join(b"\1" + left[y].tobytes() if y % 2 else b"\2" + above[y].tobytes() for y in range(len(rows)))
