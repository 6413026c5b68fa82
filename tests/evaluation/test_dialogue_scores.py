"""Scores of dialogue runs: a model that always answers rightly gets 1, and what can be done in the head."""

import json
from types import SimpleNamespace

import pytest

from evaluation.metrics.corrections import count_correction, speaks_of
from evaluation.metrics.dialogue_scores import dialogue_scores, known_labels, record_fields, table
from evaluation.metrics.short_answers import answer_words, same_answer, shared_words
from evaluation.predictions.chats import YesNo
from evaluation.predictions.dialogue_turns import TASKS, read_questions
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, MISSING, positives
from processing_trrg import Report, check_clues, report_text, split_report
from training.data.dialogue import asked_by_name
from training.data.study import Study
from training.phantoms.generate import generate_phantom

CLUES = check_clues(CHEXPERT_14)
SENTENCES = {clue["name"]: clue["positive"] for clue in CLUES}
QUESTIONS = {"phantom-3-0": [{"question": "Is there a pneumothorax?", "answer": "No"}],
             "phantom-3-1": [{"question": "Which view?", "answer": "frontal view"}]}  # fmt: skip


class Stub:
    """Answers of a model that knows the records, or that never says anything else than one sentence."""

    def __init__(self, studies: list[Study], knows: bool):
        self.processor = SimpleNamespace(clues=CLUES)
        self.studies, self.knows = studies, knows
        texts = [self._report(study, row) for row, study in enumerate(studies)]
        self.reports = [Report(*split_report(text), text) for text in texts]

    def _report(self, study: Study, row: int) -> str:
        """The report of the record; every second one of another study, so that there is something to correct."""
        other = self.studies[row - 1] if row % 2 else study
        return report_text(other.findings, other.impression)

    def ask(self, questions):
        return [self._answer(question) for question in questions]

    def yes_or_no(self, questions):
        answers = []
        for question in questions:
            name = next(
                (name for name, text in SENTENCES.items() if asked_by_name(text) in question.text), "Pneumothorax"
            )
            yes = self.studies[question.row].labels.get(name) == 1
            answers.append(YesNo(float(yes), True) if self.knows else YesNo(0.5, False))
        return answers

    def _answer(self, question) -> str:
        study, text = self.studies[question.row], question.text
        if not self.knows:
            return "Nothing to say."
        if "correct the report" in text:
            return self._corrected(question.reply, text)
        if "findings does" in text:
            return ", ".join(name for name in positives(study.labels) if name != "No Finding") or "No common findings."
        if "impression" in text:
            return study.impression
        return "This is a frontal view." if "lateral" in text else "The frontal view"

    def _corrected(self, report: str, text: str) -> str:
        named = [name for name in CHEXPERT_14 if name.lower() in text]
        add = [
            name for name in named if "also" in text or ("add" in text and name.lower() in text.split("take out")[0])
        ]
        remove = [name for name in named if name not in add]
        findings, impression = (
            " ".join(s for s in sentences(part or "") if not speaks_of(s, add, remove)) for part in split_report(report)
        )
        return report_text(" ".join([*(SENTENCES[name] for name in add), findings]) or "Nothing.", impression)


def sentences(text: str) -> list[str]:
    return [f"{part.strip()}." for part in text.replace("Findings:", "").split(".") if part.strip()]


def lines_of(knows: bool) -> tuple[list[dict], list[dict]]:
    studies = [generate_phantom(3, index, 64).record for index in range(40)]
    stub = Stub(studies, knows)
    fields = [record_fields(study, QUESTIONS) for study in studies]
    lines = []
    for study, report, more in zip(studies, stub.reports, fields, strict=True):
        scores = {name: float(study.labels.get(name) == 1) for name in CHEXPERT_14}
        chosen = [name for name in CHEXPERT_14 if scores[name]]
        line = {"study_id": study.study_id, "report": report.text, "clue_scores": scores, "selected_clues": chosen}
        lines.append(line | more)
    for task, ask in TASKS.items():
        for line, entry in zip(lines, ask(stub, studies, [field["questions"] for field in fields]), strict=True):
            line[task] = entry
    return json.loads(json.dumps(lines)), fields


