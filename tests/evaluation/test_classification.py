"""F1 and AUROC against scikit-learn, and what is left out."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from evaluation.metrics.classification import auroc, confusion, judged_columns, mean_auroc, precision_recall_f1
from evaluation.metrics.resampling import bootstrap


def test_auroc_counts_ties_half():
    assert auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 1, 0, 1])) == pytest.approx(0.875)


def test_auroc_is_that_of_scikit_learn_with_weights_and_without():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = generator.integers(0, 9, 60) / 9, generator.integers(0, 2, 60)
        weights = generator.integers(0, 4, 60)
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
        assert auroc(scores, labels, weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        repeated = np.repeat(np.arange(60), weights)
        assert auroc(scores, labels, weights) == pytest.approx(auroc(scores[repeated], labels[repeated]))


def test_unknown_labels_are_left_out_and_an_empty_class_has_no_area():
    scores, labels = np.array([0.9, 0.1, 0.5, 0.0]), np.array([1, 0, -100, -1])
    assert auroc(scores, labels) == 1
    assert np.isnan(auroc(scores, np.array([1, 1, -1, -100])))
    columns = np.stack([labels, np.full(4, -100)], axis=1)
    np.testing.assert_array_equal(mean_auroc(np.stack([scores, scores], axis=1), columns), [1, np.nan, 1])
    assert judged_columns(columns, 1) == [0] and judged_columns(columns, 2) == []


def test_f1_is_that_of_scikit_learn():
    generator = np.random.default_rng(1)
    truth, guess = generator.random((2, 50)) < 0.3
    cells = (cell.sum() for cell in confusion(truth, guess))
    assert precision_recall_f1(*cells)["f1"] == pytest.approx(f1_score(truth, guess))
    assert precision_recall_f1(*np.zeros((3, 1)))["f1"] == 0


def test_the_interval_of_an_area_holds_it():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, (80, 1))
    scores = labels + generator.normal(size=(80, 1))
    once = np.ones(80, dtype=np.int64)
    draws = bootstrap(once, lambda weights: mean_auroc(scores, labels, weights), 200, seed=0)
    low, high = np.percentile(draws[:, 0], [2.5, 97.5])
    assert low < auroc(scores[:, 0], labels[:, 0]) < high
