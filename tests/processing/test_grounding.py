"""Boxes of findings: from the radiograph to the square and back, from evidence, and from a model's words."""

import copy
import io
import json

import numpy as np
import pytest
from PIL import Image

from processing_trrg import (
    ClueScore,
    FindingBox,
    Placement,
    PreparedView,
    Radiograph,
    Report,
    TRRGImageProcessor,
    evidence_boxes,
    read_grounded,
)
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor

SIZES = [(64, 64), (33, 131), (131, 33), (1025, 767), (2991, 2317), (223, 225), (224, 224), (97, 101)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [32, 224, 518])
def test_a_box_comes_back_from_the_square_exact_to_the_pixel(shape, size):
    rng = np.random.default_rng(size)
    place = Placement(*shape, size)
    for _ in range(200):
        x, y = (int(rng.integers(side)) for side in shape[::-1])
        box = (x, y, int(rng.integers(1, shape[1] - x + 1)), int(rng.integers(1, shape[0] - y + 1)))
        on_square = place.box_on_square(box)
        assert tuple(map(round, place.box_on_image(on_square))) == box
        assert min(on_square[:2]) >= 0 and max(on_square[0] + on_square[2], on_square[1] + on_square[3]) <= size + 1e-9


@pytest.mark.parametrize("shape", [(301, 223), (223, 301), (97, 380), (512, 512)])
def test_a_box_lies_on_the_square_where_the_pixels_do(shape):
    x, y, w, h = shape[1] // 4, shape[0] // 3, shape[1] // 2, shape[0] // 5
    picture = np.zeros(shape, np.float32)
    picture[y : y + h, x : x + w] = 1
    square = TRRGImageProcessor(size=224).square(Radiograph(picture)) > 127
    columns, rows = (np.flatnonzero(square.any(axis)) for axis in (0, 1))
    left, top, width, height = Placement(*shape, 224).box_on_square((x, y, w, h))
    seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert (left, top, left + width, top + height) == pytest.approx(seen, abs=1)


def turned(pixels):
    """A JPEG whose header says that it lies on its side."""
    buffer, header = io.BytesIO(), Image.Exif()
    header[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=header)
    return buffer.getvalue()


def test_the_size_of_the_first_view_is_that_of_its_pixels_whatever_file_it_comes_in():
    pixels = radiograph(101, 77)
    views = [
        pixels,
        picture_bytes(pixels),
        dicom_bytes(dicom_dataset(pixels.astype(np.uint16))),
        turned(radiograph(77, 101)),
    ]
    processor = tiny_processor()
    batch = processor(images=[[view, radiograph(40, 40)] for view in views])
    assert [words["frontal"] for words in batch.studies] == [Placement(101, 77, 32)] * 4
    square = PreparedView(np.zeros((32, 32), np.uint8))
    assert processor(images=[[square]]).studies[0]["frontal"] == Placement(32, 32, 32)
    known_by_clues = processor(clue_scores=dict.fromkeys([clue["name"] for clue in processor.clues], 0.5))
    assert known_by_clues.studies[0]["frontal"] is None


def heat(*peaks, shape=(12, 12)):
    """A map with a value at each (row, column)."""
    evidence = np.random.default_rng(0).normal(0, 0.02, shape).astype(np.float32)
    for (row, column), value in peaks:
        evidence[row, column] = value
    return evidence


def test_evidence_becomes_the_box_around_its_peak():
    square = Placement(240, 240, 240)
    (box,) = evidence_boxes(heat(((3, 8), 1.0)), square)
    assert box == pytest.approx((8 / 12, 3 / 12, 9 / 12, 4 / 12), abs=0.05)
    (wide,) = evidence_boxes(heat(((3, 8), 1.0), ((3, 9), 0.9), ((4, 9), 0.9)), square)
    assert wide == pytest.approx((8 / 12, 3 / 12, 10 / 12, 5 / 12), abs=0.05)
    assert len(evidence_boxes(heat(((3, 2), 1.0), ((7, 9), 0.95)), square)) == 2
    assert len(evidence_boxes(heat(((3, 2), 1.0), ((7, 9), 0.6)), square)) == 1
    assert len(evidence_boxes(heat(*(((3 * r, 3 * c), 1.0) for r in range(4) for c in range(4))), square)) == 2
    assert evidence_boxes(np.zeros((12, 12)), square) == []
    assert len(evidence_boxes(np.ones((1, 1)), square)) == 0


def test_evidence_on_the_padding_is_no_finding():
    tall = Placement(240, 120, 240)  # a quarter of the square on either side is air
    (box,) = evidence_boxes(heat(((5, 0), 9.0), ((2, 5), 1.0)), tall)
    assert box == pytest.approx((5 / 12, 2 / 12, 6 / 12, 3 / 12), abs=0.05)


def clue(name, selected=True, peak=(3, 8), value=1.0):
    return ClueScore(name, 0.9, np.stack([heat((peak, value)), heat(((0, 0), 5.0))]), selected)


def test_a_report_has_the_boxes_of_what_was_selected_and_said_in_pixels_of_the_file():
    clues = [
        clue("Pleural Effusion", peak=(9, 2)), clue("Right Pleural Effusion", peak=(9, 3)), clue("Edema", False),
        clue("No Finding"), clue("Pneumonia"), clue("Cardiomegaly"), ClueScore("Fracture", 0.9, None, True),
    ]  # fmt: skip
    said = "Effusion on the right. Edema. Cardiomegaly. Rib fracture."
    report = Report(said, None, said, clues, frontal=Placement(600, 1200, 240))
    assert [(box.finding, box.source) for box in report.boxes] == [
        ("Right Pleural Effusion", "evidence"), ("Cardiomegaly", "evidence")
    ]  # fmt: skip
    effusion = report.boxes[0]
    assert (effusion.x, effusion.y + 300) == pytest.approx((300, 900), abs=60)
    written = json.loads(json.dumps(report.to_dict()))["boxes"]
    assert written[1].keys() == {"finding", "x", "y", "w", "h", "source"} and written[0]["x"] == effusion.x
    assert copy.deepcopy(report).boxes == report.boxes
    assert Report(said, None, said, clues).boxes == []


def test_boxes_of_a_text_are_cut_at_the_border_and_denied_findings_have_none():
    report = Report("", None, "", [clue("Hernia", False)], frontal=Placement(100, 50, 100))
    report.grounded = read_grounded(
        "There is a left pleural effusion. [50 70 90 99] No pneumothorax. [50 10 60 20] Large hernia. [40 10 60 20] "
        "Something odd. [70 30 74 34] Edema. [00 00 10 10]"
    )
    assert report.boxes == [
        FindingBox("Pleural Effusion", 26, 70, 24, 30, "text"),
        FindingBox("Hernia", 16, 10, 20, 10, "text"),
        FindingBox("Something odd.", 46, 30, 4, 4, "text"),
    ]


def test_a_box_has_a_pixel_at_least():
    report = Report("", None, "", frontal=Placement(32, 32, 224), grounded=read_grounded("Nodule. [99 99 99 99]"))
    assert report.boxes == [FindingBox("Lung Lesion", 31, 31, 1, 1, "text")]


def test_reports_of_a_batch_know_their_first_views():
    processor = tiny_processor()
    inputs = processor(images=[[radiograph(64, 48)], [radiograph(40, 90), radiograph(50, 50)]])
    reports = processor.post_process_report(["a", "b"], inputs)
    assert [report.frontal for report in reports] == [Placement(64, 48, 32), Placement(40, 90, 32)]
    assert processor.post_process_report("a")[0].frontal is None
