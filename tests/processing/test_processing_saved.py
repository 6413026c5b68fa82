"""Saved, loaded, saved again: as a package, as remote code from a folder, and from an emulated Hub cache."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor

from processing_trrg import TRRGImageProcessor, TRRGProcessor, fingerprint_trrg
from tests.helpers.paths import ROOT
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
    used = {"padding": True, "truncation": True, "max_length": 5}
    for tokenizer in (loaded.tokenizer, loaded.clue_tokenizer):
        tokenizer(["a sentence that is cut", "short"], **used)  # a saved one knows nothing of its last call
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


def spoil(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))


def rename(tokenizer: dict[str, Any]) -> None:
    """What is read as one word becomes another."""
    tokenizer["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Lowercase"}, {"type": "Replace", "pattern": {"String": "effusion"}, "content": "mass"},
        ],
    }  # fmt: skip


def swallow(tokenizer: dict[str, Any]) -> None:
    """What is written loses a word."""
    tokenizer["decoder"] = {
        "type": "Sequence",
        "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "no "}, "content": ""}],
    }


@pytest.mark.parametrize(
    "change",
    [
        rename,
        swallow,
        lambda text: text["model"].update(dropout=0.5),
        lambda text: text.update(pre_tokenizer={"type": "Whitespace"}),
        lambda text: text["added_tokens"][2].update(single_word=True),
    ],
)
def test_a_tokenizer_that_reads_or_writes_otherwise_is_refused(tmp_path: Path, change):
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["ed"])
    processor.save_pretrained(tmp_path)
    TRRGProcessor.from_pretrained(tmp_path)
    spoil(tmp_path / "tokenizer.json", change)
    with pytest.raises(ValueError, match=r"^tokenizer: this is not the one .* not the merges, the normalizer"):
        AutoProcessor.from_pretrained(tmp_path)


def test_merges_in_another_order_are_refused(tmp_path: Path):
    folder = tmp_path / "trrg-small"
    shutil.copytree(ROOT / "hub_cards" / "trrg-small", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    spoil(folder / "tokenizer.json", lambda text: text["model"]["merges"].reverse())
    with pytest.raises(ValueError, match=r"^tokenizer: this is not the one .* not the merges"):
        TRRGProcessor.from_pretrained(folder)


def test_another_end_of_text_is_refused(saved: Path):
    spoil(saved / "tokenizer_config.json", lambda settings: settings.update(eos_token="<pad>"))
    with pytest.raises(ValueError, match="roles of the special tokens"):
        TRRGProcessor.from_pretrained(saved)


def test_calls_and_saving_again_leave_the_fingerprint(saved: Path, tmp_path: Path):
    processor = TRRGProcessor.from_pretrained(saved)
    before = processor.to_dict()["vocabularies"]
    processor.tokenizer(["a", "long one"], padding=True, truncation=True, max_length=4)
    assert processor.to_dict()["vocabularies"] == before
    processor.save_pretrained(tmp_path / "again")
    assert TRRGProcessor.from_pretrained(tmp_path / "again").to_dict()["vocabularies"] == before


@pytest.mark.parametrize("kept", [{}, {"tokenizer", "clue_tokenizer"}])
def test_a_missing_fingerprint_is_said(saved: Path, caplog, kept):
    """Of a processor saved without any, or when it was one of the vocabulary alone."""
    fingerprint_trrg.logger.warning_once.cache_clear()
    TRRGProcessor.from_pretrained(saved)
    assert not caplog.records
    vocabularies = json.loads((saved / "processor_config.json").read_text())["vocabularies"]
    for part in vocabularies.values():
        del part["whole_sha256"]
    left = {name: vocabularies[name] for name in kept}
    spoil(saved / "processor_config.json", lambda settings: settings.update(vocabularies=left))
    TRRGProcessor.from_pretrained(saved)
    assert [message.split(":")[0] for message in caplog.messages] == ["tokenizer", "clue_tokenizer"]


# ------------------------------------------------------------------------------------------------- programs of others


def test_a_template_of_others_runs_only_when_the_caller_gives_it(saved: Path):
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    (saved / "chat_template.jinja").write_text(endless)
    for loader in (TRRGProcessor, AutoProcessor):
        with pytest.raises(
            ValueError, match=r"^chat_template: the checkpoint's is not that of the prompt style 'radialog'"
        ):
            loader.from_pretrained(saved)
    own = TRRGProcessor.from_pretrained(saved, chat_template="{{ messages[0].content }}")
    assert own.apply_chat_template([{"role": "user", "content": "hello"}]) == "hello"


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer_config.json", "clue_tokenizer/config.json"])
@pytest.mark.parametrize("reference", ["someone/else--tokens_trrg.Tokens", ["evil.Tokens", None], "evil.Tokens"])
def test_code_of_others_is_refused_before_anything_is_loaded(saved: Path, name: str, reference):
    spoil(saved / name, lambda settings: settings.setdefault("auto_map", {}).update(AutoTokenizer=reference))
    with pytest.raises(ValueError, match=rf"{name}: it names the code .*; expected a class of the folder's"):
        AutoProcessor.from_pretrained(saved)


def test_tokens_added_before_saving_are_part_of_the_fingerprint(tmp_path: Path):
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["pneumothorax"])
    processor.save_pretrained(tmp_path)
    assert len(TRRGProcessor.from_pretrained(tmp_path).tokenizer) == 58
