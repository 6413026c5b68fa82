"""Image augmentation of the training sets: small rotation, shift, scale and gamma, keyed by the caller's generator.

Gamma, since the image processor has taken gain and offset out of every image. The strong form (`data.strong_augment`)
turns and scales more and draws what other scanners and screens do to a picture: contrast, noise, blur, and boxes over
parts of it. No flip here: the heart is on the left, and a report names sides. An image whose labels name none may be
mirrored before (`mirrored` of its source).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

ROTATION_DEGREES, STRONG_ROTATION_DEGREES = 10.0, 15.0
SHIFT = 0.06
"""Of the image's side."""
SCALE, STRONG_SCALE = 0.12, 0.2
GAMMA = 0.4
"""Of the exponent's logarithm."""
CONTRAST, BRIGHTNESS = 0.25, 20.0
"""Of the gain's logarithm, and in grey levels of 255."""
NOISE, NOISY = (2.0, 10.0), 0.5
"""Standard deviation in grey levels of 255, and the share of pictures."""
BLUR, BLURRED = (0.3, 1.2), 0.3
"""Radius in pixels, and the share of pictures."""
BOXES, SMALLEST_BOX, LARGEST_BOX = 2, 1 / 14, 1 / 4
"""At most so many; their sides, of the image's."""


@dataclass(frozen=True)
class Motion:
    """How a picture of `height` x `width` pixels was turned about its middle (by `angle`, in radians), scaled and then
    shifted (in pixels)."""

    height: int
    width: int
    angle: float
    scale: float
    shift_x: float
    shift_y: float

    @property
    def centre(self) -> tuple[float, float]:
        """x and y of what turns and scaling leave in its place."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def move_box(self, x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        """Where a box (x, y, w, h) is now: around the ellipse in it, since the box around its turned corners would be
        much larger than any finding."""
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        centre_x, centre_y = self.centre
        to_x, to_y = x + w / 2 - centre_x, y + h / 2 - centre_y
        middle_x = centre_x + self.shift_x + cos * to_x - sin * to_y
        middle_y = centre_y + self.shift_y + sin * to_x + cos * to_y
        w, h = float(np.hypot(cos * w, sin * h)), float(np.hypot(sin * w, cos * h))
        return float(middle_x - w / 2), float(middle_y - h / 2), w, h


def augment(pixels: np.ndarray, rng: np.random.Generator, strong: bool = False) -> tuple[np.ndarray, Motion]:
    """uint8 (H, W) -> uint8 (H, W), moved and toned at random, and how it was moved; what comes in from outside is
    black, before contrast and brightness."""
    height, width = pixels.shape
    most = STRONG_ROTATION_DEGREES if strong else ROTATION_DEGREES
    angle = np.deg2rad(rng.uniform(-most, most))
    scale = 1.0 + (rng.uniform(-STRONG_SCALE, STRONG_SCALE) if strong else rng.uniform(-SCALE, SCALE))
    motion = Motion(height, width, angle, scale, *(rng.uniform(-SHIFT, SHIFT, size=2) * (width, height)))
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    centre_x, centre_y = motion.centre
    x, y = centre_x + motion.shift_x, centre_y + motion.shift_y
    # PIL wants the map from output to input pixels.
    coefficients = (cos, sin, centre_x - cos * x - sin * y, -sin, cos, centre_y + sin * x - cos * y)
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
    table = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    toned = table[np.asarray(moved)]
    return _disturbed(toned, rng) if strong else toned, motion


def _disturbed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W) -> uint8 (H, W): contrast and brightness; noise or blur or both or none; boxes of one grey."""
    height, width = pixels.shape
    gain = np.exp(rng.uniform(-CONTRAST, CONTRAST))
    grey = (pixels.astype(np.float32) - 128) * gain + 128 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    if rng.uniform() < NOISY:
        grey = grey + rng.normal(0, rng.uniform(*NOISE), grey.shape)
    found = grey.clip(0, 255).round().astype(np.uint8)
    if rng.uniform() < BLURRED:
        found = np.array(Image.fromarray(found).filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR))))
    for _ in range(rng.integers(0, BOXES + 1)):
        h, w = (int(rng.uniform(SMALLEST_BOX, LARGEST_BOX) * side) for side in (height, width))
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        found[top : top + h, left : left + w] = int(rng.uniform(0, 255))
    return found
