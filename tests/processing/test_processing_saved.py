"""Saved, loaded, saved again: as a package, as remote code from a folder, and from an emulated Hub cache."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor

from processing_trrg import TRRGImageProcessor, TRRGProcessor
from tests.helpers.tiny_processors import clue_tokenizer, radiograph, text_tokenizer, tiny_processor

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD_ELSEWHERE = """
import sys
from pathlib import Path
import numpy, torch
from transformers import AutoProcessor
assert not any(name.endswith("_trrg") for name in sys.modules)
out = Path(sys.argv[1])
for number, name in enumerate(sys.argv[2:]):
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    assert type(processor).__module__.startswith("transformers_modules"), type(processor)
    images = [[numpy.load(out / "pixels.npy")], ["missing.png"]]
    batch = processor(images=images, indication=["cough", None], on_error="skip")
    assert batch.kept == [0] and batch.skipped[0].index == 1
    torch.save(dict(batch), out / f"batch{number}.pt")
    processor.save_pretrained(out / f"again{number}")
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A processor that differs from the defaults wherever it can, in the folder of a checkpoint."""
    folder = tmp_path / "checkpoint"
    processor = tiny_processor("radialog", size=40, num_image_tokens=3, clues=["Edema", "Mass"], max_length=900)
    processor.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "trrg"}')
    return folder


@pytest.mark.parametrize("loader", [TRRGProcessor, AutoProcessor])
def test_a_loaded_processor_is_the_saved_one(saved: Path, tmp_path: Path, loader):
    loaded = loader.from_pretrained(saved)
    assert type(loaded) is TRRGProcessor and type(loaded.image_processor) is TRRGImageProcessor
    assert (loaded.prompt_style, loaded.max_length, loaded.num_image_tokens) == ("radialog", 900, 3)
    assert [clue["name"] for clue in loaded.clues] == ["Edema", "Mass"] and loaded.image_processor.size == 40
    loaded.save_pretrained(tmp_path / "again")
    for name in ("processor_config.json", "chat_template.jinja", "tokenizer.json", "clue_tokenizer/tokenizer.json"):
        assert (tmp_path / "again" / name).read_text() == (saved / name).read_text()
    assert AutoImageProcessor.from_pretrained(saved).size == 40


def test_the_files_of_the_code_travel_with_it(saved: Path):
    package = Path(sys.modules["processing_trrg"].__file__).parent
    for file in package.glob("*_trrg.py"):
        assert (saved / file.name).read_text() == file.read_text()
    config = json.loads((saved / "processor_config.json").read_text())
    assert config["auto_map"]["AutoProcessor"] == "processing_trrg.TRRGProcessor"
    assert config["image_processor"]["auto_map"]["AutoImageProcessor"] == "image_processing_trrg.TRRGImageProcessor"


def test_it_loads_in_a_clean_process_without_this_package(saved: Path, tmp_path: Path):
    np.save(tmp_path / "pixels.npy", radiograph())
    repository = tmp_path / "home" / "hub" / "models--trrg--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(saved, repository / "snapshots" / COMMIT)
    script = tmp_path / "load.py"
    script.write_text(LOAD_ELSEWHERE)
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-I", str(script), str(tmp_path), str(saved), "trrg/tiny"]  # -I: this package stays out
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = TRRGProcessor.from_pretrained(saved)(images=[[radiograph()]], indication=["cough"])
    config = json.loads((saved / "processor_config.json").read_text())
    for number in range(2):
        there = torch.load(tmp_path / f"batch{number}.pt", weights_only=True)
        assert set(there) == set(here) and all(torch.equal(there[key], here[key]) for key in here)
        again = TRRGProcessor.from_pretrained(tmp_path / f"again{number}")
        assert again.to_dict()["vocabularies"] == config["vocabularies"]


# ------------------------------------------------------------------------------------------------- the wrong tokenizer


def test_a_missing_clue_tokenizer_is_not_replaced_by_the_first_one(saved: Path):
    shutil.rmtree(saved / "clue_tokenizer")
    for loader in (TRRGProcessor, AutoProcessor):
        with pytest.raises(ValueError, match="clue_tokenizer: this is not the one the processor was saved with"):
            loader.from_pretrained(saved)


def test_a_replaced_tokenizer_is_refused_by_name(saved: Path):
    clue_tokenizer().save_pretrained(saved / "clue_tokenizer")
    TRRGProcessor.from_pretrained(saved)  # the same one, saved again
    other = text_tokenizer()
    other.add_tokens(["pneumothorax"])
    other.save_pretrained(saved)
    with pytest.raises(ValueError, match=r"tokenizer: .* It holds 58 tokens .*, expected 57 "):
        TRRGProcessor.from_pretrained(saved)


def test_a_tokenizer_of_the_same_size_with_other_tokens_is_refused(saved: Path):
    file = saved / "tokenizer.json"
    text = json.loads(file.read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"tokenizer: this is not the one .* holds 57 tokens \(hash "):
        TRRGProcessor.from_pretrained(saved)


def test_tokens_added_before_saving_are_part_of_the_fingerprint(tmp_path: Path):
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["pneumothorax"])
    processor.save_pretrained(tmp_path)
    assert len(TRRGProcessor.from_pretrained(tmp_path).tokenizer) == 58
