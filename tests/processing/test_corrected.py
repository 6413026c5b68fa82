"""A correction changes what was asked and nothing else: what is put back, what stays new."""

import random

import pytest

from processing_trrg import kept_but_for
from processing_trrg.findings_trrg import FINDING_WORDS, states
from processing_trrg.sentences_trrg import cut_sentences

OLD = ("The heart is enlarged. No pneumothorax. Small left effusion.", "Cardiomegaly.")


def corrected(after, request="add edema", add=("Edema",), remove=(), before=OLD):
    return kept_but_for(before, after, request, add, remove)


def test_what_was_asked_is_taken_as_it_was_written():
    wrote = ("The heart is enlarged. No pneumothorax. Mild edema.  Small left effusion.", "Cardiomegaly. Edema.")
    assert corrected(wrote) == wrote
    gone = ("The heart is enlarged. No pneumothorax.", "Cardiomegaly.")
    assert corrected(gone, "There is no effusion.", (), ["Pleural Effusion"]) == gone


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ("Mild edema.", "Mild edema. The heart is enlarged. No pneumothorax. Small left effusion."),
        ("No pneumothorax. Mild edema. Rib fracture.",
         "The heart is enlarged. No pneumothorax. Mild edema. Small left effusion."),
        ("The heart is big. No pneumothorax. Small left effusion. Mild edema.",
         "The heart is enlarged. No pneumothorax. Small left effusion. Mild edema."),
        ("", OLD[0]),
    ],
)  # fmt: skip
def test_sentences_that_were_not_to_change_come_back_in_their_place(findings, expected):
    assert corrected((findings, "Cardiomegaly.")) == (expected, "Cardiomegaly.")


def test_a_section_that_got_lost_keeps_what_was_not_to_change():
    assert corrected(("Edema.", None))[1] == "Cardiomegaly."
    assert corrected(("The heart is enlarged.", None), "no effusion", (), ["Pleural Effusion"]) == (
        "The heart is enlarged. No pneumothorax.", "Cardiomegaly."
    )  # fmt: skip
    assert corrected(("Edema.", None), before=("Clear lungs.", "Normal chest.")) == ("Edema.", None)


def test_all_is_normal_goes_with_a_finding_that_comes_and_may_come_with_one_that_goes():
    normal = ("The lungs are clear. Heart size is normal.", "No acute cardiopulmonary abnormality.")
    wrote = ("There is edema. Heart size is normal.", "Edema.")
    assert corrected(wrote, before=normal) == wrote
    effusion = corrected(("Pleural effusion.", "Effusion."), "add effusion", ["Pleural Effusion"], (), normal)
    assert effusion == ("Pleural effusion. The lungs are clear. Heart size is normal.", "Effusion.")
    assert corrected(normal, "take out the edema", (), ["Edema"], ("Heart size is normal. Edema.", "Edema.")) == (
        "Heart size is normal.", "No acute cardiopulmonary abnormality."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "add", "may_go"),
    [
        ("No acute bony abnormality.", "Edema", False),
        ("No soft tissue abnormality.", "Fracture", False),
        ("No pleural abnormality.", "Edema", False),
        ("No acute pulmonary abnormality.", "Cardiomegaly", False),
        ("No mediastinal abnormality.", "Pleural Effusion", False),
        ("No acute bony abnormality.", "Fracture", True),
        ("No acute pulmonary abnormality.", "Left Consolidation", True),
        ("No acute cardiac or pulmonary abnormality.", "Edema", True),
        ("No acute cardiopulmonary or bony disease.", "Edema", True),
        ("No acute abnormality.", "Edema", True),
        ("No bony abnormality.", "Golden calf", True),  # nobody knows where that is
    ],
)
def test_nothing_in_one_part_of_the_chest_is_open_to_what_is_of_that_part(sentence, add, may_go):
    said = f"There is {add.lower()}."
    for before in ((sentence, "Old scar."), ("Old scar.", sentence)):
        kept = corrected((said, "Old scar."), f"add {add.lower()}", [add], before=before)
        assert (sentence not in " ".join(map(str, kept))) == may_go


def test_what_the_request_says_in_its_own_words_is_no_change_beside_it():
    wrote = (
        "The heart is enlarged. No pneumothorax. Small left effusion. Edema. The aorta is tortuous.",
        "Cardiomegaly.",
    )
    assert corrected(wrote, "Add edema and the tortuous aorta.") == wrote
    assert "aorta" not in corrected(wrote)[0]


def test_what_is_to_be_removed_goes_also_where_the_model_left_it():
    before = ("Small left effusion. Small right effusion. Rib fracture.", "Bilateral effusions and edema.")
    left = corrected(before, "no effusion on the left", (), ["Left Pleural Effusion"], before)
    assert left == ("Small right effusion. Rib fracture.", "Bilateral effusions and edema.")
    wrote = ("There is no effusion. Small left effusion.", "Edema.")  # it took the wrong one out
    assert corrected(wrote, "no effusion", (), ["Pleural Effusion"], before) == (
        "There is no effusion. Rib fracture.", "Edema."
    )  # fmt: skip


