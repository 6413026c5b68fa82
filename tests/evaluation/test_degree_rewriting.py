"""Reports without severities and sizes of what they claim: what goes, what stays, and that they are read the same."""

import re
import time

import pytest

from evaluation.reading.attributes import finding_attributes
from evaluation.reading.degree_rewriting import without_degrees
from evaluation.reading.labeler import label_report
from training.phantoms.follow_up import generate_followed
from training.phantoms.generate import MIN_SIZE, generate_phantom
from training.phantoms.scoring import report_changes, report_sides, told_details


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Moderate-sized right pleural effusion.", "Right pleural effusion."),
        ("The heart is mildly to moderately enlarged.", "The heart is enlarged."),
        ("Heart size is severely increased.", "Heart size is increased."),
        ("A small ill defined consolidation is seen.", "An ill defined consolidation is seen."),
        ("There is an extensive left consolidation.", "There is a left consolidation."),
        ("Left-sided pneumothorax, large.", "Left-sided pneumothorax."),
        ("There is a big effusion.", "There is an effusion."),
        ("The left pleural effusion is large.", "The left pleural effusion is present."),
        ("There are bilateral effusions, small on the left and large on the right.", "There are bilateral effusions."),
        ("There is an 8 mm nodule in the left lung.", "There is a nodule in the left lung."),
        ("A nodule measuring 1.2 x 0.8 cm in the left lung.", "A nodule in the left lung."),
        ("A small amount of pleural fluid on the left.", "Pleural fluid on the left."),
        ("Small left effusion, no large right effusion.", "Left effusion, no large right effusion."),
        ("Small left effusion (1 cm).", "Left effusion."),
        ("A small, new left effusion.", "A new left effusion."),
        ("There is mild, smooth apical pleural thickening.", "There is smooth apical pleural thickening."),
        ("The nodule is smaller than before, now small.", "The nodule is smaller than before."),
        ("Increase of the left effusion, which is now large.", "Increase of the left effusion."),
        ("No large effusion. Mild edema. 5 mm nodule.", "No large effusion. Edema. Nodule."),
    ],
)  # fmt: skip
def test_severities_and_sizes_go_from_claims(before, after):
    assert without_degrees(before) == after and without_degrees(after) == after
    assert label_report(before) == label_report(after)


@pytest.mark.parametrize(
    "text",
    [
        "No large pleural effusion or moderate pneumothorax.",
        "The heart is large.",  # the word names the finding
        "Mildly increased effusion.",  # of the change
        "Borderline cardiomegaly.",  # a doubt
        "The lungs are clear. Mild scoliosis.",  # of no finding that a clue tells
        # where a word would be left hanging, or another number
        "The left effusion is small and unchanged.", "Cardiomegaly remains moderate.", "Edema is likely mild.",
        "Left effusion has increased from small to moderate.", "There is minimal, if any, effusion.",
        "A 3-4 mm nodule.", "12 × 13 mm nodule.", "The nodule measures 4 mm.", "The nodule is 4 mm, previously 3 mm.",
        "Nodule measuring 13 mm and one measuring 16 mm.",
        # no grade of the finding
        "An effusion tracks into the minor fissure.", "Large bore catheter in place.",
        "Minimally displaced rib fracture.", "Endotracheal tube ends 4 cm above the carina.",
        "The silhouette is mildly increased since the prior study.", "\ue000 small effusion.", "",
    ],
)  # fmt: skip
def test_all_else_stays_as_it_was_written(text):
    assert without_degrees(text) == text


@pytest.mark.parametrize("draw", [generate_phantom, generate_followed])
def test_phantoms_keep_their_findings_and_sides_and_tell_no_size(draw):
    for index in range(100):
        phantom = draw(12141, index, MIN_SIZE)
        for text in filter(None, (phantom.record.findings, phantom.record.impression)):
            bare = without_degrees(text)
            assert report_sides(bare) == report_sides(text) and label_report(bare) == label_report(text)
            assert report_changes(bare) == report_changes(text)
            assert not told_details(phantom.findings, bare)["size"], bare
            assert not [name for name, said in finding_attributes(bare).items() if said.severity or said.size], bare
            assert told_details(phantom.findings, bare)["zone"] == told_details(phantom.findings, text)["zone"]
            assert not re.search(r"\b(?:is|now|which|and|an?|the)\b *[.,;]", bare), bare


@pytest.mark.parametrize(
    "piece", ["mild to ", "mild-", "small effusion and edema ", "Small effusion. ", "a 3 mm ", "large, "]
)
def test_long_texts_take_linear_time(piece):
    def seconds(length: int) -> float:
        text = f"effusion with {piece * (length // len(piece))}"
        start = time.process_time()
        without_degrees(text)
        return time.process_time() - start

    seconds(1_000)
    assert seconds(100_000) < 10 * seconds(20_000) + 2
