"""Truthfulness on constructed reports: each definition, its exceptions, and exact totals in any order and chunks."""

import doctest
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.benchmark_truthfulness import CASES, DETECTORS, main, score_detectors
from evaluation.metrics import truthfulness
from evaluation.metrics.truthfulness import COUNTS, MEASURES, TruthCounts, study_truth, truth_scores
from evaluation.predictions.study_sources import oracle_scores
from evaluation.reading import contradictions, prior_comparisons
from evaluation.reading.contradictions import inconsistencies
from evaluation.reading.labeler import label_report
from evaluation.reading.prior_comparisons import comparison_sentences, has_prior
from training.phantoms.generate import phantoms

# ----------------------------------------------------------------------------------------------------- clues and text


def test_support_and_omission_of_clues():
    scores = {"Pleural Effusion": 0.9, "Edema": 0.85, "Cardiomegaly": 0.95, "Fracture": 0.1, "Pneumothorax": 0.6}
    truth = study_truth("Small left pleural effusion. Rib fracture. The heart is normal in size.", scores, None)
    assert truth.positive == ["Pleural Effusion", "Fracture"] and truth.unsupported == ["Fracture"]
    assert truth.confident == ["Pleural Effusion", "Edema", "Cardiomegaly"]
    assert truth.left_out == ["Edema", "Cardiomegaly"] and truth.denied == ["Cardiomegaly"]
    assert dict(zip(COUNTS, truth.counts(), strict=True)) == {
        "positive": 2, "supported": 1, "confident": 3, "left_out": 2, "denied": 1, "reports": 1, "contradictory": 0,
        "both_sections": 0, "conflicting": 0, "without_prior": 0, "inventing": 0, "selected": 0, "said": 0,
        "claimed": 0, "backed": 0, "placeholders": 0, "stated": 2, "graded": 1,
    }  # fmt: skip


def test_what_was_selected_is_said_and_what_is_said_was_selected():
    text = "Small left pleural effusion. Rib fracture. Pulmonary edema. Possible pneumonia. XXXX catheter."
    scores = dict.fromkeys(("No Finding", "Pleural Effusion", "Fracture", "Lung Opacity", "Pneumonia", "Gout"), 0.4)
    selected = ["No Finding", "Pleural Effusion", "Lung Opacity", "Pneumonia", "Gout"]
    truth = study_truth(text, scores, None, selected=selected)
    assert truth.selected == ["Pleural Effusion", "Lung Opacity", "Pneumonia"]
    assert truth.unsaid == ["Pneumonia"]  # doubted; the edema says the opacity
    assert truth.claimed == ["Pleural Effusion", "Fracture"] and truth.unbacked == ["Fracture"]
    assert dict(zip(COUNTS, truth.counts(), strict=True))["placeholders"] == 1
    untold = study_truth(text, scores, None)
    assert untold.selected == untold.claimed == untold.unbacked == []


def test_the_command_draws_whole_patients_and_counts_different_reports(tmp_path: Path, capsys):
    def line(number: int, patient: str, text: str) -> str:
        one = {"study_id": str(number), "patient_id": patient, "prediction": text, "has_prior": None}
        return json.dumps(one | {"clue_scores": {"Edema": 0.9}, "selected_clues": ["Edema"]}) + "\n"

    reports = ["Edema."] * 6 + ["Clear lungs."] * 3 + ["No edema."]
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(line(number, "a", text) for number, text in enumerate(reports)))
    truthfulness.main([str(file), "--out", str(tmp_path), "--resamples", "50"])
    scores = json.loads((tmp_path / "truthfulness.json").read_text())
    said = scores["truthfulness/said"]
    assert (said["value"], said["low"], said["high"], said["of"]) == (0.6, 0.6, 0.6, 10)  # one patient, one draw
    assert "n:10|patients:1|" in said["signature"] and scores["truthfulness/backed"]["value"] == 1.0
    assert scores["raw/distinct"]["count"] == 3 and scores["raw/commonest"]["value"] == 0.6
    found = [(scores[f"raw/with_finding_{name}"][key]) for name in ("distinct", "commonest") for key in ("count", "of")]
    assert found == [1, 6, 6, 6]  # of those that claim one
    assert "raw/commonest" in capsys.readouterr().out
    file.write_text(line(1, "a", "Edema.").replace('["Edema"]', '"Edema"'))
    with pytest.raises(ValueError, match="selected_clues is 'Edema'; expected a list of names"):
        truthfulness.main([str(file), "--out", str(tmp_path)])


