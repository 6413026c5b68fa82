"""`generate` and `forward` as users of LLaVA call them: assistants, embeddings in place of ids, options of features."""

import copy
import inspect

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from tests.helpers.models import SYSTEMS, TINY_TEXT, build, only, studies
from tests.helpers.tiny_llava import llava, llava_inputs

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def llava_and_trrg(tiny_config):
    """(model, inputs) of both: what holds for the first must hold for the second."""
    config = tiny_config("trrg")
    yield llava(), llava_inputs()
    yield build(config), only(studies(config), 0, 1)


def without_ids(model, inputs):
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    return {**{name: value for name, value in inputs.items() if name != "input_ids"}, "inputs_embeds": embeds}


@torch.no_grad()
def test_an_assistant_changes_no_text(tiny_config):
    small = {**TINY_TEXT, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = tiny_config("trrg", text_config=small)
    for model, inputs in llava_and_trrg(tiny_config):
        expected = model.generate(**inputs, **GREEDY)
        assert torch.equal(expected, model.generate(**inputs, **GREEDY, assistant_model=copy.deepcopy(model)))
        assert torch.equal(expected, model.generate(**inputs, **GREEDY, prompt_lookup_num_tokens=3))
    language_model = LlamaForCausalLM(LlamaConfig(**TINY_TEXT)).eval()
    for assistant in (build(config, seed=3), language_model):  # another width; text alone
        assert torch.equal(expected, model.generate(**inputs, **GREEDY, assistant_model=assistant))


@torch.no_grad()
def test_an_assistant_sees_the_study_once_and_agrees_with_its_twin(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), only(studies(config), 0, 1)
    twin = copy.deepcopy(model)
    looks, passes = [], []
    twin.model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    model.model.language_model.register_forward_hook(lambda *_: passes.append(1))
    model.generate(**inputs, **GREEDY, assistant_model=twin)
    assert len(looks) == 1
    assert len(passes) < 6, "a twin that sees the same study is believed"
    study = model.read_study(**inputs)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected = model.generate(**inputs, **GREEDY)
    assert torch.equal(model.generate(**text, study=study, **GREEDY, assistant_model=twin), expected)
    assert len(looks) == 1, "the study that was given serves the assistant too"


@torch.no_grad()
def test_features_of_another_width_are_refused(tiny_config):
    wide = tiny_config("trrg", text_config={**TINY_TEXT, "hidden_size": 64})
    config = tiny_config("trrg")
    inputs = studies(config)
    study = build(wide).read_study(**inputs)
    with pytest.raises(ValueError, match="features of width 64; this language model reads 32"):
        build(config)(inputs["input_ids"], inputs["attention_mask"], study=study)


@torch.no_grad()
def test_embeddings_serve_in_place_of_ids(tiny_config):
    for model, inputs in llava_and_trrg(tiny_config):
        given = without_ids(model, inputs)
        assert torch.equal(model(**inputs).logits, model(**given).logits)
        length = inputs["input_ids"].shape[1]
        for options in ({}, {"num_beams": 3}, {"use_cache": False}):
            expected = model.generate(**inputs, **GREEDY, **options)
            assert torch.equal(model.generate(**given, **GREEDY, **options), expected[:, length:])
        assert model.generate(inputs_embeds=given["inputs_embeds"][:, -3:], **GREEDY).shape == (1, 6)


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_embeddings_of_a_padded_batch(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2), text=(4, 7))
    given = without_ids(model, inputs)
    assert torch.equal(model(**inputs).logits, model(**given).logits)
    study = model.read_study(**inputs)
    text = {name: given[name] for name in ("inputs_embeds", "attention_mask")}
    assert torch.equal(model(**inputs).logits, model(**text, study=study).logits)
    given["inputs_embeds"] = given["inputs_embeds"][:, 2:]
    given["attention_mask"] = given["attention_mask"][:, 2:]
    with pytest.raises(ValueError, match="image placeholders, their images"):
        model(**given)


