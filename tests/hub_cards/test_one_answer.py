"""One study gives one text at every door, by one look, with nothing said of its length but what the checkpoint says."""

import base64
import importlib.util
import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from evaluation import generate
from hub_cards import demo, publish
from modeling_trrg.encoder_trrg import TRRGEncoder
from tests.helpers.checkpoints import MAX_NEW_TOKENS, read, save_checkpoint
from training.data.study import Study, View, write_studies

INDICATION, TECHNIQUE = "Cough.", "Synthetic phantom, single frontal view."


@pytest.fixture(scope="module")
def looks() -> Iterator[list[None]]:
    """Grows by one whenever a vision tower looks at a batch of studies, whatever the door."""
    calls: list[None] = []
    encode = TRRGEncoder.encode_images

    def counted(self, *args, **kwargs):
        calls.append(None)
        return encode(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRRGEncoder, "encode_images", counted)
        yield calls


@pytest.fixture(scope="module")
def shown(looks: list[None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves: the published folder, a phantom and its report."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "trrg-random", "trrg")
    out = tmp_path_factory.mktemp("demo")
    before = len(looks)
    demo.main(["--indication", INDICATION, "--checkpoint", str(checkpoint), "--out", str(out)])
    assert len(looks) == before + 1
    return out


@pytest.fixture(scope="module")
def published(shown: Path) -> Path:
    return shown / "trrg-random"


@pytest.fixture(scope="module")
def picture(shown: Path) -> Path:
    return shown / "phantom.png"


@pytest.fixture(scope="module")
def answer(published: Path, picture: Path) -> str:
    """What README's few lines print."""
    processor = AutoProcessor.from_pretrained(published, trust_remote_code=True)
    model = AutoModelForImageTextToText.from_pretrained(published, trust_remote_code=True)
    inputs = processor(images=str(picture), indication=INDICATION, technique=TECHNIQUE, return_tensors="pt")
    generated = model.generate(**inputs)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + MAX_NEW_TOKENS, "the report should fill its length"
    return processor.post_process_report(generated, inputs)[0].text


def load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pipeline(published: Path, picture: Path, answer: str, looks: list[None]) -> None:
    write = pipeline("radiology-report", model=str(published), trust_remote_code=True)
    before = len(looks)
    assert write(picture, indication=INDICATION, technique=TECHNIQUE).text == answer
    assert len(looks) == before + 1


def test_the_demo(shown: Path, answer: str) -> None:
    report = json.loads((shown / "report.json").read_text(encoding="utf-8"))
    assert (report["indication"], report["technique"]) == (INDICATION, TECHNIQUE)
    assert report["text"] == answer


def test_the_endpoint(published: Path, picture: Path, answer: str, looks: list[None]) -> None:
    endpoint = load("published_handler", published / "handler.py").EndpointHandler(str(published))
    image = base64.b64encode(picture.read_bytes()).decode()
    study = {"images": [image], "indication": INDICATION, "technique": TECHNIQUE}
    before = len(looks)
    assert endpoint({"inputs": study})["text"] == answer
    assert len(looks) == before + 1
    short = endpoint({"inputs": study, "parameters": {"max_new_tokens": 9}})["text"]
    assert len(short) < len(answer) and answer.startswith(short)


def test_the_space(
    published: Path, picture: Path, answer: str, looks: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it offers to programs, behind a stand-in for gradio, which only the Space has."""
    space = publish.REPOSITORY / "hub_cards" / "space"
    monkeypatch.setitem(sys.modules, "gradio", MagicMock(Error=lambda words, **_: ValueError(words)))
    monkeypatch.syspath_prepend(str(space))
    monkeypatch.setenv("TRRG_CHECKPOINT", str(published))
    app = load("space_app", space / "app.py")
    before = len(looks)
    image = base64.b64encode(picture.read_bytes()).decode()
    report = app.report_study([f"data:image/png;base64,{image}"], INDICATION, TECHNIQUE)
    assert len(looks) == before + 1
    assert report["text"] == answer and report["sentences"] and report["notice"]
    assert app.ask_study([f"data:image/png;base64,{image}"], report["text"], "Is there an effusion?")
    with pytest.raises(ValueError, match=r"^images\[0\]: expected a data: URI"):
        app.report_study([str(picture)])
    visit = app.shown.Visit([picture.read_bytes()], app.shown_squares([picture]), {}, "balanced", Path())
    visit.report = app.write({"images": visit.views})
    visit.messages = visit.report.messages
    alone = pickle.loads(pickle.dumps(visit))  # noqa: S301 - as a call on ZeroGPU comes back
    assert not hasattr(alone.report, "ask") and app.talked(alone).report.text == visit.report.text


def test_the_evaluation(published: Path, picture: Path, answer: str, looks: list[None], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(picture, tmp_path / "data")
    views: list[View] = [{"path": picture.name, "view": "frontal"}]
    record = Study("a", "a", "test", images=views, indication=INDICATION, technique=TECHNIQUE, findings="Clear.")
    write_studies(tmp_path / "data" / "studies.jsonl", [record])
    arguments = ["--data", tmp_path / "data", "--split", "test", "--out", tmp_path / "run"]
    before = len(looks)
    generate.main(["--checkpoint", str(published), *map(str, arguments)])
    assert len(looks) == before + 1
    (line,) = read(tmp_path / "run" / "predictions.jsonl")
    assert line["prediction"] == answer and line["complete"] is False
