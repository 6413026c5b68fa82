"""Clinical scores: expected values, named conventions, order and chunks, intervals, signatures, bad labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.benchmark import golden_clinical, worst
from evaluation.compare import compare_clinical, count_wins
from evaluation.metrics.clinical import (
    CHEXPERT_14,
    CONVENTIONS,
    LABEL_SETS,
    LabelPatterns,
    clinical_scores,
    decode_labels,
    encode_labels,
    example_f1,
    pack,
    unpack,
)
from evaluation.metrics.resampling import (
    bootstrap,
    interval,
    paired_p_value,
    poisson_weights,
    sign_test,
)

EMPTY = dict.fromkeys(CHEXPERT_14)


def random_codes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, size=(n, 14)).astype(np.uint8)


def scores_of(reference: list[dict], prediction: list[dict], **options) -> dict:
    patterns = LabelPatterns.from_codes(encode_labels(reference), encode_labels(prediction))
    scores = clinical_scores(patterns, CONVENTIONS, "given", **options)["scores"]
    return {name: score["value"] for name, score in scores.items()}


def test_expected_averages(data_dir: Path) -> None:
    assert worst(golden_clinical(data_dir / "metrics_golden")) < 1e-6


def test_label_columns_are_read_by_name(data_dir: Path) -> None:
    """The golden file's columns stand in CheXbert's order, ours in CheXpert's: read by index two labels would swap."""
    labels = json.loads((data_dir / "metrics_golden" / "ce_aggregation_goldens.json").read_text())["labels"]
    assert sorted(labels) == sorted(CHEXPERT_14) and tuple(labels) != CHEXPERT_14
    lesion = {**EMPTY, "Lung Lesion": 1}
    reordered = {name: lesion[name] for name in reversed(CHEXPERT_14)}
    assert (encode_labels([lesion]) == encode_labels([reordered])).all()


def test_conventions_disagree_where_they_should() -> None:
    reference = [{**EMPTY, "Edema": 1}, {**EMPTY, "Edema": -1}]
    prediction = [{**EMPTY, "Edema": 1}, {**EMPTY, "Edema": 1}]
    scores = scores_of(reference, prediction, resamples=0)
    assert scores["r2gen/micro_14_f1"] == pytest.approx(2 / 3)  # uncertain = 0: the second prediction is false
    assert scores["miura/micro_5_f1"] == 1.0  # uncertain = 1
    assert scores["rgrg/micro_14_f1"] == 1.0 and scores["rgrg/example_14_f1"] == 0.5  # both in one table
    assert scores["f1chexbert/exact_match_5"] == 1.0
    assert scores["radialog/accuracy_14"] == pytest.approx(27 / 28)


def test_conventions_are_those_of_the_field() -> None:
    expected = {"r2gen", "wcl", "miura", "nicolson", "rgrg", "radialog", "f1chexbert", "maira", "maira_plus"}
    assert set(CONVENTIONS) == expected
    uncertain = {name: {score.uncertain for score in scores} for name, scores in CONVENTIONS.items()}
    zero = {name for name, found in uncertain.items() if found == {0}}
    assert zero == {"r2gen", "nicolson", "radialog", "maira"} and uncertain["rgrg"] == {0, 1}
    assert {score.labels for score in CONVENTIONS["miura"]} == {"5", "14"}
    assert LABEL_SETS["5"] == ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
    assert len(LABEL_SETS["13"]) == 13 and "No Finding" not in LABEL_SETS["13"]


def test_two_empty_reports_score_zero_in_example_f1() -> None:
    codes = encode_labels([EMPTY])
    assert example_f1(codes, codes, 0).tolist() == [0.0]


def test_order_and_chunks_change_no_digit() -> None:
    reference, prediction = random_codes(500, 0), random_codes(500, 1)
    reference[100:400], prediction[100:400] = reference[0], prediction[0]  # repeated patterns
    whole = LabelPatterns.from_codes(reference, prediction)
    shuffled = np.random.default_rng(2).permutation(500)
    parts = [LabelPatterns.from_codes(reference[rows], prediction[rows]) for rows in np.array_split(shuffled, 7)]
    merged = LabelPatterns.merge([LabelPatterns.merge(parts[4:]), *parts[:4]])
    assert len(merged) == 500 and len(merged.keys) < 500
    assert clinical_scores(whole, CONVENTIONS, "given") == clinical_scores(merged, CONVENTIONS, "given")


def test_pack_round_trip() -> None:
    codes = random_codes(50, 3)
    assert (unpack(pack(codes)) == codes).all()
    assert (encode_labels(decode_labels(codes)) == codes).all()


def test_bootstrap_of_patterns_is_the_bootstrap_of_reports() -> None:
    """Drawing how often each pattern occurs has the spread of drawing report by report."""
    values = np.array([0.0, 0.0, 0.0, 1.0] * 25)
    generator = np.random.default_rng(0)
    by_report = [values[generator.integers(0, 100, 100)].mean() for _ in range(4000)]
    by_pattern = bootstrap(np.array([75, 25]), lambda weights: weights[1] / 100, 4000, seed=1)
    assert by_pattern.mean() == pytest.approx(0.25, abs=0.01)
    assert by_pattern.std() == pytest.approx(np.std(by_report), rel=0.1)
    low, high = interval(by_pattern)
    assert 0.15 < low < 0.19 and 0.31 < high < 0.35


