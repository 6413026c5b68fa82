"""What a report says became of a finding."""

import pytest

from evaluation.reading.changes import finding_changes


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("There is a new small left effusion.", {("Pleural Effusion", "new")}),
        ("A right pneumothorax has developed since yesterday.", {("Pneumothorax", "new")}),
        ("Interval worsening of the pulmonary edema.", {("Edema", "grown")}),
        ("The effusions have increased and are now large.", {("Pleural Effusion", "grown")}),
        ("The pneumothorax is slightly smaller than on the prior film.", {("Pneumothorax", "smaller")}),
        ("The left effusion has nearly resolved.", {("Pleural Effusion", "smaller")}),
        ("Left lower lobe consolidation has cleared.", {("Consolidation", "resolved")}),
        ("The chest tube has been removed.", {("Support Devices", "resolved")}),
        ("Effusion and atelectasis are unchanged.", {("Pleural Effusion", "unchanged"), ("Atelectasis", "unchanged")}),
        ("Stable cardiomegaly.", {("Cardiomegaly", "unchanged")}),
        ("The effusion has not increased since the prior study.", {("Pleural Effusion", "unchanged")}),
        (
            "New right pneumothorax and decreased left effusion.",
            {("Pneumothorax", "new"), ("Pleural Effusion", "smaller")},
        ),
        ("No new effusion.", set()),
        ("Small effusion, larger on the right.", set()),
        ("Increased interstitial markings.", set()),
        ("Large effusion.", set()),
    ],
)
def test_a_change_is_read_with_its_finding(text, changes):
    assert {(found.observation, found.change) for found in finding_changes(text)} == changes


def test_sides_stay_with_their_change():
    [right, left] = finding_changes("The right effusion has resolved. Increased left effusion.")
    assert (right.sides, right.change, left.sides, left.change) == ({"right"}, "resolved", {"left"}, "grown")
