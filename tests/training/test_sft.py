"""TRL's SFTTrainer, unchanged: the example of training/README.md, and prompts with completions."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor, report_messages
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph

SMALL = ROOT / "hub_cards" / "trrg-small"
REPORT = "Findings: The lungs are clear. Impression: Normal."


@pytest.fixture
def trl() -> Any:
    return pytest.importorskip("trl", reason="needs the grpo extra")


def batches(trainer: Any) -> list[dict[str, torch.Tensor]]:
    """Every batch of the trainer's data, as its own collator makes it."""
    return list(trainer.get_train_dataloader())


def test_the_example_of_the_page(trl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    page = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall("```python\n(.*?)```", page, re.DOTALL) if "SFTTrainer" in code]
    assert len(example.splitlines()) <= 20
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "trrg-small").symlink_to(SMALL)
    Image.fromarray(radiograph(256, 256)).save(tmp_path / "demo" / "phantom.png")
    monkeypatch.chdir(tmp_path)
    told: list[Any] = []
    names: dict[str, Any] = {"print": told.append}
    exec(compile(example, "training/README.md", "exec"), names)  # noqa: S102 - our own page
    assert "end-of-turn" not in caplog.text, "TRL does not see that the end of an answer is learned"
    before, after = told
    assert 0 < after < before, "nothing was learned"
    processor, batch = names["processor"], batches(names["trainer"])[0]
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert processor.tokenizer.decode(learned) == f" {REPORT}</s>"
    moved = {name for name, value in names["model"].named_parameters() if value.requires_grad}
    assert moved and all("lora" in name and "language_model" in name for name in moved)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chat", "text"])
def test_prompts_and_completions(trl: Any, tmp_path: Path, form: str) -> None:
    from datasets import Dataset

    model = TRRGForConditionalGeneration.from_pretrained(SMALL)
    processor = TRRGProcessor.from_pretrained(SMALL)
    prompt: Any = report_messages("trrg", 1, indication="Cough.")
    completion: Any = [{"role": "assistant", "content": [{"type": "text", "text": REPORT}]}]
    if form == "text":
        prompt = processor.apply_chat_template(prompt, add_generation_prompt=True)
        completion = f"{REPORT}{processor.tokenizer.eos_token}"
    picture = Image.fromarray(radiograph(256, 256))
    trainer = trl.SFTTrainer(
        model, train_dataset=Dataset.from_list([{"images": [picture], "prompt": prompt, "completion": completion}] * 4),
        processing_class=processor,
        args=trl.SFTConfig(
            output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, use_cpu=True, bf16=False,
            learning_rate=1e-3, logging_steps=1, save_strategy="no", report_to=[],
        ),
    )  # fmt: skip
    (batch,) = batches(trainer)
    ours = processor(images=picture, indication="Cough.", report=REPORT)
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert processor.tokenizer.decode(learned).strip() == f"{REPORT}</s>"
    if form == "text":  # in a chat a space stands before the answer
        assert all(torch.equal(batch[name][:1].cpu(), ours[name]) for name in ("input_ids", "labels", "pixel_values"))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2 and losses[1] < losses[0]
