"""The clue encoder learns other words from text alone; what it says of the clues' own stays."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor
from tests.helpers.checkpoints import save_checkpoint
from training import fit_wordings
from training.data.clue_wordings import wordings
from training.data.statements import statements
from training.fit_wordings import WordingFit

NAMES = ["No Finding", "Edema", "Pneumothorax", "Pleural Effusion", "Left Pleural Effusion", "Right Pleural Effusion"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Small right pleural effusion.", {("Right Pleural Effusion", 1)}),
        ("No effusion or pneumothorax.", {("Pleural Effusion", 0), ("Pneumothorax", 0)}),
        ("No right pleural effusion.", {("Right Pleural Effusion", 0)}),
        ("Bilateral effusions.", {("Left Pleural Effusion", 1), ("Right Pleural Effusion", 1)}),
        ("Edema and an effusion.", {("Edema", 1), ("Pleural Effusion", 1)}),
        ("The lungs are clear.", {("No Finding", 1)}),
        ("Rib fracture.", set()),
        ("The bones are unremarkable.", set()),  # of the chest it says nothing
        ("Possible edema.", None),
    ],
)
def test_statements_of_a_sentence(text, told):
    assert statements(text, NAMES) == (told if told is None else frozenset(told))


@pytest.fixture
def checkpoint(straight, tmp_path):
    shutil.copytree(straight["finetune.py"] / "model", tmp_path / "model")
    return tmp_path / "model"


def test_other_words_come_to_mean_the_clue_and_its_own_words_stay(checkpoint, data, capsys):
    before = load_file(checkpoint / "model.safetensors")
    processor = TRRGProcessor.from_pretrained(checkpoint)
    old = WordingFit(TRRGForConditionalGeneration.from_pretrained(checkpoint), processor)
    arguments = [str(checkpoint), "--reports", str(data / "reports"), "--steps", "40"]
    fit_wordings.main(arguments)
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in load_file(checkpoint / "model.safetensors").items()
    )
    fit_wordings.main([*arguments, "--write"])
    assert "written into" in capsys.readouterr().out
    after = load_file(checkpoint / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("model.clue_encoder.") for name in changed)
    assert {file.name for file in checkpoint.iterdir() if file.is_dir()} == {"clue_tokenizer"}
    new = WordingFit(TRRGForConditionalGeneration.from_pretrained(checkpoint), processor)
    own = {text: frozenset((statement,)) for text, statement in zip(new.own, new.bank, strict=True)}
    new.bank = old.bank
    assert new.right(own) == [1.0, 1.0]
    others = {text: meant for meant in old.bank for text in wordings(*meant) if text not in old.own}
    meant = torch.stack([old.bank[statement] for statement in others.values()])
    before, after = (float((fit.vectors([*others]) * meant).sum(1).mean()) for fit in (old, new))
    assert after > before + 1e-4  # of so few steps a single sentence shows nothing
    assert float((new.vectors(new.own) * old.vectors(old.own)).sum(1).min()) > 0.9


def test_a_model_without_clue_sentences_is_refused(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        fit_wordings.main([str(save_checkpoint(tmp_path / "maira1", "maira1")), "--reports", str(data / "reports")])
    assert "clue_source is 'none'; expected a model that reads clue sentences" in capsys.readouterr().err


def test_reports_that_state_nothing_are_refused(checkpoint, data, tmp_path, capsys):
    rows = [json.loads(line) for line in (data / "reports" / "studies.jsonl").read_text().splitlines()]
    (tmp_path / "plain").mkdir()
    lines = [json.dumps(row | {"findings": "Comparison is made.", "impression": None}) + "\n" for row in rows]
    (tmp_path / "plain" / "studies.jsonl").write_text("".join(lines))
    with pytest.raises(SystemExit):
        fit_wordings.main([str(checkpoint), "--reports", str(tmp_path / "plain")])
    assert "0 sentences that state a clue to learn, 0 to measure on" in capsys.readouterr().err
