"""TRRGProcessor: generated tokens and clue scores to reports."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from processing_trrg import TRRGProcessor
from tests.helpers.tiny_processors import radiograph, tiny_processor

PAD, EOS = 0, 2
ONE, TWO, THREE = radiograph(seed=1), radiograph(40, 90, seed=2), radiograph(80, 80, seed=3)


@pytest.fixture(scope="module")
def processor() -> TRRGProcessor:
    return tiny_processor()


def generated(processor: TRRGProcessor, prompt: torch.Tensor, *texts: str, ended: bool = True) -> torch.Tensor:
    rows = [processor.tokenizer(text)["input_ids"] + [EOS] * ended for text in texts]
    length = max(map(len, rows))
    answers = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    return torch.cat([prompt, answers], dim=1)


def test_generated_tokens_become_reports_with_sorted_clues_and_evidence(processor: TRRGProcessor):
    inputs = processor(images=[[ONE], [TWO, THREE]], indication=["cough", None])
    prompt = inputs["input_ids"]
    outputs = generated(processor, prompt, "Findings: clear. Impression: normal.", "Findings: edema.")
    scores = torch.rand(2, 14, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 2, 14, 3, 3)
    study = SimpleNamespace(
        clue_scores=scores.bfloat16(),
        selected_clues=scores > 0.5,
        evidence_maps=maps,
        image_mask=inputs["image_mask"],
        clue_answers=None,
    )
    first, second = processor.post_process_report(outputs, inputs, study)
    assert all(clue.selected == (clue.score > 0.5) for clue in first.clues)
    assert (first.findings, first.impression, first.complete) == ("clear.", "normal.", True)
    assert (second.findings, second.impression, second.missing) == ("edema.", None, ["impression"])
    assert [clue.score for clue in first.clues] == sorted((clue.score for clue in first.clues), reverse=True)
    assert first.clues[0].evidence.shape == (1, 3, 3) and second.clues[0].evidence.shape == (2, 3, 3)
    names = [clue["name"] for clue in processor.clues]
    for clue in second.clues:
        assert clue.score == pytest.approx(scores[1, names.index(clue.name)].item(), abs=0.01)
        np.testing.assert_array_equal(clue.evidence, maps[1, :, names.index(clue.name)].numpy())
    json.dumps([report.to_dict(evidence=True) for report in (first, second)])
    assert processor.image_processor.evidence_on_image(second.clues[0].evidence[0], *TWO.shape).shape == TWO.shape


def test_a_report_that_was_cut_says_so(processor: TRRGProcessor):
    prompt = processor(images=ONE)["input_ids"]
    outputs = generated(processor, prompt, "Findings: the heart is", ended=False)
    report = processor.post_process_report(outputs[:, prompt.shape[1] :])[0]
    assert report.complete is False and report.clues == []
    assert processor.post_process_report("Impression: normal.")[0].missing == ["findings"]
    assert processor.post_process_report(["a", "b"])[1].complete is None


def test_tokens_that_still_hold_the_prompt_are_refused(processor: TRRGProcessor):
    prompt = processor(images=ONE)["input_ids"]
    with pytest.raises(ValueError, match="pass the inputs of `generate` too"):
        processor.post_process_report(generated(processor, prompt, "Findings: clear."))


def test_scores_that_do_not_fit_the_reports_are_refused(processor: TRRGProcessor):
    for rows, columns in ((2, 14), (1, 13)):
        study = SimpleNamespace(clue_scores=torch.zeros(rows, columns), evidence_maps=None)
        inputs = processor(images=ONE)
        outputs = generated(processor, inputs["input_ids"], "clear")
        with pytest.raises(ValueError, match=rf"scores of shape \({rows}, {columns}\) for 1 reports and 14 clue names"):
            processor.post_process_report(outputs, inputs, study)
        with pytest.raises(ValueError, match="pass the inputs"):
            processor.post_process_report("clear", study=study)
    study = SimpleNamespace(
        clue_scores=torch.ones(1, 2), selected_clues=torch.ones(1, 2) > 0, evidence_maps=None, clue_answers=None
    )
    inputs = processor(images=ONE, clues=["Mass", "Edema"])
    named = processor.post_process_report(generated(processor, inputs["input_ids"], "clear"), inputs, study)
    assert [(clue.name, clue.evidence) for clue in named[0].clues] == [("Mass", None), ("Edema", None)]


def test_what_was_seen_goes_into_the_prompt_of_radialog():
    processor = tiny_processor("radialog")
    answers = torch.zeros(2, 14, dtype=torch.long)
    answers[0, [0, 5, 13]], answers[0, [5, 6]], answers[0, 7], answers[1, 9] = 1, -1, -100, 1
    selected = torch.zeros(2, 14, dtype=torch.bool)
    selected[0, [0, 5, 13]] = True
    study = SimpleNamespace(selected_clues=selected, clue_answers=None)
    plain = processor(images=[[ONE], [TWO, THREE]], indication=["cough", None])
    batch = processor.say_findings(plain, study)
    findings = [["No Finding", "Edema", "Support Devices"], []]
    given = processor(images=[[ONE], [TWO, THREE]], indication=["cough", None], predicted_findings=findings)
    assert torch.equal(batch["input_ids"], given["input_ids"])
    assert torch.equal(batch["pixel_values"], plain["pixel_values"])
    others = SimpleNamespace(selected_clues=~selected, clue_answers=answers)
    assert processor.say_findings(given, others) is given, "what the caller names is not named again"
    texts = processor.tokenizer.batch_decode(batch["input_ids"])
    assert "predicted findings: edema, support devices." in texts[0]
    assert "predicted findings: no common findings." in texts[1]
    maybe = processor.say_findings(plain, SimpleNamespace(selected_clues=selected, clue_answers=answers))
    texts = processor.tokenizer.batch_decode(maybe["input_ids"])
    assert "predicted findings: edema, support devices. likely findings: support devices. possible" in texts[0]
    assert f"possible findings: {processor.clues[6]['name'].lower()}." in texts[0]
    name = processor.clues[9]["name"]  # over the threshold of "careful", and not told all the same
    assert f"no common findings. possible findings: {name.lower()}." in texts[1]
    given = processor(
        images=[[ONE], [TWO, THREE]], indication=["cough", None], predicted_findings=findings,
        likely_findings=[["Support Devices"], []], possible_findings=[[processor.clues[6]["name"]], [name]],
    )  # fmt: skip
    assert torch.equal(maybe["input_ids"], given["input_ids"])
