"""What is done to training images at random."""

import json
import shutil

import numpy as np
import pytest

from processing_trrg import TRRGImageProcessor
from processing_trrg.prompt_trrg import default_clues
from tests.helpers.training_helpers import SIDE, stage_1, stage_2, write_config
from training.config.run_config import ConfigError, FinetuneConfig, PretrainConfig, load_config
from training.data.augment import augment
from training.data.clue_labels import names_no_side
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw, keyed_rng
from training.data.study import Box

PICTURE = np.tile(np.linspace(40, 200, 64).astype(np.uint8), (64, 1))


@pytest.mark.parametrize("strong", [False, True])
def test_a_picture_is_changed_by_its_key_alone_and_keeps_its_shape(strong):
    found = [augment(PICTURE, keyed_rng("test", i), strong)[0] for i in range(20)]
    again = [augment(PICTURE, keyed_rng("test", i), strong)[0] for i in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    assert all(one.shape == PICTURE.shape and one.dtype == np.uint8 for one in found)
    assert len({one.tobytes() for one in found}) == 20


def test_strong_augmentation_moves_more_and_keeps_what_is_seen():
    """It turns and scales further; but for what a box hides, light and dark stay where they are."""
    moves = {
        strong: [augment(PICTURE, keyed_rng("test", i), strong)[1] for i in range(300)] for strong in (True, False)
    }
    for part in ("angle", "scale"):
        spread = {strong: np.std([getattr(move, part) for move in of]) for strong, of in moves.items()}
        assert spread[True] > 1.3 * spread[False]
    pictures = [augment(PICTURE, keyed_rng("test", i), True)[0].astype(float)[16:48, 16:48] for i in range(50)]
    likeness = [np.corrcoef(np.median(picture, axis=0), np.arange(32))[0, 1] for picture in pictures]
    assert np.mean(np.array(likeness) > 0.9) > 0.8


def mirrored_draws(data, tmp_path, change, **source):
    """Of 40 draws of each of two studies, how many are mirrored: of pictures that are bright on the right."""
    pairs = shutil.copytree(data / "pairs", tmp_path / "pairs")
    studies = [json.loads(line) for line in (pairs / "studies.jsonl").read_text().splitlines()[:2]]
    for study in studies:
        study |= {"boxes": [], "labels": {"Cardiomegaly": 1}, "findings": None, "impression": None}
        change(study)
    (pairs / "studies.jsonl").write_text("".join(json.dumps(study) + "\n" for study in studies))
    config = stage_1(data, tmp_path / "run")
    config["data"] |= {"train": [{"path": str(pairs), "kind": "image", **source}], "validation": []}
    section = load_config(PretrainConfig, write_config(config, tmp_path / "run.yaml"), []).data
    clues = [*default_clues(), {"name": "Left Lung Lesion", "positive": "There is a left lung lesion.",
                                "negative": "There is no left lung lesion."}]  # fmt: skip
    loaded = SourceData(section.train[0], section, clues, TRRGImageProcessor(size=SIDE))
    loaded.images.get = lambda index: [PICTURE]
    loaded.find_sentences(0.0, lambda text: {}, whole=False)
    examples = Examples([loaded], section, seed=0, training=True)
    drawn = [examples[Draw(0, study, epoch, epoch)].squares[0] for study in (0, 1) for epoch in range(40)]
    return sum(bool(square[:, :24].mean() > square[:, -24:].mean()) for square in drawn)


def test_half_of_the_draws_of_a_mirrored_source_are_mirrored(data, tmp_path):
    assert 25 <= mirrored_draws(data, tmp_path, lambda study: None, mirrored=True) <= 55


@pytest.mark.parametrize(
    "change",
    [
        lambda study: study.update(boxes=[Box(label="Lung Opacity", x=1, y=1, w=9, h=9)]),
        lambda study: study.update(labels={"Lung Lesion": 1, "Left Lung Lesion": 1}),
    ],
    ids=["a box", "a finding on the left"],
)
def test_what_has_a_side_is_not_mirrored(change, data, tmp_path):
    assert mirrored_draws(data, tmp_path, change, mirrored=True) == 0


def test_no_image_is_mirrored_unasked(data, tmp_path):
    assert mirrored_draws(data, tmp_path, lambda study: None) == 0


def test_labels_that_hold_for_the_mirrored_picture():
    names = ["Edema", "Lung Lesion", "Left Lung Lesion", "Right Lung Lesion"]
    assert names_no_side((1, 0, 0, 0), names) and names_no_side((0, 1, None, None), names)
    for labels in ((0, 1, 1, 0), (0, 1, None, 0), (0, 0, 1, 0)):
        assert not names_no_side(labels, names)


def test_strong_augmentation_changes_greys_hides_boxes_and_takes_any_shape():
    flat = np.full((96, 96), 128, dtype=np.uint8)
    found = [augment(flat, keyed_rng("test", i), True)[0][24:72, 24:72] for i in range(60)]
    assert np.std([np.median(picture) for picture in found]) > 8  # contrast and brightness
    noise = [np.std(picture[:4, :4].astype(float)) for picture in found]
    assert sum(value > 1 for value in noise) > 10 and sum(value == 0 for value in noise) > 10
    assert any((np.abs(picture.astype(float) - np.median(picture)) > 40).sum() > 100 for picture in found)  # a box
    for shape in ((64, 8), (8, 64), (3, 3), (2, 2)):
        picture = np.full(shape, 100, dtype=np.uint8)
        assert all(augment(picture, keyed_rng("test", i), True)[0].shape == shape for i in range(50))


@pytest.mark.parametrize("strong", [False, True])
def test_the_configuration_says_how_strong(strong, data, tmp_path):
    config = stage_1(data, tmp_path / "run")
    config["data"] |= {"train": [{"path": str(data / "pairs"), "kind": "image"}], "strong_augment": strong}
    section = load_config(PretrainConfig, write_config(config, tmp_path / "run.yaml"), []).data
    loaded = SourceData(section.train[0], section, default_clues(), TRRGImageProcessor(size=SIDE))
    loaded.images.get = lambda index: [PICTURE]
    loaded.find_sentences(0.0, lambda text: {}, whole=False)
    drawn = Examples([loaded], section, seed=0, training=True)[Draw(0, 0, 3, 3)].squares[0]
    key = (0, 3, 0, loaded.studies.records[0].study_id, 0)
    assert np.array_equal(drawn, augment(PICTURE, keyed_rng("augment", *key), strong)[0])


@pytest.mark.parametrize(
    ("stage", "override", "said"),
    [
        ("stage1", "data.train=[{path: a, mirrored: true}]", "mirrored: needs kind 'image'"),
        ("stage1", "data.validation=[{path: a, kind: image, mirrored: true}]", "validation.0.mirrored"),
        ("stage2", "data.train=[{path: a, mirrored: true}]", "mirrored"),
        ("stage1", "data.strong_augment=true data.augment=false", "strong_augment: set data.augment too"),
        (
            "stage1",
            "data.train=[{path: a, kind: image, mirrored: true}] data.augment=false",
            "training source and data.augment",
        ),
    ],
)
def test_augmentation_that_cannot_be_is_refused(stage, override, said, tmp_path):
    make, kind = (stage_1, PretrainConfig) if stage == "stage1" else (stage_2, FinetuneConfig)
    file = write_config(make(tmp_path, tmp_path / "run"), tmp_path / "run.yaml")
    overrides = override.replace(" data.augment", "\ndata.augment").split("\n")
    with pytest.raises(ConfigError, match=said):
        load_config(kind, file, overrides)
