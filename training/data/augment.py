"""Image augmentation of the training sets: small rotation, shift, scale and gamma, keyed by the caller's generator.

Never a flip: the heart is on the left, and a report names sides. Gamma, since the image processor has taken gain and
offset out of every image.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

ROTATION_DEGREES = 10.0
SHIFT = 0.06
"""Of the image's side."""
SCALE = 0.12
GAMMA = 0.4
"""Of the exponent's logarithm."""


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


def augment(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Motion]:
    """uint8 (H, W) -> uint8 (H, W), moved and toned at random, and how it was moved; what comes in from outside is
    black."""
    height, width = pixels.shape
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    scale = 1.0 + rng.uniform(-SCALE, SCALE)
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
    return table[np.asarray(moved)], motion
