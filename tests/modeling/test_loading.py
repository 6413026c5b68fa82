"""Saving and loading: exact, sharded, quantised, with adapters; and every incomplete or unsafe checkpoint refused."""

import json
import re

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, pipeline

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from tests.helpers.models import SYSTEMS, TINY_TEXT, build, studies
from tests.helpers.tiny_processors import radiograph, tiny_processor


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    config = tiny_config("trrg")
    model = build(config)
    model.save_pretrained(tmp_path / "model")
    return model, studies(config, views=(1, 2)), tmp_path / "model"


def assert_same_weights(model, again):
    """To the bit. What is computed from them is not on every processor: a kernel may sum by where a tensor begins."""
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_saved_and_loaded_is_the_same(tiny_config, tmp_path, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert_same_weights(model, again)
    torch.testing.assert_close(model(**inputs).logits, again(**inputs).logits)
    headless = AutoModel.from_pretrained(tmp_path)
    assert_same_weights(model.model, headless)
    torch.testing.assert_close(model.model(**inputs).last_hidden_state, headless(**inputs).last_hidden_state)


@torch.no_grad()
def test_sharded_safetensors(checkpoint, tmp_path):
    model, inputs, _ = checkpoint
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    again = TRRGForConditionalGeneration.from_pretrained(tmp_path / "sharded")
    assert_same_weights(model, again)
    torch.testing.assert_close(model(**inputs).logits, again(**inputs).logits)


@torch.no_grad()
def test_device_map_and_dtype(checkpoint):
    _, inputs, folder = checkpoint
    placed = TRRGForConditionalGeneration.from_pretrained(folder, device_map={"": "cpu"}, dtype=torch.bfloat16)
    assert {p.dtype for p in placed.parameters()} == {torch.bfloat16}
    assert placed.generate(**inputs, max_new_tokens=2).shape[0] == 2


@pytest.mark.parametrize("bits", [8, 4])
@torch.no_grad()
def test_only_the_language_model_is_quantised(tiny_config, tmp_path, bits):
    import bitsandbytes

    # bitsandbytes quantises blocks of 64 weights
    config = tiny_config("trrg", text_config={**TINY_TEXT, "hidden_size": 64, "intermediate_size": 128})
    model, inputs = build(config), studies(config)
    model.save_pretrained(tmp_path)
    quantised = TRRGForConditionalGeneration.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**{f"load_in_{bits}bit": True}), device_map={"": "cpu"}
    )
    kind = bitsandbytes.nn.Linear8bitLt if bits == 8 else bitsandbytes.nn.Linear4bit
    changed = {name for name, module in quantised.named_modules() if isinstance(module, kind)}
    assert changed and all(name.startswith("model.language_model.") for name in changed)
    assert len(changed) == sum(isinstance(m, torch.nn.Linear) for m in model.model.language_model.modules())
    last = [m(**inputs).logits[:, -1, 4:].flatten().float() for m in (quantised, model)]
    close = torch.corrcoef(torch.stack(last))
    assert close[0, 1] > (0.95 if bits == 8 else 0.7)  # random weights are the worst case for 4 bits


def test_adapters_save_load_and_merge(checkpoint, tmp_path):
    model, inputs, folder = checkpoint
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*\.(q|v)_proj"))
    assert all("lora" in name for name, p in adapted.named_parameters() if p.requires_grad)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(**inputs).logits
        base = TRRGForConditionalGeneration.from_pretrained(folder)
        assert not torch.allclose(base(**inputs).logits, expected)
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
        torch.testing.assert_close(loaded(**inputs).logits, expected)
        loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
        merged = TRRGForConditionalGeneration.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("part", ["vision_tower", "clue_encoder", "language_model", "multi_modal_projector"])
def test_a_missing_part_is_refused(checkpoint, part):
    _, _, folder = checkpoint

    def drop(weights):
        for name in [name for name in weights if f".{part}." in name]:
            del weights[name]

    edit_weights(folder, drop)
    with pytest.raises(ValueError, match=f"missing: .*{part}"):
        TRRGForConditionalGeneration.from_pretrained(folder)


def test_unexpected_and_misshapen_weights_are_refused(checkpoint, capfd):
    _, _, folder = checkpoint
    edit_weights(folder, lambda weights: weights.update(extra=torch.zeros(2)))
    with pytest.raises(ValueError, match="unexpected: extra"):
        TRRGForConditionalGeneration.from_pretrained(folder)
    edit_weights(folder, lambda weights: (weights.pop("extra"), weights.update({"lm_head.weight": torch.zeros(3, 3)})))
    with pytest.raises(ValueError, match=r"wrong shape: lm_head\.weight \[3, 3\] for \[64, 32\]\. Weights are never"):
        TRRGForConditionalGeneration.from_pretrained(folder)
    assert "LOAD REPORT" not in capfd.readouterr().err, "the error says it all"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["model.logit_scale", "model.vision_tower.", "model.language_model.", "lm_head.weight"]
)
def test_a_weight_that_is_no_number_is_refused_by_name(checkpoint, name, value):
    _, _, folder = checkpoint
    edit_weights(
        folder, lambda weights: weights[min(n for n in weights if n.startswith(name))].view(-1)[-1:].fill_(value)
    )
    with pytest.raises(ValueError, match=rf"{re.escape(name)}\S* holds NaN or infinite values"):
        TRRGForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)


