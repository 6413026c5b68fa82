"""The metric as a Space: assembled, loaded by `evaluate` from a folder, from an emulated Hub and from its cache."""

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from evaluation.metrics.chexbert import HEADS, CheXbertLabeler
from evaluation.metrics.clinical import CHEXPERT_14, CONVENTIONS
from evaluation.publish_metric import assemble, base_names, own_imports, relative
from tests.helpers.paths import ROOT

evaluate = pytest.importorskip("evaluate", reason="needs the metrics extra")

EMPTY = dict.fromkeys(CHEXPERT_14)

# Runs in a clean process outside the checkout: what is loaded is the published folder, not this package.
SCRIPT = """
import doctest, json, runpy, sys
import evaluate
metric = evaluate.load("trrg/radiology-ce")
module = sys.modules[type(metric).__module__]
failed, tried = doctest.testmod(module)
values = []
for case in runpy.run_path(sys.argv[1])["test_cases"]:
    scores = metric.compute(predictions=case["predictions"], references=case["references"], resamples=0)["scores"]
    values.append({name: [scores[name]["value"], value] for name, value in case["result"].items()})
print(json.dumps({"failed": failed, "tried": tried, "values": values, "own": "evaluation" in sys.modules}))
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assemble(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def metric(space: Path, tmp_path_factory: pytest.TempPathFactory):
    cache = str(tmp_path_factory.mktemp("modules"))
    return evaluate.load(str(space), dynamic_modules_path=None, cache_dir=cache)


def run_elsewhere(cwd: Path, space: Path, **environment: str) -> dict:
    script = cwd / "use_metric.py"
    script.write_text(SCRIPT)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", script.name, str(space / "tests.py")],
        cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(result: dict) -> None:
    assert result["failed"] == 0 and result["tried"] >= 5
    assert not result["own"], "the published folder must not need this package"
    for case in result["values"]:
        for ours, expected in case.values():
            assert ours == pytest.approx(expected)


def test_works_from_a_folder_offline(space: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    check(run_elsewhere(space.parent.parent, space, **offline))


def test_works_from_an_emulated_hub_and_then_from_its_cache(space: Path, tmp_path: Path) -> None:
    served = tmp_path / "hub"
    (served / "spaces" / "trrg" / "radiology-ce" / "resolve").mkdir(parents=True)
    (served / "spaces" / "trrg" / "radiology-ce" / "resolve" / "main").symlink_to(space)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    try:
        check(run_elsewhere(tmp_path, space, **hub))
    finally:
        server.shutdown()
        server.server_close()
    check(run_elsewhere(tmp_path, space, **hub, HF_EVALUATE_OFFLINE="1"))


def test_a_bare_copy_of_the_script_says_how_to_get_the_complete_metric(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "evaluation" / "radiology-ce", tmp_path / "trrg" / "radiology-ce")
    code = "import evaluate; evaluate.load('trrg/radiology-ce')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    # `evaluate` and `datasets` of this environment, without the checkout that an editable install points to
    site = [path for path in sys.path if path.endswith("site-packages")]
    start = f"import sys; sys.path[:0] = ['.']; sys.path += {site}; {code}"
    command = [sys.executable, "-I", "-S", "-c", start]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "publish_metric.py --out build" in done.stderr.splitlines()[-1], done.stderr[-2000:]


def test_folder_follows_the_rules_of_the_loader(space: Path) -> None:
    """One-dot imports at the start of a line, and the script names every module that any module needs."""
    script = (space / "radiology-ce.py").read_text()
    beside = {file.stem for file in space.glob("*.py")} - {"radiology-ce", "app", "tests"}
    named = {line.split()[1].removeprefix(".") for line in script.splitlines() if line.startswith("from .")}
    assert named == beside
    for file in space.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.col_offset == 0 and node.module in beside
    assert not own_imports(script)


def test_import_inside_a_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x: import of metrics\.clinical is not at the start of a line"):
        relative("def f():\n    from evaluation.metrics.clinical import pack\n", "x")


def test_two_modules_of_the_same_base_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"metrics\.sides, reading\.sides would be the same file"):
        base_names(["metrics.clinical", "metrics.sides", "reading.sides"])


def test_card_names_every_convention(space: Path) -> None:
    card = (space / "README.md").read_text()
    assert card.startswith("---\ntitle: radiology-ce") and "- evaluate\n- metric" in card and "sdk: gradio" in card
    assert all(f"`{name}`" in card for name in CONVENTIONS) and "Never for clinical use" in card


def test_app_of_the_space(space: Path, metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its function, behind a stand-in for gradio, which only the Space has."""
    gradio = MagicMock(Error=ValueError)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setattr(evaluate, "load", {"trrg/radiology-ce": metric}.__getitem__)
    app = runpy.run_path(str(space / "app.py"))
    (space / "pairs.jsonl").write_text(
        "".join(json.dumps(dict(zip(app["COLUMNS"], p, strict=True))) + "\n" for p in app["EXAMPLES"])
    )
    rows = app["score_file"](str(space / "pairs.jsonl"))
    expected = metric.compute(predictions=[p for p, _ in app["EXAMPLES"]], references=[r for _, r in app["EXAMPLES"]])
    assert [row[0] for row in rows] == list(expected["scores"])
    assert all(row[-1] == expected["scores"][row[0]]["signature"] for row in rows)
    for pairs, message in (([], "got 0"), ([["a" * 20_001, "b"]], "20001 characters")):
        with pytest.raises(ValueError, match=message):
            app["score"](pairs)
    report = "Small effusion,\nno edema."  # a quoted report keeps its lines
    (space / "pairs.csv").write_text(f'prediction,reference\n"{report}",Edema.\n')
    seen = MagicMock(wraps=metric.compute)
    monkeypatch.setattr(metric, "compute", seen)
    assert len(app["score_file"](str(space / "pairs.csv"))) == len(rows)
    assert report in str(seen.call_args.kwargs["predictions"]).encode().decode("unicode_escape")
    for name, content in (("a.csv", b"a,b\n1,2\n"), ("b.csv", b"\xff"), ("c.jsonl", b"[1]"), ("d.jsonl", b"text")):
        (space / name).write_bytes(content)
        with pytest.raises(ValueError, match="in UTF-8 with the columns prediction and reference") as told:
            app["score_file"](str(space / name))
        assert str(space) not in str(told.value)

    report = "No edema or\npleural  effusion. Small left pneumothorax."
    ours, theirs, labels, scores = app["compare"](report, "Edema.")
    assert "".join(text for text, _ in ours) == report and theirs[0] == ("Edema", "Edema: present")
    assert [piece for piece in ours if piece[1]] == [
        ("No", "decides"), ("edema", "Edema: absent"), ("pleural  effusion", "Pleural Effusion: absent"),
        ("pneumothorax", "Pneumothorax: present"),
    ]  # fmt: skip
    script = "<script>alert('no edema')</script>"
    assert "".join(text for text, _ in app["mark"](script, metric.explain(script))) == script, "shown as text"
    assert ["Edema", "differs", "present", "absent"] in [[*row[:3], row[4]] for row in labels]
    assert "Fracture" not in [row[0] for row in labels] and scores[0][-1].startswith("radiology-ce/")
    assert all(row[2:4] == ["", ""] and "|bootstrap:0|" in row[-1] for row in scores), "an interval of a single pair"
    assert "Never for clinical use" in str(gradio.Markdown.call_args_list)


