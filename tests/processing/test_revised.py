"""Reports revised by their clues: what is asked of the model, what is taken, and where nothing is."""

import random

import pytest
import torch
from transformers.generation import GenerateDecoderOnlyOutput

from evaluation.predictions.chats import Chats, Question
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import RadiologyReportPipeline, TRRGProcessor, prepare_studies
from processing_trrg.report_trrg import ClueScore, Report
from processing_trrg.statements_trrg import read_statements
from processing_trrg.unmet_trrg import settle, unmet
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph

SMALL = ROOT / "hub_cards" / "trrg-small"
NAMES = (
    "No Finding",
    "Lung Opacity",
    "Edema",
    "Atelectasis",
    "Pleural Effusion",
    "Left Pleural Effusion",
    "Right Pleural Effusion",
)
PRESENT = [
    ("Atelectasis", "Lung Lesion", "Pleural Other"),
    ("Edema", "Pneumothorax", "Consolidation", "Support Devices", "Lung Opacity"),
    ("No Finding",),
]


@pytest.mark.parametrize(
    ("text", "selected", "expected"),
    [
        ("There is edema.", ["Edema"], ([], [])),
        ("There may be edema.", ["Edema"], ([], [])),
        ("No edema.", ["Edema"], (["Edema"], [])),
        ("There is edema.", [], ([], ["Edema"])),
        ("Possible edema. Edema.", ["Atelectasis"], (["Atelectasis"], ["Edema"])),
        ("The lungs are clear.", ["No Finding"], ([], [])),
        ("Clear.", ["Pleural Effusion", "Left Pleural Effusion"], (["Left Pleural Effusion"], [])),
        ("Left effusion.", ["Pleural Effusion", "Left Pleural Effusion"], ([], [])),
        ("Left effusion.", ["Pleural Effusion"], ([], [])),  # nothing tells the side
        ("Left effusion.", ["Edema"], (["Edema"], ["Pleural Effusion"])),
        ("Left effusion.", ["Pleural Effusion", "Right Pleural Effusion"],
         (["Right Pleural Effusion"], ["Left Pleural Effusion"])),
        ("There is an opacity.", [], ([], ["Lung Opacity"])),
        ("There is an opacity.", ["Edema"], (["Edema"], [])),  # an edema is one
        ("There is a mass.", [], ([], [])),  # no clue of the study
    ],
)  # fmt: skip
def test_what_a_report_owes_to_its_clues(text, selected, expected):
    clues = [ClueScore(name, 0.5, selected=name in selected) for name in NAMES]
    assert unmet(Report(text, None, text, clues), NAMES, set(NAMES)) == expected
    assert unmet(Report(text, None, text, clues), NAMES, set()) == ([], [])


@pytest.fixture(scope="module")
def write():
    model = TRRGForConditionalGeneration.from_pretrained(SMALL).eval()
    return RadiologyReportPipeline(model=model, processor=TRRGProcessor.from_pretrained(SMALL))


def scores(write, present, score):
    return {clue["name"]: score if clue["name"] in present else 0.0 for clue in write.processor.clues}


def owed(write, report):
    names = [clue["name"] for clue in write.processor.clues]
    return sum(map(len, unmet(report, names, set(names))))


def test_reports_say_what_their_clues_say_in_a_batch_as_alone(write):
    studies = [{"clue_scores": scores(write, names, 0.45)} for names in PRESENT]
    written = write(studies, batch_size=3, revise=False)
    revised = write(studies, batch_size=3)
    before, after = ([owed(write, report) for report in reports] for reports in (written, revised))
    assert sum(before) >= 3 * sum(after) and sum(before) > 3, (before, after)
    assert after[2] == 0
    for first, last in zip(written, revised, strict=True):
        assert first.as_written is None
        assert last.as_written == (None if last.text == first.text else first.text)
    assert [report.text for report in write(studies)] == [report.text for report in revised]


def test_a_talk_goes_on_from_the_revised_report(write):
    study = write({"clue_scores": scores(write, PRESENT[1], 0.45)})
    assert study.as_written and study.to_dict()["as_written"] == study.as_written
    said = [message["content"][0]["text"] for message in study.messages if message["role"] == "assistant"]
    assert len(said) > 1 and (said[0], said[-1]) == (study.as_written, study.text)
    assert study.messages[-1]["name"] == "report"
    again = write({"clue_scores": scores(write, PRESENT[1], 0.45)}, messages=study.messages)
    assert again.text == study.text and again.as_written is None  # a chat's report is never revised
    assert study.ask("Is there edema?") == again.ask("Is there edema?")
    assert study.correct(remove=["Edema"]).report.as_written is None


