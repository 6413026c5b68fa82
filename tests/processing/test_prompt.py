"""What is said to the model, and what is read from its answer."""

import json

import numpy as np
import pytest

from processing_trrg import (
    CHEXPERT_14,
    ClueScore,
    Report,
    check_clues,
    correction_request,
    follow_up,
    report_text,
    split_report,
)
from processing_trrg.prompt_trrg import (
    FINDINGS_FIELDS,
    PROMPT_STYLES,
    PromptError,
    default_clues,
    findings_sentences,
    report_messages,
)


def said(messages: list[dict]) -> str:
    """The whole chat as one string, an image as <image>."""
    return "|".join(
        message["role"]
        + ":"
        + "".join("<image>" if item["type"] == "image" else item["text"] for item in message["content"])
        for message in messages
    )


# ---------------------------------------------------------------------------------------------------------------- clues


def test_the_default_clues_are_the_14_with_a_sentence_and_its_negation():
    clues = default_clues()
    assert [clue["name"] for clue in clues] == list(CHEXPERT_14) and len(CHEXPERT_14) == 14
    sentences = [clue[sign] for clue in clues for sign in ("positive", "negative")]
    assert len(set(sentences)) == 28 and all(sentence.endswith(".") for sentence in sentences)
    assert clues[10] == {
        "name": "Pleural Effusion",
        "positive": "There is pleural effusion.",
        "negative": "There is no pleural effusion.",
    }


@pytest.mark.parametrize("count", [1, 1000])
def test_one_clue_and_a_thousand_work(count: int):
    assert len(check_clues([f"finding {index}" for index in range(count)])) == count


@pytest.mark.parametrize(
    ("clues", "reason"),
    [
        ([], "the list is empty"),
        ([""], "name of clue 0 is blank"),
        (["Edema", "  "], "name of clue 1 is blank"),
        (["Edema", "Mass", "edema "], "repeated: edema"),
        ([{"name": "Edema"}], "expected a name, a sentence, or a dict"),
        ([{"name": "Edema", "positive": "Edema.", "negative": ""}], "negative of clue 0 is blank"),
        ([{"name": "Edema", "positive": "Edema.", "negative": "Edema."}], "same positive and negative"),
        ([7], "expected a name"),
        ("Edema", "one string"),
    ],
)
def test_an_illegal_clue_list_is_refused(clues, reason: str):
    with pytest.raises(ValueError, match=reason):
        check_clues(clues)


# -------------------------------------------------------------------------------------------------------------- prompts


def test_every_style_shows_every_view_and_asks():
    for style in PROMPT_STYLES:
        for views in (1, 2, 4):
            prompt = said(report_messages(style, views, indication="cough", prior_report="clear lungs"))
            assert prompt.count("<image>") == views and "cough" in prompt and "Prior report: clear lungs" in prompt


def test_missing_and_blank_context_leaves_no_trace():
    for style in PROMPT_STYLES:
        bare = said(report_messages(style, 1))
        assert said(report_messages(style, 1, indication="", technique="  ", comparison=None)) == bare
        for word in ("None", "Indication", "Technique", "Comparison", "Prior"):
            assert word not in bare


def test_a_question_takes_the_place_of_the_request_and_keeps_the_context():
    for style in PROMPT_STYLES:
        prompt = said(report_messages(style, 1, question="Is there edema?", indication="cough"))
        assert prompt.endswith("Is there edema?") and "Indication: cough" in prompt and "rite" not in prompt


def test_maira1_asks_for_findings_given_the_indication():
    assert said(report_messages("maira1", 1, indication="fever.")).endswith(
        "<image>Describe the findings of this chest X-ray, given this indication: fever."
    )


def test_radialog_says_its_findings_before_the_request():
    prompt = said(report_messages("radialog", 1, predicted_findings=["Edema", "Pleural Effusion"]))
    assert "user:Image information: <image>. Predicted findings: edema, pleural effusion." in prompt
    assert "Predicted findings: " not in said(report_messages("radialog", 1))
    seen = {"likely_findings": ["Edema"], "possible_findings": ["Pneumonia"]}
    maybe = said(report_messages("radialog", 1, predicted_findings=["Edema"], **seen))
    assert "<image>. Predicted findings: edema. Likely findings: edema. Possible findings: pneumonia.\n" in maybe
    for name in FINDINGS_FIELDS:
        with pytest.raises(PromptError, match=f"{name}: only the prompt style 'radialog'"):
            report_messages("trrg", 1, **{name: []})
    for name, findings in seen.items():
        with pytest.raises(PromptError, match=f"{name}: they stand behind predicted_findings"):
            report_messages("radialog", 1, **{name: findings})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no common findings"),
        (["No Finding"], "no finding"),
        (["No Finding", "Support Devices"], "no finding, support devices"),
        (["No Finding", "Edema"], "edema"),
        (["No Finding", "Edema", "Support Devices"], "edema, support devices"),
    ],
)
def test_the_rules_of_the_findings_sentence(names: list[str], words: str):
    assert findings_sentences(names) == f"Predicted findings: {words}."
    assert findings_sentences(names, (), ["No Finding"]) == f"Predicted findings: {words}.", "it is there or it is not"
    maybe = findings_sentences(names, (), ["Fracture", "No Finding", "Lung Lesion", *names])
    assert maybe == f"Predicted findings: {words}. Possible findings: fracture, lung lesion."
    likely = findings_sentences(names, ["Edema", "Fracture"], ["Fracture"])
    told = "Likely findings: edema. " if "Edema" in names else ""
    assert likely == f"Predicted findings: {words}. {told}Possible findings: fracture."


