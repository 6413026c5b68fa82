"""What of a report is learned: no blanks, dates, people, messages; no comparison with a study that is not given."""

from collections import Counter

import pytest

from evaluation.reading.comparison_rewriting import without_comparisons
from evaluation.reading.labeler import label_report
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.targets import target_of, why_no_target


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Left XXXX opacity.", "blank of de-identification"),
        ("Tube placed by ___.", "blank of de-identification"),
        ("Seen on [**2101-3-4**].", "blank of de-identification"),
        ("Film of 3/14/2019 shows the same.", "date or time"),
        ("Nodule first seen on March 4.", "date or time"),
        ("Taken at 5:40 in the ward.", "date or time"),
        ("Line removed at 7 pm.", "date or time"),
        ("Read by Dr. Osei.", "person"),
        ("Physician: Osei.", "person"),
        ("The line was placed by Nurse Lind.", "person"),
        ("Findings discussed with the ward.", "message"),
        ("Dr Osei notified by phone at 5 pm.", "message"),
        ("Nurse Lind was informed of this.", "message"),
        ("The findings were conveyed to the surgical team at once.", "message"),
        ("The on-call resident was made aware.", "message"),
        ("We will follow up with the team.", "promise"),
        ("An addendum will be issued.", "promise"),
        ("No effusion.", None),
        ("There may be 2 nodules.", None),
        ("Fracture of ribs 4-6, T11/12 disc disease, 12/33 by ratio.", None),
        ("Follow-up CT in 3 months is recommended.", None),
        ("Mr-compatible pacemaker, sister lesion at the base.", None),
    ],
)
def test_a_sentence_is_learned_or_not_for_a_reason(sentence, reason):
    assert why_no_target(sentence) == reason


def test_sentences_are_taken_out_and_counted():
    removed = Counter[str]()
    text = "1. Small effusion.  2. Called to Dr. Osei at 5 pm. 3. Normal x-XXXX. 4. healed rib fracture."
    assert target_of(text, removed) == "Small effusion. Healed rib fracture."
    assert removed == {"message": 1, "blank of de-identification": 1}
    assert target_of("XXXX.", removed) is None
    untouched = "1. Small effusion.  2. No pneumothorax."
    assert (target_of(untouched, removed), target_of(None, removed)) == (untouched, None)


@pytest.mark.parametrize(
    ("report", "rewritten"),
    [
        ("Moderate cardiomegaly is unchanged.", "Moderate cardiomegaly is present."),
        ("Persistent small right effusion, larger than before.", "Small right effusion."),
        ("The lungs remain clear.", "The lungs are clear."),
        ("Again noted is a calcified nodule.", "There is a calcified nodule."),
        ("There has been interval development of right basal consolidation.", "Right basal consolidation."),
        ("An unchanged old fracture is seen.", "An old fracture is seen."),
        ("No change in the large hiatus hernia.", "Large hiatus hernia."),
        ("The heart is normal in size, stable compared with the film of last week.", "The heart is normal in size."),
        ("Interval resolution of the left pneumothorax.", "No left pneumothorax."),
        ("No pneumothorax. Mediastinal contours are stable.", "No pneumothorax."),
        ("Increased left effusion. No prior film is available.", "Left effusion. No prior film is available."),
        ("The previously seen nodule has grown.", "The nodule is present."),
        ("Heart size normal, stable hilar contours.", "Heart size normal."),
        ("Heart size is stable, no effusion.", "No effusion."),
        ("Left pneumothorax has decreased, now tiny.", "Left pneumothorax is present."),
        ("There is stable, moderate cardiomegaly.", "There is moderate cardiomegaly."),
    ],
)
def test_a_comparison_is_rewritten_and_the_labels_stay(report, rewritten):
    (text,) = without_comparisons(report)
    assert text == rewritten
    assert not comparison_sentences(text)
    assert label_report(text) == label_report(report)


def test_findings_and_impression_are_one_report():
    findings, impression = without_comparisons("Mild cardiomegaly. Lungs clear.", "1. Stable chest.")
    assert (findings, impression) == ("Mild cardiomegaly. Lungs clear.", None)
    assert without_comparisons("No effusion.", None) == ("No effusion.", None)