def test_every_resample_has_as_many_reports_as_the_corpus() -> None:
    counts = np.random.default_rng(0).integers(1, 4, 2500)
    assert (bootstrap(counts, np.sum, 10, seed=0) == counts.sum()).all()


def test_poisson_weights() -> None:
    """Copies of a report are Poisson(1), follow from its key alone, and give the bootstrap's spread."""
    keys = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    weights = poisson_weights(keys, 4000, seed=1)
    assert weights.shape == (4000, 100)
    shares = np.bincount(weights.ravel(), minlength=3)[:3] / weights.size
    assert shares == pytest.approx([0.3679, 0.3679, 0.1839], abs=0.003)
    assert abs(np.corrcoef(weights[:-1].ravel(), weights[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(weights.T)[np.triu_indices(100, 1)]).max() < 0.08
    order = np.random.default_rng(1).permutation(100)
    assert (poisson_weights(keys[order][:7], 10, seed=1) == weights[:10, order[:7]]).all()
    assert (poisson_weights(keys, 4000, seed=2) != weights).any()
    means = (weights * np.array([0, 0, 0, 1] * 25)).sum(axis=1) / weights.sum(axis=1)
    assert means.std() == pytest.approx(np.sqrt(0.25 * 0.75 / 100), rel=0.06)


def test_intervals_hold_the_value_and_follow_the_seed() -> None:
    patterns = LabelPatterns.from_codes(random_codes(300, 0), random_codes(300, 1))
    first = clinical_scores(patterns, ["maira"], "given", resamples=200, seed=7)
    assert first == clinical_scores(patterns, ["maira"], "given", resamples=200, seed=7)
    other = clinical_scores(patterns, ["maira"], "given", resamples=200, seed=8)["scores"]
    for name, score in first["scores"].items():
        assert score["low"] < score["value"] < score["high"]
        assert score["value"] == other[name]["value"] and score["low"] != other[name]["low"]
    assert first["per_label"]["Edema"]["uncertain_0"]["f1"]["low"] is not None


def test_signature_says_how_the_number_was_made() -> None:
    patterns = LabelPatterns.from_codes(random_codes(3, 0), random_codes(3, 1))
    scores = clinical_scores(patterns, ["rgrg"], "rules-9", resamples=10, seed=4)["scores"]
    signature = scores["rgrg/example_14_recall"]["signature"]
    expected = "radiology-ce/recall|labeler:rules-9|convention:rgrg|uncertain:0|labels:14|average:example|n:3"
    assert signature.startswith(expected + "|bootstrap:10|seed:4|version:")
    assert "uncertain:1" in scores["rgrg/micro_14_recall"]["signature"]
    assert len({score["signature"] for score in scores.values()}) == len(scores)


def test_identical_systems_do_not_differ() -> None:
    codes = random_codes(100, 0)
    rows = compare_clinical(random_codes(100, 1), codes, codes, ["r2gen"], resamples=50, seed=0)
    assert all(row["difference"] == 0 and row["p"] == 1 for row in rows.values())


def test_a_better_system_is_found_better() -> None:
    reference = random_codes(300, 0)
    better, worse = reference.copy(), reference.copy()
    better[:30], worse[:150] = 0, 0
    row = compare_clinical(reference, worse, better, ["r2gen"], resamples=200, seed=0)["r2gen/micro_14_f1"]
    assert row["difference"] > 0 and row["low"] > 0 and row["p"] == pytest.approx(1 / 201)
    wins = count_wins(example_f1(reference, worse, 0), example_f1(reference, better, 0))
    assert wins["losses"] == 0 and wins["wins"] > 100 and wins["p"] < 1e-6


def test_tests_by_hand() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(3, 1) == pytest.approx(2 * 5 / 16)
    assert sign_test(0, 0) == 1 and sign_test(4, 4) == 1
    assert sign_test(400_000, 401_000) == pytest.approx(0.264, abs=0.01)
    draws = np.array([-1.0, 0.0, 1.0, 2.0])
    assert paired_p_value(np.array(1.5), draws) == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({**EMPTY, "Edema": 2}, r"labels\[0\]\['Edema'\] is 2; expected 1, 0, -1, None or NaN"),
        ({**EMPTY, "Edema": "1"}, "is '1'"),
        ({**EMPTY, "Oedema": 1}, r"unknown names \['Oedema'\]"),
        ({"Edema": 1}, "missing names"),
    ],
)
def test_bad_labels_stop_by_name(labels: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_labels([labels])


def test_nan_is_not_mentioned() -> None:
    assert (encode_labels([{**EMPTY, "Edema": float("nan")}]) == encode_labels([EMPTY])).all()


def test_bad_corpora_stop() -> None:
    with pytest.raises(ValueError, match="3 predictions for 2 references"):
        LabelPatterns.from_codes(random_codes(2, 0), random_codes(3, 0))
    with pytest.raises(ValueError, match="no report pairs"):
        clinical_scores(LabelPatterns.from_codes(random_codes(0, 0), random_codes(0, 0)), ["r2gen"], "given")
    with pytest.raises(ValueError, match="unknown convention 'r2gem'; expected one of r2gen"):
        clinical_scores(LabelPatterns.from_codes(random_codes(2, 0), random_codes(2, 0)), ["r2gem"], "given")