def test_the_other_side_is_not_what_was_asked():
    both = ("There are bilateral pleural effusions. The heart is normal.", None)
    assert corrected(both, "no left effusion", (), ["Left Pleural Effusion"], both) == both
    sides = ("Left pleural effusion. Right pleural effusion.", None)
    kept = corrected(("Right lung clear.", None), "no left effusion", (), ["Left Pleural Effusion"], sides)
    assert kept[0].endswith("Right pleural effusion.") and "Left" not in kept[0]
    wrote = ("Left effusion. Right effusion.", None)
    assert corrected(wrote, "add a left effusion", ["Left Pleural Effusion"], (), ("Edema.", None)) == (
        "Left effusion. Edema.", None
    )  # fmt: skip


def test_a_word_that_the_request_shares_opens_no_other_finding():
    before = ("Moderate cardiomegaly. No effusion.", None)
    wrote = ("No cardiomegaly. Moderate left effusion.", None)
    assert corrected(wrote, "add a moderate effusion", ["Pleural Effusion"], (), before) == (
        "Moderate left effusion. Moderate cardiomegaly.", None
    )  # fmt: skip
    lungs = ("The lungs are hyperinflated. There is pneumonia.", None)
    kept = corrected(("The lungs are normal.", None), "Remove the pneumonia from the lungs.", (), ["Pneumonia"], lungs)
    assert kept == ("The lungs are hyperinflated.", None)


def test_a_correction_never_empties_a_report():
    for wrote in ("Rib fracture.", ""):  # nobody asked for a fracture
        assert corrected((wrote, None), "no edema", (), ["Edema"], ("Edema.", None)) == ("Edema.", None)


@pytest.mark.parametrize(
    ("sentence", "add", "stays"),
    [
        ("No edema.", "Edema", False),
        ("No edema or pneumothorax.", "Edema", True),  # half of it is still true
        ("The lungs are clear.", "Edema", False),
        ("The heart is normal and the lungs are clear.", "Edema", True),
        ("The cardiomediastinal silhouette is normal.", "Cardiomegaly", False),
        ("No acute cardiopulmonary disease.", "Edema", False),
        ("Negative chest.", "Lung Lesion", False),
        ("No active disease in the chest.", "Lung Lesion", True),
        ("No acute bony abnormality.", "Edema", True),
        ("No bony abnormality.", "Fracture", False),
        ("No bony abnormality.", "Golden calf", True),
        ("No acute bony abnormality.", "Fracture", True),  # it may be an old one
        ("No acute pulmonary abnormality.", "Edema", False),
        ("No acute pulmonary abnormality.", "Pneumothorax", True),
        ("Lung volumes are normal.", "Consolidation", True),
        ("No acute cardiopulmonary disease.", "Support Devices", True),
        ("Cardiomegaly without acute disease.", "Edema", True),
        ("No right effusion.", "Left Pleural Effusion", True),
        ("No effusion.", "Left Pleural Effusion", False),
        ("No golden calf.", "Golden calf", False),  # a clue of somebody else
    ],
)
def test_what_denies_the_finding_that_was_added_goes_and_nothing_else(sentence, add, stays):
    said = f"There is {add.lower()}."
    before, after = (sentence, "Old scar."), (f"{said} {sentence}", "Old scar.")
    findings = corrected(after, f"add {add.lower()}", [add], before=before)[0]
    assert findings == (f"{said} {sentence}" if stays else said)
    assert corrected(before, f"add {add.lower()}", [add], before=before) == before  # it was not added


@pytest.mark.parametrize(
    ("before", "wrote", "add", "remove", "expected"),
    [
        ("There is a left catheter.", "There are no support devices.", [], ["Right Support Devices"],
         "There is a left catheter."),
        ("Left effusion. Right effusion.", "No effusion.", [], ["Left Pleural Effusion"], "Right effusion."),
        ("Consolidation. Pneumonia.", "Consolidation. No lung opacity.", [], ["Pneumonia"], "Consolidation."),
        ("Edema. Small effusion.", "No acute disease. Small effusion.", [], ["Edema"], "Small effusion."),
        ("Edema.", "No acute disease.", [], ["Edema"], "No acute disease."),
        ("Left effusion. Right effusion.", "Left effusion. No right effusion.", [], ["Right Pleural Effusion"],
         "Left effusion. No right effusion."),
        ("Left effusion with atelectasis.", "No effusion.", [], ["Left Pleural Effusion"],
         "Left effusion with atelectasis."),
        ("The heart is big.", "The heart is big. No edema.", ["Edema"], [], "The heart is big."),
        ("No pneumothorax or effusion. There is a left pneumothorax.", "The mediastinum is widened.", [],
         ["Left Pneumothorax"], "No pneumothorax or effusion."),
    ],
)  # fmt: skip
def test_no_new_sentence_denies_what_stays(before, wrote, add, remove, expected):
    assert corrected((wrote, "Old scar."), "correct it", add, remove, (before, "Old scar."))[0] == expected


