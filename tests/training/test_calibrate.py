"""Calibration of clue scores: what is fitted, and what a checkpoint does with it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from configuration_trrg import TRRGConfig
from evaluation.metrics.calibration import expected_error
from evaluation.metrics.operating_points import alarming_at_most, missing_at_most, operating_points
from evaluation.reading.observations import CHEXPERT_14
from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.checkpoints import save_checkpoint
from training import calibrate, fit_readable
from training.calibrate import (
    LabelledSet,
    bagged_threshold,
    best_threshold,
    f1_over,
    fit_clue,
    fit_line,
    fit_points,
    sigmoid,
)
from training.phantoms.generate import generate_phantom


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
    weights = np.array([1, 0, 2, 1, 0])  # as if each came so often
    often = np.repeat(np.arange(5), weights)
    assert best_threshold(scores, labels, weights) == best_threshold(scores[often], labels[often])


def test_a_rare_finding_gets_a_threshold_that_holds_for_new_patients():
    """Few positives: what their labels like best is luck, and its F1 on others is lower."""
    rng = np.random.default_rng(2)
    gain = []
    for _ in range(100):
        labels, new = ((rng.random(size) < 0.1).astype(int) for size in (150, 2000))
        scores, others = (sigmoid(rng.normal(y - 1.0, 1.0)) for y in (labels, new))
        bagged = bagged_threshold(scores, labels, [f"patient {i}" for i in range(150)])
        gain.append(f1_over(others, new, bagged) - f1_over(others, new, best_threshold(scores, labels)))
    assert np.mean(gain) > 2 * np.std(gain) / np.sqrt(len(gain))


def test_patients_are_drawn_whole_and_halved_anew_each_time():
    scores, labels = np.linspace(0.95, 0.05, 40), (np.arange(40) % 4 == 0).astype(int)
    alone = bagged_threshold(scores, labels, [f"patient {row}" for row in range(40)])
    few = bagged_threshold(scores, labels, [f"patient {row // 10}" for row in range(40)])
    assert alone != few and alone == bagged_threshold(scores, labels, [f"patient {row}" for row in range(40)])
    data = labelled("set", scores, labels)
    halves = [data.halves(np.arange(40), time) for time in range(5)]
    assert len({half.tobytes() for half in halves}) == 5 and np.array_equal(halves[0], data.halves(np.arange(40)))


def labelled(name: str, logits: np.ndarray, labels: np.ndarray) -> LabelledSet:
    return LabelledSet(name, logits[:, None], labels[:, None], [f"patient {row}" for row in range(len(labels))])


def test_the_first_set_with_enough_of_both_labels_decides():
    logits, labels = drawn(400, 1, 0)
    few, many = labelled("few", logits[:12], labels[:12]), labelled("many", logits, labels)
    one = labelled("one", logits[:12], np.ones(12, dtype=int))
    (scale, _, threshold), row, _ = fit_clue([few, many], 0, 0.25)
    assert row["set"] == "many" and row["positives"] == labels.sum() and scale > 0 and 0 < threshold < 1
    low, high = row["error_after_range"]
    assert 0 <= low <= row["error_after"] <= high < 0.2 and row["error_after"] < 0.1
    assert 0.5 < row["f1_of_others"] <= row["f1"] < 1
    assert fit_clue([few], 0, 0.25) == ([1.0, 0.0, 0.25], {"set": "too few"}, None)
    _, row, together = fit_clue([few, labelled("other", logits[12:60], labels[12:60]), one], 0, 0.25)
    assert together is not None and row["set"] == "other", row
    for silent in (labelled("none", logits, np.full(400, -100)), one):  # nobody has it, or everybody
        values, *_ = fit_clue([silent], 0, 0.25)
        assert sigmoid(np.array([values[0] * 50 + values[1]]))[0] < 1e-6
    turned = fit_clue([labelled("turned", -logits, labels)], 0, 0.25)
    assert turned == ([1.0, 0.0, 0.25], {"set": "too few"}, None)


def test_a_threshold_misses_no_more_than_was_promised_on_average():
    rng = np.random.default_rng(1)
    missed, alarms = [], []
    for _ in range(300):  # small validation sets, and new patients
        some, new = rng.beta(4, 2, 29), rng.beta(4, 2, 500)
        missed.append((new <= missing_at_most(some, 0.1)).mean())
        alarms.append((new > alarming_at_most(some, 0.1)).mean())
    assert 0.09 < np.mean(missed) < 0.11 and 0.09 < np.mean(alarms) < 0.11  # 0.1 is exact for 29


def test_too_few_positives_can_only_be_told_always():
    scores = np.linspace(0.2, 0.9, 18)
    assert missing_at_most(scores, 0.05) == 0.0 and alarming_at_most(scores, 0.05) > 0.999
    assert scores[0] - 2e-6 < missing_at_most(np.append(scores, 0.95), 0.05) < scores[0]


def test_the_dial_has_one_direction():
    logits, labels = drawn(600, 1, -1)
    for scores in (sigmoid(logits), sigmoid(0.2 * logits), np.where(labels, 0.8, 0.1) + 0.01 * sigmoid(logits)):
        careful, sensitive, *rates = operating_points(
            scores, labels, balanced := round(best_threshold(scores, labels), 4)
        )
        assert careful >= balanced >= sensitive and rates == sorted(rates)
        assert rates[-1] <= careful and rates[1] <= balanced
        assert (scores[labels == 1] <= sensitive).mean() <= 0.1 and (scores[labels == 0] > careful).mean() <= 0.05
    _, row = fit_points(sigmoid(logits), labels, np.arange(600) % 2, 0.4)
    assert row["missed"] < 0.2 and row["alarms"] < 0.1


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
    assert other.clue_thresholds.unique().tolist() == [0.25]
    torch.testing.assert_close(other.clue_scores, again.clue_scores)


@pytest.mark.parametrize("rows", [[[1.0, 0.0, 0.5]], [[1.0, 0.0], [1.0, 0.0]], [[1.0, float("nan"), 0.5]] * 2])
def test_a_calibration_that_does_not_fit_the_clues_is_refused(tiny_config, rows):
    with pytest.raises(ValueError, match="clue_calibration"):
        tiny_config("trrg", clue_scoring="pairwise", clue_calibration=rows, clue_token_ids=[[[5], [6]], [[7], [8]]])
    assert TRRGConfig().clue_calibration is None


IDS = [[[5, 6], [5, 7], [5, 8]], [[5, 9, 6], [5, 9, 7], [5, 9, 8]]]
RATES = [0.02 * step for step in range(10)]


def dialled(tiny_config, scores: list[float]):
    """A checkpoint with operating points around its scores of a study, and the study."""
    config = tiny_config("trrg", clue_scoring="pairwise", clue_token_ids=IDS, clue_calibration=[[1.0, 0.0, 0.5]] * 3,
                         clue_operating_points=[[0.8, 0.2, *RATES], [0.9, 0.1, *RATES], []])  # fmt: skip
    torch.manual_seed(0)
    model = TRRGForConditionalGeneration(config).eval()
    given = {"pixel_values": torch.randn(1, 1, 3, config.image_size, config.image_size)}
    return model, given, model.read_study(**given, clue_scores=torch.tensor([scores]))


@torch.no_grad()
def test_the_dial_moves_what_is_told_and_how_loud_without_another_look(tiny_config):
    model, _, study = dialled(tiny_config, [0.7, 0.15, 0.4])
    assert study.selected_clues.tolist() == [[True, False, False]] and study.clue_answers.tolist() == [[-1, -1, -100]]
    looked = []
    model.model.vision_tower.register_forward_hook(lambda *_: looked.append(1))
    told = {point: model.at_operating_point(study, point) for point in ("careful", "balanced", "sensitive", 0.07, 0.5)}
    assert not looked
    selected = {point: told[point].selected_clues[0].tolist() for point in told}
    assert selected == {"careful": [False] * 3, "balanced": [True, False, False], "sensitive": [True, True, False],
                        0.07: [True, True, False], 0.5: [True, False, False]}  # fmt: skip
    assert told["sensitive"].clue_thresholds[0].tolist() == pytest.approx([0.2, 0.1, 0.5])
    torch.testing.assert_close(told["balanced"].pooler_output, study.pooler_output)
    assert (told[0.07].pooler_output - told[0.5].pooler_output).abs().max() > 1e-6
    edited = model.edit_clues(told["sensitive"], clue_scores=torch.tensor([[0.1, 0.15, 0.9]]))
    assert edited.selected_clues.tolist() == [[False, True, True]]  # at the point where the dial stands


@torch.no_grad()
def test_generate_takes_the_operating_point(tiny_config):
    model, given, _ = dialled(tiny_config, [0.7, 0.15, 0.4])
    ids = torch.tensor([[model.config.image_token_id] * model.config.num_image_tokens + [5, 6]])
    scores = torch.tensor([[0.7, 0.15, 0.4]])
    words = {"input_ids": ids, "clue_scores": scores, "max_new_tokens": 1, "return_dict_in_generate": True,
             "output_logits": True}  # fmt: skip
    logits = {point: model.generate(**given, **words, operating_point=point).logits[0] for point in (None, "careful")}
    assert (logits[None] - logits["careful"]).abs().max() > 1e-6
    with pytest.raises(ValueError, match="no study"):
        model.generate(torch.tensor([[5, 6]]), max_new_tokens=1, operating_point="careful")


@pytest.mark.parametrize("point", ["bold", 0.01, 0.9, True, 0])
def test_a_point_that_is_none_is_refused(tiny_config, point):
    model, _, study = dialled(tiny_config, [0.7, 0.15, 0.4])
    with pytest.raises(ValueError, match=r"expected 'careful', 'balanced', 'sensitive' or a false-negative rate"):
        model.at_operating_point(study, point)


def test_a_checkpoint_or_a_clue_list_without_points_refuses_the_dial(tiny_config):
    model, given, _ = dialled(tiny_config, [0.7, 0.15, 0.4])
    foreign = {"clue_input_ids": torch.tensor([[[5, 10]], [[5, 11]]]),
               "clue_attention_mask": torch.ones(2, 1, 2, dtype=torch.long)}  # fmt: skip
    other = model.read_study(**given, **foreign)
    model.config.clue_operating_points = None
    old = TRRGForConditionalGeneration(model.config).eval().read_study(**given)
    assert old.clue_answers is None
    for some in (other, old):
        assert model.at_operating_point(some, "balanced").selected_clues.shape == some.clue_scores.shape
        with pytest.raises(ValueError, match=r"clue_operating_points.*training.calibrate --write"):
            model.at_operating_point(some, "sensitive")
    blind = TRRGForConditionalGeneration(tiny_config("maira1")).eval()
    with pytest.raises(ValueError, match="knows no clues"):
        blind.at_operating_point(blind.read_study(**given), "sensitive")


@pytest.mark.parametrize("row", [[0.8], [0.1, 0.2, *RATES], [0.8, 0.2, *RATES[::-1]], [1.0, 0.2, *RATES]])
def test_operating_points_that_do_not_fit_are_refused(tiny_config, row):
    with pytest.raises(ValueError, match="clue_operating_points"):
        tiny_config("trrg", clue_scoring="pairwise", clue_token_ids=[[[5]], [[7]]],
                    clue_calibration=[[1.0, 0.0, 0.5]], clue_operating_points=[row])  # fmt: skip
    with pytest.raises(ValueError, match="clue_operating_points"):
        tiny_config("trrg", clue_scoring="pairwise", clue_token_ids=[[[5]], [[7]]], clue_operating_points=[[]])


def test_the_classifier_has_the_dial_too(tiny_config):
    config = tiny_config("radialog", clue_calibration=[[1.0, 0.0, 0.5]] * 4,
                         clue_operating_points=[[0.9, 0.1, *RATES]] * 4)  # fmt: skip
    model = TRRGForConditionalGeneration(config).eval()
    study = model.read_study(pixel_values=torch.randn(2, 1, 3, config.image_size, config.image_size))
    told = model.at_operating_point(study, "sensitive")
    assert torch.equal(told.selected_clues, study.clue_scores > 0.1) and study.clue_answers.shape == (2, 4)


def labelled_folder(folder, count: int) -> str:
    """Phantoms with labels by a coin."""
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for n in range(count):
        Image.fromarray(generate_phantom(3, n, 64).image).save(folder / f"{n}.png")
        labels = dict(zip(CHEXPERT_14, rng.integers(0, 2, 14).tolist(), strict=True))
        lines.append({"study_id": f"s{n}", "patient_id": f"p{n}", "split": "validation", "labels": labels,
                      "images": [{"path": f"{n}.png", "view": "frontal"}]})  # fmt: skip
    (folder / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_folders_of_one_name_stay_apart(tmp_path, capsys):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "radialog")
    few, many = labelled_folder(tmp_path / "a" / "nih", 4), labelled_folder(tmp_path / "b" / "nih", 48)
    calibrate.main([str(checkpoint), "--data", few, many])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    fitted_on = {row[1] for row in rows[2:]}
    assert many in fitted_on and few not in fitted_on
    assert "too few" in fitted_on or f"{few} and {many}" in fitted_on
    assert all(row[2].endswith("of 48") for row in rows if row[1] == many)


def test_what_cannot_be_plotted_is_told_and_the_fit_is_written(tmp_path, capsys):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "radialog")
    plot = tmp_path / "plot.png"
    words = [str(checkpoint), "--data", labelled_folder(tmp_path / "few", 4), "--write", "--plot"]
    with pytest.raises(SystemExit):
        calibrate.main([*words, str(tmp_path / "no" / "plot.png")])
    told = capsys.readouterr()
    assert f"the folder {tmp_path / 'no'} does not exist" in told.err and not told.out
    calibrate.main([*words, str(plot)])
    assert "nothing to plot" in capsys.readouterr().out and not plot.exists()
    points = json.loads((checkpoint / "config.json").read_text())["clue_operating_points"]
    assert points == [[]] * 14


@pytest.mark.parametrize("command", [calibrate.main, fit_readable.main])
def test_a_checkpoint_that_is_not_there_is_told_in_a_line(command, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command([str(tmp_path / "nothing"), "--data", str(tmp_path)])
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"checkpoint: {tmp_path / 'nothing'} (no such folder) cannot be loaded" in last
