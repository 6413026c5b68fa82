"""score_sentences.py: what is true of a sentence, token probabilities, and the command with a tiny untrained model."""

import json

import pytest
import torch

from evaluation import score_sentences
from evaluation.score_sentences import LabelledTruth, PlantedTruth, score, token_probabilities
from processing_trrg.report_trrg import UNREADABLE
from processing_trrg.statements_trrg import read_statements
from tests.helpers.checkpoints import never_reads, read, save_checkpoint
from tests.helpers.models import build
from tests.helpers.tiny_processors import radiograph, tiny_processor
from training.phantoms.report import PlantedFinding


@pytest.mark.parametrize(
    ("text", "false"),
    [
        ("There is pulmonary edema.", False),
        ("No edema.", True),
        ("The heart is enlarged.", True),
        ("No cardiomegaly.", False),
        ("Edema without cardiomegaly.", False),
        ("Edema and a pneumothorax.", False),  # nothing is known of the pneumothorax
        ("There is a pneumothorax.", None),
        ("Two views were obtained.", None),
        ("No acute cardiopulmonary abnormality.", True),
    ],
)
def test_a_sentence_against_labels(text, false):
    labels = {"No Finding": 0, "Edema": 1, "Cardiomegaly": 0, "Pneumothorax": None, "Fracture": -1}
    assert LabelledTruth(labels, list(labels)).is_false(text) is false


@pytest.mark.parametrize(
    ("text", "false"),
    [
        ("There is a left pleural effusion.", False),
        ("There is a right pleural effusion.", True),
        ("There is a pleural effusion.", False),
        ("No right pleural effusion.", False),
        ("No left pleural effusion.", True),
        ("No pleural effusion.", True),
        ("No pneumothorax.", False),
        ("The heart is enlarged.", True),
        ("The lungs are well expanded.", None),
    ],
)
def test_a_sentence_against_what_was_planted(text, false):
    planted = [PlantedFinding("effusion", "left", "small", None, None, (0, 0, 1, 1))]
    assert PlantedTruth(planted).is_false(text) is false


@torch.no_grad()
def test_token_probabilities_are_those_of_the_sentence_whatever_is_beside_it(tiny_config):
    model, processor = build(tiny_config("trrg")), tiny_processor(num_image_tokens=6)
    texts = ["Findings: No edema.  The heart is big.", "Findings: Clear. Impression: Normal chest, no edema at all."]
    batch = processor([[radiograph()], [radiograph(top=60)]], indication=["cough", None])
    study = model.read_study(**batch)
    reports = processor.post_process_report(texts, batch, study)
    for report in reports:
        report.sentences = read_statements(report, [])
    together = token_probabilities(model, processor, batch, study, reports)
    assert [len(values) for values in together] == [2, 2]
    for row in range(2):
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        text = " ".join(texts[row].split())
        target = processor.reply_ids(text)[0]  # with the space before it
        own = study.select(torch.tensor([row]))
        logits = model(input_ids=torch.cat([ids, target])[None], study=own).logits[0]
        chosen = logits.softmax(-1)[len(ids) - 1 : -1].gather(1, target[:, None])[:, 0]  # one token a character
        for said, value in zip(reports[row].sentences, together[row], strict=True):
            begin = 1 + text.index(said.text)
            assert value == pytest.approx(float(chosen[begin : begin + len(said.text)].mean()), abs=1e-5)


def test_areas_and_counts():
    lines = [
        {"false": false, "support": support, "patient_id": str(number), "sentence": own, "clue": 0.5, "token": 0.1,
         "stated": 1.0, "length": 9}
        for number, (false, support, own) in enumerate(
            [(1, "unsupported", 0.9), (0, "supported", 0.1), (1, "supported", 0.8), (0, "supported", 0.85)])
    ]  # fmt: skip
    found = score(lines, 50)
    assert found["auroc"]["sentence"]["value"] == 0.75 and found["auroc"]["clue"]["value"] == 0.5
    assert found["supported"] == {"sentences": 3, "false": 1} and found["unsupported"] == {"sentences": 1, "false": 1}
    assert "auroc" not in score(lines[1:2], 50)


def test_the_command(tmp_path, capsys, monkeypatch):
    folder, seen = never_reads(save_checkpoint(tmp_path / "checkpoint", "trrg")), []
    look_up = score_sentences.look_up
    monkeypatch.setattr(score_sentences, "look_up", lambda some, *rest: (seen.extend(some), look_up(some, *rest)))
    words = ["--phantoms", "3", "--batch-size", "2", "--resamples", "20", "--max-new-tokens", "8"]
    score_sentences.main(["--checkpoint", str(folder), "--out", str(tmp_path / "out"), *words])
    lines, kept = (
        read(tmp_path / "out" / "sentences.jsonl"),
        json.loads((tmp_path / "out" / "metrics.json").read_text()),
    )
    assert kept["counts"]["composed judged"] == len([line for line in lines if line["kind"] == "composed"]) > 10
    assert set(kept["results"]["composed"]["auroc"]) == set(score_sentences.SCORES)
    assert all(0 <= line["sentence"] <= 1 and 0 < line["token"] <= 1 for line in lines)
    assert [report.readable for report in seen].count(False) == 3 and UNREADABLE not in {r.text for r in seen}
    assert "| composed, denying |" in capsys.readouterr().out
    blind = save_checkpoint(tmp_path / "blind", "maira1")
    with pytest.raises(ValueError, match="check no sentence"):
        score_sentences.main(["--checkpoint", str(blind), "--out", str(tmp_path / "no"), *words])
