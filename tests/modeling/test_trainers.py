"""Outside trainers: Transformers' Trainer evaluates, shifted labels, weights without a gradient, prompt tuning."""

import itertools
import math

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LabelSmoother

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from tests.helpers.models import CLUE_NAMES, SYSTEMS, TINY, TINY_TEXT, build, only, stage1_inputs, studies
from tests.helpers.tiny_llava import llava, llava_inputs


def labelled(config, studies_count=4):
    inputs = studies(config, views=(1,) * studies_count, text=(5, 8, 6, 5)[:studies_count])
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
    return {**inputs, "labels": labels}


def rows(batch):
    """One dict a study, the clues in each; `collate` turns them into a batch again."""
    return [
        {name: value if name in CLUE_NAMES else value[row] for name, value in batch.items()}
        for row in range(len(batch["pixel_values"]))
    ]


def collate(features):
    batch = {name: torch.stack([row[name] for row in features]) for name in features[0] if name not in CLUE_NAMES}
    if "sentence_study" in batch:
        batch["sentence_study"] = torch.arange(len(features))
    return {**batch, **{name: features[0][name] for name in CLUE_NAMES if name in features[0]}}


def trainer(model, batch, folder, **options):
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "report_to": []}
    arguments = TrainingArguments(folder, use_cpu=True, disable_tqdm=True, **settings | options)
    data = rows(batch)
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data, data_collator=collate)


@pytest.mark.parametrize("system", SYSTEMS)
def test_trainer_trains_and_evaluates(tiny_config, tmp_path, system):
    model = build(tiny_config(system))
    batch = labelled(model.config)
    if system == "trrg":
        batch["clue_targets"] = torch.ones(4, 4, dtype=torch.long)
    run = trainer(model, batch, tmp_path, learning_rate=1e-2)
    before = run.evaluate()["eval_loss"]
    assert math.isfinite(run.train().training_loss)
    assert run.evaluate()["eval_loss"] < before
    predictions = run.predict(rows(batch))
    logits = predictions.predictions[0]
    assert logits.shape == (4, batch["input_ids"].shape[1], 64) and predictions.label_ids.shape == logits.shape[:2]


def test_a_frozen_tower_keeps_its_statistics(tiny_config, tmp_path):
    """In the hands of a trainer that puts the whole model in training mode, batch norm included."""
    model = build(tiny_config("radialog"))
    batch, tower = labelled(model.config), model.model.vision_tower
    before = {name: value.clone() for name, value in tower.named_buffers()}
    assert any("running_mean" in name for name in before)
    tower.requires_grad_(False)
    trainer(model, batch, tmp_path).train()
    assert all(torch.equal(value, before[name]) for name, value in tower.named_buffers())
    tower.requires_grad_(True)
    trainer(model, batch, tmp_path).train()
    assert not all(torch.equal(value, before[name]) for name, value in tower.named_buffers())


@torch.no_grad()
def test_labels_can_be_smoothed(tiny_config):
    model = build(tiny_config("trrg"))
    batch = labelled(model.config)
    labels = batch.pop("labels")
    output = model(**batch)
    logits, targets = output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(LabelSmoother(epsilon=0.1)(output, labels, shift_labels=True), expected)


@pytest.mark.parametrize("system", SYSTEMS)
def test_text_alone_beside_studies_learns_what_it_does_alone(tiny_config, system):
    config, views = tiny_config(system), (1, 0, 2)
    model, inputs = build(config), studies(config, views=views, text=(5, 8, 6))
    inputs["labels"] = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
    items = int((inputs["labels"][:, 1:] != -100).sum())
    together = model(**inputs, num_items_in_batch=items)
    together.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    parts = []
    for row, count in enumerate(views):
        alone = only(inputs, row, count)
        if not count:
            del alone["pixel_values"], alone["image_mask"]
        labels = alone["input_ids"].masked_fill(alone["input_ids"] <= 3, -100)
        parts.append(model(**alone, labels=labels, num_items_in_batch=items).loss)
    torch.testing.assert_close(together.loss, torch.stack(parts).sum(), rtol=1e-4, atol=1e-5)


def test_trainer_evaluates_without_clue_targets(tiny_config, tmp_path):
    model = build(tiny_config("trrg"))
    assert "eval_loss" in trainer(model, labelled(model.config), tmp_path).evaluate()


