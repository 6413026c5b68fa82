"""The one pipeline: one study or many, every kind of source, clue lists, bad studies."""

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


def test_a_prior_is_words_alone(tiny_config):
    """A prior image is no argument; a prior report goes with a study of today."""
    write = writer(tiny_config("trrg"))
    with pytest.raises(ValueError, match=r"unknown fields \['prior_images'\]; known are .* prior_report"):
        write({"images": radiograph(), "prior_images": [radiograph()], "prior_report": "Clear."}, max_new_tokens=4)
    with pytest.raises(ValueError, match="prior_images"):
        write(radiograph(), prior_images=[radiograph()], max_new_tokens=4)
    with pytest.raises(StudyError, match="study 0: prior_report: got ndarray for one study"):
        write({"images": radiograph(), "prior_report": radiograph()}, max_new_tokens=4)
    with pytest.raises(StudyError, match="study 0: the study has no view"):
        write({"prior_report": "Clear."}, max_new_tokens=4)


def test_views_of_any_sizes_are_one_study(tiny_config):
    write, views = writer(tiny_config("trrg")), [radiograph(), radiograph()[:90], radiograph()[:, 9:80]]
    assert {clue.evidence.shape[0] for clue in write(views, max_new_tokens=4).clues} == {3}
    with pytest.raises(StudyError, match="study 0: 50 views, but the model was trained with at most 4"):
        write([radiograph()] * 50, max_new_tokens=4)


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


def test_the_dial_moves_the_clues_that_a_report_is_written_from(tiny_config):
    processor = tiny_processor(size=32, num_image_tokens=6)
    ids = [[row[mask.bool()].tolist() for row, mask in zip(some, masks, strict=True)]
           for some, masks in zip(*list(processor.clue_tensors().values())[:2], strict=True)]  # fmt: skip
    rates, count = [0.1] * 10, len(processor.clues)
    config = tiny_config("trrg", num_selected_clues=count, clue_token_ids=ids,
                         clue_calibration=[[1.0, 0.0, 0.5]] * count,
                         clue_operating_points=[[0.9, 0.1, *rates]] * (count - 1) + [[]])  # fmt: skip
    write = writer(config)
    scores = dict.fromkeys([clue["name"] for clue in write.processor.clues], 0.0)
    scores |= {"Edema": 0.95, "Pneumonia": 0.6, "Fracture": 0.2}
    study = {"images": radiograph(), "clue_scores": scores}
    heard = {}
    for point in (None, "careful", "sensitive", 0.2):
        (report,) = write([study], operating_point=point, max_new_tokens=4)
        heard[point] = sorted(clue.name for clue in report.clues if clue.selected)
        answers = {clue.name: clue.answer for clue in report.clues}
        assert [answers[n] for n in ("Edema", "Pneumonia", "Fracture", "Atelectasis")] == [
            "present", "indeterminate", "indeterminate", "absent"
        ]  # fmt: skip
        assert answers["Support Devices"] is None and report.to_dict()["clues"][0]["answer"] == "present"
    assert heard[None] == ["Edema", "Pneumonia"] and heard["careful"] == ["Edema"]
    assert heard["sensitive"] == heard[0.2] == ["Edema", "Fracture", "Pneumonia"]
    talked = write(study, operating_point="sensitive", max_new_tokens=4)
    talked.correct(clues={"Edema": 0.0}, max_new_tokens=4)
    assert sorted(clue.name for clue in talked.clues if clue.selected) == ["Fracture", "Pneumonia"]
    with pytest.raises(ValueError, match="these clues have none"):
        writer(tiny_config("trrg"))(radiograph(), operating_point="careful", max_new_tokens=4)


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


def test_errors_name_the_place_among_all_studies(tiny_config):
    write = writer(tiny_config("trrg"))
    studies = [{"images": radiograph()}, {"images": radiograph()}, {"images": b"no picture"}]
    with pytest.raises(StudyError, match="study 2: "):
        write(studies, max_new_tokens=4)
    assert write(studies, on_error="skip", max_new_tokens=4)[2].index == 2
    assert write([]) == []
    with pytest.raises(ValueError, match=r"study 0: expected a dict of images, .*, got str"):
        list(write(iter(["a.png"])))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_skipping_loses_no_study_whatever_is_wrong_with_its_neighbours(tiny_config, batch_size):
    write = writer(tiny_config("trrg"))
    scores = dict.fromkeys([clue["name"] for clue in write.processor.clues], 0.2)
    studies = [
        {"images": radiograph(), "indication": float("nan")},
        {"images": radiograph(), "clue_scores": {"Edema": "0.9"}},
        {"indication": "cough"},
        {"images": radiograph(), "clue_scores": scores},
        {"clue_scores": scores},
    ]
    *bad, seen, known = write(studies, batch_size=batch_size, on_error="skip", max_new_tokens=4)
    assert [error.index for error in bad] == [0, 1, 2]
    assert "indication: got float" in str(bad[0]) and "clue_scores" in str(bad[1]) and "no view" in str(bad[2])
    assert seen.clues[0].evidence is not None and known.clues[0].evidence is None


