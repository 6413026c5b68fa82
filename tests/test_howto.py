"""The page "How do I ...": its commands and snippets run as they are written, on invented data, with tiny models that
lie where the Hub's names point to."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SwinConfig,
    SwinModel,
    TimmWrapperConfig,
    TimmWrapperModel,
)

from evaluation import score
from hub_cards import demo
from tests.helpers.fake_trees import FINDINGS, chexpert_plus_tree, mimic_tree, picture, table
from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import make_data

PAGE = (ROOT / "hub_cards" / "HOWTO.md").read_text(encoding="utf-8")
SHORT = [
    "schedule={steps: 1}", "optimizer.batch_size=2", "optimizer.micro_batch_size=2", "data.num_workers=0",
    'run.mixed_precision="no"', "run.gradient_checkpointing=false",
]  # fmt: skip
SHALLOW = ["model.overrides={text_config: {num_hidden_layers: 1}}"]
MORE = {"training/pretrain.py": SHORT, "training/finetune.py": SHORT, "training.measure.estimate": SHALLOW}
"""What makes a command short; all else of it is the page's."""


def tiny_hub(data: Path) -> None:
    """The models that the page and its configurations name, in folders of their names."""
    widths = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    decoder = {**widths, "vocab_size": 420, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 2}
    decoder |= {"hidden_size": 64, "intermediate_size": 64}  # whole blocks of four bits
    swin = SwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    dino = Dinov2Config(image_size=56, patch_size=14, use_mask_token=False, **widths)
    models = {
        "microsoft/swin-base-patch4-window7-224": (SwinModel(swin), None),
        "facebook/dinov2-base": (Dinov2Model(dino), None),
        "emilyalsentzer/Bio_ClinicalBERT": (BertModel(BertConfig(vocab_size=300, **widths)), "clue_tokenizer"),
        "mistralai/Mistral-7B-Instruct-v0.2": (LlamaForCausalLM(LlamaConfig(**decoder)), "tokenizer"),
        "Qwen/Qwen2.5-7B-Instruct": (Qwen2ForCausalLM(Qwen2Config(**decoder)), "tokenizer"),
    }
    small = TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg={"input_size": [3, 64, 64]})
    models["timm/resnet50.a1_in1k"] = TimmWrapperModel(small), None
    for name, (model, tokenizer) in models.items():
        model.save_pretrained(name)
        if tokenizer is not None:
            AutoTokenizer.from_pretrained(data / tokenizer).save_pretrained(name)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the checkout's root, with `demo/` and with the data sets in it. All of it is SYNTHETIC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for room in ("training", "evaluation"):
        (tmp_path / room).symlink_to(ROOT / room)
    demo.main(["--out", "demo", "--max-new-tokens", "8"])
    jpg, reports = mimic_tree(tmp_path / "mimic")
    Path("mimic-cxr-jpg").mkdir()
    jpg.rename("mimic-cxr-jpg/2.1.0")
    reports.rename("mimic-cxr-reports")
    chexpert_plus_tree(tmp_path)
    for patient in range(12):
        folder = Path("my-clinic", f"p{patient}", "first")
        picture(folder / "frontal.png", patient)
        (folder / "report.txt").write_text(f"Findings: {FINDINGS}\n", encoding="utf-8")
    text = f"FINDINGS\n{FINDINGS}"
    table(
        tmp_path / "reports.csv",
        [{"patient": f"p{p}", "file": f"p{p}/first/frontal.png", "report": text} for p in range(12)],
    )
    (tmp_path / "my-images").symlink_to(tmp_path / "my-clinic")
    (tmp_path / "hub_cards").symlink_to(ROOT / "hub_cards")
    tiny_hub(make_data(tmp_path / "made"))
    return tmp_path


def run_command(words: list[str]) -> None:
    """A command line of the page, in this process: half of a second instead of ten."""
    if words[:2] == ["accelerate", "launch"]:
        words = ["python", *words[2:]]
    assert words[0] == "python", words
    is_module = words[1] == "-m"
    target, arguments = (words[2], words[3:]) if is_module else (words[1], words[2:])
    if "chexbert.pth" in arguments:  # nobody may ship that checkpoint
        score.parse_arguments(arguments)
        return
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [target, *arguments, *MORE.get(target, [])])
        try:
            if is_module:
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / target), run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, f"{shlex.join(words)}\n{ended.code}"


def entries() -> dict[str, list[tuple[str, str]]]:
    """Heading -> (language, text) of its fenced blocks."""
    return {
        part.partition("\n")[0]: re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL) for part in PAGE.split("\n## ")[1:]
    }


def test_every_command_and_snippet_runs_as_written(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    printed = {}
    for heading, blocks in entries().items():
        capsys.readouterr()
        for language, text in blocks:
            if language == "bash":
                for line in text.splitlines():
                    run_command(shlex.split(line))
            else:
                snippet = checkout / "snippet.py"
                snippet.write_text(text, encoding="utf-8")
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sys, "path", [*sys.path])
                    runpy.run_path(str(snippet))
        printed[heading] = capsys.readouterr().out
        assert printed[heading] or not blocks, f"{heading}: nothing was printed"
    torch.set_num_threads(threads)
    sys.modules.pop("handler", None)
    assert "13.9 GiB in bfloat16" in printed["Know which GPU a 7B needs"]
    assert "Deviated trachea" in printed["Use my own clues"]
    assert "(1, 12, 12) (512, 512)" in printed["Get boxes"]
    for run in (
        "trrg-stage2-mimic",
        "own-data-small",
        "clinic-stage2",
        "chexpert-stage1",
        "swap-stage2",
        "timm-stage1",
        "lora",
        "my-clues",
    ):
        assert Path("runs", run, "model", "config.json").is_file(), run
    assert Path("runs/scores/metrics.json").is_file()


def test_the_page_is_whole_and_linked() -> None:
    assert len(entries()) == 13
    assert "(hub_cards/HOWTO.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
