"""The one pipeline: one study or many, every kind of source, clue lists, bad studies; and one answer at every door."""

import pytest
import torch
from PIL import Image
from transformers import pipeline

from processing_trrg import RadiologyReportPipeline, StudyError
from tests.helpers.models import SYSTEMS, build
from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor


def writer(config, system="trrg", **overrides):
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens, **overrides)
    return RadiologyReportPipeline(model=build(config), processor=processor)


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_study_many_and_an_iterator_write_the_same(tiny_config, system):
    write = writer(tiny_config(system, num_classifier_labels=14), system)
    studies = [{"images": radiograph(), "indication": "cough"}, {"images": [radiograph(), radiograph(top=99)]}]
    alone = [write(study, max_new_tokens=6) for study in studies]
    many = write(studies, batch_size=2, max_new_tokens=6)
    streamed = list(write(iter(studies), max_new_tokens=6))
    assert [r.text for r in alone] == [r.text for r in many] == [r.text for r in streamed]
    for one, other in zip(alone, many, strict=True):
        assert [c.name for c in one.clues] == [c.name for c in other.clues]
        assert [c.evidence.shape[0] for c in one.clues] == [c.evidence.shape[0] for c in other.clues]


def test_every_source_is_a_study(tiny_config, tmp_path):
    write = writer(tiny_config("trrg"))
    picture = tmp_path / "a.png"
    picture.write_bytes(picture_bytes(radiograph()))
    dicom = tmp_path / "a.dcm"
    dicom.write_bytes(dicom_bytes(dicom_dataset(radiograph())))
    sources = [picture, str(picture), picture.read_bytes(), Image.open(picture), radiograph(), dicom, [picture]]
    texts = {write(source, max_new_tokens=6).text for source in sources}
    assert len(texts) == 1
    assert write(images=picture, max_new_tokens=6).text in texts


def test_a_clue_list_of_the_user_comes_back_with_its_names(tiny_config):
    write = writer(tiny_config("trrg"))
    clues = [f"finding number {index}" for index in range(20)]
    report = write(radiograph(), clues=clues, max_new_tokens=4)
    assert sorted(clue.name for clue in report.clues) == sorted(clues)
    with pytest.raises(ValueError, match="give each clue its negative sentence"):
        write(radiograph(), clues=["There is finding number 0."], max_new_tokens=4)
    softmax = writer(tiny_config("trrg", clue_scoring="softmax"))
    report = softmax(radiograph(), clues=["There is finding number 0."], max_new_tokens=4)
    assert [clue.name for clue in report.clues] == ["There is finding number 0."]


def test_given_scores_reach_the_report_of_systems_that_read_clues(tiny_config):
    scores = dict.fromkeys([clue["name"] for clue in tiny_processor().clues], 0.0) | {"Edema": 0.9}
    for system in ("trrg", "radialog"):
        write = writer(tiny_config(system, num_classifier_labels=14), system)
        report = write(radiograph(), clue_scores=scores, max_new_tokens=4)
        assert [clue.name for clue in report.clues if clue.selected] == ["Edema"]
    with pytest.raises(ValueError, match="knows no clues"):
        writer(tiny_config("maira1"), "maira1")(radiograph(), clue_scores=scores, max_new_tokens=4)


def test_a_bad_study_is_named_or_stands_in_its_place(tiny_config):
    write = writer(tiny_config("trrg"))
    studies = [{"images": radiograph()}, {"images": b"no picture", "study_id": "B"}, {"images": radiograph(top=99)}]
    with pytest.raises(StudyError, match=r"study 1 \(B\)"):
        write(studies, batch_size=3, max_new_tokens=4)
    first, bad, last = write(studies, batch_size=3, on_error="skip", max_new_tokens=4)
    assert isinstance(bad, StudyError) and bad.study_id == "B"
    assert first.text == write(radiograph(), max_new_tokens=4).text and last.clues
    with pytest.raises(ValueError, match=r"unknown fields \['patient'\]"):
        write({"images": radiograph(), "patient": "x"})
    with pytest.raises(ValueError, match="indication: given beside several studies"):
        write(studies, indication="cough")


def test_a_prompt_that_became_too_long_skips_only_its_study(tiny_config):
    config = tiny_config("radialog", num_classifier_labels=14, clue_threshold=0.5)
    write = writer(config, "radialog")
    scores = torch.zeros(2, 14)
    scores[0] = 0.9
    names = [clue["name"] for clue in write.processor.clues]
    studies = [{"images": radiograph(), "clue_scores": dict(zip(names, row, strict=True))} for row in scores.tolist()]
    batch = write.preprocess(studies)
    short = write.processor.say_findings(batch, scores > 0.5)["attention_mask"].sum(1)
    write.processor.max_length = int(short[1])
    long, fits = write(studies, batch_size=2, on_error="skip", max_new_tokens=4)
    assert isinstance(long, StudyError) and "max_length" in long.reason
    assert len(fits.clues) == 14


def test_it_is_a_task_of_transformers(tiny_config, tmp_path):
    config = tiny_config("trrg")
    build(config).save_pretrained(tmp_path)
    tiny_processor(size=32, num_image_tokens=config.num_image_tokens).save_pretrained(tmp_path)
    write = pipeline("radiology-report", model=str(tmp_path), trust_remote_code=True)
    report = write(radiograph(), max_new_tokens=4)
    assert len(report.clues) == 14
    write.model.save_pretrained(tmp_path / "again")
    again = pipeline("radiology-report", model=write.model, processor=write.processor)
    assert again(radiograph(), max_new_tokens=4).text == report.text