def test_what_is_not_the_checkpoints_own_is_asked_of_nobody(write, monkeypatch):
    calls = []
    generate = type(write.model).generate
    monkeypatch.setattr(type(write.model), "generate", lambda *a, **k: calls.append(1) or generate(*a, **k))
    foreign = {"name": "Golden calf", "positive": "There is a golden calf.", "negative": "There is no golden calf."}
    write({"clue_scores": {"Golden calf": 1.0}}, clues=[foreign])
    monkeypatch.setattr(write.model.config, "learned_dialogue", False)
    write({"clue_scores": scores(write, PRESENT[0], 0.45)})
    assert len(calls) == 2
    monkeypatch.setattr(write.model.config, "learned_dialogue", True)
    write([{"images": radiograph()}])  # a picture that it cannot read
    assert len(calls) == 3
    answered = write({"clue_scores": scores(write, PRESENT[1], 0.45), "question": "Is there a mass?"})
    assert len(calls) == 4 and answered.as_written is None  # an answer is no report


def test_of_a_report_without_a_word_the_first_one_stays_known(write, monkeypatch):
    edema = "Findings: There is edema."
    left = ["", "Findings:", edema, f"{edema} There is pneumothorax."]  # a heading alone is not taken

    def generate(self, input_ids, **_):
        said = [*write.processor.reply_ids(left.pop(0))[0].tolist(), write.processor.tokenizer.eos_token_id]
        return GenerateDecoderOnlyOutput(sequences=torch.cat([input_ids, torch.tensor([said])], 1))

    monkeypatch.setattr(type(write.model), "generate", generate)
    study = write({"clue_scores": scores(write, ("Edema", "Pneumothorax"), 0.45)})
    assert study.as_written == "" and study.text == f"{edema} There is pneumothorax."
    said = [message["content"][0]["text"] for message in study.messages if message["role"] == "assistant"]
    assert said == ["", "", edema, study.text] and study.messages[-1]["name"] == "report"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("Left effusion. No edema. No effusion on the left. Clear.", "Left effusion. No edema. Clear."),
        ("No pleural effusion. Left effusion.", "Left effusion."),
        ("Left effusion. No right effusion.", None),
        ("Left effusion. No effusion or edema on the left.", "Left effusion. There is no edema."),
        ("Clear. No pneumothorax or effusion.", "There is a left pleural effusion. Clear. There is no pneumothorax."),
        ("Left effusion. No other abnormality.", None),
        (
            "Left effusion. There is edema. There is no other pleural abnormality.",
            "Left effusion. There is no other pleural abnormality.",
        ),
        ("No left effusion.", "There is a left pleural effusion."),  # nobody else says it
        ("No edema. No left effusion. Clear.", "There is a left pleural effusion. No edema. Clear."),
        ("Left effusion. There is edema. Clear.", "Left effusion. Clear."),
        ("Left effusion. Impression: Left effusion. No acute disease.", "Left effusion. Impression: Left effusion."),
        ("Left effusion. There is edema and atelectasis.", "Left effusion."),
        (
            "Left effusion. Impression: No pleural effusion.",
            "Left effusion. Impression: There is a left pleural effusion.",
        ),
        ("Left effusion. No edema. left effusion.  No edema. Clear.", "Left effusion. No edema. Clear."),
        ("Left effusion. Right lung. Normal. Left lung. Normal.", None),
        ("Left effusion. There is pleural effusion. Clear.", "Left effusion. Clear."),
        ("There is pleural effusion. It is a left pleural effusion.", None),
        ("Left effusion. There is thickening of the pleura.", "Left effusion."),
        ("Possible effusion on the left. There is pleural effusion.", None),  # a doubt says less
        ("There is edema. Impression: Left effusion.", "There is a left pleural effusion. Impression: Left effusion."),
    ],
)
def test_what_no_correction_did_is_done_by_rule(write, monkeypatch, written, text):
    def generate(self, input_ids, **_):
        said = [*write.processor.reply_ids(f"Findings: {written}")[0].tolist(), write.processor.tokenizer.eos_token_id]
        return GenerateDecoderOnlyOutput(sequences=torch.cat([input_ids, torch.tensor([said])], 1))

    monkeypatch.setattr(type(write.model), "generate", generate)
    study = write({"clue_scores": scores(write, ("Pleural Effusion", "Left Pleural Effusion"), 0.9)})
    assert study.text == f"Findings: {text or written}"
    assert study.as_written == (f"Findings: {written}" if text else None)
    said = [message["content"][0]["text"] for message in study.messages if message["role"] == "assistant"]
    assert said[-1] == study.text and len(said) == (2 if text else 1)


