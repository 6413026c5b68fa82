"""MAIRA-1: the model against a short re-statement in plain torch and strings, and its small version, trained."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu
from transformers import AutoModelForCausalLM, Dinov2Config, Dinov2Model

from configuration_trrg import TRRGConfig
from evaluation.reading.labeler import label_report
from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from processing_trrg import TRRGProcessor
from tests.helpers.models import TINY_TEXT, build, studies
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph, tiny_processor
from tests.helpers.training_helpers import run_script, stage_1, stage_2, write_config
from training.config.run_config import FinetuneConfig, load_config
from training.data.collate import FinetuneCollator
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw
from training.run.initial_model import build_config, build_model, build_processor
from training.run.trained_parts import freeze

pytestmark = pytest.mark.usefixtures("one_thread")
SYSTEM = "You are a radiology assistant who interprets chest X-rays."
REQUEST = "Describe the findings of this chest X-ray"
CONFIG = ROOT / "training" / "configs" / "maira1-mimic.yaml"


def adapter(patches: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor]) -> torch.Tensor:
    """Four linear layers, GELU after each but the last (facts: "four-layer feedforward adapter")."""
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        patches = (gelu(patches) if place else patches) @ weight.T + bias
    return patches


def written_prompt(placeholders: int, indication: str | None) -> str:
    """Vicuna's turns around MAIRA-1's request; without an indication the clause is dropped."""
    given = f", given this indication: {indication}" if indication else "."
    return f"<s>{SYSTEM} USER: {'<image>' * placeholders} {REQUEST}{given} ASSISTANT:"


@torch.no_grad()
def test_image_features_are_those_of_the_re_statement(tiny_config):
    config = tiny_config("maira1")
    model, inputs = build(config), studies(config)
    pixels = inputs["pixel_values"]
    hidden = model.model.vision_tower(pixels.flatten(0, 1)).last_hidden_state  # [B, 1 + P, Dv], the final norm applied
    linear = [layer for layer in model.model.multi_modal_projector.modules() if isinstance(layer, nn.Linear)]
    assert [list(layer.weight.shape) for layer in linear] == [[32, 16], [32, 32], [32, 32], [32, 32]]
    expected = adapter(hidden[:, 1:], [layer.weight for layer in linear], [layer.bias for layer in linear])
    features = model.get_image_features(pixels, return_dict=True).pooler_output
    torch.testing.assert_close(torch.stack(list(features)).view_as(expected), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_class_token_reaches_nothing(tiny_config):
    config = tiny_config("maira1")
    model, inputs = build(config), studies(config)
    before = model(**inputs).logits

    def other_class_token(tower: nn.Module, arguments: object, output: object) -> object:
        output.last_hidden_state[:, 0] += 100.0
        return output

    with model.model.vision_tower.register_forward_hook(other_class_token):
        assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize("indication", ["Fever and cough.", "  ", None])
def test_the_prompt_is_that_of_the_re_statement(indication):
    processor = tiny_processor("maira1", num_image_tokens=TRRGConfig.from_preset("maira1").num_image_tokens)
    ids = processor(radiograph(), indication=indication)["input_ids"][0].tolist()
    assert (518 // 14) ** 2 == 1369 == ids.count(processor.image_token_id)
    wanted = written_prompt(1369, (indication or "").strip())
    assert ids == processor.tokenizer(wanted, add_special_tokens=False)["input_ids"]


def test_the_encoder_is_frozen_and_all_of_the_language_model_learns(tiny_config):
    trained = load_config(FinetuneConfig, CONFIG, []).trained
    config = tiny_config("maira1")
    model, inputs = build(config), studies(config)
    freeze(model, trained)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == config.image_token_id, -100)
    model(**inputs, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("model.vision_tower."), name


def test_the_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = TRRGForConditionalGeneration(TRRGConfig.from_preset("maira1"))
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.model.named_children()}
    assert sizes["language_model"] + model.lm_head.weight.numel() == 6_738_415_616  # Vicuna-7B
    assert round(sizes["vision_tower"] / 1e6) == 87  # "87M ViT-B"
    assert sizes["multi_modal_projector"] == 768 * 4096 + 3 * 4096**2 + 4 * 4096
    assert set(sizes) == {"vision_tower", "multi_modal_projector", "language_model"}


def test_any_vit_of_a_folder_is_the_encoder_at_its_own_resolution(data, tmp_path):
    torch.manual_seed(0)
    vit = Dinov2Model(
        Dinov2Config(image_size=42, patch_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    vit.save_pretrained(tmp_path / "vit")
    raw = {
        "model": {
            "preset": "maira1", "vision_model": str(tmp_path / "vit"),
            "overrides": {"text_config": TINY_TEXT | {"vocab_size": 400}},
            "tokenizer": str(data / "tokenizer"), "clue_tokenizer": str(data / "clue_tokenizer"),
        },
        "data": {"train": [{"path": str(data / "pairs")}]}, "schedule": {"steps": 1}, "run": {"output_dir": "x"},
    }  # fmt: skip
    section = load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), []).model
    config = build_config(section)
    assert (config.image_size, config.num_prefix_tokens, config.num_image_tokens) == (42, 1, 9)
    processor = build_processor(section, config)
    assert (processor.image_processor.size, processor.image_processor.grey_range) == (42, "min_max")
    trained = load_config(FinetuneConfig, CONFIG, []).trained
    model, origins = build_model(TRRGForConditionalGeneration, section, config, trained)
    assert origins["vision_tower"] == str(tmp_path / "vit")
    for name, weight in model.model.vision_tower.state_dict().items():
        assert torch.equal(weight, vit.state_dict()[name]), name
    patches = model.get_image_features(torch.rand(1, 3, 42, 42), return_dict=True).pooler_output
    assert patches.shape == (1, 9, 32)


@pytest.fixture(scope="module")
def stage_1_folder(data, tmp_path_factory):
    """The checkpoint of one step of TRRG's stage 1."""
    raw = stage_1(data, tmp_path_factory.mktemp("stage-1") / "run")
    raw["data"]["validation"], raw["schedule"] = [], {"steps": 1}
    assert run_script("pretrain.py", raw) == 0
    return f"{raw['run']['output_dir']}/model"


