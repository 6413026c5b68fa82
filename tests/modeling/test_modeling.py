"""What must stay true of the model (architecture, section 4), on tiny configurations of all three systems."""

import copy
import math

import pytest
import torch

from modeling_trrg import TRRGForConditionalGeneration, TRRGModel
from tests.helpers.models import CLUE_NAMES, SYSTEMS, TINY_BERT, build, clues, only, studies

interactions = pytest.mark.parametrize("interaction", ["parallel", "cross"])


@interactions
@torch.no_grad()
def test_order_of_clues_does_not_matter(tiny_config, interaction):
    config = tiny_config("trrg", interaction=interaction)
    model, inputs = build(config), studies(config, views=(1, 2))
    order = torch.tensor([2, 0, 3, 1])
    permuted = {**inputs, **{name: inputs[name][:, order] for name in CLUE_NAMES}}
    first, second = model(**inputs), model(**permuted)
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.clue_scores[:, order], second.clue_scores)


@interactions
@pytest.mark.parametrize("scoring", ["softmax", "pairwise"])
@torch.no_grad()
def test_padding_clues_and_clue_tokens_changes_nothing(tiny_config, scoring, interaction):
    config = tiny_config("trrg", clue_scoring=scoring, interaction=interaction)
    model, inputs = build(config), studies(config)
    padded = dict(inputs)
    for name in CLUE_NAMES:
        padded[name] = torch.nn.functional.pad(inputs[name], (0, 3, 0, 2))
    first, second = model(**inputs), model(**padded)
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.clue_scores, second.clue_scores[:, :4])
    assert second.clue_scores[:, 4:].abs().max() == 0


@interactions
@pytest.mark.parametrize("count", [1, 2, 14, 1000])
@torch.no_grad()
def test_any_number_of_clues_gives_the_same_number_of_image_tokens(tiny_config, count, interaction):
    config = tiny_config("trrg", interaction=interaction)
    model, inputs = build(config), studies(config, count=count)
    output = model(**inputs)
    assert output.clue_scores.shape == (2, count)
    assert output.image_hidden_states.shape == (2, config.num_image_tokens, 32)
    assert output.logits.isfinite().all()


@torch.no_grad()
def test_clues_reach_the_logits(tiny_config):
    """The invariances above would also hold for a model that ignores its clues."""
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    other = {**inputs, **clues(seed=9)}
    assert (model(**inputs).logits - model(**other).logits).abs().max() > 1e-3


@interactions
@torch.no_grad()
def test_what_the_clues_bring_depends_on_the_image_only_where_they_look_at_it(tiny_config, interaction):
    """The first half of the image tokens asks the clues, whose scores are the same here."""
    config = tiny_config("trrg", interaction=interaction)
    model, inputs = build(config), studies(config, views=(1, 1))
    other = {**inputs, "pixel_values": inputs["pixel_values"] + 1.0}
    scores = torch.full((2, 4), 0.9)
    halves = [
        model(**study, clue_scores=scores).image_hidden_states[:, : config.num_query_tokens // 2]
        for study in (inputs, other)
    ]
    assert torch.equal(*halves) == (interaction == "parallel")


@interactions
@torch.no_grad()
def test_views_of_a_batch_keep_their_own_clues(tiny_config, interaction):
    config = tiny_config("trrg", interaction=interaction)
    model, inputs = build(config), studies(config, views=(2, 1))
    together = model(**inputs).image_hidden_states
    alone = [model(**only(inputs, row, count)).image_hidden_states for row, count in enumerate((2, 1))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_padded_batch_equals_one_by_one(tiny_config, system):
    config = tiny_config(system)
    model, views = build(config), (1, 2, 4)
    inputs = studies(config, views=views, text=(3, 9, 6))
    together = model(**inputs).logits
    texts = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    for row, count in enumerate(views):
        alone = only(inputs, row, count)
        logits = model(**alone).logits
        torch.testing.assert_close(logits[0], together[row, -logits.shape[1] :], rtol=1e-4, atol=1e-4)
        text = model.generate(**alone, max_new_tokens=8, do_sample=False)[0, alone["input_ids"].shape[1] :]
        expected = texts[row, inputs["input_ids"].shape[1] :]
        assert text.tolist() == expected[: len(text)].tolist()


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_masked_views_change_nothing(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2))
    noisy = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    noisy["pixel_values"][0, 1] = 1e4
    assert torch.equal(model(**inputs).logits, model(**noisy).logits)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}])
