"""The demo, what it prints and writes, and the picture of what a report rests on."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hub_cards import demo
from hub_cards.evidence import Case, distinct, draw_evidence, heat, leading, phantom_case, right_and_wrong
from hub_cards.publish import assemble, is_current
from hub_cards.report_words import report_boxes, sections_before
from processing_trrg import ClueScore, Placement, Report, read_grounded
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.paths import ROOT
from training.phantoms.generate import generate_phantom

CARD = """---
model-index:
- name: trrg-random
  results:
  - task: {type: image-text-to-text}
    dataset: {type: a, name: real patients, args: {images: real}}
    metrics: [{type: f1, name: micro F1, value: 0.125}]
  - task: {type: image-text-to-text}
    dataset: {type: b, name: phantoms, args: {images: synthetic}}
    metrics: [{type: f1, name: macro F1, value: 0.999}]
---
# A random checkpoint of the tests
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "trrg-random", "trrg")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def views(tmp_path: Path) -> Path:
    folder = tmp_path / "where" / "views"
    folder.mkdir(parents=True)
    for index in range(2):
        Image.fromarray(generate_phantom(1, index, 64).image).save(folder / f"{index}.png")
    return folder


def run(tmp_path: Path, checkpoint: Path, *arguments: object) -> dict:
    demo.main([*map(str, arguments), "--out", str(tmp_path / "out"), "--checkpoint", str(checkpoint)])
    return json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))


def test_it_reports_on_a_phantom(checkpoint: Path, tmp_path: Path, capsys) -> None:
    report = run(tmp_path, checkpoint, "--ground")
    printed = capsys.readouterr()
    assert "SYNTHETIC" in printed.out and "never for clinical use" in printed.out and not printed.err
    assert report["synthetic"] and report["technique"]  # what the phantom's record says of it goes in
    assert "real images" not in printed.out
    rows = re.findall(r"^([> ]) (\S.*?) +[█·]+ +(\d\.\d\d)$", printed.out, re.MULTILINE)
    assert [(mark == ">", name) for mark, name, _ in rows] == [(c["selected"], c["name"]) for c in report["clues"]]
    assert any(clue["selected"] for clue in report["clues"])


def test_it_says_what_a_report_of_a_real_study_is_worth(checkpoint: Path, views: Path, tmp_path: Path, capsys) -> None:
    report = run(tmp_path, checkpoint, views)
    printed = capsys.readouterr().out
    assert "SYNTHETIC" not in printed and not report["synthetic"]
    (line,) = [line for line in printed.splitlines() if "real images" in line]
    assert line == "What trrg-random is worth on real images, by its card: micro F1 0.125 on real patients."
    assert len(report["clues"]) == 14 and all(0 <= clue["score"] <= 1 for clue in report["clues"])
    assert report["study"] == "views" and str(tmp_path) not in json.dumps(report)

    silent = shutil.copytree(checkpoint, tmp_path / "silent")
    (silent / "README.md").unlink()
    run(tmp_path, silent, views / "0.png")
    assert "no scores in its card" in capsys.readouterr().out


def test_the_report_before_is_shown_beside_the_report(checkpoint: Path, views: Path, tmp_path: Path, capsys) -> None:
    before = tmp_path / "before.txt"
    before.write_text("Small left effusion.", encoding="utf-8")
    run(tmp_path, checkpoint, views)
    with Image.open(tmp_path / "out" / "evidence.png") as picture:
        size = picture.size
    capsys.readouterr()
    report = run(tmp_path, checkpoint, views, "--prior", before, "--indication", "Cough.", "--max-new-tokens", 4)
    printed = capsys.readouterr().out
    assert (report["prior_report"], report["indication"]) == ("Small left effusion.", "Cough.")
    assert "The report before\n  Small left effusion." in printed and "What changed, by the report" in printed
    with Image.open(tmp_path / "out" / "evidence.png") as picture:
        assert picture.width == size[0] and picture.height > size[1] + 100
    with pytest.raises(SystemExit, match=r"gone\.txt does not exist"):
        run(tmp_path, checkpoint, views, "--prior", tmp_path / "gone.txt")


def test_what_changed_is_what_the_report_says() -> None:
    report = Report(
        "",
        None,
        "The left effusion has increased. Clear apices. The right pneumothorax has resolved. The edema is seen again.",
    )
    assert sections_before("Old.", report) == [
        ("The report before", "Old."),
        ("What changed, by the report", "left pleural effusion grown, right pneumothorax resolved, edema seen again"),
    ]
    assert sections_before(None, report) == []


def test_it_says_why_a_study_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"This study cannot be read: .*notes\.png"):
        run(tmp_path, checkpoint, tmp_path / "notes.png")


def test_a_missing_path_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from hub_cards import demo\n"
        "try: demo.main(['nowhere.dcm', '--out', sys.argv[1]])\n"
        "finally: assert not {'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr == "nowhere.dcm does not exist\n"
    assert not (tmp_path / "out").exists()
    assert time.perf_counter() - start < 30


def clue(name: str, score: float, selected: bool = True, evidence: np.ndarray | None = None) -> ClueScore:
    return ClueScore(name, score, np.eye(4)[None] if evidence is None else evidence, selected)


