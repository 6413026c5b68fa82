"""Turns after the report: what is asked and what is learned."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import ancestors
from processing_trrg.prompt_trrg import correction_request, default_clues
from tests.helpers.training_helpers import make_data, stage_2, write_config
from training.config.run_config import ConfigError, FinetuneConfig, load_config
from training.data.collate import FinetuneCollator
from training.data.dialogue import make_exchange
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw
from training.data.study import Study
from training.phantoms.generate import generate_phantom

STUDY = Study(
    "s", "p", "train",
    findings="There is a left pleural effusion. The heart is enlarged. No pneumothorax. The bones are intact.",
    impression="Left pleural effusion.",
    images=[{"path": "a.png", "view": "frontal"}],
)  # fmt: skip
LABELS = label_report(f"{STUDY.findings} {STUDY.impression}")


def exchange(kind, study=STUDY, labels=LABELS, seed=0):
    return make_exchange(kind, study, labels, default_clues(), label_report, np.random.default_rng(seed))


def test_questions_are_answered_from_the_record():
    assert exchange("findings_qa").answer == "Cardiomegaly, pleural effusion."
    assert exchange("findings_qa", labels={"No Finding": 1, "Edema": 0}).answer == "No common findings."
    answers = {exchange("finding_qa", seed=seed).answer for seed in range(40)}
    assert answers >= {"Yes. There is cardiomegaly.", "No. There is no pneumothorax."}
    assert exchange("view").answer == "This is a frontal view."
    impression = exchange("impression")
    assert impression.answer == "Left pleural effusion." and "Impression" not in impression.reply


def test_a_study_without_an_answer_has_no_exchange():
    assert exchange("findings_qa", labels={"Edema": None}) is None
    assert exchange("finding_qa", labels={"Edema": -1}) is None
    assert exchange("impression", study=replace(STUDY, impression="  ")) is None
    assert exchange("view", study=replace(STUDY, images=[])) is None
    assert exchange("correction", labels={"Edema": None}) is None


def test_a_correction_undoes_exactly_the_error_it_names():
    seen = set()
    for index in range(80):
        record = generate_phantom(3, index, 64).record
        labels = label_report(f"{record['findings']} {record['impression']}")
        made = exchange("correction", record, labels, seed=index)
        if made is None:
            continue
        wrong, right = label_report(made.reply), label_report(made.answer)
        changed = {name for name in right if right[name] != wrong[name]} - {"No Finding"}
        changed -= {parent for name in changed for parent in ancestors(name)}
        assert len(changed) == 1
        name = changed.pop()
        missing = right[name] == 1
        assert made.question == correction_request([name] * missing, [name] * (not missing))
        assert (wrong[name] == 1) == (not missing)
        seen.add(missing)
    assert seen == {True, False}


def test_an_error_that_cannot_be_made_alone_is_not_made():
    text = "Cardiomegaly and pulmonary edema. No pneumothorax or effusion."
    study = replace(STUDY, findings=text, impression=None)
    assert all(exchange("correction", study, label_report(text), seed=seed) is None for seed in range(10))
    hedged = "Left basilar opacity may represent pneumonia. The heart is normal."
    assert exchange("correction", replace(study, findings=hedged), {"Pneumonia": 0}) is None


def test_dialogue_reaches_the_batch_and_only_the_answer_is_learned(tmp_path):
    make_data(tmp_path / "data")
    raw = stage_2(tmp_path / "data", tmp_path / "run")
    raw["data"]["dialogue"] = {"findings_qa": 0.5, "correction": 0.5}
    config = load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
    from training.run.initial_model import build_config, build_processor

    processor = build_processor(config.model, build_config(config.model))
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.train[:1]]
    sources[0].images.prepare()
    examples = Examples(sources, config.data, seed=0, training=True)
    drawn = [examples[Draw(0, i, 0, i)] for i in range(4)]
    assert any(example.exchange for example in drawn)
    batch = FinetuneCollator(processor)(drawn)
    for row, example in enumerate(drawn):
        learned = processor.tokenizer.decode(batch["labels"][row][batch["labels"][row] >= 0], skip_special_tokens=True)
        if example.exchange:
            assert learned.split() == example.exchange.answer.split()
    again = [examples[Draw(0, i, 0, i)].exchange for i in range(4)]
    assert again == [example.exchange for example in drawn]
    reports = Examples(sources, config.data, seed=0, training=False)
    assert reports[Draw(0, 0, 0, 0)].exchange is None  # validation is of reports


@pytest.mark.parametrize("shares", [{"region_qa": 0.1}, {"view": -0.1}, {"view": 0.6, "impression": 0.6}])
def test_impossible_shares_are_refused(tmp_path, shares):
    raw = stage_2(tmp_path / "data", tmp_path / "run")
    raw["data"]["dialogue"] = shares
    with pytest.raises(ConfigError, match=r"data\.dialogue"):
        load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