@torch.no_grad()
def test_cache_static_cache_and_no_cache_write_the_same(tiny_config, system, options):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2), text=(4, 7))
    options = {**options, "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    expected = model.generate(**inputs, **options)
    assert torch.equal(expected, model.generate(**inputs, **options, use_cache=False))
    assert torch.equal(expected, model.generate(**inputs, **options, cache_implementation="static"))
    assert (expected[:, inputs["input_ids"].shape[1] :] != config.image_token_id).all()


@torch.no_grad()
def test_sampling_is_seeded_and_beams_keep_the_clue_list(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(model.generate(**inputs, max_new_tokens=6, do_sample=True, num_return_sequences=3))
    assert torch.equal(*draws) and len(draws[0]) == 6


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_eager_and_sdpa_agree(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2))
    eager = TRRGForConditionalGeneration._from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    assert eager.config.text_config._attn_implementation == "eager"
    real = inputs["attention_mask"].bool()  # what a padding position computes is nobody's business
    torch.testing.assert_close(model(**inputs).logits[real], eager(**inputs).logits[real], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_bfloat16_runs_and_stays_close(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config)
    exact = model(**inputs).logits
    rough = model.to(torch.bfloat16)(**inputs).logits
    assert rough.dtype == torch.bfloat16
    correlation = torch.corrcoef(torch.stack([exact.flatten(), rough.float().flatten()]))[0, 1]
    assert correlation > 0.98


def test_a_language_model_in_sixteen_bits_learns_beside_parts_in_thirty_two(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    inputs["labels"] = inputs["input_ids"].clone()
    exact = model(**inputs)
    for part in (model.model.language_model, model.lm_head):  # as a pretrained one is put in
        part.to(torch.bfloat16)
    rough = model(**inputs)
    assert rough.consistency_loss.item() == pytest.approx(exact.consistency_loss.item(), rel=0.05)
    rough.loss.backward()
    assert model.report_projection.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("system", SYSTEMS)
def test_gradient_checkpointing_keeps_loss_and_gradients(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
    results = []
    for checkpointing in (False, True):
        clone = copy.deepcopy(model)
        if checkpointing:
            clone.gradient_checkpointing_enable()
        for module in clone.modules():  # checkpointing acts in training mode; batch statistics would differ
            module.training = not isinstance(module, torch.nn.BatchNorm2d)
        loss = clone(**inputs, labels=labels).loss
        loss.backward()
        results.append((loss.item(), clone.model.language_model.layers[0].self_attn.q_proj.weight.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1])


@torch.no_grad()
def test_with_lse_pooling_a_score_is_the_log_mean_exp_of_its_evidence_map(tiny_config):
    for source in ("zero_shot", "classifier"):
        config = tiny_config(
            "trrg", vision_pooling="lse", clue_scoring="pairwise", clue_source=source, num_classifier_labels=4
        )
        model = TRRGForConditionalGeneration(config).eval()
        output = model.read_study(**studies(config, views=(1, 2)))
        maps = output.evidence_maps.flatten(3)  # [B, V, C, P]
        by_view = maps.logsumexp(-1) - math.log(maps.shape[-1])
        torch.testing.assert_close(output.clue_logits[0], by_view[0, 0])
        torch.testing.assert_close(output.clue_logits[1], by_view[1].mean(0))


@torch.no_grad()
def test_evidence_maps_have_the_shape_of_the_grid_and_respect_the_mask(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config, views=(1, 2))
    output = model.read_study(**inputs)
    assert output.evidence_maps.shape == (2, 2, 4, 2, 2)
    assert output.evidence_maps[0, 1].abs().max() == 0 and output.evidence_maps[1, 1].abs().max() > 0
    torch.testing.assert_close(output.clue_scores, output.clue_logits.sigmoid())
    torch.testing.assert_close(output.clue_scores, model(**inputs).clue_scores)


@torch.no_grad()
def test_given_clue_scores_replace_the_seen_ones_and_work_without_images(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    seen = model(**inputs)
    torch.testing.assert_close(seen.logits, model(**inputs, clue_scores=seen.clue_scores).logits)
    flipped = model(**inputs, clue_scores=1 - seen.clue_scores)
    assert (seen.logits - flipped.logits).abs().max() > 1e-3
    blind = {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_mask")}
    scores = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    assert model(**blind, clue_scores=scores).logits.isfinite().all()
    assert model.generate(**blind, clue_scores=scores, max_new_tokens=3, num_beams=2).shape[0] == 2


@torch.no_grad()
def test_clue_bank_is_cached_until_clues_or_weights_change(tiny_config, monkeypatch):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    calls = []
    encode = model.model._encode_clues
    monkeypatch.setattr(model.model, "_encode_clues", lambda *args: calls.append(1) or encode(*args))
    first = model(**inputs).logits
    model(**inputs)
    assert len(calls) == 1
    model(**{**inputs, **clues(seed=4)})
    model(**inputs)  # several lists stay encoded
    assert len(calls) == 2
    next(model.model.clue_projection.parameters()).add_(0.5)
    changed = model(**{**inputs, **clues(seed=4)}).logits
    assert len(calls) == 3 and not torch.equal(first, changed)
    model.double()
    model(**{**inputs, **clues(seed=4)})
    assert len(calls) == 4


@torch.no_grad()
def test_the_bank_is_not_kept_where_it_could_be_stale(tiny_config):
    config = tiny_config("trrg", clue_config={**TINY_BERT, "hidden_dropout_prob": 0.5})
    model, inputs = build(config), studies(config)
    exact = model(**inputs).clue_scores
    model.train()
    model(**inputs)
    model.eval()
    assert torch.equal(model(**inputs).clue_scores, exact)
    with torch.autocast("cpu", torch.bfloat16):
        model(**inputs)
    assert torch.equal(model(**inputs).clue_scores, exact)
    inputs["clue_input_ids"].copy_(clues(seed=8)["clue_input_ids"])
    assert not torch.equal(model(**inputs).clue_scores, exact)


@torch.no_grad()
def test_ties_do_not_depend_on_the_order(tiny_config):
    config = tiny_config("trrg", num_selected_clues=2)
    model, inputs = build(config), studies(config)
    order = torch.tensor([3, 1, 0, 2])
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]])
    permuted = {**inputs, **{name: inputs[name][:, order] for name in CLUE_NAMES}}
    torch.testing.assert_close(
        model(**inputs, clue_scores=scores).logits,
        model(**permuted, clue_scores=scores[:, order]).logits,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_a_hand_written_loop_decodes_a_padded_batch(tiny_config, system):
    config = tiny_config(system)
    model, inputs = build(config), studies(config, views=(1, 2), text=(4, 7))
    expected = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    mask, ids = inputs["attention_mask"], inputs["input_ids"]
    output = model(**inputs, use_cache=True)
    for step in range(4):
        token = output.logits[:, -1].clone()
        token[:, 2] = float("-inf")  # as min_new_tokens
        token = token.argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, token], 1), torch.cat([mask, torch.ones_like(token)], 1)
        if step < 3:
            cache = {name: output[name] for name in ("cache", "past_key_values") if name in output.keys()}  # noqa: SIM118
            output = model(input_ids=token, attention_mask=mask, use_cache=True, **cache)
    assert torch.equal(ids, expected)


@torch.no_grad()
def test_the_checkpoints_own_clues_serve_callers_that_pass_none(tiny_config):
    own = clues()
    pairs = zip(own["clue_input_ids"], own["clue_attention_mask"], strict=True)
    rows = [[row[keep.bool()].tolist() for row, keep in zip(*pair, strict=True)] for pair in pairs]
    config = tiny_config("trrg", clue_token_ids=rows)
    model, inputs = build(config), studies(config)
    without = {name: value for name, value in inputs.items() if name not in CLUE_NAMES}
    torch.testing.assert_close(model(**inputs).logits, model(**without).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_four_dimensional_pixels_are_one_view_each(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    features = TRRGModel.get_image_features(model.model, inputs["pixel_values"][:, 0], **clues())
    torch.testing.assert_close(features.pooler_output, model(**inputs).image_hidden_states)


def test_consistency_loss_is_part_of_the_loss_and_moves_with_the_labels(tiny_config):
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
    plain = build(tiny_config("trrg", consistency_kl_weight=0.0, consistency_bce_weight=0.0))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "report_projection" not in k})
    output = model(**inputs, labels=labels)
    assert output.consistency_loss > 0
    torch.testing.assert_close(output.loss - output.consistency_loss, plain(**inputs, labels=labels).loss)
    present = model(**inputs, labels=labels, clue_targets=torch.ones(2, 4, dtype=torch.long))
    unknown = model(**inputs, labels=labels, clue_targets=torch.full((2, 4), -100))
    assert present.consistency_loss > output.consistency_loss
    assert unknown.consistency_loss == 0  # as the answer to a question, which does not speak of all clues


def test_accumulated_steps_weigh_tokens_and_studies_alike(tiny_config):
    """1 x 3 equals 3 x 1, with reports of different lengths."""
    config = tiny_config("trrg")
    model, inputs = build(config), studies(config, views=(1, 1, 1), text=(3, 9, 6))
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] <= 3, -100)
    items = int((labels[:, 1:] != -100).sum())
    whole = model(**inputs, labels=labels, num_items_in_batch=items)
    parts = []
    for row in range(3):
        alone = only(inputs, row, 1)
        target = alone["input_ids"].masked_fill(alone["input_ids"] <= 3, -100)
        parts.append(model(**alone, labels=target, num_items_in_batch=items).loss)
    torch.testing.assert_close(whole.loss, torch.stack(parts).sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["zero_shot", "classifier", "none"])
