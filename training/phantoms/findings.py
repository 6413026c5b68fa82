"""What is planted in a SYNTHETIC phantom: which findings together, where, how large, and how each is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.phantoms.drawing import (
    Anatomy,
    Array,
    Canvas,
    draw_body,
    draw_bones,
    draw_heart,
    draw_mediastinum,
    draw_vessels,
    expose,
    smooth_line,
    step,
)
from training.phantoms.report import DEVICES, PAIRS, SIDES, SIZES, ZONES, PlantedFinding

SIGN: dict[str | None, float] = {"left": 1.0, "right": -1.0}  # of x
NUM_FINDINGS = (0.22, 0.32, 0.28, 0.18)  # probability of 0, 1, 2, 3 planted findings
# Lengths are fractions of the image side.
CTR = {"small": (0.56, 0.59), "moderate": (0.61, 0.65), "large": (0.67, 0.73)}  # cardiothoracic ratio
FLUID = {"small": (0.13, 0.16), "moderate": (0.23, 0.29), "large": (0.37, 0.46)}  # fluid height at the lateral wall
GAP = {"small": (0.035, 0.05), "moderate": (0.06, 0.085), "large": (0.11, 0.15)}  # pleural line to chest wall
REACH: dict[str | None, float] = {"small": 0.55, "moderate": 0.8, "large": 1.2}  # how far down it goes, of the lung
RADIUS = {"small": (0.023, 0.03), "moderate": (0.035, 0.044), "large": (0.052, 0.066)}  # of a nodule
EXTENT = {"small": (0.07, 0.085), "moderate": (0.10, 0.12), "large": (0.14, 0.17)}  # half height of a consolidation
ZONE_HEIGHTS = {"upper": (0.23, 0.29), "mid": (0.40, 0.47), "lower": (0.57, 0.63)}
NEEDS = {  # zones of the lung that a pleural finding fills
    ("effusion", "small"): ("lower",),
    ("effusion", "moderate"): ("lower",),
    ("effusion", "large"): ("lower", "mid"),
    ("pneumothorax", "small"): ("upper",),
    ("pneumothorax", "moderate"): ("upper", "mid"),
    ("pneumothorax", "large"): ZONES,
}


@dataclass(frozen=True)
class Plan:
    """A finding before it is drawn, with its numbers: (radius, extent, gap, fluid height or ratio[, x, y])."""

    finding: PlantedFinding
    numbers: tuple[float, ...]


def plan_findings(anatomy: Anatomy, rng: np.random.Generator) -> list[Plan]:
    """Choose findings that can all be seen together: what fills a zone of a lung leaves no other finding in it."""
    wanted = int(rng.choice(len(NUM_FINDINGS), p=NUM_FINDINGS))
    filled: set[tuple[str, str]] = set()  # (side, zone) of lung that is not seen as lung any more
    crowded: set[tuple[str, str]] = set()  # under a large heart or a device: no place for a focal finding
    focal: set[tuple[str, str]] = set()  # where a focal finding is
    plans: list[Plan] = []
    for i in rng.permutation(len(PAIRS)):
        if len(plans) == wanted:
            break
        name, side = PAIRS[i]
        size, number, spot = SIZES[int(rng.integers(len(SIZES)))], rng.random(), rng.random(2)
        kind = DEVICES[int(rng.integers(len(DEVICES)))]
        if side is None:
            places = {(s, "lower") for s in SIDES}
            if not places & focal:
                crowded |= places
                plans.append(Plan(PlantedFinding(name, None, size), (_between(CTR[size], number),)))
        elif name == "device":
            if (side, "upper") not in focal:
                crowded.add((side, "upper"))
                plans.append(Plan(PlantedFinding(name, side, None, kind=kind), (number,)))
        elif name in ("effusion", "pneumothorax"):
            places = {(side, zone) for zone in NEEDS[name, size]}
            if not places & (filled | focal):
                filled |= places
                table = FLUID if name == "effusion" else GAP
                plans.append(Plan(PlantedFinding(name, side, size), (_between(table[size], number),)))
        else:
            near = {(s, ZONES[j]) for s, zone in focal for j in range(3) if abs(j - ZONES.index(zone)) <= 1}
            zones = [zone for zone in ZONES if (side, zone) not in filled | crowded | near]
            if zones:
                zone = zones[int(rng.integers(len(zones)))]
                focal.add((side, zone))
                extent = _between((RADIUS if name == "nodule" else EXTENT)[size], number)
                where = _place(anatomy, side, zone, extent, spot)
                plans.append(Plan(PlantedFinding(name, side, size, zone), (extent, *where)))
    return plans


def _between(limits: tuple[float, float], t: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * t


def _place(a: Anatomy, side: str, zone: str, extent: float, spot: Array) -> tuple[float, float]:
    """A centre (x, y) in a zone of a lung, clear of the heart, the hilum and the chest wall."""
    y = _between(ZONE_HEIGHTS[zone], spot[0])
    heart = a.heart(y + 0.5 * extent, a.ctr)[side == "right"]
    inner = max(float(heart), 0.10 if zone == "upper" else 0.14)
    inner, outer = inner + 0.6 * extent, float(a.lateral(y)) - 0.7 * extent - 0.01
    return SIGN[side] * _between((min(inner, outer), outer), spot[1]), y


# Each of these draws one finding and returns the change of light [S, S] that its box has to cover.


def plant_pneumothorax(c: Canvas, plan: Plan, air: Array, vessels: Array) -> Array:
    """Air outside a visible pleural line, taken from `air` and `vessels` of the lung in place."""
    a, gap = c.anatomy, plan.numbers[0]
    reach = REACH[plan.finding.size]
    depth = (c.y - a.apex) / (a.dome_right + a.angle_depth - a.apex)
    opened = gap * np.clip(1 - depth / reach, 0, 1) ** 0.6
    inner = np.minimum(a.lateral(c.y) - opened - c.ax, c.y - a.cap(c.ax) - 1.5 * gap).astype(np.float32)
    lung = step(inner, 0.006)
    there = air * c.half(plan.finding.side) * np.clip(opened / 0.012, 0, 1).astype(np.float32)
    outside, line = there * (1 - lung), there * np.clip(1 - np.abs(inner) * (1 / 0.0065), 0, 1)
    vessels *= 1 - outside
    air *= 1 - outside
    before = c.light.copy()
    c.blend(max(0.02, a.lung_light - 0.12), outside)
    c.light += 0.20 * line
    return c.light - before


def plant_consolidation(c: Canvas, plan: Plan, air: Array, rng: np.random.Generator) -> Array:
    """A patchy, ill-defined opacity."""
    extent, x, y = plan.numbers
    coarse = Image.fromarray(rng.uniform(-1, 1, (26, 26)).astype(np.float32))
    patchy = np.asarray(coarse.resize((c.side, c.side), Image.Resampling.BICUBIC))
    field = 1 - ((c.x - x) / (0.85 * extent)) ** 2 - ((c.y - y) / extent) ** 2
    mask = step(field - 0.35 + 0.4 * patchy, 0.6) * air * c.half(plan.finding.side)
    mask = mask * (0.78 + 0.12 * patchy)
    return c.blend(0.68 + (c.anatomy.soft_light - 0.56), mask)


def plant_nodule(c: Canvas, plan: Plan) -> Array:
    """A round, well defined opacity."""
    radius, x, y = plan.numbers
    profile = np.sqrt(c.bump(x, y, radius, radius * 1.06))
    c.light += c.anatomy.nodule_light * profile
    return c.anatomy.nodule_light * profile


def plant_effusion(c: Canvas, plan: Plan, level: bool) -> Array:
    """Fluid from the base up, higher at the wall (a meniscus) or level under a pneumothorax."""
    a = c.anatomy
    angle = a.dome_right + a.angle_depth + a.dome_step * (plan.finding.side == "left")
    sag = 0.0 if level else 0.09
    top = angle - plan.numbers[0] + sag * (1 - np.clip(c.ax / a.width, 0, 1) ** 2)
    floor = a.dome(c.x).astype(np.float32) + 0.02  # the fluid hides the diaphragm
    wall = a.lateral(c.y).astype(np.float32) - c.ax
    mask = step(c.y - top.astype(np.float32), 0.014) * step(floor - c.y, 0.012) * step(wall + 0.01, 0.008)
    mask *= c.half(plan.finding.side)
    return c.blend(np.maximum(c.light, 0.76 + (a.soft_light - 0.56)), mask)  # as bright as the heart: no border


def device_lines(kind: str, sign: float, variant: float) -> list[tuple[float, float]]:
    """The course of a lead or catheter, in body coordinates."""
    cava = [(-0.045, 0.27), (-0.05, 0.36), (-0.05, 0.43)]
    if kind == "pacemaker":
        return [(sign * 0.24, 0.22), (sign * 0.17, 0.165), (sign * 0.07, 0.19), *cava, (-0.04, 0.56), (0.10, 0.67)]
    if kind == "port":
        return [(sign * 0.21, 0.27), (sign * 0.19, 0.17), (sign * 0.08, 0.18), *cava]
    if variant < 0.5:  # from the neck
        return [(sign * 0.10, -0.02), (sign * 0.085, 0.10), (sign * 0.06, 0.19), *cava]
    return [(sign * 0.40, 0.10), (sign * 0.28, 0.17), (sign * 0.10, 0.18), *cava]


def plant_device(c: Canvas, plan: Plan) -> Array:
    """Metal and plastic, brighter than bone."""
    sign, kind = SIGN[plan.finding.side], str(plan.finding.kind)
    course = c.pixels(smooth_line(device_lines(kind, sign, plan.numbers[0])))

    def draw(pen: ImageDraw.ImageDraw, over: int) -> None:
        unit, line = over * c.size * c.anatomy.scale, (over * course).tolist()
        width = max(over, round(unit * (0.009 if kind == "pacemaker" else 0.0075)))
        pen.line([tuple(point) for point in line], fill=200, width=width, joint="curve")
        x, y = line[0]
        if kind == "pacemaker":
            x, w, h = x + sign * 0.03 * unit, 0.042 * unit, 0.036 * unit
            pen.rounded_rectangle([x - w, y - h, x + w, y + h], radius=0.02 * unit, fill=235)
        if kind == "port":
            for r, fill in ((0.03 * unit, 235), (0.017 * unit, 130)):
                pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)

    mask = c.paint(draw, over=2)
    c.blend(1.08, mask * 0.9)
    return mask  # all of it, also where it runs over the bright spine


def draw_phantom(
    anatomy: Anatomy, plans: Sequence[Plan], size: int, stream: tuple[int, int, int]
) -> tuple[Array, list[tuple[int, int, int, int]]]:
    """Draw one phantom: uint8 [size, size] and a box (x, y, w, h) in its pixels for each plan, in order.

    Each texture has its own random numbers, from `stream`: a finding more or less leaves the anatomy as it was.
    """
    vessel_rng, patch_rng, noise_rng, detector_rng = (np.random.default_rng((*stream, i)) for i in range(4))
    by_name: dict[str, list[Plan]] = {}
    for plan in plans:
        by_name.setdefault(plan.finding.name, []).append(plan)
    changes: dict[tuple[str, str | None], Array] = {}

    c = Canvas(anatomy, size)
    air = draw_body(c)
    vessels = draw_vessels(c, air, vessel_rng)
    for plan in by_name.get("pneumothorax", []):
        changes[plan.finding.pair] = plant_pneumothorax(c, plan, air, vessels)
    c.light += anatomy.vessels * vessels
    for plan in by_name.get("consolidation", []):
        changes[plan.finding.pair] = plant_consolidation(c, plan, air, patch_rng)
    for plan in by_name.get("nodule", []):
        changes[plan.finding.pair] = plant_nodule(c, plan)
    heart = draw_heart(c, anatomy.ctr)
    for plan in by_name.get("cardiomegaly", []):
        heart = changes[plan.finding.pair] = draw_heart(c, plan.numbers[0])  # the box of a heart is around all of it
    seen = 1 - draw_mediastinum(c, heart)
    for plan in plans:
        if plan.finding.name in ("pneumothorax", "consolidation", "nodule"):
            changes[plan.finding.pair] *= seen
    open_sides = {plan.finding.side for plan in by_name.get("pneumothorax", [])}
    for plan in by_name.get("effusion", []):
        changes[plan.finding.pair] = plant_effusion(c, plan, plan.finding.side in open_sides)
    draw_bones(c)
    for plan in by_name.get("device", []):
        changes[plan.finding.pair] = plant_device(c, plan)
    boxes = [c.box(changes[plan.finding.pair]) for plan in plans]
    return expose(c, noise_rng, detector_rng), boxes