def test_thresholds_are_reached_by_equal_scores():
    at = study_truth("Pulmonary edema.", {"Edema": 0.5}, None)
    below = study_truth("Pulmonary edema.", {"Edema": 0.499}, None)
    assert (at.unsupported, below.unsupported) == ([], ["Edema"])
    assert study_truth("", {"Edema": 0.8}, None).left_out == ["Edema"]
    assert study_truth("", {"Edema": 0.79}, None).confident == []
    low = study_truth("Pulmonary edema.", {"Edema": 0.1, "Fracture": 0.2}, None, support=0.1, confident=0.2)
    assert low.unsupported == [] and low.left_out == ["Fracture"]


def test_doubtful_findings_need_no_support_and_leave_no_clue_out():
    truth = study_truth("Possible pneumonia.", {"Pneumonia": 0.0}, None)
    assert truth.positive == truth.unsupported == []
    assert study_truth("Possible pneumonia.", {"Pneumonia": 0.99}, None).left_out == []


def test_a_finding_is_supported_by_what_it_includes():
    scores = {"Lung Opacity": 0.0, "Pneumonia": 0.9}
    assert study_truth("Left basilar opacity.", scores, None).unsupported == []
    assert study_truth("Pneumonia.", {"Lung Opacity": 0.9, "Pneumonia": 0.0}, None).unsupported == ["Pneumonia"]
    assert study_truth("Left lower lobe pneumonia.", {"Lung Opacity": 0.9}, None).left_out == []


def test_without_clues_only_the_text_is_measured():
    for scores in (None, {}, {"No Finding": 1.0, "Gout": 1.0}):
        assert study_truth("Pulmonary edema.", scores, None).counts()[:5] == [0] * 5


def test_oracle_clues_of_a_report_fit_the_report():
    records = [phantom.record for phantom in phantoms(12141, 40, 64)]
    texts = [f"Findings: {record['findings']} Impression: {record['impression']}" for record in records]
    labelled = [replace(record, labels=label_report(text)) for record, text in zip(records, texts, strict=True)]
    scores = oracle_scores(labelled, list(labelled[0]["labels"]))
    table = TruthCounts.from_studies([study_truth(t, s, False) for t, s in zip(texts, scores, strict=True)])
    measured = truth_scores(table, resamples=0)
    assert measured["truthfulness/clue_support"]["value"] == 1.0
    for name in ("clue_omission", "contradiction", "section_conflict"):
        assert measured[f"truthfulness/{name}"]["value"] == 0.0


# ------------------------------------------------------------------------------------------------------ contradictions


def within(text):
    return inconsistencies(text).within


def between(text):
    return inconsistencies(text).between


