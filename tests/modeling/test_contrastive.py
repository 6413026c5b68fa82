"""Stage 1: which sentence is a negative, and that the losses do what they say."""

import pytest
import torch
from torch.nn import functional as F

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from modeling_trrg.contrastive_trrg import contrast, sentence_matches
from tests.helpers.models import stage1_inputs


def test_contrast_with_one_positive_a_row_is_the_cross_entropy_of_clip():
    logits = torch.randn(5, 5)
    expected = F.cross_entropy(logits, torch.arange(5))
    torch.testing.assert_close(contrast(logits, torch.eye(5, dtype=torch.long)), expected)


def test_same_and_entailed_sentences_of_other_studies_are_no_negatives():
    matches = sentence_matches(
        sentence_study=torch.tensor([0, 1, 2, 2]),
        sentence_keys=torch.tensor([10, 10, 11, 12]),
        sentence_targets=torch.tensor([[-100, -100], [-100, -100], [1, -100], [0, 1]]),
        clue_targets=torch.tensor([[1, 0], [0, 1], [1, -100]]),
        num_studies=3,
    )
    # study 0 says what study 1 says; it has clue 0, so sentence 2 is true of it; study 1 entails sentence 3
    assert matches.tolist() == [[1, 1, -1, 0], [1, 1, 0, -1], [0, 0, 1, 1]]


def test_a_sentence_that_a_study_is_uncertain_of_is_no_negative():
    matches = sentence_matches(
        sentence_study=torch.tensor([0, 1]),
        sentence_keys=torch.arange(2),
        sentence_targets=torch.tensor([[1, 1], [0, -100]]),
        clue_targets=torch.tensor([[1, 1], [-1, 1], [-1, 0]]),
        num_studies=3,
    )
    assert matches.tolist() == [[1, 0], [-1, 1], [0, -1]]


def test_a_sentence_of_another_dataset_is_a_negative_only_where_it_is_contradicted():
    matches = sentence_matches(
        sentence_study=torch.tensor([0, 0, 0, 1]),
        sentence_keys=torch.arange(4),
        sentence_targets=torch.tensor([[1, 1], [0, -100], [-100, -100], [1, -100]]),
        clue_targets=torch.tensor([[1, 1], [1, -100], [1, 0]]),
        num_studies=3,
        study_source=torch.tensor([0, 1, 1]),
    )
    # study 1 does not know the second label, so sentence 0 is neither true nor false of it; study 2 denies it
    assert matches.tolist() == [[1, 1, 1, -1], [-1, 0, -1, 1], [0, 0, -1, -1]]


def test_ignored_pairs_do_not_change_the_loss():
    matches = torch.tensor([[1, 0, -1], [0, 1, 0]])
    logits = torch.randn(2, 3)
    loud = logits.clone()
    loud[0, 2] = 1e4
    torch.testing.assert_close(contrast(logits, matches), contrast(loud, matches))


def after_50_steps(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        optimizer.step()
    return output


@pytest.mark.parametrize("system", ["trrg", "radialog"])
def test_every_part_learns(tiny_config, system):
    torch.manual_seed(0)
    model = TRRGForContrastivePretraining(tiny_config(system)).train()
    inputs = stage1_inputs(system)
    output = model(**inputs)
    parts = ["sentence_loss", "clue_loss"] + ["matching_loss", "generation_loss"] * (system == "radialog")
    torch.testing.assert_close(output.loss, sum(output[part] for part in parts))
    output.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    loss = after_50_steps(model, inputs)
    for part in parts:
        assert loss[part] < (0.95 if part == "matching_loss" else 0.7) * output[part], part


def test_a_study_without_report_takes_part_in_the_clue_loss_alone(tiny_config):
    torch.manual_seed(0)
    model = TRRGForContrastivePretraining(tiny_config("radialog")).eval()
    inputs = stage1_inputs("radialog")
    reported = model(**{name: value[:3] for name, value in inputs.items()})
    inputs["sentence_attention_mask"][3] = 0
    mixed = model(**inputs)
    for part in ("sentence_loss", "generation_loss"):
        torch.testing.assert_close(mixed[part], reported[part])
    torch.testing.assert_close(mixed.clue_scores[:3], reported.clue_scores)
    inputs["sentence_attention_mask"][:] = 0
    unreported = model(**inputs)
    assert unreported.sentence_loss == unreported.matching_loss == unreported.generation_loss == 0
    torch.testing.assert_close(unreported.loss, mixed.clue_loss)
    unreported.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_pooled_patch_by_patch_stage_1_learns_and_the_clue_loss_weighs_what_the_config_says(tiny_config):
    torch.manual_seed(0)
    config = tiny_config("trrg", vision_pooling="lse", clue_scoring="pairwise", clue_loss_weight=3.0)
    model = TRRGForContrastivePretraining(config).train()
    inputs = stage1_inputs("trrg")
    first = model(**inputs)
    torch.testing.assert_close(first.loss, first.sentence_loss + 3 * first.clue_loss)
    loss = after_50_steps(model, inputs)
    assert loss.sentence_loss < 0.7 * first.sentence_loss and loss.clue_loss < 0.7 * first.clue_loss


def test_stage_two_inherits_every_weight_of_stage_one(tiny_config):
    config = tiny_config("trrg")
    first, second = TRRGForContrastivePretraining(config), TRRGForConditionalGeneration(config)
    missing = second.load_state_dict(first.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert {key.split(".")[1] for key in missing.missing_keys if key.startswith("model.")} == {
        "language_model", "multi_modal_projector",
    }  # fmt: skip


def test_a_system_without_anything_to_align_is_refused(tiny_config):
    with pytest.raises(ValueError, match="nothing to learn in stage 1"):
        TRRGForContrastivePretraining(tiny_config("maira1"))


def test_alignment_needs_one_report_a_study(tiny_config):
    model = TRRGForContrastivePretraining(tiny_config("radialog"))
    inputs = stage1_inputs("radialog")
    inputs["sentence_study"] = torch.tensor([0, 1, 2])
    inputs = {k: v[:3] if k.startswith("sentence") else v for k, v in inputs.items()}
    with pytest.raises(ValueError, match="one view and one report a study"):
        model(**inputs)