def test_a_model_that_knows_everything_scores_one():
    lines, fields = lines_of(knows=True)
    results = dialogue_scores(lines, fields, list(TASKS), minimum=1, resamples=10, seed=0)
    imperfect = ("before", "cider", "vqa/yes_no_auroc", "over_clues")
    perfect = {name: row["model"] for name, row in results.items() if not any(part in name for part in imperfect)}
    assert {name: row["value"] for name, row in perfect.items() if row["value"] != pytest.approx(1)} == {}
    assert all(row["low"] == pytest.approx(1) for row in perfect.values())
    before, after = (results[f"correction/{when}_macro_f1"]["model"]["value"] for when in ("before", "after"))
    assert before < 0.9 < after
    assert results["binary_qa/auroc_over_clues"]["model"]["value"] == 0  # the clues know everything too
    for name in ("binary_qa/accuracy", "binary_qa/auroc", "complete_qa/names_micro_f1", "correction/before_micro_f1"):
        assert results[name]["clues"]["value"] == 1
    assert results["binary_qa/auroc"]["commonest"]["value"] == pytest.approx(0.5)
    assert results["vqa/yes_no_auroc"]["model"]["value"] is None  # only a no among its questions
    text = table(results)
    assert text.count("\n") == len(results) + 2 and r"patients:40\|bootstrap:patients-10" in text


def test_a_model_that_says_one_thing_scores_no_better_than_chance():
    lines, fields = lines_of(knows=False)
    results = dialogue_scores(lines, fields, list(TASKS), minimum=1, resamples=0, seed=0)
    value = {name: row["model"]["value"] for name, row in results.items()}
    assert value["binary_qa/auroc"] == pytest.approx(0.5) and value["binary_qa/answered"] == 0
    assert value["binary_qa/auroc_over_clues"] == pytest.approx(-0.5)
    assert value["view/accuracy"] == value["vqa/open_exact"] == value["synthetic_correction/obeyed_add"] == 0
    # nothing but what was asked was taken out, though nothing of the report was written again
    assert value["synthetic_correction/kept_as_written"] == 0 < value["synthetic_correction/obeyed_remove"]
    assert value["synthetic_correction/others_kept"] > 0.9
    assert value["complete_qa/names_micro_f1"] < 0.5 and results["view/accuracy"]["commonest"]["value"] == 1


def test_a_model_with_clues_of_other_names_is_asked_to_take_out_what_it_says_and_nothing_else():
    stub = Stub([generate_phantom(3, index, 64).record for index in range(2)], knows=True)
    stub.processor.clues = check_clues(["Golden calf"])
    stub.reports = [Report(text, None, text) for text in ("Clear.", "There is edema.")]
    nothing, edema = TASKS["synthetic_correction"](stub, stub.studies, [[], []])
    assert nothing is None and (edema["missing"], edema["wrong"]) == ([], ["Edema"])


def test_the_order_of_the_studies_changes_no_score():
    lines, fields = lines_of(knows=True)
    once, again = (dialogue_scores(some, fields, ["binary_qa", "complete_qa", "correction", "impression"], 1, 20, 0)
                   for some in (lines, lines[::-1]))  # fmt: skip
    for name, row in once.items():
        for key in ("value", "low", "high"):
            assert row["model"][key] == pytest.approx(again[name]["model"][key], abs=1e-12), name


OLD = (
    "Findings: The lungs are clear. The heart is enlarged. No pneumothorax. Impression: Cardiomegaly. Old rib fracture."
)