KERLEY = {"name": "Kerley", "positive": "There are Kerley lines.", "negative": "There are no Kerley lines."}
CALF = {"name": "Golden calf", "positive": "There is a golden calf.", "negative": "There is no golden calf."}


@pytest.mark.parametrize(
    ("clues", "selected", "edema_stays"),
    [
        (["Pleural Effusion"], ["Pleural Effusion"], False),
        (["Pleural Effusion"], [], False),
        ([CALF], [], False),
        (["Pleural Effusion", KERLEY], ["Pleural Effusion"], False),
        (["Pleural Effusion", KERLEY], ["Pleural Effusion", "Kerley"], True),  # it is one
        (["Pleural Effusion", CALF], ["Golden calf"], True),  # who knows what that is
    ],
)
def test_a_finding_that_the_callers_list_leaves_out_is_not_stated(write, monkeypatch, clues, selected, edema_stays):
    written = "Findings: There is edema. Scoliosis."

    def generate(self, input_ids, **_):
        said = [*write.processor.reply_ids(written)[0].tolist(), write.processor.tokenizer.eos_token_id]
        return GenerateDecoderOnlyOutput(sequences=torch.cat([input_ids, torch.tensor([said] * len(input_ids))], 1))

    monkeypatch.setattr(type(write.model), "generate", generate)
    names = [clue if isinstance(clue, str) else clue["name"] for clue in clues]
    given = {name: 1.0 if name in selected else 0.0 for name in names}
    report = write({"clue_scores": given}, clues=clues)
    assert ("edema" in report.text) == edema_stays and "Scoliosis." in report.text
    assert ("There is pleural effusion." in report.text) == ("Pleural Effusion" in selected)


def test_a_finding_that_another_one_is_may_be_stated_with_it(write, monkeypatch):
    def generate(self, input_ids, **_):
        said = write.processor.reply_ids("Findings: Left basal consolidation, likely pneumonia.")[0].tolist()
        ids = torch.tensor([[*said, write.processor.tokenizer.eos_token_id]])
        return GenerateDecoderOnlyOutput(sequences=torch.cat([input_ids, ids], 1))

    monkeypatch.setattr(type(write.model), "generate", generate)
    report = write({"clue_scores": {"Pneumonia": 1.0}}, clues=["Pneumonia"])
    assert report.text == "Findings: Left basal consolidation, likely pneumonia."


EFFUSIONS = ("Pleural Effusion", "Left Pleural Effusion", "Right Pleural Effusion")


@pytest.mark.parametrize(
    ("report", "told", "expected"),
    [
        (("There is left consolidation.", None), ["Left Consolidation"], None),  # its finding alone is under its own
        (("Left and right consolidation. Clear.", None), ["Left Consolidation"],
         ("There is left consolidation. Clear.", None)),
        (("Bilateral effusions.", None), EFFUSIONS[::2], ("There is right pleural effusion.", None)),
        (("Edema and effusion are seen. Clear.", None), ["Edema"], ("There is edema. Clear.", None)),
        (("There is edema and emphysema. Clear.", None), ["Emphysema"], ("There is emphysema. Clear.", None)),
        (("There is edema.", "Edema."), ["No Finding"],
         ("There is no abnormal finding.", "There is no abnormal finding.")),
        (("There is edema.", "No acute disease."), ["Edema"], ("There is edema.", "There is edema.")),
        (("Clear.", None), ["Edema", "Emphysema"], ("There is edema. There is emphysema. Clear.", None)),
        (("There is a left opacity. The lungs are otherwise clear.", None), ["Lung Opacity"], None),
        (("The heart is normal and the lungs show edema.", None), ["Cardiomegaly", "Edema"],
         ("There is cardiomegaly. There is edema.", None)),
        (("There is pleural thickening. There is no other pleural abnormality.", None), ["Pleural Other"],
         ("There is pleural thickening.", None)),
        (("There is edema. Scoliosis.", None), ["No Finding"], ("Scoliosis.", None)),
        (("Clear.", None), ["Hernia"], None),  # its sentence is not read as a hernia
        (("The heart and lungs are normal.", None), ["Cardiomegaly"],
         ("There is cardiomegaly. There is no lung opacity.", None)),
    ],
)  # fmt: skip
def test_a_rule_brings_a_report_nearer_to_its_clues_or_leaves_it(report, told, expected):
    names = [
        "No Finding", "Cardiomegaly", "Lung Opacity", "Edema", "Emphysema", "Hernia", *EFFUSIONS,
        "Pleural Other", "Consolidation", "Left Consolidation", "Right Consolidation",
    ]  # fmt: skip
    clues = [
        {"name": name, "positive": f"There is {name.lower()}", "negative": f"There is no {name.lower()}."}
        for name in names
    ]
    clues[0]["positive"], clues[5]["positive"] = "There is no abnormal finding.", "The stomach is high."
    scores = [ClueScore(name, 0.5, selected=name in told) for name in names]
    text = " ".join(part for part in report if part)
    settled = settle(Report(*report, text, scores), names, set(names), clues)
    assert (settled and settled[1:]) == expected


