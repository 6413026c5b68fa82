"""The laws of the house (see the architecture in README.md), each as a test that reads every module of every room."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.reading import observations
from processing_trrg import prompt_trrg
from tests.helpers.paths import ROOT

FLOORS: tuple[tuple[str, ...], ...] = (
    ("configuration_trrg",),
    ("modeling_trrg", "processing_trrg"),
    ("evaluation.reading",),
    ("training.config",),
    ("training.data",),
    ("training.phantoms",),
    ("evaluation.predictions",),
    ("evaluation.metrics",),
    ("training.builders", "training.run"),
    ("training", "evaluation"),  # the commands
    ("training.measure",),
    ("hub_cards",),
)
"""Rooms from the ground up. A module imports from its own room and from floors below it."""

ROOMS = [room for floor in FLOORS for room in floor]
MODULES = sorted(
    path
    for top in {room.split(".")[0] for room in ROOMS}
    for path in (ROOT / top).rglob("*.py")
    if "-" not in path.parent.name  # radiology-ce is no package
)


def dotted(path: Path) -> str:
    """training/run/loop.py -> training.run.loop; a package's __init__.py -> the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The room a module of this project stands in: the longest that its name starts with."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of this project that a file imports, wherever the import stands, with the line."""
    tops = {room.split(".")[0] for room in ROOMS}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((name, node.lineno) for name in names if name.split(".")[0] in tops)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_down(path: Path) -> None:
    own = room_of(dotted(path))
    for name, line in imported(path):
        room = room_of(name)
        assert room == own or floor_of(room) < floor_of(own), (
            f"{path.relative_to(ROOT)}:{line} imports {name}, which is not on a floor below {own}"
        )


def test_every_room_has_a_floor() -> None:
    folders = {
        dotted(path.parent / "__init__.py")
        for top in ("training", "evaluation", "hub_cards")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert folders <= set(ROOMS)


# --- one home for each piece of knowledge ---------------------------------------------------------------------------

COPY_OF_THE_NAMES = ROOT / "processing_trrg" / "prompt_trrg.py"  # travels to the Hub without the rest

HOMES = {
    "the values of a label": (r"^(?:PRESENT|ABSENT|UNCERTAIN|MISSING)\b.* = ", "evaluation/reading/observations.py"),
    "the tree of observations": (
        r'"Pneumonia": "Consolidation"|"Edema": "Lung Opacity"',
        "evaluation/reading/observations.py",
    ),
    "the end of a sentence": (r"_SENTENCE_END =|_BOUNDARY =|re\.split\(r?\"\[", "evaluation/reading/sentences.py"),
    "left and right": (r"re\.compile\([^#]*\\b\(?(?:\?:)?\(?left\|right", "evaluation/reading/sides.py"),
    "negation": (r'"negation": \(', "evaluation/reading/labeler_cues.py"),
    "headings of sections": (r"impressions\?\|conclusions\?", "evaluation/reading/sections.py"),
    "F1": (r"2 \* tp / \(|ratio\(2 \* tp", "evaluation/metrics/classification.py"),
    "AUROC": (r"^def auroc\(|roc_auc_score", "evaluation/metrics/classification.py"),
    "percentile intervals": (r"nanpercentile|np\.percentile", "evaluation/metrics/resampling.py"),
    "multinomial draws": (r"generator\.multinomial\(", "evaluation/metrics/resampling.py"),
    "the study record": (r"^class Study\b", "training/data/study.py"),
    "a report of its sections": (r'"Findings", findings', "processing_trrg/report_trrg.py"),
}
"""Piece of knowledge -> (how its definition looks, the one file that may hold it)."""


def names_in(path: Path) -> list[int]:
    """Lines of collections that hold six or more of the 14 names as texts of their own: a second list of them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        items = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
        texts = {item.value for item in items if isinstance(item, ast.Constant)}
        if len(texts & set(observations.CHEXPERT_14)) >= 6:
            found.append(node.lineno)
    return found


def test_one_home_for_the_14_names() -> None:
    assert prompt_trrg.CHEXPERT_14 == observations.CHEXPERT_14
    holders = [path for path in MODULES if names_in(path)]
    assert holders == sorted((ROOT / "evaluation" / "reading" / "observations.py", COPY_OF_THE_NAMES))


@pytest.mark.parametrize("knowledge", HOMES)
def test_one_home(knowledge: str) -> None:
    look, home = HOMES[knowledge]
    pattern = re.compile(look, re.MULTILINE)
    holders = [str(path.relative_to(ROOT)) for path in MODULES if pattern.search(path.read_text(encoding="utf-8"))]
    assert holders == [home], f"{knowledge} is defined in {holders}"
