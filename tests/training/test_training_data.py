"""Training, without a model: configurations, the order of the data, sentences, pixels."""

import json
from dataclasses import replace

import pytest

from evaluation.reading.labeler import asserts, label_report
from evaluation.reading.sentences import cut_sentences
from processing_trrg import TRRGImageProcessor
from processing_trrg.prompt_trrg import default_clues
from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import (
    SIDE,
    make_data,
    stage_1,
    stage_2,
    write_config,
)
from training.config.run_config import ConfigError, FinetuneConfig, PretrainConfig, load_config
from training.data.clue_labels import balanced_rows
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw, MicroBatchSampler, StudyPlan, keyed_rng
from training.data.sentences import draw_sentences, positive_first, sentences_of_report, weighted
from training.pretrain import sentence_labels

# --- configuration ---


def test_all_problems_of_a_configuration_come_in_one_message(tmp_path):
    config = stage_2(tmp_path / "data", tmp_path / "run")
    config["optimiser"] = {}
    config["optimizer"]["learning_rate"] = 1
    config["data"]["train"][0]["kind"] = "pairs"
    file = write_config(config, tmp_path / "bad.yaml")
    with pytest.raises(ConfigError) as error:
        load_config(FinetuneConfig, file, ["run.seed=abc", "nonsense"])
    for problem in (
        "optimiser: unknown",
        "optimizer.learning_rate: unknown",
        "'pairs'",
        "run.seed: expected int",
        "'nonsense'",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize("file", sorted((ROOT / "training" / "configs").rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_configuration_is_legal(file):
    load_config(PretrainConfig if "stage1" in file.stem else FinetuneConfig, file, [])


# --- order of the data ---


def test_the_draws_of_a_step_depend_on_nothing_but_seed_and_step():
    lengths, shares = [5, 11, 3], [1.0, 1.0, 0.5]
    forward = StudyPlan(lengths, shares, 8, 4, seed=3)
    steps = [forward.step(t) for t in range(20)]
    backward = StudyPlan(lengths, shares, 8, 4, seed=3)
    assert [backward.step(t) for t in reversed(range(20))] == steps[::-1]
    assert StudyPlan(lengths, shares, 8, 4, seed=4).step(0) != steps[0]


def test_micro_batches_and_processes_share_out_the_same_global_batch():
    plan = StudyPlan([50, 20], [2.0, 1.0], 16, 8, seed=0)
    whole = [draw for batch in MicroBatchSampler(plan, 8, 0, 1, 0, 5) for draw in batch]
    assert whole == [draw for t in range(5) for draw in plan.step(t)]
    ranks = [list(MicroBatchSampler(plan, 2, rank, 2, 0, 5)) for rank in range(2)]
    assert whole == [draw for pair in zip(*ranks, strict=True) for batch in pair for draw in batch]
    assert list(MicroBatchSampler(plan, 2, 1, 2, 3, 5)) == ranks[1][12:]


def test_every_study_of_a_source_comes_once_an_epoch_and_shares_follow_the_weights():
    plan = StudyPlan([6, 12], [1.0, 3.0], 8, 2, seed=0)
    draws = [draw for t in range(30) for draw in plan.step(t)]
    counts = [sum(draw.source == s for draw in draws) for s in range(2)]
    assert counts[1] == pytest.approx(3 * counts[0], abs=6)
    assert sorted(d.index for d in draws if d.source == 0 and d.epoch == 1) == list(range(6))


# --- examples ---


def test_paraphrases_replace_reports(tmp_path):
    data = make_data(tmp_path / "data")
    config = stage_2(data, tmp_path / "run")
    (tmp_path / "rewritten.jsonl").write_text(
        "".join(
            json.dumps({"study_id": f"phantom-7-{i}", "findings": "Short.", "impression": None}) + "\n"
            for i in range(24)
        )
    )
    config["data"] |= {"paraphrases": str(tmp_path / "rewritten.jsonl"), "validation": []}
    section = load_config(FinetuneConfig, write_config(config, tmp_path / "run.yaml"), []).data
    source = SourceData(section.train[1], section, default_clues(), None)
    examples = Examples([source], section, seed=0, training=True)
    texts = {examples[Draw(0, 0, epoch, epoch)].record["findings"] for epoch in range(20)}
    assert len(texts) == 2 and "Short." in texts
    for share in (0.0, 0.2, 1.0):
        examples = Examples([source], replace(section, paraphrase_share=share), seed=0, training=True)
        short = [examples[Draw(0, 0, epoch, epoch)].record["findings"] == "Short." for epoch in range(200)]
        assert abs(sum(short) / 200 - share) < 0.1 and (0 < share < 1 or sum(short) == 200 * share)


def test_what_is_there_comes_before_what_is_not_and_labels_stay(tmp_path):
    report = "1. Heart size normal. No effusion. Left basal opacity. PICC in place. Possible edema. Mild scoliosis."
    ordered = positive_first(report)
    assert ordered == (
        "Left basal opacity. PICC in place. Possible edema. Mild scoliosis. Heart size normal. No effusion."
    )
    assert label_report(ordered) == label_report(report)
    assert positive_first("") == "" and positive_first("1.") == "1."
    assert positive_first("No edema\nSmall nodule") == "Small nodule. No edema."
    for together in (
        "No focal consolidation; pneumothorax; or effusion.",
        "There is no\npleural effusion. Clear lungs.",
    ):
        assert label_report(positive_first(together)) == label_report(together)

    data = make_data(tmp_path / "data")
    config = stage_2(data, tmp_path / "run")
    config["data"] |= {"positive_first": True, "image_cache": None}
    section = load_config(FinetuneConfig, write_config(config, tmp_path / "run.yaml"), []).data
    moved = 0
    for source in section.train:
        loaded = SourceData(source, section, default_clues(), TRRGImageProcessor(size=SIDE))
        examples = Examples([loaded], section, seed=0, training=True)
        plain = Examples([loaded], replace(section, positive_first=False), seed=0, training=True)
        for index in range(len(loaded)):
            draw = Draw(0, index, 0, index)
            findings, before = examples[draw].record["findings"], plain[draw].record["findings"]
            claims = [asserts(sentence) for sentence in cut_sentences(findings)]
            assert claims == sorted(claims, reverse=True)
            assert sorted(cut_sentences(findings)) == sorted(cut_sentences(before))
            moved += findings != before
    assert moved > 10
    first = stage_1(data, tmp_path / "run")
    first["data"] |= {"positive_first": True}
    with pytest.raises(ConfigError, match=r"data.positive_first: only stage 2"):
        load_config(PretrainConfig, write_config(first, tmp_path / "first.yaml"), [])


def test_reports_without_image_come_with_and_without_their_sides(tmp_path):
    data = make_data(tmp_path / "data")
    section = load_config(FinetuneConfig, write_config(stage_2(data, tmp_path / "run"), tmp_path / "run.yaml"), []).data
    sided = [{"name": name, "positive": name, "negative": f"no {name}"} for name in ("Left Pleural Effusion",)]
    clues = [*default_clues(), *sided]
    source = SourceData(section.train[1], section, clues, None)
    examples = Examples([source], replace(section, sides_given=0.5), seed=0, training=True)
    left = next(i for i, labels in enumerate(source.labels) if labels[-1] == 1)
    drawn = [examples[Draw(0, left, epoch, epoch)] for epoch in range(40)]
    given = [example.scores[-1] > 0.5 for example in drawn]
    assert 8 < sum(given) < 32
    assert all((example.labels[-1] == 1) == said for example, said in zip(drawn, given, strict=True))
    effusion = [clue["name"] for clue in clues].index("Pleural Effusion")
    assert all(example.scores[effusion] > 0.5 and example.labels[effusion] == 1 for example in drawn)
    always = Examples([source], section, seed=0, training=True)
    assert all(always[Draw(0, left, epoch, epoch)].scores[-1] > 0.5 for epoch in range(40))
    exact = Examples([source], replace(section, sides_given=0.0), seed=0, training=False)
    assert exact[Draw(0, left, 0, 0)].scores[-1] == 1
    with pytest.raises(ConfigError, match=r"data.sides_given: 2.0 is not from 0 to 1"):
        load_config(FinetuneConfig, tmp_path / "run.yaml", ["data.sides_given=2.0"])


@pytest.mark.parametrize(
    "override",
    ["optimizer.max_grad_norm=-1", "optimizer.max_grad_norm=0", "optimizer.lr=.inf", "optimizer.weight_decay=-1",
     "optimizer.lr_by_part={language_model: -1}", "optimizer.block_size=-8", "schedule.warmup_steps=-3",
     "schedule.warmup_ratio=2", "schedule.min_lr_ratio=.nan", "schedule.plateau_factor=-2", "run.seed=-1",
     "run.max_new_tokens=0", "data.num_workers=-1", "data.score_jitter=3", "data.train.0.max_studies=-3",
     "lora={r: 0}", "lora={dropout: 2}"],
)  # fmt: skip
def test_a_number_out_of_its_range_is_refused(override):
    key = override.partition("=")[0].partition(".")[2].split("=")[0]
    with pytest.raises(ConfigError, match=rf"{key}.*(not above 0|below 0|not from 0 to 1)"):
        load_config(FinetuneConfig, ROOT / "training/configs/trrg-small-stage2.yaml", [override])
    for stage in ("stage1", "stage2"):
        kind = PretrainConfig if stage == "stage1" else FinetuneConfig
        assert load_config(kind, ROOT / f"training/configs/trrg-small-{stage}.yaml", []).optimizer.max_grad_norm == 1


def test_sentences_are_cut_and_rare_positive_ones_not_drowned():
    report = {
        "findings": "Dr. Lee saw a 1.5 cm nodule. No effusion; heart normal.\n2. Stable XXXX. Clear.",
        "impression": None,
    }
    assert list(cut_sentences(report["findings"])) == [
        "Dr. Lee saw a 1.5 cm nodule.", "No effusion.", "heart normal.", "Stable XXXX.", "Clear.",
    ]  # fmt: skip
    names = ["Lung Lesion", "Pleural Effusion"]
    studies = [sentences_of_report(report, names, sentence_labels)]
    studies += [sentences_of_report({"findings": "No effusion.", "impression": None}, names, sentence_labels)] * 99
    rng = keyed_rng("test")
    for balance, least, most in ((0.0, 0.15, 0.25), (0.5, 0.6, 0.85)):
        first = weighted(studies, balance)[0]
        share = sum("nodule" in draw_sentences(first, 1, rng)[0].text for _ in range(500)) / 500
        assert least < share < most


def test_rare_findings_are_drawn_more_often():
    labels = [(1, 0), (1, None), (1, 0), (1, 0), (0, 1), (0, -1)]
    assert [i for i, _ in balanced_rows(labels, 0.0)] == [0, 1, 2, 3, 4, 5]
    assert balanced_rows(labels, 0.5) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (5, 0)]
    assert [i for i, _ in balanced_rows(labels, 1.0, chosen=[0, 1, 4])] == [0, 1, 4, 4]
