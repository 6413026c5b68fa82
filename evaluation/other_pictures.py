"""Pictures that no chest X-ray model can read, which `score_abstention` shows: drawn in ways that training never saw.

Nothing in training imports this file, and what `training.data.other_pictures` draws is not drawn here; only the changed
radiographs (cut, turned, negative) are of kinds that were learned. Two photographs come with scikit-learn and one
with Matplotlib. All drawings are SYNTHETIC.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_sample_images

SIDE = 256
"""Pixels of a drawn picture."""
WORDS = ("the", "patient", "should", "bring", "this", "letter", "and", "a", "form", "to", "our", "desk", "at", "ten")


def _finish(picture: Image.Image, rng: np.random.Generator, blur: float = 1.5, noise: float = 4.0) -> np.ndarray:
    grey = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=float)
    return (grey + rng.normal(0, noise, grey.shape)).clip(0, 255).astype(np.uint8)


def _canvas(grey: int = 0) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("L", (SIDE, SIDE), grey)
    return picture, ImageDraw.Draw(picture)


def blank(rng: np.random.Generator) -> np.ndarray:
    """An exposure of nothing: one grey with a little noise and a label in a corner."""
    picture, draw = _canvas(int(rng.integers(20, 235)))
    draw.text((int(rng.integers(5, 220)), 8), "R", fill=250, font_size=24)
    return _finish(picture, rng, 1.0, rng.uniform(0.5, 3))


def vignette(rng: np.random.Generator) -> np.ndarray:
    """A lamp on a wall: bright in the middle, or dark."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    centre = rng.uniform(0.3, 0.7, 2)
    glow = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / rng.uniform(0.03, 0.3))
    grey = (glow if rng.random() < 0.5 else 1 - glow) * 220 + rng.normal(0, 2, x.shape)
    return grey.clip(0, 255).astype(np.uint8)


def speckle(rng: np.random.Generator) -> np.ndarray:
    """Film grain, smoothed over some pixels, with dust."""
    grey = Image.fromarray(rng.gamma(1.5, 50, (SIDE, SIDE)).clip(0, 255).astype(np.uint8))
    return _finish(grey, rng, rng.uniform(1.5, 5))


@cache
def _photographs() -> list[np.ndarray]:
    portrait = np.asarray(Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))).convert("L"))
    return [np.asarray(Image.fromarray(image).convert("L")) for image in load_sample_images().images] + [portrait]


def photograph(rng: np.random.Generator) -> np.ndarray:
    """A part of a real photograph: a temple, a flower or a portrait."""
    picture = _photographs()[int(rng.integers(3))]
    height, width = (int(side * rng.uniform(0.35, 1.0)) for side in picture.shape)
    top, left = (int(rng.integers(0, s - p + 1)) for s, p in zip(picture.shape, (height, width), strict=True))
    part = picture[top : top + height, left : left + width]
    return part[:, ::-1].copy() if rng.random() < 0.5 else part.copy()


def scene(rng: np.random.Generator) -> np.ndarray:
    """A landscape: a sky with clouds, hills, houses and trees."""
    picture, draw = _canvas()
    for row in range(SIDE):
        draw.line((0, row, SIDE, row), fill=int(230 - 0.4 * row))
    for _ in range(int(rng.integers(0, 6))):
        x, y, w = rng.uniform(0, SIDE), rng.uniform(0, 90), rng.uniform(20, 60)
        draw.ellipse((x - w, y - w / 3, x + w, y + w / 3), fill=245)
    for hill in range(3):
        base = 120 + 35 * hill + rng.uniform(-15, 15)
        across = np.arange(0, SIDE + 8, 8)
        tops = base + 20 * np.sin(across / rng.uniform(20, 60) + rng.uniform(0, 6))
        outline = [*zip(across.tolist(), tops.tolist(), strict=True), (SIDE, SIDE), (0, SIDE)]
        draw.polygon(outline, fill=int(rng.integers(50, 170)))
    for _ in range(int(rng.integers(1, 8))):
        x, y, w = rng.uniform(0, SIDE), rng.uniform(140, 220), rng.uniform(15, 45)
        if rng.random() < 0.5:
            draw.rectangle((x, y - w, x + w, y), fill=int(rng.integers(90, 220)))
            draw.polygon([(x - 4, y - w), (x + w + 4, y - w), (x + w / 2, y - 1.7 * w)], fill=60)
            draw.rectangle((x + w * 0.4, y - w * 0.5, x + w * 0.6, y), fill=30)
        else:
            draw.rectangle((x - 3, y - w, x + 3, y), fill=50)
            draw.ellipse((x - w / 2, y - 1.8 * w, x + w / 2, y - w * 0.6), fill=int(rng.integers(20, 90)))
    return _finish(picture, rng, 1.0, 6.0)