def test_a_negative_variance_is_refused_by_name(tiny_config, tmp_path):
    TRRGForContrastivePretraining(tiny_config("radialog")).save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights[min(n for n in weights if n.endswith("running_var"))].sub_(2))
    with pytest.raises(ValueError, match=r"vision_tower\S*running_var holds -1; expected variances"):
        TRRGForContrastivePretraining.from_pretrained(tmp_path)


def test_a_damaged_shard_is_named(checkpoint, tmp_path):
    model, _, _ = checkpoint
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    shard = max((tmp_path / "sharded").glob("*.safetensors"))
    whole = shard.read_bytes()
    for damaged in (b"", whole[:5], whole[:100], whole[:-1], whole + b"x", whole[:8] + b"?" + whole[9:]):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^\S*{shard.name}: (cut short or )?damaged; [^\n]*$"):
            AutoModelForImageTextToText.from_pretrained(tmp_path / "sharded")


@pytest.mark.parametrize("place", ["../other/model.safetensors", "/etc/model.safetensors", "more/model.safetensors"])
def test_an_index_that_points_out_of_its_folder_is_refused(checkpoint, tmp_path, place):
    _, _, folder = checkpoint
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": place}}))
    with pytest.raises(ValueError, match=rf"index\.json: '{place}' lies outside of the checkpoint"):
        TRRGForConditionalGeneration.from_pretrained(folder)
    for damaged in ("", "[]", '{"weight_map": 7}'):
        index.write_text(damaged)
        with pytest.raises(ValueError, match=r"index\.json: no index of weights"):
            TRRGForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("reference", ["someone/else--modeling_trrg.TRRGModel", "run_me.TRRGModel", "os.system"])
def test_code_from_elsewhere_is_refused_before_it_runs(checkpoint, reference):
    _, _, folder = checkpoint
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModelForImageTextToText"] = reference
    (folder / "config.json").write_text(json.dumps(config))
    for trust in (False, True):
        with pytest.raises(
            ValueError, match=rf"auto_map\.AutoModelForImageTextToText is '{reference}'; expected a class"
        ):
            AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=trust)


def test_pickled_weights_are_refused(checkpoint):
    model, _, folder = checkpoint
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        TRRGForConditionalGeneration.from_pretrained(folder)
    with pytest.raises(ValueError, match="reads safetensors only"):
        TRRGForConditionalGeneration.from_pretrained(folder, use_safetensors=False)


def test_nothing_is_saved_through_links_into_the_source(tiny_config, tmp_path):
    (tmp_path / "clue_trrg.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(ValueError, match="links to source files"):
        build(tiny_config("trrg")).save_pretrained(tmp_path)


@pytest.mark.parametrize("stage", [TRRGForConditionalGeneration, TRRGForContrastivePretraining])
def test_a_saved_folder_is_complete(tiny_config, tmp_path, stage):
    """A model made by the installed package saves every source file that its auto_map needs."""
    stage(tiny_config("trrg")).save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["auto_map"]
    pretrains = stage is TRRGForContrastivePretraining
    assert ("AutoModelForPreTraining" in auto_map) is pretrains
    assert ("AutoModelForImageTextToText" in auto_map) is not pretrains
    auto_map.pop("AutoProcessor")  # its source comes with the processor
    waiting, found = {reference.split(".")[0] for reference in auto_map.values()}, set()
    while waiting:
        module = waiting.pop()
        found.add(module)
        source = (tmp_path / f"{module}.py").read_text(encoding="utf-8")
        waiting |= set(re.findall(r"^from \.(\w+) import", source, re.MULTILINE)) - found
    config_class = (tmp_path / "configuration_trrg.py").read_text(encoding="utf-8")
    assert "class TRRGConfig" in config_class, "the alias was saved in place of the configuration"


def test_a_stage_one_checkpoint_is_no_report_writer(tiny_config, tmp_path):
    TRRGForContrastivePretraining(tiny_config("trrg")).save_pretrained(tmp_path)
    TRRGForContrastivePretraining.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"TRRGForConditionalGeneration: missing: .*"):
        TRRGForConditionalGeneration.from_pretrained(tmp_path)


def test_five_lines_and_the_pipeline(tiny_config, tmp_path):
    config = tiny_config("trrg", num_selected_clues=14)
    build(config).save_pretrained(tmp_path)
    tiny_processor("trrg", size=32, num_image_tokens=config.num_image_tokens).save_pretrained(tmp_path)

    processor = AutoProcessor.from_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    inputs = processor(images=radiograph(), indication="Cough.")
    study = model.read_study(**inputs)
    output = model.generate(**inputs, study=study, max_new_tokens=12)
    [report] = processor.post_process_report(output, inputs, study)
    assert len(report.clues) == 14 and report.clues[0].evidence.shape == (1, 2, 2)
    json.dumps(report.to_dict())

    writer = pipeline("image-text-to-text", model=model, processor=processor)
    chat = [{"role": "user", "content": [
        {"type": "image", "image": _picture()}, {"type": "text", "text": "Write the report."},
    ]}]  # fmt: skip
    answer = writer(text=chat, max_new_tokens=4, return_full_text=False)
    assert isinstance(answer[0]["generated_text"], str)


def _picture():
    from PIL import Image

    return Image.fromarray(radiograph())
