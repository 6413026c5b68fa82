"""The laws of the house as tests: one way for a pixel, one home for each piece of knowledge, imports go down."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.reading import observations
from processing_trrg import RadiologyReportPipeline, prompt_trrg
from tests.helpers.models import SYSTEMS, build
from tests.helpers.paths import ROOT
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor
from training.data.collate import FinetuneCollator, PretrainCollator
from training.data.examples import Example
from training.data.images import ImageBank
from training.data.sentences import Sentence
from training.data.study import Studies

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
    ("evaluation.bench",),
    ("hub_cards.hospital",),
    ("hub_cards.space",),
    ("hub_cards",),
)
"""Rooms from the ground up. A module imports from its own room and from floors below it."""

ROOMS = [room for floor in FLOORS for room in floor]
MODULES = sorted(
    path
    for top in {room.split(".")[0] for room in ROOMS}
    for path in (ROOT / top).rglob("*.py")
    if "-" not in path.parent.name and not path.is_symlink()  # radiology-ce is no package
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
    "the end of a sentence": (r"_SENTENCE_END =|_BOUNDARY =|re\.split\(r?\"\[", "processing_trrg/sentences_trrg.py"),
    "left and right": (r"re\.compile\([^#]*\\b\(?(?:\?:)?\(?left\|right", "evaluation/reading/sides.py"),
    "negation": (r'"negation": \(', "evaluation/reading/labeler_cues.py"),
    "headings of sections": (r"impressions\?\|conclusions\?", "evaluation/reading/sections.py"),
    "F1": (r"2 \* tp / \(|ratio\(2 \* tp", "evaluation/metrics/classification.py"),
    "AUROC": (r"^def auroc\(|roc_auc_score", "evaluation/metrics/classification.py"),
    "percentile intervals": (r"nanpercentile", "evaluation/metrics/resampling.py"),
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


# --- one way for a pixel --------------------------------------------------------------------------------------------

SIDE = 56


def write_pictures(folder: Path) -> None:
    """Four studies of one to three views of several shapes: 8-bit PNG and JPEG, 16-bit PNG, DICOM with padding, with a
    window and of either polarity. What is darkest and brightest is gone in the squares, as in 77 % of real ones."""
    eight, twelve = radiograph(150, 90, top=200, seed=1), radiograph(70, 140, top=3000, seed=2)
    padded = radiograph(64, 64, top=2000, seed=3)
    padded[:9] = 4000
    eight[40, 40] = twelve[40, 40] = 60  # a fault of the plate: the darkest pixel, and gone in the square
    eight[50, 50] = 235
    files = {
        "a.png": picture_bytes(eight + 20),
        "b.jpg": picture_bytes(radiograph(200, 200, top=230, seed=4), "JPEG", quality=90),
        "c.png": picture_bytes(twelve + np.uint16(500)),
        "d.dcm": dicom_bytes(dicom_dataset(padded, bits=12, PixelPaddingValue=4000)),
        "e.dcm": dicom_bytes(dicom_dataset(twelve, bits=12, WindowCenter=1500, WindowWidth=2500)),
        "f.dcm": dicom_bytes(dicom_dataset(255 - eight, PhotometricInterpretation="MONOCHROME1")),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    views = {"one": ["a.png"], "two": ["b.jpg", "c.png"], "three": ["d.dcm", "e.dcm", "f.dcm"], "last": ["c.png"]}
    records = [
        {
            "study_id": study, "patient_id": study, "split": "train", "labels": {},
            "images": [{"path": name, "view": None} for name in names],
            "findings": "The heart is enlarged.", "impression": None,
        }
        for study, names in views.items()
    ]  # fmt: skip
    (folder / "studies.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_one_way_for_a_pixel(tmp_path: Path) -> None:
    """file -> what inference sees == file -> image cache -> each collator, bit for bit."""
    write_pictures(tmp_path)
    processor = tiny_processor(size=SIDE)
    studies = Studies(tmp_path, "train")
    files = [[tmp_path / image["path"] for image in record["images"]] for record in studies.records]
    seen = processor(images=files)
    for cache in (str(tmp_path / "cache"), None):
        bank = ImageBank(studies, processor.image_processor, views=3, cache=cache)
        bank.prepare()
        nothing = (None,) * len(processor.clues)
        examples = [
            Example(
                study_id=record["study_id"], source=0, squares=bank.get(index), labels=nothing, record=record,
                sentences=[Sentence("The heart is enlarged.", 1, nothing)],
            )
            for index, record in enumerate(studies.records)
        ]  # fmt: skip
        for collate in (PretrainCollator(processor), FinetuneCollator(processor)):
            batch = collate(examples)
            assert torch.equal(batch["image_mask"], seen["image_mask"])
            difference = (batch["pixel_values"] - seen["pixel_values"]).abs().max().item()
            assert difference == 0, f"{type(collate).__name__}, cache {cache}: pixels differ by up to {difference}"


# --------------------------------------------------------------------------------------------------------- law one


@pytest.fixture
def tower_calls(monkeypatch):
    """Counts the studies that a vision tower looks at, whatever the class the checkpoint's own code defines."""
    calls: list[int] = []

    def watch(model):
        tower = model.model.vision_tower
        tower.register_forward_hook(lambda module, inputs, output: calls.append(1))
        return calls

    return watch


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"use_cache": False}], ids=str)
def test_one_look(system, options, tiny_config, tower_calls):
    """A study is looked at once for its clues, its prompt and its report, beams and missing caches included."""
    config = tiny_config(system, num_classifier_labels=14)
    model = build(config)
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens)
    write = RadiologyReportPipeline(model=model, processor=processor)
    calls = tower_calls(model)
    report = write(radiograph(), indication="cough", max_new_tokens=4, **options)
    assert len(calls) == 1
    assert len(report.clues) == (0 if system == "maira1" else 14)
    assert all(clue.evidence is not None for clue in report.clues)
    reports = write(
        [{"images": radiograph()}, {"images": [radiograph(), radiograph()]}], batch_size=2, max_new_tokens=4
    )
    assert len(calls) == 2 and len(reports) == 2

    inputs = processor(images=radiograph())
    model.generate(**inputs, max_new_tokens=4, **options)
    assert len(calls) == 3
    study = model.read_study(**inputs)
    first = model.generate(**inputs, study=study, max_new_tokens=4, **options)
    second = model.generate(**inputs, study=study, max_new_tokens=4, **options)
    assert len(calls) == 4 and torch.equal(first, second)


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_look_for_a_dialogue_of_five_turns(system, tiny_config, tower_calls):
    model = build(config := tiny_config(system, num_classifier_labels=14))
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens)
    calls = tower_calls(model)
    study = RadiologyReportPipeline(model=model, processor=processor, max_new_tokens=3)(radiograph())
    study.ask("is there an effusion?")
    study.correct(remove=["Fracture"])
    study.correct("add edema")
    study.ask("why?")
    study.correct(**({"add": ["Edema"]} if system == "maira1" else {"clues": {"Edema": 0.9}}))
    assert len(calls) == 1