def test_what_the_pipeline_is_built_with_holds_for_every_call(tiny_config):
    config = tiny_config("trrg")
    processor = tiny_processor(size=32, num_image_tokens=config.num_image_tokens)
    write = RadiologyReportPipeline(
        model=build(config), processor=processor, max_new_tokens=3, on_error="skip", clues=["Hernia", "Edema"]
    )
    good, bad = write([{"images": radiograph()}, {"images": b"no picture"}])
    assert {clue.name for clue in good.clues} == {"Hernia", "Edema"} and isinstance(bad, StudyError)
    assert len(processor.tokenizer(good.text)["input_ids"]) <= 3
    assert len(write(radiograph(), clues=["Mass"]).clues) == 1
    with pytest.raises(ValueError, match="num_return_sequences"):
        write(radiograph(), num_return_sequences=2)


def test_a_length_that_counts_the_prompt_is_refused(tiny_config):
    """The turns that revise a report, and those of a chat, have longer prompts; and a batch has padding."""
    config = tiny_config("trrg")
    processor = tiny_processor(size=32, num_image_tokens=config.num_image_tokens)
    write = RadiologyReportPipeline(model=build(config), processor=processor, max_new_tokens=3)
    study = write(radiograph())
    for ask in (lambda: write(radiograph(), max_length=200), lambda: study.ask("where?", max_length=200)):
        with pytest.raises(ValueError, match="max_length: it counts the prompt too; give max_new_tokens"):
            ask()


@pytest.mark.parametrize("system", ["maira1", "radialog"])
def test_a_clue_list_is_refused_where_no_clue_sentence_is_read(tiny_config, system):
    write = writer(tiny_config(system, num_classifier_labels=14), system)
    with pytest.raises(ValueError, match="reads no clue sentences"):
        write(radiograph(), clues=[f"my finding {index}" for index in range(14)])


def test_a_study_that_was_read_can_still_be_trained_on(tiny_config):
    config = tiny_config("trrg", num_selected_clues=14)
    write = writer(config)
    write(radiograph(), max_new_tokens=2)
    with torch.inference_mode():
        write(radiograph(), max_new_tokens=2)
    inputs = write.processor(images=radiograph(), report="Findings: clear.")
    study = write.model.read_study(**inputs)
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    write.model(**texts, study=study).loss.backward()


def test_generate_may_return_a_dict(tiny_config):
    write = writer(tiny_config("trrg"))
    inputs = write.processor(images=radiograph())
    plain = write.model.generate(**inputs, max_new_tokens=4)
    full = write.model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True, num_beams=2)
    assert torch.equal(full.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    assert len(write.processor.post_process_report(full, inputs)) == 1
    assert write.processor.post_process_report(plain, inputs)[0].text == write(radiograph(), max_new_tokens=4).text


def test_a_prompt_that_became_too_long_skips_only_its_study(tiny_config):
    config = tiny_config("radialog", num_classifier_labels=14, clue_threshold=0.5)
    write = writer(config, "radialog")
    scores = torch.zeros(2, 14)
    scores[0] = 0.9
    names = [clue["name"] for clue in write.processor.clues]
    studies = [{"images": radiograph(), "clue_scores": dict(zip(names, row, strict=True))} for row in scores.tolist()]
    batch = write.preprocess(studies)
    short = write.processor.say_findings(batch, write.model.read_study(**batch))["attention_mask"].sum(1)
    write.processor.max_length = int(short[1])
    long, fits = write(studies, batch_size=2, on_error="skip", max_new_tokens=4)
    assert isinstance(long, StudyError) and "max_length" in long.reason
    assert "max_length" in write(studies[:1], on_error="skip", max_new_tokens=4)[0].reason
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