def test_a_rule_never_takes_a_report_further_from_its_clues():
    processor = TRRGProcessor.from_pretrained(SMALL)
    names = [clue["name"] for clue in processor.clues]
    pool = [
        "No pneumothorax or pleural effusion.", "There is edema and a small left effusion.", "The lungs are clear.",
        "Bilateral effusions.", "The heart is enlarged.", "Heart and lungs are normal.", "No acute disease.", "Normal.",
        "Right lower lobe consolidation, possibly pneumonia.", "There is no consolidation on the left.",
        "A left nodule is seen.", "Right-sided pacemaker.", "No other abnormality.", "The bones are intact.",
    ]  # fmt: skip
    draw, settled_reports = random.Random(7), 0
    for _ in range(150):
        parts = [" ".join(draw.sample(pool, draw.randint(0, 4))) for _ in range(2)]
        told = set(draw.sample(names, draw.randint(0, 5)))
        report = Report(
            parts[0], parts[1] or None, " ".join(parts), [ClueScore(n, 0.5, selected=n in told) for n in names]
        )
        if settled := settle(report, names, set(names), processor.clues):
            after = Report(*settled[1:], " ".join(filter(None, settled[1:])), report.clues)
            assert sum(map(len, unmet(after, names, set(names)))) <= sum(map(len, unmet(report, names, set(names))))
            assert unmet(after, names, set(names))[0] == [], (report, told, after)
            denied = {
                name for said in read_statements(after, names) for name, value in said.clues.items() if value == 0
            }
            assert not denied & told, (report, told, after)
            settled_reports += 1
    assert settled_reports > 100


def test_a_list_of_sides_alone_is_read():
    names = ["Left Pleural Effusion", "Right Pleural Effusion"]
    clues = [ClueScore(name, 0.5, selected=name == names[0]) for name in names]
    assert unmet(Report("Left effusion.", None, "Left effusion.", clues), names, set(names)) == ([], [])
    assert unmet(Report("Clear.", None, "Clear.", clues), names, set(names)) == ([names[0]], [])


def test_what_revised_a_report_stands_in_the_chats_about_it_and_no_others(write, monkeypatch):
    processor = write.processor
    batch = prepare_studies(processor, [{"clue_scores": scores(write, PRESENT[1], 0.45), "study_id": "a"}])
    chats = Chats(write.model, processor, batch, max_new_tokens=100, do_sample=False)
    own = Question(0, chats.reports[0].text, "Is there edema?")

    def words(question):
        return processor.tokenizer.decode(chats._chat(question))

    assert "Please correct the report" in words(own) and chats.reports[0].as_written in words(own)
    assert "Please correct the report" not in words(own._replace(reply="Findings: Clear."))
    monkeypatch.setattr(processor, "max_length", len(chats._chat(own)))
    assert chats.reports[0].as_written not in words(own)  # forgotten, where a reply would have no room


def test_a_correction_that_is_cut_or_comes_no_nearer_is_not_taken(write):
    study = {"clue_scores": scores(write, PRESENT[1], 0.45)}
    written = write(study, revise=False, max_new_tokens=12)
    assert write(study, max_new_tokens=12).text == written.text  # every reply is cut
