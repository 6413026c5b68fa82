"""Each sentence of a report is looked up in what was seen of the study, and what the report leaves out is listed."""

import json

import pytest
import torch

from processing_trrg import look_up
from processing_trrg.sentences_trrg import cut_sentences
from processing_trrg.statements_trrg import read_clues
from tests.helpers.models import build
from tests.helpers.tiny_processors import radiograph, tiny_processor

NAMES = ("No Finding", "Cardiomegaly", "Lung Opacity", "Edema", "Pleural Effusion", "Left Pleural Effusion")
SIDED = {"name": "Left Pleural Effusion", "parent": "Pleural Effusion", "positive": "There is a left pleural effusion.",
         "negative": "There is no left pleural effusion."}  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "clues"),
    [
        ("There is a small left effusion.", {"Left Pleural Effusion": 1}),
        ("A right-sided effusion has increased.", {"Pleural Effusion": 1}),
        ("Bilateral pleural fluid.", {"Left Pleural Effusion": 1}),
        ("No edema, and no effusion.", {"Edema": 0, "Pleural Effusion": 0}),
        ("Cardiomegaly without edema.", {"Cardiomegaly": 1, "Edema": 0}),
        ("Findings suggest mild edema.", {"Edema": -1}),
        ("The cardiac silhouette is unremarkable.", {"Cardiomegaly": 0}),
        ("Both lungs are clear.", {"Lung Opacity": 0}),
        ("The lungs are not clear.", {}),
        ("There is edema of the lungs and the heart is normal.", {"Edema": 1, "Cardiomegaly": 0}),
        ("An effusion at the left lung with normal heart size.", {"Left Pleural Effusion": 1, "Cardiomegaly": 0}),
        ("The heart and lungs are normal.", {"Cardiomegaly": 0, "Lung Opacity": 0}),
        ("There are Kerley B lines.", {"Edema": 1}),
        ("No effusion, the lungs show edema.", {"Pleural Effusion": 0, "Edema": 1}),
        ("There is pleural scarring.", {}),
        ("No acute cardiopulmonary disease.", {"No Finding": 1}),
        ("No radiographic evidence of acute cardiopulmonary disease.", {"No Finding": 1}),
        ("No acute cardiac or pulmonary disease.", {"No Finding": 1}),
        ("No acute bony abnormality.", {}),  # of the heart and the lungs it says nothing
        ("Two views of the chest were obtained.", {}),
        ("There is scoliosis.", {}),
    ],
)
def test_which_clues_a_sentence_speaks_of(sentence, clues):
    assert dict(read_clues(sentence, NAMES)) == clues


def looked_up(config, texts, scores=None, views=1, system="trrg", **overrides):
    """Reports of these texts on one batch of studies, and what was looked at."""
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens, **overrides)
    model = build(config)
    images = [[radiograph(top=40 * row + 10 * view + 5) for view in range(views)] for row in range(len(texts))]
    given = {} if scores is None else {"clue_scores": [scores] * len(texts)}
    batch = processor(images, **given)
    study = model.read_study(**batch)
    reports = processor.post_process_report(texts, batch, study)
    looks = []
    model.model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    look_up(reports, model, processor, batch, study)
    assert not looks, "a sentence is looked up in the features of the one look"
    return reports


@pytest.mark.parametrize(("pooling", "views"), [("mean", 1), ("lse", 2)])
def test_a_clues_own_words_score_as_the_clue(tiny_config, pooling, views):
    texts = ["Findings: There is edema. There is no edema.", "Impression: There is cardiomegaly."]
    config = tiny_config("trrg", vision_pooling=pooling)
    first, second = looked_up(config, texts, views=views)
    scores = [{clue.name: clue for clue in report.clues} for report in (first, second)]
    stated, denied = first.sentences
    edema = scores[0]["Edema"]
    assert stated.score == pytest.approx(edema.score, abs=1e-5) != pytest.approx(0.5, abs=1e-3)
    assert denied.score == pytest.approx(1 - edema.score, abs=1e-5) and denied.polarity == 0
    assert stated.evidence == pytest.approx(edema.evidence, abs=1e-4) and stated.evidence.shape == (views, 2, 2)
    assert second.sentences[0].score == pytest.approx(scores[1]["Cardiomegaly"].score, abs=1e-5)
    assert second.sentences[0].section == "impression"


def test_a_sentence_is_read_at_the_calibration_of_its_clue(tiny_config):
    processor = tiny_processor()
    tensors = processor.clue_tensors()
    ids = [[row[mask.bool()].tolist() for row, mask in zip(*some, strict=True)]
           for some in zip(tensors["clue_input_ids"], tensors["clue_attention_mask"], strict=True)]  # fmt: skip
    names = [clue["name"] for clue in processor.clues]
    rows = [[0.0, -20.0, 0.25] if name == "Fracture" else [0.4, -1.5, 0.25] for name in names]
    config = tiny_config("trrg", clue_token_ids=ids, clue_calibration=rows)
    (report,) = looked_up(config, ["There is edema. There is no edema. There is fracture. There is no fracture."])
    edema = next(clue.score for clue in report.clues if clue.name == "Edema")
    assert [said.score for said in report.sentences[:2]] == pytest.approx([edema, 1 - edema], abs=1e-5)
    assert [said.support for said in report.sentences[2:]] == ["not checkable"] * 2  # fitted on no study