def test_processes_change_no_digit(metric) -> None:
    texts = ["No effusion.", "Small left effusion.", "Possible pneumonia.", "Mild edema."] * 200
    options = {"predictions": texts[1:], "references": texts[:-1], "resamples": 20}
    assert metric.compute(**options) == metric.compute(**options, processes=2)


def test_every_convention_at_once_and_per_report(metric) -> None:
    result = metric.compute(
        predictions=["Small pleural effusion.", None],
        references=["Pleural effusion.", ""],
        per_report=True,
        resamples=20,
    )
    assert {name.split("/")[0] for name in result["scores"]} == set(CONVENTIONS)
    assert result["n"] == 2 and set(result["per_label"]) == set(CHEXPERT_14)
    first, second = result["per_report"]
    assert first["prediction_labels"]["Pleural Effusion"] == 1 and first["example_f1"]["uncertain_0"] == 1
    assert second["reference_labels"] == EMPTY and second["example_f1"] == {"uncertain_0": 0, "uncertain_1": 0}
    assert result["scores"]["r2gen/micro_14_f1"]["signature"].split("|")[1].startswith("labeler:rules-")


def test_labels_given_by_the_caller(metric) -> None:
    labels = [{**EMPTY, "Edema": 1}, {**EMPTY, "Edema": float("nan"), "Fracture": -1}]
    result = metric.compute(predictions=labels, references=labels, conventions=["miura"], resamples=0)
    assert result["scores"]["miura/micro_14_f1"]["value"] == 1
    assert "labeler:given" in result["scores"]["miura/micro_14_f1"]["signature"]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "predictions is empty"),
        (["a", "b"], ["a"], "Mismatch in the number of predictions"),
        ([{**EMPTY, "Oedema": 1}], [EMPTY], r"unknown names \['Oedema'\]"),
        ([EMPTY], [{**EMPTY, "Edema": 3}], "references.0..'Edema'. is 3"),
    ],
)
def test_bad_input(metric, predictions: list, references: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references)


