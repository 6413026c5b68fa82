"""Calibration of clue scores: what is fitted, and what a checkpoint does with it."""

import numpy as np
import pytest
import torch

from configuration_trrg import TRRGConfig
from evaluation.metrics.calibration import expected_error
from modeling_trrg import TRRGForConditionalGeneration
from training.calibrate import best_threshold, fit_clue, fit_line, sigmoid


def drawn(number: int, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, number)
    return logits, (rng.random(number) < sigmoid(scale * logits + offset)).astype(int)


def test_the_line_that_labels_were_drawn_by_is_found_and_makes_scores_true():
    logits, labels = drawn(4000, 0.5, -1.5)
    scale, offset = fit_line(logits, labels)
    assert (scale, offset) == pytest.approx((0.5, -1.5), abs=0.15)
    assert expected_error(sigmoid(scale * logits + offset), labels) < 0.03 < expected_error(sigmoid(logits), labels)


def test_the_threshold_has_the_highest_f1():
    scores, labels = np.array([0.9, 0.8, 0.4, 0.3, 0.1]), np.array([1, 0, 1, 0, 0])
    f1 = {t: 2 * ((scores > t) & (labels == 1)).sum() / ((scores > t).sum() + 2) for t in (0.85, 0.6, 0.35, 0.2)}
    assert best_threshold(scores, labels) == pytest.approx(0.35) and max(f1, key=f1.__getitem__) == 0.35


def test_the_first_set_with_enough_of_both_labels_decides():
    logits, labels = drawn(400, 1, 0)
    half = np.arange(400) % 2
    few = ("few", logits[:12], np.ones(12, dtype=int), half[:12])
    (scale, _, threshold), row = fit_clue([few, ("many", logits, labels, half)], 0.25)
    assert row["set"] == "many" and row["positives"] == labels.sum() and scale > 0 and 0 < threshold < 1
    assert 0 <= row["error_after"] < 0.1
    assert fit_clue([few], 0.25) == ([1.0, 0.0, 0.25], {"set": "too few"})
    unknown = ("none", logits, np.full(400, -100), half)
    values, _ = fit_clue([unknown], 0.25)
    assert sigmoid(np.array([values[0] * 5 + values[1]]))[0] < 1e-6
    turned = fit_clue([("turned", -logits, labels, half)], 0.25)
    assert turned == ([1.0, 0.0, 0.25], {"set": "too few"})


def test_a_checkpoint_selects_by_its_calibration_and_another_list_does_not(tiny_config, tmp_path):
    ids = [[[5, 6], [5, 7], [5, 8]], [[5, 9, 6], [5, 9, 7], [5, 9, 8]]]
    config = tiny_config("trrg", clue_scoring="pairwise", clue_threshold=0.25, clue_token_ids=ids)
    torch.manual_seed(0)
    model = TRRGForConditionalGeneration(config).eval()
    pixels = torch.randn(2, 1, 3, config.image_size, config.image_size)
    plain = model.read_study(pixel_values=pixels)
    config.clue_calibration = [[2.0, 0.5, 0.9], [1.0, -20.0, 0.25], [1.0, 0.0, 0.0]]
    model.save_pretrained(tmp_path)
    tuned = TRRGForConditionalGeneration.from_pretrained(tmp_path).eval()
    study = tuned.read_study(pixel_values=pixels)
    torch.testing.assert_close(study.clue_logits[:, 0], 2 * plain.clue_logits[:, 0] + 0.5)
    assert (study.clue_scores[:, 1] < 1e-6).all()
    assert torch.equal(study.selected_clues, study.clue_scores > torch.tensor([0.9, 0.25, 0.0]))
    order = [2, 0]
    given = torch.tensor([[[*ids[0][c], 0] for c in order], [ids[1][c] for c in order]])
    mask = torch.tensor([[[1, 1, 0]] * 2, [[1, 1, 1]] * 2])
    turned = tuned.read_study(pixel_values=pixels, clue_input_ids=given, clue_attention_mask=mask)
    torch.testing.assert_close(turned.clue_scores, study.clue_scores[:, order])
    foreign = torch.tensor([[[5, 10, 0]], [[5, 9, 10]]])
    other = tuned.read_study(pixel_values=pixels, clue_input_ids=foreign, clue_attention_mask=mask[:, :1])
    again = model.read_study(pixel_values=pixels, clue_input_ids=foreign, clue_attention_mask=mask[:, :1])
    assert float(tuned.model.thresholds(other.clue_bank)[0]) == 0.25
    torch.testing.assert_close(other.clue_scores, again.clue_scores)


@pytest.mark.parametrize("rows", [[[1.0, 0.0, 0.5]], [[1.0, 0.0], [1.0, 0.0]], [[1.0, float("nan"), 0.5]] * 2])
def test_a_calibration_that_does_not_fit_the_clues_is_refused(tiny_config, rows):
    with pytest.raises(ValueError, match="clue_calibration"):
        tiny_config("trrg", clue_scoring="pairwise", clue_calibration=rows, clue_token_ids=[[[5], [6]], [[7], [8]]])
    assert TRRGConfig().clue_calibration is None