def test_embeddings_with_images_need_a_row_for_the_image_token(tiny_config):
    config = tiny_config("trrg", image_token_id=64)
    model, inputs = build(config), studies(config)
    inputs["input_ids"][inputs["input_ids"] == 3] = 64
    ids = inputs.pop("input_ids")
    embeds = model.get_input_embeddings()(ids.clamp(max=63))
    with pytest.raises(ValueError, match="image_token_id is 64, which has no row among the 64 token embeddings"):
        model(**inputs, inputs_embeds=embeds)
    model.resize_token_embeddings(65)
    given = {**inputs, "inputs_embeds": model.get_input_embeddings()(ids)}
    assert torch.equal(model(**inputs, input_ids=ids).logits, model(**given).logits)


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_texts_without_an_image_are_read_as_alone(tiny_config, system):
    config, views = tiny_config(system), (2, 0, 1)
    model, inputs = build(config), studies(config, views=views, text=(4, 9, 6))
    inputs["pixel_values"][1] = 1e4  # hidden by the mask
    logits, options = model(**inputs).logits, {"max_new_tokens": 3, "min_new_tokens": 3, "num_beams": 2}
    written = model.generate(**inputs, **options)[:, -3:]
    for row, count in enumerate(views):
        alone = only(inputs, row, count)
        if not count:
            hidden = only(inputs, row, 2)  # no view in the whole batch
            assert torch.equal(model.generate(**hidden, **options)[0, -3:], written[row])
            del alone["pixel_values"], alone["image_mask"]
        expected = model(**alone).logits[0]
        torch.testing.assert_close(logits[row, -len(expected) :], expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(model.generate(**alone, **options)[0, -3:], written[row])
    with pytest.raises(ValueError, match=r"no view to the studies \[1\]"):
        model.read_study(**inputs)
    inputs["image_mask"][2] = False
    with pytest.raises(ValueError, match="image placeholders, their images"):
        model(**inputs)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}, {"prompt_lookup_num_tokens": 3}])
@torch.no_grad()
def test_a_placeholder_is_never_written(tiny_config, options):
    config = tiny_config("trrg")
    model, inputs = build(config), only(studies(config), 0, 1)
    hidden = model.model(**inputs).last_hidden_state[0, -1]
    model.lm_head.weight[config.image_token_id] = hidden  # the likeliest token by far
    assert model(**inputs).logits[0, -1].argmax() == config.image_token_id
    written = model.generate(**inputs, **{**GREEDY, **options})
    assert config.image_token_id not in written[0, inputs["input_ids"].shape[1] :]


@torch.no_grad()
def test_signatures_of_processors_are_asked_for_once(tiny_config, monkeypatch):
    config = tiny_config("trrg")
    model, inputs = build(config), only(studies(config), 0, 1)
    calls = []
    slow = LogitsProcessorList.__call__
    monkeypatch.setattr(LogitsProcessorList, "__call__", lambda *args, **named: calls.append(1) or slow(*args, **named))
    model.generate(**inputs, **GREEDY)
    assert not calls
    with pytest.raises(ValueError, match=r"required parameters.*_AsksForMore"):  # as Transformers says it
        model.generate(**inputs, **GREEDY, logits_processor=LogitsProcessorList([_AsksForMore()]))
    assert list(inspect.signature(model.forward).parameters)[:2] == ["input_ids", "attention_mask"]


class _AsksForMore(LogitsProcessor):
    def __call__(self, input_ids, scores, more):
        return scores


@torch.no_grad()
def test_a_prompt_in_pieces(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), only(studies(config), 0, 1)
    with pytest.raises(ValueError, match="prefill_chunk_size is 4, but a study enters with its whole prompt"):
        model.generate(**inputs, **GREEDY, prefill_chunk_size=4)
    text = {"input_ids": torch.tensor([[1, 10, 11, 12, 13, 14]]), "attention_mask": torch.ones(1, 6).long()}
    expected = model.generate(**text, **GREEDY)
    assert torch.equal(model.generate(**text, **GREEDY, prefill_chunk_size=4), expected)


@torch.no_grad()
def test_a_later_turn_goes_on_from_the_cache(tiny_config):
    for model, inputs in llava_and_trrg(tiny_config):
        first = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        name = next(name for name in ("cache", "past_key_values") if name in first.keys())  # noqa: SIM118
        longer = torch.cat([first.sequences, torch.tensor([[10, 11]])], dim=1)
        mask = torch.ones_like(longer)
        again = model.generate(input_ids=longer, attention_mask=mask, **GREEDY, **{name: first[name]})
        expected = model.generate(**{**inputs, "input_ids": longer, "attention_mask": mask}, **GREEDY)
        assert torch.equal(again, expected)


@torch.no_grad()
def test_image_features_take_the_options_of_any_model(tiny_config):
    for model, inputs in llava_and_trrg(tiny_config):
        seen = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
        features = model.get_image_features(**seen, output_hidden_states=True, return_dict=True)
        assert len(features.hidden_states) == model.config.vision_config.num_hidden_layers + 1
        plain = model.get_image_features(**seen, return_dict=False)
        assert torch.equal(plain[0], features.last_hidden_state)
        assert torch.equal(torch.stack(list(plain[1])), torch.stack(list(features.pooler_output)))
    assert model.get_image_features(**seen).hidden_states is None
    model.set_attn_implementation("eager")
    assert len(model.get_image_features(**seen, output_attentions=True).attentions) == 1
    model.config.return_dict = False
    assert isinstance(model(**inputs), tuple)