# --- CheXbert, with a tiny checkpoint of the published shape --------------------------------------------------------


@pytest.fixture(scope="module")
def chexbert_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(`.pth` as published, the same as `.safetensors`, tokenizer folder)."""
    folder = tmp_path_factory.mktemp("chexbert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema", "effusion", "small", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    state = {f"bert.{name}": tensor for name, tensor in BertModel(config).state_dict().items()}
    for head in range(14):
        classes = 2 if HEADS[head] == "No Finding" else 4
        state[f"linear_heads.{head}.weight"] = torch.randn(classes, 64)
        state[f"linear_heads.{head}.bias"] = torch.zeros(classes)
    published = {"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(published, folder / "chexbert.pth")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "chexbert.safetensors")
    return folder / "chexbert.pth", folder / "chexbert.safetensors", folder / "tokenizer"


def test_chexbert_batches_do_not_matter(chexbert_files: tuple[Path, Path, Path]) -> None:
    checkpoint, safe, tokenizer = chexbert_files
    texts = ["no edema .", "", "small effusion . no edema . " * 9, "effusion", "small\neffusion"]
    together = CheXbertLabeler(checkpoint, str(tokenizer), batch_size=4)
    labels = together(texts)
    assert labels == CheXbertLabeler(safe, str(tokenizer), batch_size=1)(texts)
    assert all(set(report) == set(CHEXPERT_14) and set(report.values()) <= {1, 0, -1, None} for report in labels)
    assert labels[0]["No Finding"] in (1, None)
    vectors = together.embed(texts)
    assert vectors.shape == (5, 64)
    torch.testing.assert_close(vectors[3], together.embed([texts[3]])[0])


def test_chexbert_heads_are_read_by_name(chexbert_files: tuple[Path, Path, Path]) -> None:
    _, safe, tokenizer = chexbert_files
    labeler = CheXbertLabeler(safe, str(tokenizer))
    for head, (weight, bias) in enumerate(labeler.heads):
        bias.fill_(0)
        bias[1 if HEADS[head] == "Lung Lesion" else 0] = 1e6  # present for Lung Lesion, not mentioned for the others
        weight.zero_()
    assert labeler(["edema"])[0] == {**EMPTY, "Lung Lesion": 1}


def test_chexbert_in_the_metric(metric, chexbert_files: tuple[Path, Path, Path]) -> None:
    checkpoint, _, tokenizer = chexbert_files
    result = metric.compute(
        predictions=["edema", None], references=["edema", ""], chexbert=str(checkpoint),
        chexbert_tokenizer=str(tokenizer), conventions=["f1chexbert"], resamples=0,
    )  # fmt: skip
    assert result["scores"]["f1chexbert/exact_match_5"]["value"] == 1
    assert "labeler:chexbert" in result["scores"]["f1chexbert/exact_match_5"]["signature"]


def test_chexbert_refuses_what_it_is_not(chexbert_files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    checkpoint, _, tokenizer = chexbert_files
    with pytest.raises(FileNotFoundError, match="bring your own"):
        CheXbertLabeler(tmp_path / "none.pth", str(tokenizer))
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"not a CheXbert checkpoint: it lacks bert\.embeddings"):
        CheXbertLabeler(tmp_path / "other.safetensors", str(tokenizer))
    torch.save({"model_state_dict": Path("code")}, tmp_path / "pickled.pth")  # a pickled object, not a tensor
    with pytest.raises(Exception, match=r"[Ww]eights.only|Unsupported"):
        CheXbertLabeler(tmp_path / "pickled.pth", str(tokenizer))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]")
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="has 5 words; the checkpoint has 10"):
        CheXbertLabeler(checkpoint, str(tmp_path / "small"))
