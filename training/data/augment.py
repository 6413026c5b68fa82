"""Image augmentation of the training sets: small rotation, shift, scale and gamma, keyed by the caller's generator.

Never a flip: the heart is on the left, and a report names sides. Gamma, since the image processor has taken gain and
offset out of every image.
"""

import numpy as np
from PIL import Image

ROTATION_DEGREES = 10.0
SHIFT = 0.06
"""Of the image's side."""
SCALE = 0.12
GAMMA = 0.4
"""Of the exponent's logarithm."""


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W) -> uint8 (H, W), moved and toned at random; what comes in from outside is black."""
    height, width = pixels.shape
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    scale = 1.0 + rng.uniform(-SCALE, SCALE)
    shift_x, shift_y = rng.uniform(-SHIFT, SHIFT, size=2) * (width, height)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # PIL wants the map from output to input pixels.
    coefficients = (
        cos, sin, centre_x - cos * (centre_x + shift_x) - sin * (centre_y + shift_y),
        -sin, cos, centre_y + sin * (centre_x + shift_x) - cos * (centre_y + shift_y),
    )  # fmt: skip
    moved = Image.fromarray(pixels).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
    table = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    return table[np.asarray(moved)]
