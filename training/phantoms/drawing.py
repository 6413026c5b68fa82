"""How the chest of a phantom is drawn: a SYNTHETIC radiograph without findings. Never for clinical use.

Coordinates of the body: x is 0 at the midline and grows to the patient's LEFT (image right), y grows downwards; both
are fractions of the image side, before scale, shift and rotation. Brightness runs from 0 to 1 (bright is dense).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PAD = 0.04  # of the image side, drawn around it so that a rotated phantom has no empty corner
NUDGE = 0.04  # change of brightness (0..1) below which a pixel does not count as changed

Array = np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """One drawn patient on one drawn detector. Lengths are fractions of the image side, brightness runs from 0 to 1."""

    scale: float
    shift_x: float
    shift_y: float
    rotation: float  # degrees
    width: float  # midline to the lateral lung border at the base
    apex: float
    dome_right: float
    dome_step: float  # the left dome is lower
    angle_depth: float  # dome to costophrenic angle
    ctr: float
    apex_round: float  # of the left heart border
    mediastinum: float
    knob: float
    rib_start: float
    rib_spacing: float
    rib_bend: float
    rib_light: float
    clavicle: float
    torso: float
    shoulder: float
    arms: float
    breast: float
    lung_light: float
    soft_light: float
    nodule_light: float
    gas: float
    vessels: float
    gamma: float
    black: float
    white: float
    noise: float
    blur: float  # of the image side

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "scale": (0.92, 1.07), "shift_x": (-0.03, 0.03), "shift_y": (-0.03, 0.02), "rotation": (-5, 5),
        "width": (0.335, 0.385), "apex": (0.095, 0.125), "dome_right": (0.69, 0.75), "dome_step": (0.005, 0.035),
        "angle_depth": (0.09, 0.125), "ctr": (0.38, 0.46), "apex_round": (1.4, 2.1), "mediastinum": (0.055, 0.075),
        "knob": (0.015, 0.04), "rib_start": (0.0, 0.07), "rib_spacing": (0.068, 0.08), "rib_bend": (1.0, 2.2),
        "rib_light": (0.05, 0.10), "clavicle": (0.10, 0.18), "torso": (0.42, 0.47), "arms": (0.0, 0.4),
        "shoulder": (0.07, 0.12), "breast": (-0.1, 0.12), "lung_light": (0.12, 0.26), "soft_light": (0.50, 0.62),
        "nodule_light": (0.19, 0.28), "gas": (-0.1, 0.2), "vessels": (0.11, 0.21), "gamma": (0.6, 1.15),
        "black": (0.0, 0.10), "white": (0.88, 1.0), "noise": (0.008, 0.025), "blur": (0.002, 0.004),
    }  # fmt: skip

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw an anatomy."""
        return cls(**{name: float(rng.uniform(low, high)) for name, (low, high) in cls.RANGES.items()})

    def lateral(self, y: Any) -> Any:
        """Distance of the lateral lung border from the midline."""
        t = np.clip((y - self.apex) / (self.dome_right + self.angle_depth - self.apex), 0, 1)
        return self.width * (1.0 - 0.60 * (1 - t) ** 3.2)

    def cap(self, x: Any) -> Any:
        """Height (y) of the upper lung border."""
        return self.apex + 9.0 * (np.abs(x) - 0.13) ** 2

    def dome(self, x: Any) -> Any:
        """Height (y) of the diaphragm; falls to the costophrenic angle laterally."""
        ax, peak = np.abs(x), 0.42 * self.width
        fall = np.where(ax > peak, self.angle_depth * ((ax - peak) / (self.width - peak)) ** 2, 2 * (ax - peak) ** 2)
        return self.dome_right + self.dome_step * (np.asarray(x) > 0) + fall

    def heart(self, y: Any, ctr: float) -> tuple[Any, Any]:
        """Distances of the left and the right border of the heart from the midline, for a cardiothoracic ratio."""
        top, offset = 0.385 - 0.1 * (ctr - 0.42), 0.05 + 0.06 * (ctr - 0.42)
        t = np.clip((y - top) / (self.dome_right + 0.035 - top), 0, 1.1)
        left = (ctr * self.width + offset) * (1 - np.abs(1 - t / 0.82) ** self.apex_round)
        return left, (ctr * self.width - offset) * (1 - np.abs(1 - t / 0.65) ** 2)


