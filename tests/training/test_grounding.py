"""Boxes as text: what is learned of a study whose findings have a known place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from evaluation.reading.labeler import label_report
from processing_trrg import TRRGImageProcessor, read_grounded
from processing_trrg.prompt_trrg import GROUNDED_REQUEST, default_clues
from tests.helpers.training_helpers import make_data, stage_2, write_config
from training.builders.instruct import instruct_rows
from training.config.run_config import FinetuneConfig, load_config
from training.data.augment import augment
from training.data.dialogue import make_exchange
from training.data.examples import Examples, SourceData
from training.data.images import ImageBank
from training.data.places import places
from training.data.sampler import Draw
from training.data.study import Studies, Study, write_studies
from training.run.initial_model import build_config, build_processor

STUDY = Study(
    "s", "p", "train",
    findings="There is a left pleural effusion. The heart is enlarged. There are bilateral nodules. No pneumothorax.",
)  # fmt: skip


def box(label, side=None, x=0.1, y=0.2, w=0.3, h=0.4):
    return {"label": label, "side": side, "x": x, "y": y, "w": w, "h": h}


def exchange(boxes, study=STUDY, seed=0):
    labels = label_report(study.findings)
    rng = np.random.default_rng(seed)
    return make_exchange("grounding", study, labels, default_clues(), label_report, rng, boxes=boxes)


def test_each_claim_is_followed_by_its_boxes():
    boxes = [
        box("Pleural Effusion", "left"),
        box("Pleural Effusion", "right", 0.8),
        box("Lung Lesion", "left", 0.5),
        box("Lung Lesion", "right", 0.0, 0.0, 1.0, 1.0),
        box("Pneumothorax", "left"),
    ]
    made = exchange(boxes)
    assert made.answer == (
        "There is a left pleural effusion. [10 20 40 60] The heart is enlarged. "
        "There are bilateral nodules. [50 20 80 60] [00 00 99 99]"
    )
    read = read_grounded(made.answer)
    assert [len(sentence.boxes) for sentence in read] == [1, 0, 2]
    assert read[0].boxes[0] == pytest.approx((0.105, 0.205, 0.405, 0.605))


def test_questions_are_the_request_of_the_package_and_other_words():
    questions = [exchange([box("Cardiomegaly")], seed=seed).question for seed in range(60)]
    assert 8 < questions.count(GROUNDED_REQUEST) < 40 and len(set(questions)) > 5


def test_only_a_phantom_without_findings_has_no_boxes_to_learn():
    normal = replace(STUDY, findings="The lungs are clear.")
    assert exchange([]) is None and exchange([box("Edema")]) is None and exchange([], normal) is None
    assert read_grounded(exchange([], replace(normal, synthetic=True)).answer)[0].boxes == ()


@pytest.mark.parametrize("seed", range(6))
def test_a_box_moves_as_the_picture_does(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(40, 120, size=2)
    w, h = rng.integers(20, 60, size=2)
    picture = Image.new("L", (224, 224))
    ImageDraw.Draw(picture).ellipse((x, y, x + w - 1, y + h - 1), fill=255)
    pixels, motion = augment(np.asarray(picture), rng)
    rows, columns = (np.flatnonzero((pixels > 127).any(axis)) for axis in (1, 0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    x, y, w, h = motion.move_box(x, y, w, h)
    assert (x, y, x + w, y + h) == pytest.approx(seen, abs=1.5)


def test_a_box_follows_resizing_padding_and_the_border(tmp_path):
    pixels = np.tile(np.arange(100, dtype=np.uint8), (50, 1))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    boxes = [{"label": "Lung Opacity", "x": 0, "y": 0, "w": 50, "h": 50}, {**box("Cardiomegaly"), "x": 101, "w": 5}]
    record = {"study_id": "s", "patient_id": "p", "split": "train", "boxes": boxes}
    write_studies(tmp_path / "studies.jsonl", [{**record, "images": [{"path": "a.png", "view": None}]}])
    bank = ImageBank(Studies(tmp_path, "train"), TRRGImageProcessor(size=40), 1, None)
    (found,) = places(bank, 0, None)  # the other is beyond the picture
    assert found == {"label": "Lung Opacity", "side": "right", "x": 0, "y": 0.25, "w": 0.5, "h": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("grounding") / "data")


def test_examples_learn_where_the_finding_is_in_the_square_that_they_show(data, tmp_path):
    raw = stage_2(data, tmp_path / "run")
    raw["data"] |= {"dialogue": {"grounding": 1.0}, "augment": True}
    config = load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
    processor = build_processor(config.model, build_config(config.model))
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.train]
    examples = Examples(sources, config.data, seed=0, training=True)
    images = sources[0].images
    images.prepare()
    drawn = [examples[Draw(0, index, epoch, index)] for epoch in range(3) for index in range(len(sources[0]))]
    asked = [example for example in drawn if example.exchanges and "[" in example.exchanges[0].answer]
    assert len(asked) > len(drawn) / 2
    ids = [record.study_id for record in sources[0].studies.records]
    for example in asked:
        said = [corners for sentence in read_grounded(example.exchanges[0].answer) for corners in sentence.boxes]
        known = places(images, ids.index(example.study_id), example.motion)
        corners = [(b["x"], b["y"], b["x"] + b["w"], b["y"] + b["h"]) for b in known]
        assert all(any(one == pytest.approx(other, abs=0.02) for other in corners) for one in said)
    no_image = examples[Draw(1, 0, 0, 0)]
    assert not any("[" in exchange.answer for exchange in no_image.exchanges)


def test_chats_are_written_with_boxes(data):
    studies = Studies(data / "pairs", "train", 8)
    rows = [chat for _, _, chat in instruct_rows(studies, ["grounding"], "trrg", 1, 0, None) if isinstance(chat, dict)]
    answers = [chat["messages"][-1]["content"][0]["text"] for chat in rows]
    assert sum(bool(read_grounded(answer)[0].boxes) for answer in answers) > 2


@pytest.mark.parametrize(
    "brackets",
    ["[12 34", "[12 34 56]", "[12 34 56 78 90]", "[]", "[56 34 12 78]", "[12 34 56 178]", "[1;2;3", "[12 34 56 78",
     "[-12 34 56 78]", "[.1 .2 .3 .4]"],
)  # fmt: skip
def test_brackets_without_a_box_are_left_out(brackets):
    assert read_grounded(f"There is edema. {brackets}") == [("There is edema.", ())]


def test_text_with_boxes_is_read_whatever_it_holds():
    assert read_grounded("[10 10 20 20]") == [] and read_grounded("") == []
    (one,) = read_grounded("There is a tiny nodule [07 7 07 08].")
    assert one.boxes[0] == pytest.approx((0.07, 0.075, 0.08, 0.085))
    many = read_grounded("Edema. " + "".join(f"[{n:02d} 00 99 99]" for n in range(90)) * 200)
    assert len(many) == 1 and len(many[0].boxes) == 32
    assert read_grounded("See [**2024**] and [b]. [01 01 05 05]")[-1].boxes
    assert len(read_grounded("[" * 200_000 + "1 " * 200_000)) <= 1