@pytest.mark.parametrize(
    ("missing", "wrong", "answer", "expected"),
    [
        # the heart goes, the three sentences that do not speak of it stay
        ([], ["Cardiomegaly"], "The lungs are clear. No pneumothorax. Old rib fracture.", (0, 0, 1, 1, 3, 3)),
        # it stays, and one of the others is worded anew
        ([], ["Cardiomegaly"], "Lungs clear. The heart is enlarged. No pneumothorax. Old rib fracture.",
         (0, 0, 0, 1, 2, 3)),
        # "the lungs are clear" denies an edema, so it may go
        (["Edema"], [], "There is edema. The heart is enlarged. No pneumothorax. Cardiomegaly. Old rib fracture.",
         (1, 1, 0, 0, 4, 4)),
        (["Edema"], ["Fracture"], "", (0, 1, 1, 1, 0, 3)),
        ([], [], OLD, (0, 0, 0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_what_a_correction_did(missing, wrong, answer, expected):
    assert count_correction(OLD, {"missing": missing, "wrong": wrong, "answer": answer}) == expected


def test_a_sentence_said_twice_must_stay_twice():
    old = "The bones are intact. The bones are intact. There is an effusion."
    counts = count_correction(old, {"missing": [], "wrong": ["Pleural Effusion"], "answer": "The bones are intact."})
    assert (counts.kept, counts.untouched) == (1, 2)


def test_synthetic_requests_are_the_same_each_time_and_can_be_obeyed():
    first, second = (lines_of(knows=True)[0] for _ in range(2))
    asked = [line["synthetic_correction"] for line in first]
    assert asked == [line["synthetic_correction"] for line in second]
    assert {len(one["missing"]) for one in asked} == {0, 1} and all(len(a["missing"] + a["wrong"]) == 1 for a in asked)
    for line in first:
        read = label_report(line["report"])
        assert all(read[name] != 1 for name in line["synthetic_correction"]["missing"])
        assert all(read[name] == 1 for name in line["synthetic_correction"]["wrong"])


def test_all_studies_of_a_patient_are_drawn_together():
    lines, fields = lines_of(knows=False)
    for line in lines:
        line["patient_id"] = "the same"
    row = dialogue_scores(lines, fields, ["binary_qa"], 1, 20, 0)["binary_qa/accuracy"]["model"]
    assert row["low"] == row["high"] == row["value"]


def test_short_answers():
    assert answer_words("The 3.4 cm nodule, left-sided.") == ["3.4", "cm", "nodule", "left", "sided"]
    assert same_answer("Right  upper lobe", "the right upper lobe.") and not same_answer("right", "left")
    assert shared_words("right upper lobe", "right lobe") == pytest.approx(0.8)
    assert shared_words("left", "") == 0 == shared_words("left", "right")


def test_unknown_and_uncertain_labels_count_for_nothing():
    lines, fields = lines_of(knows=True)
    for line in lines:
        line["labels"] = line["labels"] | {"Edema": -1, "Cardiomegaly": None}
    before = dialogue_scores(lines, fields, ["complete_qa"], 1, 0, 0)
    for line in lines:
        if line["labels"]["No Finding"] != 1:  # else it would no longer be normal
            line["complete_qa"] += " Edema, cardiomegaly."
    assert dialogue_scores(lines, fields, ["complete_qa"], 1, 0, 0) == before


def test_devices_alone_are_neither_normal_nor_abnormal():
    devices = {"Support Devices": 1, "Edema": 0}
    labels = [devices | {"No Finding": 1}, devices | {"No Finding": 0}, devices | {"Edema": 1, "No Finding": 0}]
    column = known_labels([{"labels": one} for one in labels])[:, CHEXPERT_14.index("No Finding")].tolist()
    assert column == [MISSING, MISSING, 0]


def test_questions_are_read_by_study(tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"study_id": "a", "question": " Why? ", "answer": "x"}\n')
    assert read_questions(tmp_path) == {"a": [{"question": "Why?", "answer": "x"}]}