def test_heat_is_clear_up_to_the_median_and_as_strong_as_the_score() -> None:
    evidence = np.zeros((2, 4, 4))
    evidence[1, 0, 0] = 3.0
    strength = heat(clue("Edema", 0.7, evidence=evidence), height=32, width=32)
    assert strength[0].max() == 0
    assert np.unravel_index(strength[1].argmax(), strength[1].shape) <= (8, 8)
    assert strength[1].max() == pytest.approx(0.7)


def test_a_finding_and_its_side_are_one_and_heat_is_for_findings_over_their_threshold() -> None:
    clues = [
        clue("Pleural Effusion", 0.9), clue("Left Pleural Effusion", 0.8), clue("Right Pleural Effusion", 0.1, False),
        clue("No Finding", 0.95), clue("Lung Lesion", 0.6), clue("Left Lung Lesion", 0.2, False),
        clue("Edema", 0.08, False), clue("Right Hernia", 0.05, False),
    ]  # fmt: skip
    assert [c.name for c in distinct(clues)] == [
        "No Finding", "Left Pleural Effusion", "Lung Lesion", "Edema", "Right Hernia",
    ]  # fmt: skip
    assert [c.name for c in leading(clues)] == ["Left Pleural Effusion", "Lung Lesion"]


def test_a_picture_of_many_views_clues_and_words(tmp_path: Path) -> None:
    clues = [clue(f"finding number {index}", index / 40, index > 20, np.ones((5, 2, 2))) for index in range(40)]
    many = Case("study.dcm", np.random.rand(5, 32, 32), clues, [("Findings", "word " * 900)])
    few = Case("study.dcm", np.random.rand(1, 32, 32), [], [("Findings", "-")])
    draw_evidence(tmp_path / "many.png", [many], "caption")
    draw_evidence(tmp_path / "few.png", [few], "caption")
    assert Image.open(tmp_path / "many.png").height > Image.open(tmp_path / "few.png").height


def test_the_boxes_of_a_report_are_drawn_on_what_the_model_saw(tmp_path: Path) -> None:
    evidence = np.zeros((1, 4, 4))
    evidence[0, 0, 0] = 1.0
    report = Report("Edema.", None, "Edema.", [clue("Edema", 0.9, evidence=evidence)], frontal=Placement(50, 100, 100))
    report.grounded = read_grounded("Edema. [40 30 60 70]")
    (source, box), (said, place) = report_boxes(report)
    assert (source, said) == ("evidence", "text") and place == pytest.approx((0.405, 0.305, 0.2, 0.4), abs=0.01)
    case = Case("study.dcm", np.random.rand(1, 32, 32), report.clues, [("Findings", "Edema.")])
    for name, boxes in (("without", []), ("evidence", [(source, box)]), ("text", [(said, place)])):
        draw_evidence(tmp_path / f"{name}.png", [replace(case, boxes=boxes)], "caption")
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("without", "evidence", "text")}) == 3


def test_a_phantoms_report_is_marked_wrong_with_the_reason() -> None:
    phantom = generate_phantom(demo.PHANTOM_SEED, demo.PHANTOM_INDEX, 64)

    def case(text: str) -> Case:
        return phantom_case(phantom, Report(text, None, text), phantom.image[None])

    right = case("Right central venous catheter. Small left lower zone consolidation.")
    assert right.faults == [] and right.planted is not None and len(right.planted) == 2
    assert all(0 <= length <= 1 for _, box in right.planted for length in box)
    kind = case("Right chest port. Right central line. Small left lower zone consolidation.")
    assert kind.faults == ["names the right port, which was not planted"] and "guesses" in kind.note
    sized = case("Right central venous catheter. Large left lower zone consolidation.")
    assert sized.faults == ["calls the small left lower consolidation large"] and not sized.note


def test_readmes_picture_takes_the_first_right_and_the_first_wrong_study() -> None:
    class Writer:
        """A report that names every finding of every other phantom."""

        image_processor = type("Squares", (), {"squares": staticmethod(np.stack)})
        asked = 0

        def __call__(self, image: np.ndarray, **context: str | None) -> Report:
            self.asked += 1
            text = "No pleural effusion." if self.asked % 2 else self.truth[image.tobytes()]
            return Report(text, None, text)

        def __init__(self) -> None:
            phantoms = [generate_phantom(12141, index) for index in range(30)]
            self.truth = {phantom.image.tobytes(): str(phantom.record.findings) for phantom in phantoms}

    (first, right), (_, wrong) = right_and_wrong(Writer())
    assert first.findings and len(right.planted or []) == len(first.findings)
    assert right.faults == [] and wrong.faults
    never = Writer()
    never.truth = dict.fromkeys(never.truth, "No pleural effusion.")
    assert len(right_and_wrong(never, most=8)) == 1 and 0 < never.asked <= 8, "a checkpoint that is never right"


def test_the_second_time_nothing_is_copied_until_something_changes(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "model", "trrg")
    out = tmp_path / "out"
    assert not is_current(checkpoint, out)
    assemble(checkpoint, out)
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "modeling_trrg.pyc").write_bytes(b"")
    assert is_current(checkpoint, out)
    weights = checkpoint / "model.safetensors"
    weights.touch()  # trained on: the same size
    assert not is_current(checkpoint, out)
    assemble(checkpoint, out)
    for spoil in (lambda: (out / "modeling_trrg.py").write_text("", encoding="utf-8"), (out / "old.json").touch):
        assert is_current(checkpoint, out)
        spoil()
        assert not is_current(checkpoint, out)
        assemble(checkpoint, out)
    (out / "requirements.txt").unlink()
    assert not is_current(checkpoint, out)
