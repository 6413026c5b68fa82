"""The publishing room: a Hub folder, its proof in clean processes, the endpoint handler."""

import ast
import base64
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from configuration_trrg import TRRGConfig
from hub_cards import publish
from hub_cards.push import SUMS
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.tiny_processors import tiny_processor
from training.phantoms.generate import generate_phantom

CARD = "---\nlicense: apache-2.0\n---\n# A random checkpoint of the tests\n"


@pytest.fixture
def checkpoint(tiny_config: Callable[..., TRRGConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random TRRG of 32 px, saved as a training saves it, with a card."""
    torch.manual_seed(0)
    config = tiny_config("trrg")
    folder = tmp_path_factory.mktemp("checkpoints") / "trrg-random"
    model = TRRGForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 8
    model.save_pretrained(folder)
    tiny_processor(size=config.image_size, num_image_tokens=config.num_image_tokens).save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "trrg-random"
    publish.assemble(checkpoint, out)
    return out


def test_a_published_folder_holds_the_checkpoint_the_source_and_the_handler(published: Path) -> None:
    names = {path.name for path in published.iterdir()}
    sources = {
        path.name for package in publish.SOURCE_PACKAGES for path in (publish.REPOSITORY / package).glob("*_trrg.py")
    }
    assert sources <= names
    assert {"config.json", "model.safetensors", "README.md", "requirements.txt", *publish.WRITTEN} <= names
    real = (publish.REPOSITORY / "configuration_trrg" / "configuration_trrg.py").read_text(encoding="utf-8")
    assert (published / "configuration_trrg.py").read_text(encoding="utf-8") == real, "the alias was published"


def test_publishing_again_replaces_the_folder_and_leaves_nothing_behind(published: Path, checkpoint: Path) -> None:
    before = {path.relative_to(published) for path in published.rglob("*")}
    (published / "stale_trrg.py").write_text("", encoding="utf-8")
    publish.assemble(checkpoint, published)
    assert {path.relative_to(published) for path in published.rglob("*")} == before


def put(file: Path, settings: dict) -> None:
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(known | settings), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), r"missing \*\.safetensors"),
        (lambda folder: (folder / "processor_config.json").unlink(), r"missing processor_config\.json"),
        (lambda folder: (folder / "optimizer.pt").write_bytes(b"x"), r"optimizer\.pt: a checkpoint holds only"),
        (lambda folder: (folder / "config.json").write_text("{}"), r"config\.json: auto_map lacks AutoConfig"),
        (lambda folder: (folder / "generation_config.json").write_text("{}"), r"config\.json lacks max_new_tokens"),
        (lambda folder: (folder / "README.md").write_text("---\na: [\n---\n"), r"README\.md: while parsing"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: damaged; expected a JSON object"),
        (
            lambda folder: put(folder / "config.json", {"auto_map": {"AutoConfig": "x/y--configuration_trrg.A"}}),
            r"config\.json: it names the code 'x/y--configuration_trrg\.A'",
        ),
        (
            lambda folder: put(folder / "config.json", {"custom_pipelines": {"t": {"impl": "evil.Pipeline"}}}),
            r"config\.json: it names the code 'evil\.Pipeline'",
        ),
        (
            lambda folder: put(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
            r"tokenizer_config\.json: it names the code \['evil\.T', None\]",
        ),
    ],
)
def test_an_incomplete_checkpoint_is_refused(checkpoint: Path, tmp_path: Path, spoil, message: str) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "spoiled")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        publish.assemble(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_training_writes_is_published_as_it_is_with_a_card_to_fill_in(
    checkpoint: Path, tmp_path: Path, capsys
) -> None:
    (checkpoint / "README.md").unlink()
    assert (checkpoint / "modeling_trrg.py").is_file(), "save_pretrained writes the source beside the weights"
    files = publish.assemble(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert tmp_path / "out" / "README.md" in files
    assert "never for clinical use" in card and "dinov2, 32 px" in card
    assert not re.search(r"\{[a-z_]+\}", card) and 'revision = "main"' in card and SUMS in card
    with pytest.raises(SystemExit, match=r"nothing does not exist or is no folder$"):
        publish.main([str(tmp_path / "nothing"), "--out", str(tmp_path / "none")])


def test_endpoint_and_space_ask_for_what_the_package_asks_for(published: Path, tmp_path: Path) -> None:
    project = tomllib.loads((publish.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (published / "requirements.txt").read_text(encoding="utf-8").splitlines() == project["dependencies"]
    publish.assemble_space(tmp_path / "space")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["space"]]
    assert (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines() == wanted
    assert (tmp_path / "space" / "app.py").is_file() and (tmp_path / "space" / "README.md").is_file()
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="is no Space: not replaced"):
        publish.assemble_space(tmp_path)


def test_a_folder_with_other_things_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="is no published checkpoint: not replaced"):
        publish.assemble(checkpoint, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_a_checkpoint_is_not_published_over_itself(checkpoint: Path, place: str) -> None:
    before = (checkpoint / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="lie in each other"):
        publish.assemble(checkpoint, checkpoint / place)
    assert (checkpoint / "model.safetensors").read_bytes() == before


def test_the_folder_the_hub_cache_and_the_saved_copy_compute_the_same_in_clean_processes(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(published.parent)
    proof = publish.prove(Path(published.name), max_new_tokens=4)
    assert proof.classes == [
        "configuration_trrg.TRRGConfig",
        "processing_trrg.TRRGProcessor",
        "modeling_trrg.TRRGModel",
        "modeling_trrg.TRRGForConditionalGeneration",
    ]
    assert proof.largest_difference <= publish.TOLERANCE
    assert proof.logits_shape[0] == 1


IN_THE_PIPELINE = """
import sys
from transformers import pipeline

write = pipeline("radiology-report", model=sys.argv[1], trust_remote_code=True)
good, bad = {"images": sys.argv[2]}, {"images": "nothing.png"}
options = {"batch_size": 2, "max_new_tokens": 2, "abstain": False}
told = write([good, bad, good, bad], on_error="skip", **options)
assert [getattr(one, "index", None) for one in told] == [None, 1, None, 3], told
try:
    write([good, good, bad], **options)
except ValueError as error:
    assert str(error).startswith("study 2"), error
else:
    raise AssertionError("nothing was raised")
write.save_pretrained(sys.argv[3])
again = pipeline("radiology-report", model=sys.argv[3], trust_remote_code=True)
report, other = (one([good], max_new_tokens=6, abstain=False)[0] for one in (write, again))
assert (report.text, len(report.clues)) == (other.text, len(other.clues))
"""


def test_a_published_folder_names_the_study_that_it_cannot_read_and_saves_itself(
    published: Path, tmp_path: Path
) -> None:
    """Its processor and its pipeline are two modules there."""
    Image.fromarray(generate_phantom(2, 0, 64).image).save(tmp_path / "phantom.png")
    words = [str(published), str(tmp_path / "phantom.png"), str(tmp_path / "saved")]
    clean = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_PIPELINE, *words], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_small_checkpoint_loads_from_its_folder_in_the_repository(tmp_path: Path) -> None:
    """Its source files are links; a clone, a copy that follows links and an upload all have them."""
    (tmp_path / "home").mkdir()
    Image.fromarray(generate_phantom(2, 0, 64).image).save(tmp_path / "phantom.png")
    study = ("--image", str(tmp_path / "phantom.png"), "--indication", "Cough.", "--max-new-tokens", "4")
    outputs = publish.run_clean_process(
        str(publish.REPOSITORY / "hub_cards" / "trrg-small"), tmp_path / "home", tmp_path / "results", *study
    )
    assert outputs["logits"].isfinite().all()


def test_a_folder_without_a_source_file_fails_its_proof(published: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "trrg-broken")
    (folder / "clue_trrg.py").unlink()
    with pytest.raises(RuntimeError, match=r"clue_trrg\.py"):
        publish.prove(folder, max_new_tokens=4)


@pytest.fixture
def handler(published: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("published_handler", published / "handler.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encoded_phantom(pixels: Any = None) -> str:
    buffer = io.BytesIO()
    Image.fromarray(generate_phantom(2, 0, 64).image if pixels is None else pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def ask_picture(endpoint: Any, pixels: Any, **parameters: Any) -> dict[str, Any]:
    study = {"images": [encoded_phantom(np.ascontiguousarray(pixels))]}
    return endpoint({"inputs": study, "parameters": {"max_new_tokens": 4, **parameters}})


def test_the_endpoint_answers_a_request_with_two_views(handler: ModuleType, published: Path) -> None:
    endpoint = handler.EndpointHandler(str(published))
    study = {"images": [encoded_phantom()] * 2, "indication": "Cough."}
    answer = endpoint({"inputs": study, "parameters": {"max_new_tokens": 4}})
    assert json.loads(json.dumps(answer)) == answer
    assert len(answer["clues"]) == 14 and set(answer["clues"][0]) == {"name", "score", "selected", "answer"}
    assert isinstance(answer["sentences"], list) and isinstance(answer["left_out"], list)
    assert "never for clinical use" in answer["notice"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("text", "inputs is str"),
        ({"images": []}, "expected a list of 1 to 4"),
        ({"images": ["AAAA"] * 5}, "expected a list of 1 to 4"),
        ({"images": [7]}, r"images\[0\] is int"),
        ({"images": ["no base64!"]}, r"images\[0\] is no valid base64"),
        ({"images": ["AAAA"], "indication": "x" * 4001}, "at most 4000 characters"),
        ({"images": ["AAAA"], "patient": "name"}, r"unknown fields \['patient'\]"),
    ],
)
def test_the_endpoint_refuses_what_it_cannot_bound(handler: ModuleType, inputs: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        handler.read_inputs(inputs)


def test_the_endpoint_checks_an_images_size_before_it_decodes_it(handler: ModuleType, monkeypatch) -> None:
    monkeypatch.setattr(handler, "MAX_IMAGE_BYTES", 30)
    with pytest.raises(ValueError, match="at most 30 bytes"):
        handler.decode_image("!" * 100, 0)


@pytest.mark.parametrize(
    "parameters",
    [{"max_new_tokens": 0}, {"max_new_tokens": 10**6}, {"max_new_tokens": True}, {"top_p": 1}, {"operating_point": []}],
)
def test_the_endpoint_refuses_parameters_out_of_range(handler: ModuleType, parameters: dict) -> None:
    with pytest.raises(ValueError, match="parameters"):
        handler.read_parameters(parameters)


def test_the_endpoint_turns_the_dial_and_abstains(handler: ModuleType) -> None:
    """With the small checkpoint, which has operating points and tells a radiograph from one upside down."""
    endpoint = handler.EndpointHandler(str(publish.REPOSITORY / "hub_cards" / "trrg-small"))
    pixels = generate_phantom(2, 0, 256).image
    heard = {}
    for point in ("careful", 0.05):
        answer = ask_picture(endpoint, pixels, operating_point=point)
        heard[point] = {clue["name"] for clue in answer["clues"] if clue["selected"]}
    assert answer["readable"] and heard["careful"] < heard[0.05]
    abstained = ask_picture(endpoint, pixels[::-1])
    assert abstained["readable"] is False and abstained["text"] == UNREADABLE
    with pytest.raises(ValueError, match="operating_point is 'brave'"):
        ask_picture(endpoint, pixels, operating_point="brave")


def test_the_notebook_runs_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    publish.assemble(publish.REPOSITORY / "hub_cards" / "trrg-small", tmp_path / "published")
    monkeypatch.chdir(tmp_path / "published")
    notebook = json.loads(Path("notebook.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["language"]) == (4, "python")
    assert "never for clinical use" in "".join(notebook["cells"][0]["source"])
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            tree = ast.parse(source)
            if isinstance(tree.body[-1], ast.Expr):  # Jupyter shows it
                tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], tree.body[-1].value)
            exec(compile(ast.fix_missing_locations(tree), "notebook", "exec"), names)  # noqa: S102 - our own page
    report, message = names["report"], names["_"]
    assert message["content"] == (report.as_written or report.text)  # `generate` revises nothing
    assert report.text in capsys.readouterr().out