def test_every_clue_source_reaches_the_clue_interaction(tiny_config, source):
    config = tiny_config("trrg", clue_source=source, num_classifier_labels=4)
    model, inputs = build(config), studies(config)
    output = model(**inputs, labels=inputs["input_ids"])
    assert output.loss.isfinite()  # placeholders among the labels are no targets
    output.loss.backward()
    assert (output.clue_scores is None) == (source == "none")
    unused = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith("model.clue_")]
    assert all("projection" in n or "logit_scale" in n or "clue_in" in n for n in unused), unused


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit"])
@torch.no_grad()
def test_timm_towers(tiny_config, architecture):
    import timm

    tower = timm.create_model(architecture, num_classes=0)
    size = tower.default_cfg["input_size"][-1]
    hidden = tower.forward_features(torch.zeros(1, 3, size, size))
    spatial = hidden.dim() == 4
    prefix = 0 if spatial else tower.num_prefix_tokens
    patches = hidden.shape[2] ** 2 if spatial else hidden.shape[1] - prefix
    config = tiny_config(
        "trrg",
        vision_config={"model_type": "timm_wrapper", "architecture": architecture, "do_pooling": False},
        vision_hidden_size=hidden.shape[1] if spatial else hidden.shape[2],
        image_size=size,
        patch_grid=round(patches**0.5),
        num_prefix_tokens=prefix,
    )
    model = build(config)
    output = model.read_study(pixel_values=torch.randn(2, 1, 3, size, size), **clues())
    assert output.evidence_maps.shape == (2, 1, 4, config.patch_grid, config.patch_grid)