CONTRADICTORY = [
    ("No pleural effusion or pneumothorax. Small left pleural effusion.", "Pleural Effusion"),
    ("Small right effusion. There is no effusion.", "Pleural Effusion"),
    ("No effusion but a small effusion on the left is seen.", "Pleural Effusion"),
    ("The heart is normal in size. Moderate cardiomegaly.", "Cardiomegaly"),
    ("No right pneumothorax. There is a large right apical pneumothorax.", "Pneumothorax"),
    ("Bilateral pleural effusions. No left pleural effusion.", "Pleural Effusion"),
    ("No focal consolidation. Right lower lobe consolidation.", "Consolidation"),
    ("No pulmonary nodules. A pulmonary nodule is seen in the left upper lobe.", "Lung Lesion"),
    ("No large effusion. Large left effusion.", "Pleural Effusion"),
    ("Pulmonary edema. Findings: No pulmonary edema.", "Edema"),
    ("No new large effusion. No large effusion. Large effusion.", "Pleural Effusion"),
    ("Both lungs are clear. There is a dense infiltrate at the left base.", "Lung Opacity"),
    ("Nothing acute. Large left pneumothorax.", "Pneumothorax"),
    ("Minimal oedema of the lungs. Severe oedema of the lungs.", "Edema"),
    ("No devices. Right jugular catheter in place.", "Support Devices"),
]
CONSISTENT = [
    "No right pleural effusion. Small left pleural effusion.",
    "Small left effusion but no right effusion.",
    "No large pleural effusion. Small left pleural effusion.",
    "No acute fracture. Old left rib fractures.",
    "No new consolidation. Left lower lobe consolidation.",
    "No new large effusion. Large left effusion.",
    "No consolidation in the upper lobes. Right lower lobe consolidation.",
    "No mass. Calcified nodule in the right upper lobe.",
    "Possible small effusion. No pleural effusion.",
    "No pleural effusion. No pneumothorax. No pleural effusion.",
    "The endotracheal tube has been removed. A chest tube is in place.",
    "Right basal consolidation. No consolidation elsewhere.",
    "Fractured sternal wire. No fracture of the ribs.",
    "Clear lungs.",
    "",
    None,
]


@pytest.mark.parametrize(("text", "observation"), CONTRADICTORY)
def test_a_contradiction_is_found(text, observation):
    found = within(text)
    assert [one.observation for one in found] == [observation]
    assert found[0].claim in text and found[0].denial in text
    reverse = ". ".join(reversed(text.rstrip(".").split(". ")))
    assert [one.observation for one in within(reverse)] == [observation]


@pytest.mark.parametrize("text", CONSISTENT)
def test_no_contradiction_is_invented(text):
    assert within(text) == [] and between(text) == []


def test_findings_against_impression():
    denied = "Findings: Small left pleural effusion. Impression: No pleural effusion."
    claimed = "Findings: No pleural effusion. Impression: Small left pleural effusion."
    for text in (denied, claimed):
        assert [one.observation for one in between(text)] == ["Pleural Effusion"]
        assert within(text) == []
    agreed = "Findings: Small left pleural effusion. Impression: Left effusion, no pneumothorax."
    assert between(agreed) == []
    assert between("Pleural effusion. No pleural effusion.") == []  # no sections
    normal = "Findings: Small left pleural effusion. Impression: Normal chest."
    assert [one.observation for one in between(normal)] == ["Pleural Effusion"]
    for impression in ("No acute disease.", "Normal chest except for a small left effusion.", "Normal heart size."):
        assert between(f"Findings: Small left pleural effusion. Impression: {impression}") == []
    assert between("Findings: Pacemaker in place. Impression: Normal chest.") == []
    moved = "Findings: Opacity at the right base. Impression: Left lower lobe pneumonia."
    assert [one.observation for one in between(moved)] == ["Lung Opacity"]
    assert between(moved.replace("Left", "Right")) == []
    assert within("The lungs are clear with a dense opacity at the right base.") != []
    assert study_truth(denied, None, None).both_sections and not study_truth("Effusion.", None, None).both_sections


# --------------------------------------------------------------------------------------------------------- comparisons


@pytest.mark.parametrize(
    "sentence",
    [
        "Heart size is unchanged",
        "Stable cardiomegaly",
        "No significant interval change",
        "There is a new left effusion",
        "No new consolidation",
        "Compared to the previous radiograph, the lungs are clear",
        "The effusion has increased",
        "Improved aeration of the left base",
        "Again seen is a calcified granuloma",
        "The pneumothorax is no longer visible",
        "The heart remains enlarged",
        "No change since the prior study",
        "Nodule previously seen in the right lung",
        "Tube pulled back 3 cm",
        "Waxing and waning opacities",
    ],
)
def test_a_comparison_is_found(sentence):
    assert comparison_sentences(f"Clear lungs. {sentence}. No effusion.") == [sentence]