@pytest.mark.parametrize(
    ("before", "wrote", "add", "remove", "expected"),
    [
        ("Left effusion and cardiomegaly.", "Left effusion.", ["Pleural Effusion"], [],
         "Left effusion and cardiomegaly."),
        ("Bilateral effusions. Edema.", "Edema.", [], ["Left Pleural Effusion"], "Bilateral effusions. Edema."),
        ("Bilateral effusions. Edema.", "Right effusion. Edema.", [], ["Left Pleural Effusion"],
         "Right effusion. Edema."),
        ("Edema with a fracture.", "Old scar.", [], ["Edema"], "Edema with a fracture."),  # `not_done` tells
        ("Left effusion.", "Bilateral effusions.", ["Right Pleural Effusion"], [],
         "Bilateral effusions. Left effusion."),
        ("Left effusion.", "Right effusion.", ["Right Pleural Effusion"], [], "Left effusion. Right effusion."),
        ("The opacity is a pneumonia.", "No pneumonia.", [], ["Pneumonia"], "No pneumonia."),
        ("Large left effusion. Edema.", "Small effusion. Edema.", ["Pleural Effusion"], [], "Small effusion. Edema."),
        ("Left effusion and atelectasis.", "There is atelectasis at the left base.", [], ["Pleural Effusion"],
         "There is atelectasis at the left base."),
        ("Right lower lobe consolidation and effusion.", "Right effusion.", [], ["Consolidation"], "Right effusion."),
        ("There is effusion. Edema.", "There is a right effusion. Edema.", [], ["Left Pleural Effusion"],
         "There is a right effusion. Edema."),
        ("No effusion. The heart is normal.", "Small effusion with atelectasis. The heart is normal.",
         ["Pleural Effusion"], [], "No effusion. The heart is normal."),  # it says too much, so the denial stays
        ("The lungs are clear.", "An opacity suspicious for pneumonia.", ["Lung Opacity"], [], "The lungs are clear."),
        ("Left effusion.", "Bilateral effusions.", ["Pleural Effusion"], [], "Left effusion."),
    ],
)  # fmt: skip
def test_a_finding_that_was_not_to_go_never_gets_lost(before, wrote, add, remove, expected):
    findings = corrected((wrote, "Normal bones."), "correct it", add, remove, (before, "Normal bones."))[0]
    assert {*cut_sentences(findings)} == {*cut_sentences(expected)}


@pytest.mark.parametrize(
    ("wrote", "may_come"),
    [
        ("Edema and a pneumothorax.", False),
        ("Edema. Rib fracture.", False),
        ("Hazy opacities of an edema.", True),
        ("Edema, with the heart enlarged as before.", True),
    ],
)
def test_no_finding_comes_that_was_not_asked_for(wrote, may_come):
    before = ("The heart is enlarged.", "Cardiomegaly.")
    findings, _ = corrected((f"The heart is enlarged. {wrote}", "Cardiomegaly."), before=before)
    assert (wrote in findings) == may_come


SENTENCES = [
    "There is edema.", "No edema.", "Small left effusion.", "Right effusion.", "Bilateral effusions.",
    "No effusion or pneumothorax.", "The heart is enlarged.", "The heart is normal.", "Left effusion and cardiomegaly.",
    "There is a right lung nodule.", "The lungs are clear.", "No acute disease.", "Left pacemaker in place.",
    "There are no support devices.", "Consolidation in the left base, likely pneumonia.", "Old rib fracture.",
    "The trachea is midline.", "Edema and a pneumothorax.", "No right pneumothorax.", "Opacity.",
]  # fmt: skip
ASKED = ["Edema", "Cardiomegaly", "Lung Lesion", "Fracture", "Pneumothorax", "Pleural Effusion", "Support Devices"]


def test_whatever_a_model_writes_nothing_gets_lost_and_nothing_comes_in():
    """Findings without their sides, so that what is asked for, implies and stays is plain."""
    drawn = random.Random(0)

    def said(*sections):
        lines = [line for text in sections for line in cut_sentences(text or "")]
        return {name for name in FINDING_WORDS if any(states(line, name) for line in lines)}

    for _ in range(500):
        before, wrote = (
            tuple(" ".join(drawn.sample(SENTENCES, drawn.randint(*most))) for most in (first, (0, 5)))
            for first in ((1, 5), (0, 5))
        )
        asked = drawn.sample(ASKED, drawn.randint(1, 3))
        add, remove = asked[:1], asked[1:]
        if drawn.random() < 0.5:
            add, remove = [], add
        kept = kept_but_for(before, wrote, "correct it", add, remove)
        case = (before, wrote, add, remove, kept)
        assert said(*before) - {*remove} - {"Lung Opacity"} <= said(*kept), case
        assert said(*kept) <= said(*before) | {*add, "Lung Opacity", "Enlarged Cardiomediastinum"}, case
