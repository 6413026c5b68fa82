"""A saved folder holds all the source that it names, whoever saved it, and loads where the package is missing."""

import json
import sys

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Trainer, TrainingArguments

from hub_cards.publish import run_clean_process, source_files
from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining, TRRGModel
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.models import build
from tests.helpers.tiny_processors import radiograph, tiny_processor


class OwnModel(TRRGForConditionalGeneration):
    """What a caller may derive, here or in a notebook."""


def wrapped(model):
    """The class that `fully_shard` of FSDP2 gives a model: its name, and a module that belongs to torch."""
    made = {"__module__": "torch.distributed.fsdp"}
    model.__class__ = type(f"FSDP{type(model).__name__}", (type(model),), made)
    return model


def assert_complete(folder, auto_classes):
    saved = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    assert saved == {path.name: path.read_bytes() for path in source_files()}
    auto_map = json.loads((folder / "config.json").read_text(encoding="utf-8"))["auto_map"]
    assert set(auto_map) == set(auto_classes)
    for reference in auto_map.values():
        module, name = reference.split(".")
        assert f"class {name}" in saved[f"{module}.py"].decode()


WHOLE = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor")


@pytest.mark.parametrize("make", [TRRGForConditionalGeneration, TRRGModel, OwnModel])
def test_every_saver_leaves_a_complete_folder(tiny_config, tmp_path, make, monkeypatch):
    make(tiny_config("trrg")).save_pretrained(tmp_path / "made")
    assert_complete(tmp_path / "made", WHOLE)
    loaded = make.from_pretrained(tmp_path / "made")
    loaded.save_pretrained(tmp_path / "loaded")
    assert_complete(tmp_path / "loaded", WHOLE)
    wrapped(loaded).save_pretrained(tmp_path / "wrapped")
    assert_complete(tmp_path / "wrapped", WHOLE)
    monkeypatch.setattr(OwnModel, "__module__", "__main__")
    make(loaded.config).save_pretrained(tmp_path / "main")
    assert_complete(tmp_path / "main", WHOLE)
    loaded.config.save_pretrained(tmp_path / "config")
    assert_complete(tmp_path / "config", WHOLE)


def test_stage_1_leaves_a_complete_folder(tiny_config, tmp_path):
    stage1 = TRRGForContrastivePretraining(tiny_config("trrg"))
    classes = ("AutoConfig", "AutoModelForPreTraining", "AutoProcessor")
    stage1.save_pretrained(tmp_path / "made")
    assert_complete(tmp_path / "made", classes)
    wrapped(stage1).save_pretrained(tmp_path / "wrapped")
    assert_complete(tmp_path / "wrapped", classes)
    assert set(stage1.config.auto_map) == set(WHOLE)


@pytest.mark.slow
def test_a_trainers_checkpoint_loads_in_a_clean_process(tmp_path):
    """Loaded by the installed package, saved by Trainer from FSDP2's class, loaded where the package is missing."""
    save_checkpoint(tmp_path / "model", "trrg")
    model = wrapped(AutoModelForImageTextToText.from_pretrained(tmp_path / "model"))
    processor = type(tiny_processor("trrg")).from_pretrained(tmp_path / "model")
    arguments = TrainingArguments(tmp_path / "run", use_cpu=True, report_to=[])
    Trainer(model, arguments, processing_class=processor).save_model(tmp_path / "saved")
    assert_complete(tmp_path / "saved", WHOLE)
    Image.fromarray(radiograph()).save(tmp_path / "study.png")
    study = ("--image", str(tmp_path / "study.png"), "--indication", "Cough.", "--max-new-tokens", "4")
    out = run_clean_process(str(tmp_path / "saved"), tmp_path, tmp_path / "results", *study)
    inputs = processor(images=str(tmp_path / "study.png"), indication="Cough.")
    with torch.no_grad():
        torch.testing.assert_close(out["logits"], model.eval()(**inputs).logits)


def test_a_folder_of_links_is_not_written_over(tiny_config, tmp_path):
    (tmp_path / "clue_trrg.py").symlink_to(tmp_path / "elsewhere.py")
    for part in (build(tiny_config("trrg")), tiny_config("trrg")):
        with pytest.raises(ValueError, match="links to source files"):
            part.save_pretrained(tmp_path)
    assert not (tmp_path / "elsewhere.py").exists()


def test_stage_1_says_that_it_has_no_tensor_parallel_plan(tiny_config, tmp_path):
    TRRGForContrastivePretraining(tiny_config("trrg")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tp_plan='auto': TRRGForContrastivePretraining has no tensor-parallel plan"):
        TRRGForContrastivePretraining.from_pretrained(tmp_path, tp_plan="auto")
    assert TRRGForConditionalGeneration(tiny_config("trrg")).tp_plan["lm_head"] == "colwise_gather_output"
    assert "torch.distributed.fsdp" in sys.modules  # imported by Accelerate, as `wrapped` needs