def page(rng: np.random.Generator) -> np.ndarray:
    """A letter, photographed: words on paper with a shadow."""
    picture, draw = _canvas(225)
    size = int(rng.integers(9, 16))
    for y in range(int(rng.integers(15, 60)), SIDE - 15, int(size * 1.5)):
        line = " ".join(rng.choice(WORDS, int(rng.integers(2, 9))))
        draw.text((20, y), line, fill=int(rng.integers(10, 60)), font_size=size)
    shadow = np.linspace(rng.uniform(0.6, 1), 1, SIDE)[None]
    return (_finish(picture.rotate(rng.uniform(-8, 8), fillcolor=90), rng, 0.6) * shadow).astype(np.uint8)


def chart(rng: np.random.Generator) -> np.ndarray:
    """Bars and a curve between axes."""
    picture, draw = _canvas(255)
    draw.line((30, 20, 30, 225, 235, 225), fill=0, width=2)
    for x in range(40, 225, int(rng.integers(14, 30))):
        draw.rectangle((x, 225 - rng.uniform(10, 180), x + 10, 224), fill=int(rng.integers(60, 200)))
    curve = [(x, 120 + 60 * np.sin(x / rng.uniform(15, 40))) for x in range(32, 230, 6)]
    draw.line(curve, fill=20, width=2)
    return _finish(picture, rng, 0.5, 1.0)


def hand(rng: np.random.Generator) -> np.ndarray:
    """A hand on a detector: soft tissue, and bones in rows."""
    picture, draw = _canvas(int(rng.integers(5, 30)))
    flesh, bone = int(rng.integers(70, 110)), int(rng.integers(170, 230))
    draw.ellipse((75, 130, 185, 240), fill=flesh)
    draw.rectangle((95, 200, 165, SIDE), fill=flesh)
    for number, angle in enumerate(np.radians([-48, -18, -4, 10, 25]) + rng.normal(0, 0.04)):
        length = (80, 125, 138, 128, 100)[number] * rng.uniform(0.9, 1.05)
        start = np.array([108 + 12 * number, 185.0])
        step = np.array([np.sin(angle), -np.cos(angle)])
        draw.line([*(start + 20 * step), *(start + length * step)], fill=flesh, width=24)
        for a, b in ((0.12, 0.48), (0.52, 0.74), (0.77, 0.88), (0.91, 1.0)):
            draw.line([*(start + a * length * step), *(start + b * length * step)], fill=bone, width=9)
    for _ in range(8):
        x, y = rng.uniform(105, 155), rng.uniform(190, 215)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=bone)
    draw.line((115, 222, 115, SIDE), fill=bone, width=14)
    draw.line((145, 222, 145, SIDE), fill=bone, width=18)
    return _finish(picture.rotate(rng.uniform(-20, 20)), rng)