@pytest.mark.parametrize("system", ["trrg", "radialog"])
def test_trainer_trains_and_evaluates_stage_1(tiny_config, tmp_path, system):
    model = TRRGForContrastivePretraining(tiny_config(system))
    batch = stage1_inputs(system)
    if system == "trrg":
        batch["sentence_targets"] = torch.full((4, 4), -100)
    run = trainer(model, batch, tmp_path)
    assert math.isfinite(run.train().training_loss)
    assert "eval_loss" in run.evaluate()


def test_stage_1_returns_what_any_model_returns(tiny_config):
    model, inputs = TRRGForContrastivePretraining(tiny_config("trrg")), stage1_inputs("trrg")
    output = model(**inputs, output_hidden_states=True)
    assert len(output.hidden_states) == 2
    assert torch.equal(model(**inputs, return_dict=False)[0], output.loss)
    assert model(**inputs, return_loss=False).loss is None
    assert model.main_input_name == model.model.main_input_name == "pixel_values"
    assert TRRGForConditionalGeneration.main_input_name == "input_ids"


def test_shifted_labels_give_the_loss_of_labels(tiny_config):
    for model, inputs in ((llava(), llava_inputs()), (build(tiny_config("trrg")), studies(tiny_config("trrg")))):
        labels = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
        shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
        expected = model(**inputs, labels=labels).loss
        torch.testing.assert_close(model(**inputs, labels=labels, shift_labels=shifted).loss, expected)
        torch.testing.assert_close(model(**inputs, labels=shifted, shift_labels=shifted).loss, expected)
    torch.testing.assert_close(model(**inputs, shift_labels=shifted).loss, expected)  # LLaVA needs both
    half = shifted.clone()
    half[1] = -100
    assert model(**inputs, shift_labels=half).loss != expected
    for name in ("labels", "shift_labels"):
        with pytest.raises(ValueError, match=rf"^{name} has the shape \[2, 11\]; expected .*\[2, 12\]"):
            model(**inputs, **{name: shifted[:, 1:]})


@pytest.mark.parametrize("connector", ["clue_interaction", "mlp", "query_transformer"])
def test_every_weight_that_asks_for_a_gradient_gets_one(tiny_config, tmp_path, connector):
    """Plain distributed training stops at a weight that gets none."""
    for source, weight in itertools.product(("zero_shot", "classifier", "none"), (0.0, 1.0)):
        overrides = {"clue_source": source, "connector": connector, "num_classifier_labels": 4}
        overrides |= {"consistency_kl_weight": weight, "consistency_bce_weight": weight}
        overrides |= {"query_transformer_config": TINY["radialog"]["query_transformer_config"]}
        model = TRRGForConditionalGeneration(tiny_config("trrg", **overrides))
        model.train()(**labelled(model.config, 2)).loss.backward()
        named = list(model.named_parameters())
        assert [name for name, p in named if p.requires_grad == (p.grad is None)] == [], (source, weight)
    frozen = {name for name, parameter in named if not parameter.requires_grad}
    assert any("word_embeddings" in name for name in frozen) == (connector == "query_transformer")
    model.save_pretrained(tmp_path)
    loaded = TRRGForConditionalGeneration.from_pretrained(tmp_path).named_parameters()
    assert frozen == {name for name, parameter in loaded if not parameter.requires_grad}


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_prompt_learning_of_peft(tiny_config, tmp_path, method):
    text = {**TINY_TEXT, "vocab_size": 80}  # PEFT finds the word embeddings by this number
    model = build(tiny_config("trrg", text_config=text))
    inputs = {**only(studies(model.config), 0, 1)}
    sizes = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "num_layers": 2}
    if method == "prompt":
        settings = PromptTuningConfig(**sizes)
    else:
        settings = PrefixTuningConfig(**sizes, token_dim=16, num_attention_heads=2)
    adapted = get_peft_model(model, settings)
    adapted(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapted.parameters() if p.requires_grad)
    adapted.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        text = adapted.generate(**inputs, max_new_tokens=4, do_sample=False)
        again = PeftModel.from_pretrained(build(model.config), tmp_path).eval()
        assert torch.equal(text, again.generate(**inputs, max_new_tokens=4, do_sample=False))
