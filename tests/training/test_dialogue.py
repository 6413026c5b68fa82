"""Turns after the report: what is asked and what is learned."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.reading.labeler import asserts, label_report
from evaluation.reading.observations import ancestors, positives
from evaluation.reading.sentences import cut_sentences
from processing_trrg import report_text
from processing_trrg.prompt_trrg import default_clues
from tests.helpers.training_helpers import make_data, stage_2, write_config
from training.config.run_config import ConfigError, FinetuneConfig, load_config
from training.data.collate import FinetuneCollator
from training.data.corrections import WORDS, bare
from training.data.dialogue import make_exchange
from training.data.examples import Examples, SourceData
from training.data.report_edits import Change, apply, as_text
from training.data.sampler import Draw
from training.data.study import Study
from training.phantoms.generate import generate_phantom
from training.run.initial_model import build_config, build_processor

STUDY = Study(
    "s", "p", "train",
    findings="There is a left pleural effusion. The heart is enlarged. No pneumothorax. The bones are intact.",
    impression="Left pleural effusion.",
    images=[{"path": "a.png", "view": "frontal"}],
)  # fmt: skip
LABELS = label_report(f"{STUDY.findings} {STUDY.impression}")


def exchange(kind, study=STUDY, labels=LABELS, seed=0, **options):
    return make_exchange(kind, study, labels, default_clues(), label_report, np.random.default_rng(seed), **options)


def test_questions_are_answered_from_the_record():
    assert exchange("findings_qa").answer == "Cardiomegaly, pleural effusion."
    assert exchange("findings_qa", labels={"No Finding": 1, "Edema": 0}).answer == "No common findings."
    answers = {exchange("finding_qa", seed=seed).answer for seed in range(200)}
    assert answers >= {"Yes. There is cardiomegaly.", "No. There is no pneumothorax."}
    assert answers >= {"Yes. There is left pleural effusion.", "No. There is no right pleural effusion."}
    assert exchange("view").answer == "This is a frontal view."
    impression = exchange("impression")
    assert impression.answer == "Left pleural effusion." and "Impression" not in impression.reply


def test_with_chances_an_answer_says_yes_as_often_as_they_tell():
    """Whatever the label: each finding is asked for as often as any other."""
    labels = {"Edema": 0, "Pneumothorax": 1, "Fracture": None, "No Finding": 0}
    chances = {"Edema": 0.9, "Pneumothorax": 0.2, "Fracture": 0.0, "No Finding": 1.0}
    answers = Counter(exchange("finding_qa", labels=labels, seed=seed, chances=chances).answer for seed in range(600))
    yes, no = answers["Yes. There is edema."], answers["No. There is no edema."]
    assert 150 < yes + no < 250 and 0.82 < yes / (yes + no) < 0.97
    yes, no = answers["Yes. There is pneumothorax."], answers["No. There is no pneumothorax."]
    assert 150 < yes + no < 250 and 0.1 < yes / (yes + no) < 0.3
    assert answers["No. There is no fracture."] > 150 and len(answers) == 5


def test_a_study_without_an_answer_has_no_exchange():
    assert exchange("findings_qa", labels={"Edema": None}) is None
    assert exchange("finding_qa", labels={"Edema": -1}) is None
    assert exchange("impression", study=replace(STUDY, impression="  ")) is None
    assert exchange("view", study=replace(STUDY, images=[])) is None
    assert exchange("correction", labels={}) is None


def reports(count):
    """Phantoms with the labels of their reports."""
    for index in range(count):
        record = generate_phantom(3, index, 64).record
        yield record, label_report(report_text(record["findings"], record["impression"]))


def lines(report):
    return list(cut_sentences(report.replace("Findings:", "\n\n").replace("Impression:", "\n\n")))


NAMES = {name: {word.removeprefix("another ").removeprefix("an ").removeprefix("a ") for word in words} | {name.lower()}
         for name, words in WORDS["names"].items()}  # fmt: skip


def test_a_correction_changes_what_is_asked_and_nothing_else():
    seen, both_ways = Counter(), set()
    for index, (record, labels) in enumerate(reports(160)):
        made = exchange("correction", record, labels, seed=index)
        if made is None:
            continue
        true = " ".join(lines(report_text(record["findings"], record["impression"])))
        old, new = label_report(made.reply), label_report(made.answer)
        changed = {name for name in old if old[name] != new[name]} - {"No Finding"}
        changed -= {parent for name in changed for parent in ancestors(name)}
        asked = {name for name in NAMES if any(word in made.question.lower() for word in NAMES[name])}
        assert changed <= asked and len(changed) <= 3, made
        before, after = lines(made.reply), lines(made.answer)
        about = {n for n in old if n in asked or any(n in ancestors(name) for name in asked)}
        for line in {*before} ^ {*after}:
            assert about & {n for n, v in label_report(line).items() if v is not None} or not asserts(line), (
                line,
                made,
            )
        both_ways |= {(" ".join(before) == true, " ".join(after) == true)}
        seen += Counter("there" if new[name] == 1 else "denied" if new[name] == 0 else "gone" for name in changed)
        seen["side"] += not changed
        seen["several"] += len(changed) > 1
    assert both_ways == {(True, False), (False, True)}  # the report was wrong, or the user overrules a true one
    assert min(seen[what] for what in ("there", "denied", "gone", "side", "several")) > 5, seen


def test_a_finding_that_is_put_in_has_its_article():
    made = (exchange("correction", record, labels, seed=index) for index, (record, labels) in enumerate(reports(80)))
    said = " ".join(correction.answer for correction in made if correction)
    assert "There is a lung lesion." in said and "There is cardiomegaly." in said
    for bare_noun in ("lung lesion", "lung opacity", "fracture", "pneumothorax", "pleural effusion"):
        assert f"There is {bare_noun}." not in said


def test_a_denied_finding_is_denied_and_one_to_take_out_leaves_no_trace():
    said = {}
    for seed in range(300):
        made = exchange("correction", seed=seed)
        if made.reply.startswith("Findings: There is a left pleural effusion. The heart is enlarged. No pneumo"):
            said.setdefault(made.answer, made.question)
    gone = [q for a, q in said.items() if "effusion" not in a.lower() and "bones are intact" in a]
    denied = [q for a, q in said.items() if "There is no pleural effusion." in a]
    assert any(word in question.lower() for question in gone for word in ("take out", "remove", "drop", "not mention"))
    assert any(word in question.lower() for question in denied for word in ("no ", "not have", "isn't", "cannot find"))
    assert any("right pleural effusion" in answer and "left" not in answer for answer in said)


def test_what_an_added_finding_contradicts_goes_and_the_rest_of_the_sentence_stays():
    text = "Cardiomegaly and pulmonary edema. No pneumothorax or effusion. The lungs are clear."
    study = replace(STUDY, findings=text, impression="Normal chest.")
    clues = {clue["name"]: clue for clue in default_clues()}
    report = {"findings": list(cut_sentences(text)), "impression": ["Normal chest."]}

    def changed(act, name, sentence=""):
        return as_text(apply(report, Change(act, name, "", sentence=sentence), clues))

    there = "There is pleural effusion."
    assert changed("add", "Pleural Effusion", there) == (
        f"Findings: Cardiomegaly and pulmonary edema. {there} No pneumothorax. The lungs are clear. Impression: {there}"
    )
    assert "Findings: Cardiomegaly. No pneumothorax or effusion." in changed("drop", "Edema")
    assert "lungs are clear" not in changed("add", "Consolidation", "There is consolidation.")
    assert apply({**report, "findings": ["Edema enlarges the heart."]}, Change("drop", "Edema", ""), clues) is None
    assert exchange("correction", replace(study, findings=None, impression="  ")) is None


def test_sentences_that_spoil_a_report_come_from_the_pool():
    def pool(name, value):
        return f"Pool: there is {name.lower()}."

    made = [make_exchange("correction", STUDY, LABELS, default_clues(), label_report, np.random.default_rng(seed), pool)
            for seed in range(100)]  # fmt: skip
    assert any("Pool" in one.reply for one in made if one) and not any("Pool" in one.answer for one in made if one)


def test_each_kind_has_many_questions_and_each_name_is_read_as_its_finding():
    assert all(len(set(wordings)) >= 10 for wordings in WORDS["questions"].values())
    assert all(len(set(WORDS["requests"][act])) >= 10 for act in ("add", "deny", "drop", "side"))
    for name, words in WORDS["names"].items():
        for word in words:
            assert (
                label_report(f"There is {word}.")[name] == 1 and label_report(f"There is no {bare(word)}.")[name] == 0
            )


def test_the_side_of_another_finding_is_not_asked_for():
    study = replace(STUDY, findings="Pleural effusion with right pneumothorax.", impression=None)
    questions = {exchange("finding_qa", study, {"Pleural Effusion": 1}, seed).question for seed in range(40)}
    assert len(questions) > 5 and not any("right" in question or "left" in question for question in questions)


def test_a_region_is_told_in_the_sentences_of_the_report():
    answers = {exchange("region_qa", seed=seed).answer for seed in range(60)}
    assert {
        "The heart is enlarged.",
        "The bones are intact.",
        "There is a left pleural effusion. No pneumothorax.",
    } <= answers
    assert all(answer in f"{STUDY.findings} There is a left pleural effusion. No pneumothorax." for answer in answers)


def test_easy_language_and_summary_keep_the_labels():
    for record, labels in reports(60):
        report = report_text(record["findings"], record["impression"])
        easy, short = (exchange(kind, record, labels) for kind in ("easy_language", "summary"))
        assert label_report(easy.answer) == label_report(report) and easy.answer != report
        assert positives(label_report(short.answer)) == positives(label_report(report))
        assert len(short.answer) < len(report)
    study = replace(STUDY, findings="There is a pneumothorax. The aorta is tortuous.", impression=None)
    easy = exchange("easy_language", study, {}).answer
    assert "air leak around the lung (pneumothorax)" in easy and "main artery is winding" in easy
    assert exchange("summary", study, {}).answer == "There is a pneumothorax. The aorta is tortuous."[:24]
    assert exchange("easy_language", replace(STUDY, findings="The heart is big.", impression=None)) is None


def test_an_explanation_says_where_and_quotes_the_report():
    study = replace(STUDY, findings="There is a small nodule in the right upper lobe.", impression=None)
    answer = exchange("explanation", study, {"Lung Lesion": 1}).answer
    assert answer.startswith(f"It is seen on the right, in the upper zone. {study.findings} ")
    assert exchange("explanation", study, {"Edema": 1}) is None


def test_details_are_those_of_the_report():
    study = replace(
        STUDY, findings="A 12 mm nodule is in the right upper lobe. Moderate cardiomegaly.", impression=None
    )
    labels = {"Lung Lesion": 1, "Cardiomegaly": 1}
    answers = {exchange("detailed_qa", study, labels, seed).answer for seed in range(60)}
    assert answers == {"On the right.", "12 mm.", "In the upper zone.", "Moderate."}
    assert exchange("detailed_qa", replace(STUDY, findings="Edema.", impression=None), {"Edema": 1}) is None


def test_dialogue_reaches_the_batch_and_only_the_answer_is_learned(tmp_path):
    make_data(tmp_path / "data")
    raw = stage_2(tmp_path / "data", tmp_path / "run")
    raw["data"]["dialogue"] = {"findings_qa": 0.5, "correction": 0.5}
    config = load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
    processor = build_processor(config.model, build_config(config.model))
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.train[:1]]
    sources[0].images.prepare()
    examples = Examples(sources, config.data, seed=0, training=True)
    drawn = [examples[Draw(0, i, 0, i)] for i in range(4)]
    assert any(example.exchanges for example in drawn)
    batch = FinetuneCollator(processor)(drawn)
    for row, example in enumerate(drawn):
        labels = batch["labels"][row]
        learned = processor.tokenizer.decode(labels[labels >= 0], skip_special_tokens=True)
        report = report_text(example.record.findings, example.record.impression)
        if example.exchanges:
            (turn,) = example.exchanges
            heard = torch.cat([processor.reply_ids(turn.reply), processor.turn_ids(turn.question)], 1)[0].tolist()
            row_ids = batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist()
            answer = [*processor.reply_ids(turn.answer)[0].tolist(), processor.tokenizer.eos_token_id]
            assert row_ids[-len(heard + answer) :] == heard + answer
            before = processor.tokenizer.decode(row_ids[: -len(heard + answer)])
            assert before.endswith("Assistant:")
            chat = f"{before} {turn.reply}"  # as a template writes it: cut into the same ids
            assert processor.tokenizer(chat, add_special_tokens=False)["input_ids"] == (
                row_ids[: -len(heard + answer)] + processor.reply_ids(turn.reply)[0].tolist()
            )
            said = turn.reply.split() if turn.reply.split() == report.split() else []  # a spoiled report is not learned
            assert learned.split() == said + turn.answer.split()
            assert [i for i in labels.tolist() if i >= 0].count(processor.tokenizer.eos_token_id) == 1 + bool(said)
        else:
            assert learned.split() == report.split()
    again = [examples[Draw(0, i, 0, i)].exchanges for i in range(4)]
    assert again == [example.exchanges for example in drawn]
    reports = Examples(sources, config.data, seed=0, training=False)
    assert not reports[Draw(0, 0, 0, 0)].exchanges  # validation is of reports


def test_in_a_conversation_every_reply_is_learned_and_every_question_is_about_the_study_s_own_report(tmp_path):
    make_data(tmp_path / "data")
    raw = stage_2(tmp_path / "data", tmp_path / "run")
    raw["data"] |= {"dialogue": {"finding_qa": 0.4, "view": 0.4, "correction": 0.2}, "turns": 4}
    config = load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
    processor = build_processor(config.model, build_config(config.model))
    sources = [SourceData(s, config.data, processor.clues, processor.image_processor) for s in config.data.train[:1]]
    sources[0].images.prepare()
    examples = Examples(sources, config.data, seed=0, training=True)
    drawn = [examples[Draw(0, i % len(sources[0]), i // len(sources[0]), i)] for i in range(48)]
    chats = [example for example in drawn if len(example.exchanges) > 1]
    assert {len(example.exchanges) for example in drawn} <= {0, 1, 2, 3, 4} and len(chats) > 6
    assert any(example.exchanges[0].corrects for example in chats)
    for example in chats:
        assert len({exchange.question for exchange in example.exchanges}) == len(example.exchanges)
        report = report_text(example.record.findings, example.record.impression).split()
        for place, exchange in enumerate(example.exchanges):
            opens, ends = place == 0, place == len(example.exchanges) - 1
            assert opens or exchange.reply.split() == report
            assert ends or not exchange.corrects or exchange.answer.split() == report
        batch = FinetuneCollator(processor)([example])
        learned = batch["labels"][0][batch["labels"][0] >= 0]
        is_own = example.exchanges[0].reply.split() == report
        replies = [*([report] if is_own else []), *(exchange.answer.split() for exchange in example.exchanges)]
        said = processor.tokenizer.decode(learned, skip_special_tokens=True)
        assert said.split() == [word for reply in replies for word in reply]
        assert learned.tolist().count(processor.tokenizer.eos_token_id) == len(replies)


@pytest.mark.parametrize("shares", [{"knowledge": 0.1}, {"view": -0.1}, {"view": 0.6, "impression": 0.6}])
def test_impossible_shares_are_refused(tmp_path, shares):
    raw = stage_2(tmp_path / "data", tmp_path / "run")
    raw["data"]["dialogue"] = shares
    with pytest.raises(ConfigError, match=r"data\.dialogue"):
        load_config(FinetuneConfig, write_config(raw, tmp_path / "c.yaml"), [])
