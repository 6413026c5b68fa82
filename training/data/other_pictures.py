"""Pictures that are no upright frontal chest X-ray, drawn or made of one: `training.fit_readable` learns to refuse it.

`evaluation/other_pictures.py` draws those that it is measured on, in ways of its own.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 192
"""Pixels of a picture that is drawn."""
Maker = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""(generator, a radiograph uint8 `[H, W]`) -> uint8 `[h, w]`."""


def to_grey(values: np.ndarray) -> np.ndarray:
    """Any values to uint8, the smallest black and the largest white."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255 / max(high - low, 1e-9))).round().astype(np.uint8)


def clouds(rng: np.random.Generator, power: float, side: int = SIDE) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power of `power`, float `[side, side]`."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / np.maximum(frequency, 1 / side) ** power
    return np.fft.irfft2(spectrum, (side, side))


def noise(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Even noise in grains of 1 to 24 pixels."""
    grain = int(rng.integers(1, 25))
    small = rng.integers(0, 256, (-(-SIDE // grain),) * 2, dtype=np.uint8)
    return np.kron(small, np.ones((grain, grain), np.uint8))[:SIDE, :SIDE]


def smooth(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Clouds, from rough to a few soft blobs."""
    return to_grey(clouds(rng, rng.uniform(0.5, 3.0)))


def gradient(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """A slope of grey in any direction, with a little noise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = rng.uniform(0, 2 * np.pi)
    return to_grey(np.cos(angle) * x + np.sin(angle) * y + rng.normal(0, rng.uniform(0, 0.05), x.shape))


def stripes(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Stripes, or a chequered board."""
    y, x = np.mgrid[:SIDE, :SIDE]
    width, angle = rng.uniform(3, 40), rng.uniform(0, np.pi)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) / width * np.pi)
    if rng.random() < 0.5:
        wave = wave * np.sin((np.sin(angle) * x - np.cos(angle) * y) / width * np.pi)
    return to_grey(np.sign(wave) if rng.random() < 0.5 else wave)


def shapes(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Polygons, ellipses and lines in front of a plain ground."""
    picture = Image.new("L", (SIDE, SIDE), int(rng.integers(256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 20))):
        points = [tuple(point) for point in rng.uniform(0, SIDE, (int(rng.integers(2, 6)), 2)).tolist()]
        grey = int(rng.integers(256))
        if len(points) == 2:
            draw.line(points, fill=grey, width=int(rng.integers(1, 8)))
        elif rng.random() < 0.5:
            draw.polygon(points, fill=grey)
        else:
            (x, y), radius = points[0], rng.uniform(4, 50)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius * rng.uniform(0.3, 1.0)), fill=grey)
    return np.asarray(picture)


def writing(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """A page of words without meaning."""
    ground = int(rng.choice([0, 255, 235]))
    picture = Image.new("L", (SIDE, SIDE), ground)
    draw, size = ImageDraw.Draw(picture), int(rng.integers(6, 24))
    for y in range(int(rng.integers(0, 30)), SIDE, int(size * 1.4)):
        words = ["".join(map(chr, rng.integers(97, 123, int(rng.integers(1, 10))))) for _ in range(12)]
        draw.text((int(rng.integers(0, 20)), y), " ".join(words), fill=255 - ground, font_size=size)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))))


def cut(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """A quarter to two fifths of a radiograph's height and width, from anywhere."""
    height, width = (int(side * rng.uniform(0.25, 0.4)) for side in radiograph.shape)
    top, left = (int(rng.integers(0, s - p + 1)) for s, p in zip(radiograph.shape, (height, width), strict=True))
    return radiograph[top : top + height, left : left + width]


def turned(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Turned by 90, 180 or 270 degrees."""
    return np.rot90(radiograph, int(rng.integers(1, 4))).copy()


def negative(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """Black for white."""
    return 255 - radiograph


def puzzle(rng: np.random.Generator, radiograph: np.ndarray) -> np.ndarray:
    """A radiograph in tiles that changed places."""
    count = int(rng.integers(2, 7))
    side = min(radiograph.shape) // count
    starts = [(i * side, j * side) for i in range(count) for j in range(count)]
    tiles = [radiograph[top : top + side, left : left + side] for top, left in starts]
    order = rng.permutation(count * count)
    return np.block([[tiles[order[i * count + j]] for j in range(count)] for i in range(count)])


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (noise, smooth, gradient, stripes, shapes, writing, cut, turned, negative, puzzle)
}
