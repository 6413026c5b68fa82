"""Phantoms followed over time: a SYNTHETIC study with the report of the study before it. Never for clinical use.

`generate_followed(seed, index)` draws the study of today as `generate_phantom` does, on the patient's anatomy, and
makes up what was there before: each finding of today is new, grown, unchanged or smaller, and others have resolved.
What was there before is known from the prior report alone; no prior image is drawn, since the models take views of one
study.
"""

from dataclasses import dataclass, replace

import numpy as np

from training.phantoms.change_report import FollowedFinding, write_changes, write_prior
from training.phantoms.findings import plan_findings
from training.phantoms.generate import Phantom, draw_study, phantom_anatomy
from training.phantoms.report import DEVICES, PAIRS, SIZES, ZONES, PlantedFinding

NUM_RESOLVED = (0.6, 0.3, 0.1)  # probability of 0, 1, 2 findings that are gone
NOTHING_CHANGED = 0.1  # probability that every finding is as it was
OPPOSITE = {"small": "large", "large": "small"}  # what has grown was small: readers differ by one size on one picture


@dataclass(frozen=True)
class FollowedPhantom(Phantom):
    """A SYNTHETIC study with a prior report.

    Attributes:
        followed: every finding of today or of before.
    """

    followed: tuple[FollowedFinding, ...]


def generate_followed(seed: int, index: int, size: int = 224) -> FollowedPhantom:
    """Study `index` of `seed`, the same whatever was generated before; arguments and errors as `generate_phantom`.

    The record compares with its `prior_report`; without it, `without_comparisons` makes its report one of today.
    """
    anatomy = phantom_anatomy(seed, index, size)
    plans = plan_findings(anatomy, np.random.default_rng((seed, index, 1)))
    followed = follow([plan.finding for plan in plans], np.random.default_rng((seed, index, 4)))
    text = write_changes(followed, np.random.default_rng((seed, index, 5)))
    phantom = draw_study(f"followed-{seed}-{index}", anatomy, plans, size, (seed, index, 2), text)
    before = [finding.before for finding in followed if finding.before is not None]
    prior = write_prior(before, np.random.default_rng((seed, index, 6)))
    return FollowedPhantom(phantom.image, replace(phantom.record, prior_report=prior), phantom.findings, followed)


def follow(now: list[PlantedFinding], rng: np.random.Generator) -> tuple[FollowedFinding, ...]:
    """What became of findings: those of `now`, then those that are gone."""
    if rng.random() < NOTHING_CHANGED:
        return tuple(FollowedFinding("unchanged", finding, finding) for finding in now)
    followed = [_came(finding, rng) for finding in now]
    free = [pair for pair in PAIRS if pair not in {finding.pair for finding in now}]
    for place in rng.permutation(len(free))[: int(rng.choice(len(NUM_RESOLVED), p=NUM_RESOLVED))]:
        name, side = free[place]
        size, zone, kind = (options[int(rng.integers(3))] for options in (SIZES, ZONES, DEVICES))
        gone = PlantedFinding(
            name,
            side,
            None if name == "device" else size,
            zone if name in ("nodule", "consolidation") else None,
            kind if name == "device" else None,
        )
        followed.append(FollowedFinding("resolved", gone, None))
    return tuple(followed)


def _came(finding: PlantedFinding, rng: np.random.Generator) -> FollowedFinding:
    """How a finding came to be as it is: new, unchanged, or of the opposite size before."""
    if finding.size in OPPOSITE and rng.random() < 0.55:
        before = replace(finding, size=OPPOSITE[finding.size])
        return FollowedFinding("grown" if finding.size == "large" else "smaller", before, finding)
    was_there = rng.random() < 0.5
    return FollowedFinding("unchanged", finding, finding) if was_there else FollowedFinding("new", None, finding)
