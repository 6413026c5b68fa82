"""The report labeler: negation, doubt, scope, sections, explanations, the published samples and the gold labels."""

import doctest
import json

import pytest

from evaluation import benchmark_labeler
from evaluation.reading import labeler
from evaluation.reading.labeler import (
    CHEXPERT_14,
    Mention,
    explain_report,
    label_report,
    label_reports,
    mentions,
)
from evaluation.reading.labeler_scan import SCANNERS
from evaluation.reading.labeler_scope import _METHODS
from evaluation.reading.sentences import split_sentences
from tests.helpers.labeler_cases import (
    DOUBLE_NEGATION,
    DOUBT,
    HEART,
    HISTORY,
    NEGATION,
    PHRASES,
    SCOPE_ENDS,
    expect,
    said,
)


@pytest.mark.parametrize(
    ("text", "labels"),
    NEGATION + SCOPE_ENDS + HISTORY + DOUBT + DOUBLE_NEGATION + HEART + PHRASES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sentence(text, labels):
    assert said(text) == labels


def test_the_example_of_the_module_holds():
    assert doctest.testmod(labeler) == (0, 2)


def test_every_label_is_there_and_in_order():
    assert tuple(label_report("Small effusion.")) == CHEXPERT_14


@pytest.mark.parametrize("style", [str.lower, str.upper, lambda t: t.replace(".", " .").replace(",", " ,").lower()])
def test_writing_style_does_not_matter(style):
    for text, labels in NEGATION + DOUBT + HISTORY + HEART:
        if ".2" not in text and "vs." not in text:
            assert said(style(text)) == labels, text


def test_present_wins_over_uncertain_over_absent():
    assert said("No effusion. Possible effusion.") == expect(eff=-1)
    assert said("Small effusion. No effusion. Possible effusion.") == expect(eff=1)
    assert said("Findings: No effusion. Impression: Small effusion.") == expect(eff=1)
    assert said("Findings: Small effusion. Impression: No large effusion.") == expect(eff=1)


def test_no_finding_is_blocked_by_any_abnormality_but_not_by_devices():
    assert said("Lungs are clear. Pacemaker in place.") == expect(none=1, dev=1)
    assert said("Lungs are clear. Scoliosis.") == {}
    assert said("Lungs are clear. Possible scoliosis.") == {}
    assert said("Lungs are clear. No scoliosis.") == expect(none=1)


SECTIONS = """FINAL REPORT
 INDICATION:  Man with cough, ?pneumonia

 COMPARISON:  Film with effusion.

 FINDINGS:

 The heart is normal in size and shape. There is no
 effusion. Since the film of the day before, removal of the
 PICC.
 Old rib fractures.

 IMPRESSION:  1. Mild edema.  2. No pneumothorax.

 RECOMMENDATION: CT for the nodule.
"""


def test_only_findings_and_impression_count():
    assert said(SECTIONS) == expect(heart=0, eff=0, dev=0, fx=1, edema=1, ptx=0)
    assert {m.section for m in mentions(SECTIONS)} == {"findings", "impression"}
    flat = "INDICATION: rule out edema COMPARISON: prior effusion FINDINGS: small nodule IMPRESSION: nodule"
    assert said(flat) == expect(lesion=1)
    assert said("indication : pneumonia . findings : no effusion . impression : normal .") == expect(none=1, eff=0)
    assert said("History: pneumonia\n\nSmall effusion.") == expect(eff=1)  # a blank line ends what is not counted
    # so does the report's first sentence, where no heading tells where it begins
    assert said("History: wheeze, old pneumonia. Small effusion is seen. No pneumothorax.") == expect(eff=1, ptx=0)
    assert said("Comparison: CT of a nodule. The heart is enlarged.") == expect(heart=1)
    assert said("Hx: pneumonia. Findings: Small effusion.") == expect(eff=1)
    assert said("History: Lung mass. No known history of effusion. Possible pneumonia?") == expect()
    assert said("Limited comparison: small effusion.") == expect(eff=1)


def test_lines_are_items_unless_they_are_wrapped():
    assert said("No effusion\nCardiomegaly\nMild edema") == expect(eff=0, heart=1, edema=1)
    assert said("- no effusion\n- edema") == expect(eff=0, edema=1)
    assert said("1. No effusion 2. Edema") == expect(eff=0, edema=1)
    wrapped = "The lungs are clear on both sides, and there is no evidence of a\npneumothorax or\neffusion."
    assert said(wrapped) == expect(none=1, ptx=0, eff=0)


def test_explanation_names_sentence_phrase_and_cue():
    text = "Findings: No effusion. Impression: Heart is enlarged. Pneumonia cannot be excluded. Scoliosis."
    explanation = explain_report(text)
    assert explanation.labels == label_report(text)
    decided = explanation.decided_by
    assert decided["Pleural Effusion"] == Mention("Pleural Effusion", 0, "effusion", "no", 3, "No effusion", "findings")
    assert decided["Cardiomegaly"] == Mention(
        "Cardiomegaly", 1, "heart", "enlarged", 0, "Heart is enlarged", "impression"
    )
    assert decided["Pneumonia"].cue == "cannot be excluded"
    assert decided["No Finding"].phrase == "heart"
    assert decided["Fracture"] is None
    assert [m.observation for m in explanation.mentions][-1] == "Other Abnormality"
    assert all(m.observation in CHEXPERT_14 for m in mentions(text))
    for name, value in explanation.labels.items():
        if value is not None and name != "No Finding":
            assert decided[name].polarity == value


def test_mentions_keep_each_sentence():
    found = mentions("No effusion on the right. Small effusion on the left.")
    assert [(m.observation, m.polarity, m.sentence) for m in found] == [
        ("Pleural Effusion", 0, "No effusion on the right"),
        ("Pleural Effusion", 1, "Small effusion on the left"),
    ]


def test_every_term_has_its_method_and_every_group_its_term():
    for match, terms in SCANNERS.values():
        assert match.__self__.groups == len(terms) - 1
    assert {term.kind for _, terms in SCANNERS.values() for term in terms[1:]} == set(_METHODS)


def test_sentences_keep_their_case_and_lose_their_line_breaks():
    text = "Findings: Small\n  nodule, 2.3 cm. Dr. Who agrees; no edema"
    assert [sentence for _, sentence in split_sentences(text)] == [
        "Small nodule, 2.3 cm",
        "Dr. Who agrees",
        "no edema",
    ]


def test_published_samples_agree_or_the_difference_is_argued(data_dir):
    path = data_dir / "metrics_golden" / "chexpert_labeler_samples.json"
    cases = [c for c in json.loads(path.read_text())["cases"] if not c["kind"].startswith("NEGATIVE")]
    different = {
        (row, name)
        for row, case in enumerate(cases)
        for name, value in case["labels"].items()
        if label_report(case["text"])[name] != value
    }
    assert len(cases) == 6
    assert different == set(benchmark_labeler.ARGUED)


def test_accuracy_on_gold_labels(data_dir):
    records = benchmark_labeler.read_gold(data_dir / "iu_xray" / "reports.jsonl")
    assert len(records) == 3080
    labels = list(label_reports(benchmark_labeler.gold_text(record) for record in records))
    table = benchmark_labeler.outcomes(records, labels, benchmark_labeler.GOLD, (1,))
    *_, micro, macro = benchmark_labeler.with_averages(table.sum(0, dtype=int))
    assert micro > 0.94
    assert macro > 0.93