@pytest.mark.parametrize(
    "text",
    [
        "Comparison: 01/02/2003. Findings: Clear lungs.",
        "No prior studies are available for comparison.",
        "Stable patient.",
        "Decreased breath sounds.",
        "Without comparison films, a nodule cannot be excluded.",
        "Increased interstitial markings. Decreased lung volumes. Enlarged heart.",
        "No degenerative changes. No acute osseous abnormality.",
        "Prior granulomatous disease. Old left rib fracture.",
        "The right lung is small compared to the left.",
        "Recommend comparison with prior films.",
        "",
        None,
    ],
)
def test_no_comparison_is_invented(text):
    assert comparison_sentences(text) == []


def test_a_comparison_is_invented_only_where_no_prior_was_given():
    text = "Stable cardiomegaly."
    assert study_truth(text, None, False).comparisons == ["Stable cardiomegaly"]
    assert study_truth(text, None, True).comparisons is study_truth(text, None, None).comparisons is None
    assert study_truth("Cardiomegaly.", None, False).comparisons == []


@pytest.mark.parametrize(
    ("record", "given"),
    [
        ({}, False),
        ({"prior_report": " ", "prior_images": [], "comparison": None}, False),
        ({"comparison": "None."}, False),
        ({"comparison": "No prior studies available."}, False),
        ({"comparison": "N/A"}, False),
        ({"comparison": "PA chest 3/4/2010"}, True),
        ({"comparison": "XXXX"}, True),
        ({"prior_report": "Clear lungs."}, True),
        ({"prior_images": [{"path": "a.png"}]}, False),  # the model does not see them
    ],
)
def test_what_counts_as_a_prior(record, given):
    assert has_prior(record) is given


@pytest.mark.parametrize("module", [prior_comparisons, contradictions])
def test_the_examples_of_the_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def test_a_prior_that_is_no_text_is_named():
    with pytest.raises(ValueError, match="study 'a': comparison is 3"):
        has_prior({"study_id": "a", "comparison": 3})


# ------------------------------------------------------------------------------------------------------- written cases


def test_the_detectors_reach_their_numbers_on_the_written_cases():
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    assert len(cases) == 150 and all(case["why"] and case["kind"] for case in cases)
    for name, score in score_detectors().items():
        assert score.cases == 50 and score.expected == 25
        assert score.precision >= 0.96 and score.recall >= 0.96, (name, score.wrong)


def test_the_command_prints_precision_recall_and_what_is_wrong(tmp_path: Path, capsys):
    rows = [
        {"detector": name, "text": text, "expected": expected, "conflict": "Edema" if expected else None}
        for name in DETECTORS
        for text, expected in (("Clear lungs.", True), ("Edema, unchanged. No edema.", False))
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["--cases", str(file), "--wrong", "--data", str(tmp_path / "none")])
    printed = capsys.readouterr().out
    assert "comparison        precision 0.000  recall 0.000  right 0 of 2" in printed
    assert "missed: 'Clear lungs.' found []" in printed
    assert "false alarm: 'Edema, unchanged. No edema.' found ['Edema']" in printed


# ---------------------------------------------------------------------------------------------------------- aggregates


def made_studies(count: int) -> list[dict]:
    draw = random.Random(3)
    sentences = [text for text, _ in CONTRADICTORY] + [text for text in CONSISTENT if text] + ["Stable edema."]
    names = ("Edema", "Pleural Effusion", "Cardiomegaly", "Consolidation")
    return [
        {
            "study_id": str(number),
            "prediction": " ".join(draw.sample(sentences, 2)),
            "clue_scores": {name: round(draw.random(), 3) for name in names},
            "has_prior": draw.choice([True, False, None]),
        }
        for number in range(count)
    ]


def measured(studies: list[dict]) -> list[truthfulness.StudyTruth]:
    return [study_truth(one["prediction"], one["clue_scores"], one["has_prior"]) for one in studies]


