"""The same 20 steps by training/finetune.py, by Transformers' Trainer and by TRL's SFTTrainer: the same losses."""

import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor
from tests.helpers.training_helpers import losses, run_script, stage_2
from training.data.collate import FinetuneCollator

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 20


class InOrder(Trainer):
    """Trainer, but the batches come as finetune.py drew them."""

    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(self.train_dataset)


def finetuned(data, tmp_path, monkeypatch, change):
    """20 steps of finetune.py: losses, batches, a trainer's options for the same, and the model they began at."""
    config = stage_2(data, tmp_path / "first")
    change(config)
    config["run"] |= {"generate_studies": 0}
    config["schedule"] = {"steps": 1}
    config["data"] |= {"train": config["data"]["train"][:1], "validation": []}
    assert run_script("finetune.py", config) == 0
    batches, collate = [], FinetuneCollator.__call__

    def record(self, examples):
        batches.append(collate(self, examples))
        return dict(batches[-1])

    monkeypatch.setattr(FinetuneCollator, "__call__", record)
    for key in ("preset", "overrides", "tokenizer", "clue_tokenizer"):
        del config["model"][key]
    config["model"]["checkpoint"] = str(tmp_path / "first" / "model")
    config["schedule"] = {"steps": STEPS, "min_lr_ratio": 1.0}  # a constant rate
    config["optimizer"] |= {"weight_decay": 0.0}  # the two give it to other weights
    config["run"] |= {"output_dir": str(tmp_path / "ours")}
    assert run_script("finetune.py", config) == 0
    assert len(batches) == 2 * STEPS

    first, second = config["optimizer"].get("betas", (0.9, 0.999))
    options = {
        "max_steps": STEPS, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        "learning_rate": config["optimizer"]["lr"], "lr_scheduler_type": "constant", "weight_decay": 0.0,
        "adam_beta1": first, "adam_beta2": second, "logging_steps": 1, "save_strategy": "no", "use_cpu": True,
        "disable_tqdm": True, "report_to": [],
    }  # fmt: skip
    steps = [{name: value for name, value in batch.items() if isinstance(value, torch.Tensor)} for batch in batches]
    ours = losses(tmp_path / "ours")
    assert ours[STEPS] < ours[1]
    return ours, steps, options, TRRGForConditionalGeneration.from_pretrained(tmp_path / "first" / "model")


def logged(trainer):
    trainer.train()
    return {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}


def test_finetune_and_trainer_lose_the_same(data, tmp_path, monkeypatch):
    ours, steps, options, model = finetuned(data, tmp_path, monkeypatch, lambda config: None)
    arguments = TrainingArguments(tmp_path / "theirs", **options)
    trainer = InOrder(model, arguments, train_dataset=steps, data_collator=lambda features: features[0])
    assert logged(trainer) == pytest.approx(ours, abs=1e-4)


def test_finetune_and_sft_trainer_lose_the_same(data, tmp_path, monkeypatch):
    trl = pytest.importorskip("trl", reason="needs the grpo extra")
    from datasets import Dataset

    def without_consistency(config):  # SFTTrainer takes the loss of the tokens alone
        weights = {"consistency_kl_weight": 0.0, "consistency_bce_weight": 0.0}
        config["model"]["overrides"] = config["model"]["overrides"] | weights
        config["trained"].remove("report_projection")

    ours, steps, options, model = finetuned(data, tmp_path, monkeypatch, without_consistency)
    settings = trl.SFTConfig(tmp_path / "theirs", **options, bf16=False)
    chats = Dataset.from_list([{"images": [], "messages": [{"role": "user", "content": "in order"}]}] * len(steps))
    processor = TRRGProcessor.from_pretrained(tmp_path / "first" / "model")
    left = iter(steps)  # in place of the data set's rows
    trainer = trl.SFTTrainer(
        model,
        settings,
        train_dataset=chats,
        processing_class=processor,
        data_collator=lambda features: dict(next(left)),
    )
    assert logged(trainer) == pytest.approx(ours, abs=1e-4)