def test_the_rule_of_support_and_what_is_left_out(tiny_config):
    clues = ["Cardiomegaly", "Edema", "Pneumothorax", "Pleural Effusion", SIDED, "Fracture"]
    scores = {"Cardiomegaly": 0.9, "Edema": 0.1, "Pneumothorax": 0.8, "Pleural Effusion": 0.7,
              "Left Pleural Effusion": 0.6, "Fracture": 0.0}  # fmt: skip
    text = ("Findings: The heart is enlarged. No pneumothorax. Left effusion. Small right pleural effusion. Possible "
            "edema. The ribs are intact. Impression: Cardiomegaly and pleural effusion.")  # fmt: skip
    config = tiny_config("trrg", num_selected_clues=6, clue_threshold=0.5)
    (report,) = looked_up(config, [text], scores, clues=clues)
    assert [(said.support, said.polarity, said.side) for said in report.sentences] == [
        ("supported", 1, None),
        ("unsupported", 0, None),
        ("supported", 1, "left"),
        ("supported", 1, "right"),
        ("unsupported", -1, None),
        ("not checkable", None, None),
        ("supported", 1, None),
    ]
    assert report.left_out == ["Pneumothorax"]
    assert looked_up(config, ["There is an effusion."], scores, clues=clues)[0].left_out == [
        "Cardiomegaly", "Pneumothorax", "Left Pleural Effusion"
    ]  # fmt: skip
    told = json.loads(json.dumps(report.to_dict(evidence=True)))
    assert told["sentences"][0]["support"] == "supported" and len(told["sentences"][0]["evidence"]) == 1
    assert told["left_out"] == ["Pneumothorax"] and "evidence" not in report.to_dict()["sentences"][0]


def test_other_models_say_what_they_can(tiny_config):
    text = "Findings: There is edema. No fracture."
    (classified,) = looked_up(tiny_config("radialog", num_classifier_labels=14), [text], system="radialog")
    clues = {clue.name: clue for clue in classified.clues}
    stated, denied = classified.sentences
    assert stated.score == clues["Edema"].score and denied.score == 1 - clues["Fracture"].score
    assert stated.evidence is clues["Edema"].evidence
    assert stated.support == ("supported" if clues["Edema"].selected else "unsupported")
    softmax = looked_up(tiny_config("trrg", clue_scoring="softmax"), [text])
    blind = looked_up(tiny_config("maira1"), [text], system="maira1")
    for (report,) in (softmax, blind):
        assert [(said.support, said.score) for said in report.sentences] == [("not checkable", None)] * 2
        assert report.left_out == []


def test_a_study_known_by_its_clues_has_no_scores(tiny_config):
    processor, model = tiny_processor(num_image_tokens=6), build(tiny_config("trrg"))
    scores = {clue["name"]: 0.9 for clue in processor.clues}
    batch = processor(clue_scores=[scores])
    study = model.read_study(**batch)
    reports = processor.post_process_report(["There is edema."], batch, study)
    look_up(reports, model, processor, batch, study)
    (said,) = reports[0].sentences
    assert said.score is None and said.evidence is None and said.support == "supported"


@torch.no_grad()
def test_the_pipeline_looks_each_sentence_up_and_so_does_a_correction(tiny_config):
    from processing_trrg import RadiologyReportPipeline

    config = tiny_config("trrg", learned_dialogue=True)
    write = RadiologyReportPipeline(
        model=build(config), processor=tiny_processor(num_image_tokens=config.num_image_tokens)
    )
    talked = write(radiograph(), max_new_tokens=12)
    (many,) = write([{"images": radiograph()}], max_new_tokens=12)
    assert [s.to_dict(evidence=True) for s in talked.sentences] == [s.to_dict(evidence=True) for s in many.sentences]
    before = talked.report
    done = talked.correct("There is edema.", max_new_tokens=30)
    for report in (before, done.report, talked):
        sections = [*cut_sentences(report.findings), *cut_sentences(report.impression or "")]
        assert [said.text for said in report.sentences] == sections
    assert done.report.text != before.text


def test_each_side_has_its_own_polarity():
    names = ("Pleural Effusion", "Left Pleural Effusion", "Right Pleural Effusion")
    said = read_clues("There is a left pleural effusion and no right pleural effusion.", names)
    assert dict(said) == {"Left Pleural Effusion": 1, "Right Pleural Effusion": 0}