def test_correction_turns_name_what_is_missing_and_what_is_wrong_but_never_no_finding():
    assert correction_request(["Edema"], ["Fracture"]) == (
        "Please correct the report: add edema and take out fracture. Change nothing else."
    )
    assert correction_request(["Edema", "No Finding"], []).startswith("There is also edema in this patient.")
    assert correction_request([], ["Lung Lesion"]).startswith("There is no lung lesion in this patient.")
    assert correction_request(["No Finding"], []) is None and correction_request([], []) is None


def test_a_follow_up_keeps_the_chat_and_changes_nothing_in_it():
    first = report_messages("radialog", 1)
    chat = follow_up(first, "Findings: clear.", "There is also edema.")
    assert [message["role"] for message in chat] == ["system", "user", "assistant", "user"]
    assert (
        chat[:2] == first
        and len(first) == 2
        and said(chat).endswith("assistant:Findings: clear.|user:There is also edema.")
    )


# -------------------------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("Findings: Clear lungs. Impression: Normal.", "Clear lungs.", "Normal."),
        ("findings: clear lungs. impression: normal.", "clear lungs.", "normal."),
        ("FINDINGS:\nClear lungs.\n\nIMPRESSION:\nNormal.", "Clear lungs.", "Normal."),
        ("findings : clear lungs impression : normal", "clear lungs", "normal"),
        ("Clear lungs. No effusion.", "Clear lungs. No effusion.", None),
        ("Findings: Clear lungs.", "Clear lungs.", None),
        ("Impression: Normal.", "", "Normal."),
        ("Clear lungs. Impression:", "Clear lungs.", None),
        ("Impression: Normal. Findings: Clear.", "Clear.", "Normal."),
        ("No other findings: the lungs are clear.", "No other findings: the lungs are clear.", None),
        ("Findings: A. Findings: B. Impression: C.", "A. B.", "C."),
        ("Impression:\u00a0Normal.", "", "Normal."),
        ("Findings:\r\nClear.\r\nImpression\u2003:\r\nNormal.\r\n", "Clear.", "Normal."),
        ("findings:\u2028Clear.\u0085impression:\tNormal.", "Clear.", "Normal."),
        ("Clear\r\nfindings\u00a0: none", "Clear none", None),
        ("", "", None),
    ],
)
def test_a_report_is_split_and_what_is_missing_is_missing(text: str, findings: str, impression: str | None):
    assert split_report(text) == (findings, impression)
    missing = Report(findings, impression, text).missing
    assert missing == [name for name, part in (("findings", findings), ("impression", impression)) if not part]


def test_report_text_and_split_report_are_inverse():
    for parts in (("Clear lungs.", "Normal."), ("Clear lungs.", None)):
        assert split_report(report_text(*parts)) == parts
    assert split_report(report_text(None, "Normal.")) == ("", "Normal.")
    with pytest.raises(ValueError, match="both are missing"):
        report_text("  ", None)


def test_a_report_becomes_json_with_and_without_its_maps():
    evidence = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    report = Report(
        "Clear.", None, "Clear.", [ClueScore("Edema", 0.25, evidence, True), ClueScore("Mass", 0.1)], complete=True
    )
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain == {
        "findings": "Clear.",
        "impression": None,
        "text": "Clear.",
        "missing": ["impression"],
        "complete": True,
        "clues": [
            {"name": "Edema", "score": 0.25, "selected": True, "answer": None},
            {"name": "Mass", "score": 0.1, "selected": False, "answer": None},
        ],
        "boxes": [],
        **dict.fromkeys(("as_written", "sentences", "left_out", "readable", "readable_score")),
    }
    maps = json.loads(json.dumps(report.to_dict(evidence=True)))["clues"]
    assert maps[0]["evidence"] == evidence.tolist() and maps[1]["evidence"] is None
