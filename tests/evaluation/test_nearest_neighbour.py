"""The nearest-neighbour baseline through its entry point, on SYNTHETIC phantoms and a tiny untrained tower."""

import json

import pytest
from PIL import Image

from evaluation import nearest_neighbour
from evaluation.reading.labeler import label_report
from tests.helpers.checkpoints import read, save_checkpoint
from training.builders.small_data import write_set
from training.phantoms.generate import generate_phantom


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), "trrg")


def make_data(folder, studies):
    """studies: (number of the phantom whose image it has, split, patient, has a report)."""

    def records():
        for row, (number, split, patient, reported) in enumerate(studies):
            phantom = generate_phantom(11, number, 64)
            name = phantom.record["images"][0]["path"]
            Image.fromarray(phantom.image).save(folder / name)
            silent = {} if reported else {"findings": None, "impression": None}
            yield dict(phantom.record) | {"study_id": f"s{row}", "patient_id": patient, "split": split} | silent

    folder.mkdir(exist_ok=True)
    write_set(folder, records())
    return folder


def run(checkpoint, data, out):
    nearest_neighbour.main(["--checkpoint", str(checkpoint), "--data", str(data), "--split", "test", "--out", str(out)])
    return read(out / "predictions.jsonl")


def test_the_same_image_of_another_patient_lends_its_report(checkpoint, tmp_path):
    data = make_data(
        tmp_path / "data",
        [(0, "train", "a", True), (1, "train", "b", True), (2, "train", "c", True), (1, "test", "d", True)],
    )
    (line,) = run(checkpoint, data, tmp_path / "run")
    assert line["neighbour"] == "s1"
    assert line["prediction"] == line["reference"]  # the phantom's own report


def test_a_study_of_the_same_patient_is_no_neighbour(checkpoint, tmp_path):
    data = make_data(tmp_path / "data", [(0, "train", "a", True), (1, "train", "b", True), (1, "test", "b", True)])
    (line,) = run(checkpoint, data, tmp_path / "run")
    assert line["neighbour"] == "s0"


def test_a_neighbour_without_a_report_lends_its_labels(checkpoint, tmp_path):
    numbers = range(4)
    data = make_data(
        tmp_path / "data",
        [(n, "train", f"p{n}", False) for n in numbers] + [(n, "test", f"q{n}", False) for n in numbers],
    )
    for line in run(checkpoint, data, tmp_path / "run"):
        present = {name for name, label in line["labels"].items() if label == 1}
        said = {name for name, label in label_report(line["prediction"]).items() if label == 1}
        assert said - {"No Finding"} == present - {"No Finding"}
        assert {name for name, score in line["clue_scores"].items() if score == 1} <= present


def test_studies_without_an_image_are_named(checkpoint, tmp_path):
    data = make_data(tmp_path / "data", [(0, "train", "a", True), (1, "test", "b", True)])
    file = data / "studies.jsonl"
    lines = [json.loads(line) | ({"images": []} if "s1" in line else {}) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"1 studies have no image, e\.g\. 's1'"):
        run(checkpoint, data, tmp_path / "run")
