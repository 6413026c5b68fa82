"""Synthetic phantoms: reproducible, and image, labels, report and boxes say the same."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from evaluation.reading.observations import CHEXPERT_14, ancestors
from tests.helpers.hub_server import checked_card
from tests.helpers.paths import ROOT
from training.data.card import STUDY_COLUMNS
from training.data.study import read_study
from training.phantoms.drawing import Anatomy
from training.phantoms.findings import draw_phantom, plan_findings
from training.phantoms.generate import Phantom, generate_phantom, phantoms
from training.phantoms.report import LABEL_OF, PAIRS, Pair, PlantedFinding, write_report
from training.phantoms.scoring import report_faults, report_sides, report_slips, told_details


@pytest.fixture(scope="module")
def batch() -> list[Phantom]:
    return list(phantoms(seed=11, count=250, size=96))


def same(a: Phantom, b: Phantom) -> bool:
    return bool((a.image == b.image).all()) and a.record == b.record and a.findings == b.findings


def test_a_phantom_depends_on_seed_and_index_alone():
    first = generate_phantom(3, 5)
    assert first.image.shape == (224, 224) and first.image.dtype == np.uint8
    assert same(first, generate_phantom(3, 5))
    assert same(first, list(phantoms(3, 3, start=4))[1])
    assert same(first, next(islice(phantoms(3, 99), 5, None)))
    assert not (first.image == generate_phantom(4, 5).image).all()
    assert not (first.image == generate_phantom(3, 6).image).all()


def test_findings_and_words_do_not_depend_on_the_size():
    small, large = generate_phantom(0, 2, size=64), generate_phantom(0, 2, size=300)
    assert small.record == large.record
    assert [f.pair for f in small.findings] == [f.pair for f in large.findings]


def test_labels_record_and_boxes_say_what_was_planted(batch):
    for index, phantom in enumerate(batch):
        record, planted = phantom.record, {LABEL_OF[f.name] for f in phantom.findings}
        assert record["study_id"] == f"phantom-11-{index}" and record["synthetic"] is True
        assert tuple(record["labels"]) == CHEXPERT_14
        assert {name for name, value in record["labels"].items() if value == 1} == (planted or {"No Finding"})
        unknown = {kind for label in planted for kind in ancestors(label)} | {"Enlarged Cardiomediastinum"}
        assert {name for name, value in record["labels"].items() if value is None} == unknown
        assert report_sides(record["findings"]) == {f.pair for f in phantom.findings}
        assert read_study(json.loads(json.dumps(dict(record))), "here") == record
        for f in phantom.findings:
            x, y, w, h = f.box
            assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 96
            assert (f.side is None) == (f.name == "cardiomegaly")
            assert (f.zone is not None) == (f.name in ("nodule", "consolidation"))
            assert (f.kind is not None) == (f.size is None) == (f.name == "device")


def test_every_finding_occurs_and_none_depends_on_another(batch):
    counts = {pair: sum(pair in {f.pair for f in phantom.findings} for phantom in batch) for pair in PAIRS}
    assert min(counts.values()) > 12, counts
    assert {len(phantom.findings) for phantom in batch} == {0, 1, 2, 3}


def test_2000_reports_read_back_as_planted():
    for index in range(2000):
        anatomy = Anatomy.sample(np.random.default_rng((5, index, 0)))
        planted = [plan.finding for plan in plan_findings(anatomy, np.random.default_rng((5, index, 1)))]
        report = write_report(planted, np.random.default_rng((5, index, 3)))
        pairs = {f.pair for f in planted}
        for text in (report["findings"], report["impression"], "\n".join(report.values())):
            assert report_sides(text) == pairs, text


def test_a_box_covers_what_its_finding_changes():
    """The same anatomy with and without the finding differs inside the box, and visibly."""
    seen: set[str] = set()
    for index in range(150):
        anatomy = Anatomy.sample(np.random.default_rng((7, index, 0)))
        plain, _ = draw_phantom(anatomy, [], 224, (7, index, 2))
        for plan in plan_findings(anatomy, np.random.default_rng((7, index, 1))):
            image, [(x, y, w, h)] = draw_phantom(anatomy, [plan], 224, (7, index, 2))
            change = np.abs(image.astype(int) - plain)
            inside = change[y : y + h, x : x + w].copy()
            assert inside.sum() > 0.97 * change.sum(), (index, plan.finding)
            change[y : y + h, x : x + w] = 0
            assert change.max() <= 12, (index, plan.finding, change.max())
            assert inside.max() >= 25, (index, plan.finding, inside.max())
            seen.add(plan.finding.name)
    assert seen == set(LABEL_OF)


@pytest.mark.parametrize("name", ["effusion", "consolidation", "nodule", "pneumothorax"])
def test_left_of_the_patient_is_right_in_the_image(name):
    """A finding alone: its box is on its side and brighter than the mirrored place, so flipping swaps the sides.

    A pneumothorax is darker, less so than the heart is bright: it is compared with the same place before it came.
    """
    differences: dict[str, list[float]] = {"left": [], "right": []}
    for index in range(300):
        anatomy = replace(Anatomy.sample(np.random.default_rng((2, index, 0))), rotation=0.0, shift_x=0.0)
        for plan in plan_findings(anatomy, np.random.default_rng((2, index, 1))):
            side = plan.finding.side
            if plan.finding.name == name and plan.finding.zone != "lower":  # a lower zone mirrors on the heart
                image, [(x, y, w, h)] = draw_phantom(anatomy, [plan], 96, (2, index, 2))
                place = slice(y, y + h), slice(x, x + w)
                other = draw_phantom(anatomy, [], 96, (2, index, 2))[0] if name == "pneumothorax" else image[:, ::-1]
                differences[side].append(float(image[place].mean() - other[place].mean()))
                assert (x + w / 2 > 48) == (side == "left")
    for values in differences.values():
        assert len(values) > 15
        assert np.mean(values) * (-1 if name == "pneumothorax" else 1) > 3, np.mean(values)


def test_the_laterality_marker_is_mostly_an_l_at_image_right_whatever_is_planted():
    def marked(corner: np.ndarray) -> bool:
        return bool(corner.max() > np.percentile(corner, 90) + 50)

    for planted in (False, True):
        images = [p.image for p in phantoms(seed=8, count=100) if bool(p.findings) == planted]
        at_right = np.mean([marked(image[5:45, 195:222]) for image in images])
        at_left = np.mean([marked(image[5:45, 2:29]) for image in images])
        assert at_right > 0.5 > 0.35 > at_left


def test_overall_brightness_gives_no_label_away(batch):
    brightness = np.array([phantom.image.mean() for phantom in batch])
    for label in LABEL_OF.values():
        planted = np.array([phantom.record["labels"][label] for phantom in batch], bool)
        ranks = brightness.argsort().argsort() + 1
        auc = (ranks[planted].sum() - planted.sum() * (planted.sum() + 1) / 2) / (planted.sum() * (~planted).sum())
        assert 0.25 < auc < 0.75, (label, auc)


READ: list[tuple[str, set[Pair]]] = [
    ("No left effusion.", set()),
    ("No left effusion, but a small right effusion.", {("effusion", "right")}),
    ("Small right effusion without pneumothorax.", {("effusion", "right")}),
    ("Bilateral pleural effusions, left greater than right.", {("effusion", "left"), ("effusion", "right")}),
    ("Small left and moderate right pleural effusions.", {("effusion", "left"), ("effusion", "right")}),
    (
        "Effusion on the left and consolidation in the right lower lobe.",
        {("effusion", "left"), ("consolidation", "right")},
    ),
    ("Left pleural effusion with adjacent consolidation.", {("effusion", "left"), ("consolidation", "left")}),
    ("No focal consolidation, pleural effusion, or pneumothorax.", set()),
    ("Heart size is normal. The cardiac silhouette is not enlarged. No cardiomegaly.", set()),
    ("The heart is mildly enlarged.", {("cardiomegaly", None)}),
    ("Stable cardiomegaly, no effusion.", {("cardiomegaly", None)}),
    ("The left lung is clear and the right shows a nodule.", {("nodule", "right")}),
    ("Left chest wall pacemaker with leads in the right atrium and right ventricle.", {("device", "left")}),
    ("Right-sided port with catheter tip in the SVC.", {("device", "right")}),
    ("Portable chest radiograph. Support devices: none.", set()),
    ("Pneumothorax is not seen. Pleural effusion has resolved.", set()),
    ("Neither effusion nor pneumothorax on the left.", set()),
    ("Left hydropneumothorax.", {("effusion", "left"), ("pneumothorax", "left")}),
    ("There is a pleural effusion.", {("effusion", None)}),
    ("No change in the left pleural effusion.", {("effusion", "left")}),
    ("Possible 1.5 cm nodule in the right upper lobe; the left lung is clear.", {("nodule", "right")}),
    ("Findings: Blunting of the left costophrenic angle. Impression: No pneumothorax.", {("effusion", "left")}),
    ("No abnormality except a small left pneumothorax.", {("pneumothorax", "left")}),
    ("", set()),
]


@pytest.mark.parametrize(("text", "pairs"), READ)
def test_plain_radiology_english_is_read(text, pairs):
    assert report_sides(text) == pairs


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 63}, ValueError, "size is 63, expected at least 64"),
        ({"seed": -1}, ValueError, "seed is -1, expected at least 0"),
        ({"index": -2}, ValueError, "index is -2, expected at least 0"),
        ({"size": 224.0}, TypeError, "size is 224.0, expected an integer"),
        ({"seed": True}, TypeError, "seed is True, expected an integer"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        generate_phantom(**{"seed": 0, "index": 0, **arguments})


@pytest.mark.parametrize("arguments", [{"count": -1}, {"start": -1}, {"size": 10}])
def test_a_bad_series_is_refused_before_the_first_phantom(arguments):
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))} is -?\d+, expected at least"):
        phantoms(**{"seed": 0, "count": 1, **arguments})


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.phantoms.generate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_a_data_set(tmp_path):
    done = run_command("--count", "5", "--out", str(tmp_path), "--seed", "4", "--size", "96", "--split", "test")
    assert done.returncode == 0, done.stderr
    assert "5 synthetic phantoms of 96 px" in done.stdout and "images a second" in done.stdout
    studies = [json.loads(line) for line in (tmp_path / "studies.jsonl").read_text().splitlines()]
    assert [study["study_id"] for study in studies] == [f"phantom-4-{i}" for i in range(5)]
    for study, phantom in zip(studies, phantoms(4, 5, 96), strict=True):
        image = Image.open(tmp_path / study["images"][0]["path"])
        assert "SYNTHETIC" in image.text["Description"]
        assert (np.asarray(image) == phantom.image).all()
        assert study["split"] == "test"
        assert [(b["label"], b["side"], (b["x"], b["y"], b["w"], b["h"])) for b in study["boxes"]] == [
            (LABEL_OF[f.name], f.side, f.box) for f in phantom.findings
        ]
    assert Image.open(tmp_path / "contact_sheet.png").size[0] == 4 * 96
    card = checked_card(tmp_path)
    assert card.data.license == "apache-2.0" and "synthetic" in card.data.tags and "| test | 5 |" in card.text
    assert "--count 5 --seed 4 --size 96 --split test" in card.text and "96 x 96 pixels" in card.text
    assert set(studies[0]) >= {name for names in STUDY_COLUMNS for name in names.split(", ")}


def test_the_command_refuses_a_bad_count(tmp_path):
    done = run_command("--count", "0", "--out", str(tmp_path / "none"))
    assert done.returncode == 2 and "--count is 0, expected at least 1" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_true_report_has_no_fault_and_a_false_one_says_which(batch):
    for phantom in batch:
        for text in (phantom.record.findings, phantom.record.impression):
            assert report_faults(phantom.findings, text) == report_slips(phantom.findings, text) == []
    planted = [
        PlantedFinding("device", "right", None, kind="central line"),
        PlantedFinding("nodule", "left", "small", zone="upper"),
    ]
    assert report_faults([], "There is edema. There is lung opacity.") == ["names the edema, which was not planted"]
    assert report_faults(planted, "Right chest port. Left lung nodule. Mild cardiomegaly.") == [
        "does not name the right central line",
        "names the cardiomegaly, which was not planted",
        "names the right port, which was not planted",
    ]
    assert report_slips(planted, "There is a large nodule in the left lower zone.") == [
        "calls the small left upper nodule large",
        "calls the small left upper nodule lower",
    ]
    assert told_details(planted, "There is a large nodule in the left upper zone.") == {"size": [False], "zone": [True]}
    for silent in (
        "A left nodule.",
        "A small left nodule. A large left nodule.",
        "A large right nodule in the mid zone.",
    ):
        assert told_details(planted, silent) == {"size": [], "zone": []}