def step(distance: Array, softness: float) -> Array:
    """0 to 1 where `distance` goes from -softness to +softness."""
    t = distance * (0.5 / softness)
    t += 0.5
    np.clip(t, 0, 1, out=t)
    curve = t * -2
    curve += 3
    t *= t
    t *= curve
    return t


def smooth_line(points: Sequence[tuple[float, float]]) -> Array:
    """Chaikin's corner cutting, three times. [n, 2] -> [m, 2], end points kept."""
    p = np.asarray(points, dtype=np.float64)
    for _ in range(3):
        cut = np.stack([0.75 * p[:-1] + 0.25 * p[1:], 0.25 * p[:-1] + 0.75 * p[1:]], 1).reshape(-1, 2)
        p = np.concatenate([p[:1], cut, p[-1:]])
    return p


class Canvas:
    """The body grid of one phantom: `light` [S, S] is what is drawn."""

    def __init__(self, anatomy: Anatomy, size: int):
        self.anatomy, self.size = anatomy, size
        self.pad = round(PAD * size)
        self.side = size + 2 * self.pad
        grid = (np.arange(self.side, dtype=np.float32) + 0.5 - self.pad) / size
        self.x = ((grid - 0.5 - anatomy.shift_x) / anatomy.scale)[None, :]
        self.y = ((grid - 0.5 - anatomy.shift_y) / anatomy.scale + 0.5)[:, None]
        self.ax = np.abs(self.x)
        self.light: Array = np.zeros((self.side, self.side), np.float32)

    def pixels(self, points: Array) -> Array:
        """Body coordinates [n, 2] -> canvas pixels [n, 2]."""
        a = self.anatomy
        x = points[:, 0] * a.scale + 0.5 + a.shift_x
        y = (points[:, 1] - 0.5) * a.scale + 0.5 + a.shift_y
        return np.stack([x, y], 1) * self.size + self.pad

    def half(self, side: str | None) -> Array:
        """The half of the canvas that is left or right of the PATIENT."""
        return self.x > 0 if side == "left" else self.x <= 0

    def blend(self, value: Any, mask: Array) -> Array:
        """Draw `value` where `mask` is 1; returns the change of light."""
        change = (value - self.light) * mask
        self.light += change
        return change

    def bump(self, x: float, y: float, rx: float, ry: float) -> Array:
        """A soft round spot: 1 at its centre, 0 on the ellipse with half axes rx, ry."""
        return np.clip(1 - ((self.x - x) / rx) ** 2 - ((self.y - y) / ry) ** 2, 0, 1)

    def side_bump(self, x: float, y: float, rx: float, ry: float) -> Array:
        """`bump` on both sides."""
        return np.clip(1 - ((self.ax - x) / rx) ** 2 - ((self.y - y) / ry) ** 2, 0, 1)

    def paint(self, draw: Callable[[ImageDraw.ImageDraw, int], None], over: int = 1) -> Array:
        """What `draw` paints on an empty plane of `over` times the resolution, as float [S, S] in 0..1."""
        plane = Image.new("L", (self.side * over, self.side * over))
        draw(ImageDraw.Draw(plane), over)
        return np.asarray(plane.reduce(over) if over > 1 else plane, np.float32) / 255

    def affine(self) -> Array:
        """Image pixel -> canvas pixel, [2, 3]: the rotation about the image's centre."""
        angle = np.deg2rad(self.anatomy.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = self.size / 2
        return np.concatenate([turn, (middle + self.pad - turn @ [middle, middle])[:, None]], 1)

    def box(self, change: Array) -> tuple[int, int, int, int]:
        """The box (x, y, w, h) in image pixels around all pixels with a visible change of light."""
        rows, columns = np.nonzero(np.abs(change) > NUDGE)
        turn = self.affine()
        # The inverse of a rotation is its transpose.
        points = (np.stack([columns, rows], 1) + 0.5 - turn[:, 2]) @ turn[:, :2]
        margin = 1 + 2 * self.anatomy.blur * self.size
        low = np.clip(np.floor(points.min(0) - margin), 0, self.size).astype(int)
        high = np.clip(np.ceil(points.max(0) + margin), 0, self.size).astype(int)
        return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def draw_body(c: Canvas) -> Array:
    """Outline, shoulders, arms, abdomen, gas, breasts. Returns the lungs' air [S, S] in 0..1."""
    a, x, y = c.anatomy, c.ax, c.y
    outline = 0.14 + 0.48 * step(y - a.shoulder, 0.12)
    body = step(outline - x, 0.02)
    armpit = step(x - a.torso - 0.4 * np.clip(0.42 - y, 0, 1), 0.02)
    tissue = np.interp(y, [0.0, 0.15, 0.45, 0.75, 1.0], [0.44, 0.48, 0.56, 0.72, 0.80]).astype(np.float32)
    tissue = tissue + (a.soft_light - 0.56)
    c.light = body * (tissue - 0.5 * x * x) * (1 - (1 - a.arms) * armpit)
    below = a.dome(c.x).astype(np.float32)
    abdomen = step(y - below, 0.015) * step(a.torso - 0.03 - x, 0.03)
    c.blend(0.82 + (a.soft_light - 0.56), abdomen)
    if a.gas > 0:
        c.light -= a.gas * step(c.bump(0.16, a.dome_right + 0.12, 0.09, 0.04), 0.3) * abdomen
    air = step(a.lateral(y).astype(np.float32) - x, 0.008)
    air = air * step(y - a.cap(x).astype(np.float32), 0.012) * step(below - y, 0.006) * step(x - 0.02, 0.02)
    c.blend(a.lung_light + 0.10 * (y - 0.4), air)
    if a.breast > 0:
        c.light += a.breast * step(c.side_bump(0.21, 0.66, 0.19, 0.16), 0.12) * body
    return air


def draw_vessels(c: Canvas, air: Array, rng: np.random.Generator) -> Array:
    """Hila and branching markings, [S, S] in 0..1, brightest and widest at the hilum."""
    count, joints = 30, 5
    turns = rng.normal(0, 0.22, (2, count, joints)).cumsum(-1)
    starts, reach = rng.uniform(-1.3, 1.5, (2, count)), rng.uniform(0.10, 0.36, (2, count))
    roots, lights = rng.normal(0, 0.018, (2, count, 2)), rng.integers(90, 230, (2, count))

    def draw(pen: ImageDraw.ImageDraw, over: int) -> None:
        for i, sign in enumerate((1, -1)):
            angle = starts[i][:, None] + turns[i]
            legs = np.stack([sign * np.cos(angle), np.sin(angle)], -1) * (reach[i] / joints)[:, None, None]
            origin = np.array([sign * 0.085, 0.43]) + roots[i] * [0.5, 2.2]
            path = np.concatenate([origin[:, None], origin[:, None] + legs.cumsum(1)], 1)
            flat = c.pixels(path.reshape(-1, 2)).reshape(count, joints + 1, 2)
            for line, light in zip(flat.tolist(), lights[i].tolist(), strict=True):
                for first, last, width, fade in ((0, 1, 0.011, 1.0), (1, 3, 0.008, 0.7), (3, joints, 0.004, 0.4)):
                    branch = [tuple(point) for point in line[first : last + 1]]
                    pen.line(branch, fill=int(light * fade), width=max(1, round(c.size * width)))

    hila = c.side_bump(0.08, 0.43, 0.06, 0.11)
    return (c.paint(draw) + 0.5 * hila) * air


def draw_heart(c: Canvas, ctr: float) -> Array:
    """Mask [S, S] of the cardiac silhouette."""
    left, right = (border.astype(np.float32) for border in c.anatomy.heart(c.y, ctr))
    edge = np.where(c.x > 0, left, right)
    return step(edge - c.ax - 0.012, 0.012) * step(c.anatomy.dome(c.x).astype(np.float32) + 0.012 - c.y, 0.012)


def draw_mediastinum(c: Canvas, heart: Array) -> Array:
    """Heart, great vessels, aortic knob, spine and trachea, over the lungs. Returns how much of the lung they hide."""
    a, y = c.anatomy, c.y
    bright = 0.76 + (a.soft_light - 0.56)
    right = a.mediastinum * (0.85 + 0.25 * y)
    left = right + a.knob * np.clip(1 - ((y - 0.33) / 0.055) ** 2, 0, 1) + 0.025 * np.clip((y - 0.36) / 0.2, 0, 1)
    middle = step(np.where(c.x > 0, left, right).astype(np.float32) - c.ax, 0.014)
    cover = np.maximum(middle * 0.9, heart * 0.97)
    c.blend(bright, cover)
    discs = 1 + 0.25 * np.sin(c.y * (2 * np.pi / 0.052))
    c.light += 0.07 * discs * step(0.042 - c.ax, 0.012)
    c.light -= 0.13 * step(0.017 - np.abs(c.x + 0.006), 0.008) * step(0.37 - y, 0.02)
    return cover


def draw_bones(c: Canvas) -> None:
    """Posterior and anterior ribs, the edge of the cage, scapulae, humeral heads, clavicles."""
    a, x, y = c.anatomy, c.ax, c.y
    lateral = a.lateral(y).astype(np.float32)
    cage = step(lateral + 0.02 - x, 0.012) * step(y - 0.09, 0.03) * (1 - 0.75 * step(y - 0.80, 0.04))
    turns = (y - a.rib_start - a.rib_bend * (x - 0.11) ** 2) * (1 / a.rib_spacing)
    band = np.clip(0.55 + 1.6 * np.cos(2 * np.pi * turns), 0, 1)
    ribs = (band * 0.7 + band * (1 - band) * 1.6) * step(x - 0.05, 0.01)
    turns = (y - a.rib_start - 0.02 + 0.75 * x) * (1 / (a.rib_spacing * 1.15))
    front = np.clip(0.3 + 1.5 * np.cos(2 * np.pi * turns), 0, 1) * step(x - 0.16, 0.04)
    c.light += a.rib_light * cage * (ribs + 0.35 * front)
    wall = np.clip(1 - np.abs(x - lateral - 0.012) * (1 / 0.014), 0, 1)
    c.light += a.rib_light * wall * step(y - a.apex - 0.05, 0.05)
    shoulder = np.maximum(c.side_bump(0.39, 0.28, 0.045, 0.14), c.side_bump(0.47, 0.15, 0.07, 0.06))
    c.light += 0.08 * step(shoulder, 0.15)
    away = np.abs(y - (0.17 - 0.16 * (x - 0.03) + 0.22 * (x - 0.2) ** 2).astype(np.float32))
    bone = step(0.012 - away, 0.006)
    c.light += a.clavicle * (bone * 0.75 + bone * (1 - bone)) * step(x - 0.025, 0.01) * step(0.42 - x, 0.02)


def expose(c: Canvas, noise_rng: np.random.Generator, rng: np.random.Generator) -> Array:
    """Rotation, blur, tone curve, noise, collimation and laterality marker: light -> uint8 [size, size].

    Nothing here looks at the findings, so neither the exposure nor the marker gives one away.
    """
    a, size = c.anatomy, c.size
    film = Image.fromarray(c.light).transform(
        (size, size), Image.Transform.AFFINE, tuple(c.affine().ravel()), Image.Resampling.BILINEAR
    )
    light = np.clip(np.asarray(film), 0, 1) ** np.float32(a.gamma)
    light = a.black + (a.white - a.black) * light
    light += a.noise * noise_rng.standard_normal((size, size), dtype=np.float32)
    image = Image.fromarray((np.clip(light, 0, 1) * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(a.blur * size))
    if rng.random() < 0.3:
        left, top, right, bottom = (
            np.round((rng.random(4) < 0.5) * rng.uniform(0.01, 0.05, 4) * size).astype(int).tolist()
        )
        inside = slice(top, size - bottom), slice(left, size - right)
        border = np.full((size, size), 0 if rng.random() < 0.7 else 235, np.uint8)
        border[inside] = np.asarray(image)[inside]
        image = Image.fromarray(border)
    pen = ImageDraw.Draw(image)
    for letter, sign, chance in (("L", 1, 0.7), ("R", -1, 0.15)):
        x, y, height = rng.uniform(0.40, 0.45), rng.uniform(0.03, 0.14), rng.uniform(0.045, 0.07)
        if rng.random() < chance:
            where = ((0.5 + sign * x) * size, (y + 0.5 * height) * size)
            pen.text(where, letter, fill=int(rng.integers(215, 256)), font_size=height * size, anchor="mm")
    return np.asarray(image)