@pytest.fixture(scope="module")
def words(stage_1_folder, tmp_path_factory):
    """A language model with the tokenizer of that stage 1."""
    folder = tmp_path_factory.mktemp("words")
    config = TRRGForContrastivePretraining.from_pretrained(stage_1_folder).config.text_config
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    TRRGProcessor.from_pretrained(stage_1_folder).tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(data, stage_1_folder, words, tmp_path):
    """maira1-small.yaml on tiny data, from the tower of a tiny stage 1 and a tiny language model."""
    shipped = load_config(FinetuneConfig, ROOT / "training" / "configs" / "maira1-small.yaml", [])
    raw = stage_2(data, tmp_path / "maira1-small")
    raw["model"] = {
        "checkpoint": stage_1_folder,
        "language_model": words,
        "prompt_style": shipped.model.prompt_style,
        "overrides": {"connector": "mlp", "clue_source": "none"},
    }
    assert raw["model"]["overrides"] == shipped.model.overrides and shipped.model.language_model is not None
    pairs, reports = str(data / "pairs"), str(data / "reports")
    kinds = dict.fromkeys(source.kind for source in shipped.data.train)
    raw["data"]["train"] = [
        {"path": pairs, "kind": kind} | ({} if kind == "pair" else {"reports": reports}) for kind in kinds
    ]
    raw["data"]["validation"] = [
        {"path": pairs, "split": "validation"},
        {"path": pairs, "kind": "composed", "reports": reports, "split": "validation"},
    ]
    raw["data"]["findings_only"] = shipped.data.findings_only
    raw["trained"], raw["schedule"] = shipped.trained, {"steps": 3}
    raw["run"]["generate_studies"] = 1
    return raw


def test_the_small_system_starts_from_the_tower_of_a_stage_1_of_trrg(small, stage_1_folder):
    assert run_script("finetune.py", small) == 0
    folder = f"{small['run']['output_dir']}/model"
    model = TRRGForConditionalGeneration.from_pretrained(folder)
    tower = TRRGForContrastivePretraining.from_pretrained(stage_1_folder).model.vision_tower
    for name, weight in tower.state_dict().items():
        assert torch.equal(weight, model.model.vision_tower.state_dict()[name]), name
    processor = TRRGProcessor.from_pretrained(folder)
    first = TRRGProcessor.from_pretrained(stage_1_folder)
    assert processor.image_processor.grey_range == first.image_processor.grey_range == "percentiles"
    prompt = processor.tokenizer.decode(processor(radiograph(), indication="Cough.")["input_ids"][0])
    assert f"{REQUEST}, given this indication: Cough." in prompt and prompt.endswith("ASSISTANT:")
    assert processor.num_image_tokens == model.config.num_patches == 16


def test_without_clues_reports_say_what_the_image_has_and_no_impression(small, tmp_path):
    config = load_config(FinetuneConfig, write_config(small, tmp_path / "c.yaml"), [])
    architecture = build_config(config.model)
    processor = build_processor(config.model, architecture)
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.train]
    examples = Examples(sources, config.data, seed=0, training=True, config=architecture)
    for number, source in enumerate(sources):
        for index in range(len(source)):
            example = examples[Draw(number, index, 0, index)]
            assert example.record.findings and example.record.impression is None and example.scores is None
            if source.pool is None:
                continue
            truth = dict(zip(source.names, source.labels[source.rows[index][0]], strict=True))
            text = example.record.findings
            said = {n: v for n, v in label_report(text).items() if v is not None and n != "No Finding"}
            assert all(truth[name] == value for name, value in said.items()), text
            assert {n for n, v in truth.items() if v == 1} - {"No Finding"} == {n for n, v in said.items() if v}, text
    assert FinetuneCollator(processor)([examples[Draw(2, 0, 0, 0)]])["input_ids"].shape[0] == 1
