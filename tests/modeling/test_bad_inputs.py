"""What does not fit a model is refused by name, with what was expected."""

import pytest
import torch

from tests.helpers.models import SYSTEMS, TINY_TEXT, build, only, studies


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": None, "image_mask": None}, r"image placeholders, but there is neither"),
        ({"pixel_values": torch.zeros(2, 1, 3, 16, 16)}, r"pixel_values has the shape \[2, 1, 3, 16, 16\]; expected"),
        ({"image_mask": torch.zeros(2, 1, dtype=torch.bool)}, r"neither pixel_values with a view in image_mask"),
        ({"image_mask": torch.ones(2, 3, dtype=torch.bool)}, r"image_mask has the shape \[2, 3\]"),
        ({"clue_input_ids": torch.ones(1, 4, 6).long(), "clue_attention_mask": None}, "give each clue its negative"),
        ({"clue_input_ids": torch.ones(4, 6).long(), "clue_attention_mask": None}, r"expected \[S, C, L\] of both"),
        ({"clue_input_ids": None}, "no clues"),
        ({"clue_scores": torch.ones(2, 3)}, r"clue_scores has the shape \[2, 3\]; expected \[B, C\] = \[2, 4\]"),
        ({"clue_scores": torch.full((2, 4), 1.5)}, r"outside of \[0, 1\]"),
        ({"clue_scores": torch.full((2, 4), float("nan"))}, r"outside of \[0, 1\]"),
        ({"inputs_embeds": torch.zeros(2, 4, 32)}, "exactly one of input_ids and inputs_embeds"),
        (
            {"clue_attention_mask": torch.stack([torch.ones(4, 6), torch.zeros(4, 6)]).long()},
            "4 clues have a positive sentence and 0 a negative one",
        ),
    ],
)
def test_bad_inputs_are_named(tiny_config, change, message):
    config = tiny_config("trrg")
    with pytest.raises(ValueError, match=message):
        build(config)(**{**studies(config), **change})


def test_a_missing_image_is_named_with_both_counts(tiny_config):
    config = tiny_config("trrg")
    inputs = studies(config, views=(1, 2))
    inputs["image_mask"][1, 1] = False
    with pytest.raises(ValueError, match=r"\[6, 12\] image placeholders, their images \[6, 6\] features \(6 a view\)"):
        build(config)(**inputs)


def test_equal_totals_never_mix_two_patients(tiny_config):
    config = tiny_config("trrg")
    inputs = studies(config, views=(1, 2))
    inputs["image_mask"] = torch.tensor([[True, True], [True, False]])
    with pytest.raises(ValueError, match=r"\[6, 12\] image placeholders, their images \[12, 6\] features"):
        build(config)(**inputs)


def test_a_tower_with_another_number_of_patches_is_named(tiny_config):
    config = tiny_config("trrg", patch_grid=3)
    with pytest.raises(ValueError, match=r"returned 5 tokens of width 16; the config promises 1 prefix tokens \+ 9"):
        build(config)(**studies(config))


def test_models_without_clues_refuse_clue_scores(tiny_config):
    config = tiny_config("maira1")
    model, inputs = build(config), studies(config)
    study = model.read_study(**inputs)
    assert study.clue_scores is None and study.evidence_maps is None and study.pooler_output is not None
    with pytest.raises(ValueError, match="knows no clues"):
        model(**inputs, clue_scores=torch.zeros(2, 4))


@pytest.mark.parametrize("system", SYSTEMS)
def test_more_views_than_the_model_was_trained_with_are_refused(tiny_config, system):
    config = tiny_config(system, max_views=2)
    model, inputs = build(config), studies(config, views=(1, 3))
    with pytest.raises(ValueError, match="a study has 3 views; the model was trained with at most 2"):
        model.generate(**inputs, max_new_tokens=2)
    inputs["image_mask"][1, 0] = False  # a view that only pads is none
    model.read_study(**inputs)


@torch.no_grad()
def test_a_text_longer_than_the_context_is_refused(tiny_config):
    config = tiny_config("trrg", text_config=TINY_TEXT | {"max_position_embeddings": 20})
    model, inputs = build(config), studies(config, views=(1, 2), text=(5, 8))
    with pytest.raises(ValueError, match="a text is 21 tokens long; the language model's context is 20"):
        model(**inputs)
    with pytest.raises(ValueError, match="the language model's context is 20"):
        model.generate(**inputs, max_new_tokens=2)
    padded = studies(config, views=(1, 2), text=(5, 7))
    padded = padded | {name: torch.nn.functional.pad(padded[name], (9, 0)) for name in ("input_ids", "attention_mask")}
    assert model(**padded).logits.isfinite().all()  # padding is no text


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"use_cache": False}])
@torch.no_grad()
def test_a_report_ends_where_the_context_does(tiny_config, options):
    config = tiny_config("trrg", text_config=TINY_TEXT | {"max_position_embeddings": 20, "eos_token_id": None})
    model, inputs = build(config), studies(config)
    written = model.generate(**inputs, max_new_tokens=100, **options)
    assert written.shape[1] == 20
    assert model.generate(**inputs, max_new_tokens=3, **options).shape[1] == inputs["input_ids"].shape[1] + 3
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    given = {name: value for name, value in inputs.items() if name != "input_ids"} | {"inputs_embeds": embeds}
    assert torch.equal(model.generate(**given, max_new_tokens=100, **options), written[:, embeds.shape[1] :])


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"use_cache": False}, {"cache_implementation": "static"}])
@torch.no_grad()
def test_padding_takes_no_room_in_the_context(tiny_config, options):
    """A short text beside one that reaches the end of the context is written on as alone."""
    config = tiny_config("trrg", text_config=TINY_TEXT | {"max_position_embeddings": 24})
    model, inputs = build(config), studies(config, text=(3, 13))
    length = inputs["input_ids"].shape[1]
    together = model.generate(**inputs, max_new_tokens=30, **options)[:, length:]
    for row, tokens in enumerate((14, 4)):
        alone = only(inputs, row, 1)
        expected = model.generate(**alone, max_new_tokens=30, **options)[0, alone["input_ids"].shape[1] :]
        assert len(expected) == tokens
        assert together[row].tolist() == expected.tolist() + [0] * (together.shape[1] - tokens)
    model.generation_config.pad_token_id = model.generation_config.eos_token_id  # as Llama 3 has it
    assert model.generate(**inputs, max_new_tokens=30, **options)[1, length + 4 :].tolist() == [1] * 10


@torch.no_grad()
def test_a_length_of_the_caller_goes_before_that_of_the_checkpoint(tiny_config):
    config = tiny_config("trrg", text_config=TINY_TEXT | {"eos_token_id": None})
    model, inputs = build(config), studies(config)
    model.generation_config.max_new_tokens, length = 9, inputs["input_ids"].shape[1]
    assert model.generate(**inputs).shape[1] == length + 9
    assert model.generate(**inputs, max_length=length + 4).shape[1] == length + 4
    assert model.generate(**inputs, max_length=length + 4, max_new_tokens=2).shape[1] == length + 2