def test_totals_are_the_sums_of_the_studies():
    truths = measured(made_studies(80))
    scores = truth_scores(TruthCounts.from_studies(truths), resamples=100)
    rows = [dict(zip(COUNTS, truth.counts(), strict=True)) for truth in truths]
    for measure, (top, bottom) in MEASURES.items():
        score = scores[f"truthfulness/{measure}"]
        assert score["count"] == sum(row[top] for row in rows) and score["of"] == sum(row[bottom] for row in rows)
        if score["of"]:
            assert score["value"] == score["count"] / score["of"] and score["low"] <= score["value"] <= score["high"]
    assert scores["truthfulness/clue_support"]["signature"] == (
        "truthfulness/clue_support|labeler:rules-0.3.0|support:0.5|confident:0.8|n:80|bootstrap:100|seed:0|version:0.1.0"
    )


def test_severities_and_sizes_of_what_is_claimed_are_counted():
    text = (
        "Small left effusion. No large pneumothorax. 12 mm nodule. The heart is enlarged. Findings suggest mild edema."
    )
    truth = study_truth(text, {"Edema": 0.9}, None)
    assert set(truth.graded) == {"Pleural Effusion", "Lung Lesion"}  # a denied and a doubted one claim nothing
    assert set(truth.stated) == {"Pleural Effusion", "Lung Lesion", "Cardiomegaly"}
    assert study_truth("Moderate cardiomegaly.", None, None).graded == ["Cardiomegaly"]


def test_order_and_chunks_change_no_digit():
    truths = measured(made_studies(80))
    whole = truth_scores(TruthCounts.from_studies(truths), resamples=50, seed=4)
    parts = [TruthCounts.from_studies(truths[start : start + 7]) for start in range(0, 80, 7)]
    assert truth_scores(TruthCounts.merge(reversed(parts)), resamples=50, seed=4) == whole
    random.Random(1).shuffle(truths)
    assert truth_scores(TruthCounts.from_studies(truths), resamples=50, seed=4) == whole


def test_a_share_of_nothing_is_none():
    scores = truth_scores(TruthCounts.from_studies([study_truth("Clear lungs.", None, None)]), resamples=20)
    for measure in ("clue_support", "clue_omission", "section_conflict", "invented_comparison"):
        score = scores[f"truthfulness/{measure}"]
        assert (score["value"], score["low"], score["of"]) == (None, None, 0)
    assert scores["truthfulness/contradiction"]["value"] == 0.0
    with pytest.raises(ValueError, match="no report"):
        truth_scores(TruthCounts.from_studies([]))


def test_command_line(tmp_path: Path, capsys):
    studies = made_studies(30)
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(study) + "\n" for study in studies))
    truthfulness.main([str(file), "--out", str(tmp_path), "--resamples", "50"])
    expected = truth_scores(TruthCounts.from_studies(measured(studies)), resamples=50)
    written = json.loads((tmp_path / "truthfulness.json").read_text())
    assert {name: written[name] for name in expected} == expected
    lines = [json.loads(line) for line in (tmp_path / "truthfulness_studies.jsonl").read_text().splitlines()]
    assert [line["study_id"] for line in lines] == [study["study_id"] for study in studies]
    assert any(line["contradictions"] for line in lines) and "truthfulness/clue_support" in capsys.readouterr().out
    file.write_text(json.dumps(studies[0] | {"has_prior": "yes"}) + "\n")
    with pytest.raises(ValueError, match="has_prior is 'yes'"):
        truthfulness.main([str(file), "--out", str(tmp_path)])
    file.write_text("")
    with pytest.raises(ValueError, match="no report"):
        truthfulness.main([str(file), "--out", str(tmp_path)])


@pytest.mark.parametrize("piece", ["no ", "left ", "effusion, no effusion, ", "prior ", "no prior ", "stable. ", "a:"])
def test_long_texts_take_linear_time(piece):
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        start = time.process_time()
        study_truth(text, {"Edema": 1.0}, False)
        return time.process_time() - start

    seconds(2_000)
    assert seconds(200_000) < 10 * seconds(40_000) + 2