def leg(rng: np.random.Generator) -> np.ndarray:
    """A knee: two long bones that meet."""
    picture, draw = _canvas(int(rng.integers(5, 30)))
    flesh, bone = int(rng.integers(70, 120)), int(rng.integers(180, 235))
    draw.polygon([(70, 0), (190, 0), (175, SIDE), (85, SIDE)], fill=flesh)
    joint = rng.uniform(105, 150)
    draw.polygon([(112, 0), (150, 0), (172, joint - 6), (90, joint - 6)], fill=bone)
    draw.polygon([(90, joint + 6), (172, joint + 6), (146, SIDE), (114, SIDE)], fill=bone)
    draw.line((160, joint + 20, 158, SIDE), fill=bone, width=9)
    return _finish(picture.rotate(rng.uniform(-15, 15)), rng)


def skull(rng: np.random.Generator) -> np.ndarray:
    """A head from the side: a bright shell, sinuses, a jaw and the neck."""
    picture, draw = _canvas(int(rng.integers(5, 30)))
    inner = int(rng.integers(110, 150))
    draw.rectangle((120, 150, 175, SIDE), fill=inner - 40)
    draw.ellipse((45, 20, 215, 185), fill=225)
    draw.ellipse((53, 28, 207, 177), fill=inner)
    draw.polygon([(60, 130), (75, 215), (125, 205), (130, 150)], fill=inner + 20)
    draw.ellipse((62, 110, 95, 140), fill=50)
    for y in range(180, SIDE, 18):
        draw.rectangle((135, y, 165, y + 13), fill=200)
    return _finish(picture.rotate(rng.uniform(-10, 10)), rng)


def ct_slice(rng: np.random.Generator) -> np.ndarray:
    """A slice through a chest: two dark lungs in an oval body, seen from below."""
    picture, draw = _canvas(0)
    wide = rng.uniform(95, 115)
    draw.ellipse((128 - wide, 50, 128 + wide, 205), fill=130)
    for side in (-1, 1):
        x = 128 + side * wide * 0.5
        draw.ellipse((x - 38, 70, x + 38, 180), fill=int(rng.integers(10, 40)))
    draw.ellipse((105, 95, 160, 150), fill=165)
    draw.ellipse((112, 160, 144, 192), fill=235)
    return _finish(picture, rng, 1.0, 5.0)


def ultrasound(rng: np.random.Generator) -> np.ndarray:
    """A fan of speckle with a dark hole."""
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([0, SIDE / 2])[:, None, None]
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    grain = Image.fromarray(rng.gamma(2, 40, (SIDE, SIDE)).clip(0, 255).astype(np.uint8))
    grey = np.asarray(grain.filter(ImageFilter.GaussianBlur(1.8)), dtype=float)
    grey *= np.exp(-radius / rng.uniform(150, 400))
    hole = (x - rng.uniform(-40, 40)) ** 2 + (y - rng.uniform(90, 160)) ** 2 < rng.uniform(15, 40) ** 2
    grey[hole] *= 0.15
    grey[(np.abs(angle) > 0.65) | (radius > 235) | (radius < 20)] = 0
    return grey.clip(0, 255).astype(np.uint8)


DRAWN: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    maker.__name__: maker
    for maker in (
        blank, vignette, speckle, photograph, scene, page, chart, hand, leg, skull, ct_slice, ultrasound
    )
}  # fmt: skip


def corner(radiograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third of height and width, at a corner."""
    height, width = (side // 3 for side in radiograph.shape)
    part = radiograph[:height] if rng.random() < 0.5 else radiograph[-height:]
    return (part[:, :width] if rng.random() < 0.5 else part[:, -width:]).copy()


CHANGED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "corner": corner,
    "turned by 90": lambda radiograph, rng: np.rot90(radiograph, int(rng.choice([1, 3]))).copy(),
    "turned by 180": lambda radiograph, rng: np.rot90(radiograph, 2).copy(),
    "negative": lambda radiograph, rng: 255 - radiograph,
}
"""Of a radiograph uint8 `[H, W]`."""
