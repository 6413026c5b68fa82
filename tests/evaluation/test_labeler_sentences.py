"""The hard sentences with their reasons, typing errors, explanations, and our conventions beside the published ones."""

import json
import re

import pytest

from evaluation import score
from evaluation.benchmark_labeler import SENTENCES, main, read_sentences
from evaluation.reading.labeler import CHEXPERT_14, label_report, mentions
from evaluation.reading.labeler_words import MENDED, mend_word
from tests.helpers.labeler_cases import expect, said
from tests.helpers.paths import ROOT

ROWS = read_sentences(SENTENCES)
KNOWN_WRONG = {"Heart size is exaggerated by AP projection but probably normal."}


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in ROWS}))
def test_hard_sentences(kind):
    wrong = {row["text"] for row in ROWS if row["kind"] == kind and label_report(row["text"]) != row["labels"]}
    assert wrong == {row["text"] for row in ROWS if row["kind"] == kind and row["text"] in KNOWN_WRONG}


def test_every_label_has_its_reason():
    assert len(ROWS) >= 300
    assert len({row["text"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert set(row["labels"]) == set(row["why"]) | set(row["labels"]) == set(CHEXPERT_14), row["text"]
        assert all(row["why"].get(name) for name, value in row["labels"].items() if value is not None), row["text"]


def test_the_command_scores_a_file(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark_labeler", "--sentences"])
    main()
    assert f"{len(ROWS)} reports, 99.9% wholly right" in capsys.readouterr().out


def test_a_letter_less_or_two_swapped_never_names_another_finding():
    for word in MENDED:
        for at in range(1, len(word)):
            swapped = word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
            for slip in (word[:at] + word[at + 1 :], swapped):
                assert mend_word(slip) in (slip, word) or mend_word(slip)[:4] == word[:4], slip


@pytest.mark.parametrize(
    "word",
    ["injection", "infusion", "diffusion", "module", "engorgement", "hemithorax", "features", "intention", "mess"],
)
def test_other_words_are_no_typing_errors(word):
    assert mend_word(word) == word


@pytest.mark.parametrize("text", ["Nil pnuemothorax, samll effuson c/w haemothorax.", "L PNA w/ effs - tumours."])
def test_a_mended_phrase_is_shown_as_it_was_written(text):
    for mention in mentions(text):
        assert mention.sentence.lower()[mention.start :].startswith(mention.phrase)
    assert [mention.phrase for mention in mentions(text)] in (
        ["pnuemothorax", "effuson", "haemothorax"],
        ["pna", "effs", "tumours"],
    )


def test_an_explanation_shows_mention_cue_scope_and_rule():
    reasons = label_report(
        "Small effusion. Nil focal consolidation. Heart is not enlarged; PNA can't be excluded.", explain=True
    )
    assert tuple(reasons) == CHEXPERT_14
    assert reasons["Consolidation"] == (
        0, "a denial before it", "consolidation", "no focal", "Nil focal consolidation", "Nil focal consolidation", ""
    )  # fmt: skip
    assert reasons["Pleural Effusion"][:5] == (1, "named, and no cue governs it", "effusion", None, "effusion")
    assert (reasons["Cardiomegaly"].cue, reasons["Cardiomegaly"].scope) == ("not enlarged", "Heart is not enlarged")
    assert (reasons["Pneumonia"].label, reasons["Pneumonia"].mention) == (-1, "pna")
    assert reasons["Fracture"] == (None, "not mentioned", None, None, None, None, None)
    assert reasons["No Finding"].mention == "effusion"


@pytest.mark.parametrize("conventions", ["trrg", "chexpert"])
def test_explanations_tell_the_same_labels(conventions):
    for row in ROWS:
        reasons = label_report(row["text"], conventions=conventions, explain=True)
        assert {name: reason.label for name, reason in reasons.items()} == label_report(row["text"], conventions)
        for reason in reasons.values():
            assert reason.mention is None or reason.mention in reason.scope.lower()


def test_other_conventions_are_refused():
    with pytest.raises(ValueError, match="'chexbert'; expected one of trrg, chexpert"):
        label_report("No effusion.", conventions="chexbert")


def _departures():
    text = (ROOT / "evaluation" / "README.md").read_text(encoding="utf-8")
    rows = text.partition("| report | ours | published | why |\n|---|---|---|---|\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


@pytest.mark.parametrize("row", _departures(), ids=lambda row: row[0])
def test_every_departure_is_as_the_readme_says(row):
    text, *sides, why = row
    assert why
    for conventions, cell in zip(("trrg", "chexpert"), sides, strict=True):
        expected = {name: int(value) for name, value in re.findall(r"([A-Z][A-Za-z ]+) (-?\d)", cell)}
        found = label_report("" if text == "(empty)" else text, conventions=conventions)
        assert {name: value for name, value in found.items() if value is not None} == expected


def test_no_denial_and_no_typing_error_is_needed_for_a_normal_report():
    assert said("Heart size and mediastinal contours are normal. Lungs are well expanded and clear.") == expect(
        none=1, heart=0, ecm=0
    )


def test_score_command_follows_the_published_conventions(tmp_path):
    line = {"study_id": "a", "prediction": "Probable pneumonia.", "reference": "Possible pneumonia."}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    options = ["--treatments", "--conventions", "wcl", "--resamples", "0"]
    for labeler, value in (("rules", 1), ("rules-chexpert", -1)):
        score.main([str(tmp_path / "predictions.jsonl"), "--out", str(tmp_path), "--labeler", labeler, *options])
        (study,) = map(json.loads, (tmp_path / "studies.jsonl").read_text().splitlines())
        assert study["prediction_labels"]["Pneumonia"] == value
        scores = json.loads((tmp_path / "metrics.json").read_text())["scores"]
        signatures = [row["signature"] for name, row in scores.items() if name.startswith("wcl")]
        assert all(f"labeler:{labeler.replace('rules', 'rules-0.3.0')}|" in signature for signature in signatures)
