"""A picture that the model cannot read: no report through any door, unless it is asked for."""

import json

import pytest
import torch

from evaluation import generate
from evaluation.reading.labeler import asserts, label_report
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import PromptError, RadiologyReportPipeline
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.checkpoints import never_reads, save_checkpoint
from tests.helpers.models import build
from tests.helpers.tiny_processors import radiograph, tiny_processor


def reader(tiny_config, threshold, system="trrg", **overrides):
    """A pipeline whose score is the mean of a view's first feature in its upper left quarter."""
    config = tiny_config(system, num_classifier_labels=14, **overrides)
    config.readable_weights = [0.0, 1.0, *[0.0] * (5 * config.vision_hidden_size - 1)]
    config.readable_threshold = threshold
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens)
    return RadiologyReportPipeline(model=build(config), processor=processor)


@pytest.mark.parametrize("system", ["trrg", "maira1", "radialog"])
def test_no_report_of_a_picture_that_cannot_be_read(tiny_config, system):
    write = reader(tiny_config, 1e6, system)
    alone, (many,) = write(radiograph(), max_new_tokens=4), write([{"images": radiograph()}], max_new_tokens=4)
    for report in (alone, many):
        assert report.text == report.findings == UNREADABLE and report.impression is None
        assert report.readable is False and report.readable_score < 1e6 and report.to_dict()["readable"] is False
        assert not any(clue.selected for clue in report.clues)
    assert alone.messages[-1]["content"][0]["text"].lower() == UNREADABLE.lower()  # as the tokenizer spells it
    with pytest.raises(PromptError, match="not a frontal X-ray that this model can read"):
        alone.ask("Is there an effusion?")
    anyway = write(radiograph(), abstain=False, max_new_tokens=4)
    assert anyway.readable is False and anyway.text != UNREADABLE
    assert anyway.text == reader(tiny_config, -1e6, system)(radiograph(), max_new_tokens=4).text


def test_a_model_that_was_not_fitted_never_abstains(tiny_config):
    write = reader(tiny_config, 1e6)
    write.model.config.readable_weights = None
    report = write(radiograph(), max_new_tokens=4)
    assert report.readable is None and report.readable_score is None and report.text != UNREADABLE


def test_a_picture_without_a_report_is_not_talked_about(tiny_config):
    study = reader(tiny_config, 1e9)(radiograph(), max_new_tokens=2)
    for talk in (lambda: study.ask("Edema?"), lambda: study.correct(add=["Edema"]), study.ground,
                 lambda: study.correct(clues={"Edema": 1.0})):  # fmt: skip
        with pytest.raises(ValueError, match="the picture is not a frontal X-ray"):
            talk()
    talked = reader(tiny_config, 1e9)(radiograph(), max_new_tokens=2, abstain=False)
    assert isinstance(talked.ask("Edema?"), str)


def test_the_best_view_of_a_study_decides_and_one_given_by_its_clues_has_none(tiny_config):
    write = reader(tiny_config, 0.0)
    first, second = (write(image, max_new_tokens=2).readable_score for image in (radiograph(), radiograph(top=99)))
    both = write([radiograph(), radiograph(top=99)], max_new_tokens=2)
    assert first != second and both.readable_score == pytest.approx(max(first, second), abs=1e-5)
    scores = dict.fromkeys([clue["name"] for clue in write.processor.clues], 0.0)
    assert write(clue_scores=scores, max_new_tokens=2).readable is None


def test_the_score_tells_up_from_down(tiny_config):
    model = reader(tiny_config, 0.0).model
    pixels = torch.randn(1, 3, 32, 32)
    upright, turned = (model.model.encode_images(p).summary() for p in (pixels, pixels.flip(2)))
    assert upright.shape == (1, 5 * model.config.vision_hidden_size) and not torch.allclose(upright, turned, atol=1e-3)


def test_the_labeler_reads_nothing_from_the_sentence():
    assert set(label_report(UNREADABLE).values()) == {None} and not asserts(UNREADABLE)


def test_predictions_carry_the_flag_and_the_numbers_are_saved(tmp_path):
    folder = never_reads(save_checkpoint(tmp_path / "checkpoint", "trrg"))
    TRRGForConditionalGeneration.from_pretrained(folder).save_pretrained(folder)
    lines = {}
    for more in ((), ("--never-abstain",)):
        out = tmp_path / f"run{len(more)}"
        generate.main(["--checkpoint", str(folder), "--phantoms", "1", "--out", str(out), *more])
        lines[more] = json.loads((out / "predictions.jsonl").read_text())
    assert lines[()]["readable"] is lines[("--never-abstain",)]["readable"] is False
    assert lines[()]["prediction"] == UNREADABLE != lines[("--never-abstain",)]["prediction"]
    assert lines[()]["selected_clues"] == []


@pytest.mark.parametrize(("field", "value"), [("readable_weights", [1.0]), ("readable_threshold", float("nan"))])
def test_numbers_that_do_not_fit_are_refused(tiny_config, field, value):
    with pytest.raises(ValueError, match=field):
        tiny_config("trrg", **{field: value})
