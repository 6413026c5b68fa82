"""Which findings a sentence states, and which a request asks for."""

from contextlib import nullcontext

import pytest

from processing_trrg.findings_trrg import read_request, refuse_unclear, stated, states
from processing_trrg.prompt_trrg import CHEXPERT_14, PromptError, correction_request
from training.data.corrections import WORDS

NAMES = CHEXPERT_14[1:]
SAID = {
    "No effusion, edema or fracture.": ({}, {"Pleural Effusion", "Edema", "Fracture"}),
    "No edema, small left effusion.": ({"Pleural Effusion", "Left Pleural Effusion"}, {"Edema"}),
    "The heart is not enlarged.": ({}, {"Cardiomegaly"}),
    "The cardiac silhouette is moderately enlarged.": ({"Cardiomegaly"}, {}),
    "The catheter has been removed.": ({}, {"Support Devices"}),
    "No change in the right pneumothorax.": ({"Pneumothorax"}, {}),
    "Bilateral effusions.": ({"Pleural Effusion", "Left Pleural Effusion"}, {}),
    "Clear of infiltrate, but there is a nodule.": ({"Lung Lesion"}, {"Lung Opacity"}),
    "No focal consolidation, effusion, or pneumothorax is seen.": (
        {},
        {"Consolidation", "Pleural Effusion", "Pneumothorax"},
    ),
    "Pneumothorax cannot be entirely excluded; an effusion is not ruled out.": (
        {"Pneumothorax", "Pleural Effusion"},
        {},
    ),
    "Both effusions are gone; it isn't pneumonia.": ({}, {"Pleural Effusion", "Pneumonia"}),
    "Pneumothorax: none.": ({}, {"Pneumothorax"}),
    "Edema: not present.": ({}, {"Edema"}),
    "Edema: none seen.": ({}, {"Edema"}),
    "Edema: not worse.": ({"Edema"}, {}),
    "Fracture: old.": ({"Fracture"}, {}),
    "Lines and tubes: none.": ({}, {"Support Devices"}),
    "Pneumothorax, edema and effusion: none seen.": ({}, {"Pneumothorax", "Edema", "Pleural Effusion"}),
    "Edema: mild, effusion: none.": ({"Edema"}, {"Pleural Effusion"}),
    "Pneumothorax - none.": ({}, {"Pneumothorax"}),
    "No edema - small effusion.": ({"Pleural Effusion"}, {"Edema"}),
    "Pas de pneumothorax ni d'infiltrat.": ({}, {"Pneumothorax"}),  # a prior report in another language
    "Kein Pneumothorax.": ({}, {"Pneumothorax"}),
    "Pneumothorax nicht nachweisbar.": ({}, {"Pneumothorax"}),
    "Sin edema.": ({}, {"Edema"}),
    "Lack of inspiration and basilar atelectasis.": ({"Atelectasis"}, {}),
    "Nil effusion.": ({}, {"Pleural Effusion"}),
    "A visible pleural line; the pericardial effusion is old.": ({}, {}),
}


@pytest.mark.parametrize("sentence", SAID)
def test_what_a_sentence_states_and_denies(sentence):
    read = {name: states(sentence, name) for name in (*NAMES, "Left Pleural Effusion")}
    present, absent = ({name for name, value in read.items() if value is asked} for asked in (True, False))
    assert (present, absent - {"Left Pleural Effusion"}) == (set(SAID[sentence][0]), set(SAID[sentence][1]))


@pytest.mark.parametrize(
    "request_, add, remove",
    [
        ("There is no effusion on the left; mention the catheter.", ["Support Devices"], ["Left Pleural Effusion"]),
        ("Take the nodule out and add edema, atelectasis.", ["Edema", "Atelectasis"], ["Lung Lesion"]),
        ("Do not mention the fracture.", [], ["Fracture"]),
        ("The right tube is missing.", ["Right Support Devices"], []),
        ("The cardiomegaly is wrong.", [], ["Cardiomegaly"]),
        ("There is no edema, pneumonia or fracture.", [], ["Edema", "Pneumonia", "Fracture"]),
        ("Write it shorter.", [], []),
        ("Take out the pneumothorax but keep the effusion.", [], ["Pneumothorax"]),
        ("Leave the edema as it is and leave the fracture out.", [], ["Fracture"]),
        ("Don't mention the fracture.", [], ["Fracture"]),
        ("Why did you say pneumonia? It is wrong.", [], []),
        ("Remove the edema from the report.", [], ["Edema"]),
        ("Do not forget the tube; I cannot see a fracture.", ["Support Devices"], ["Fracture"]),
        ("Could you add an effusion?", ["Pleural Effusion"], []),
        ("Pneumothorax: none.", [], ["Pneumothorax"]),
        ("Get rid of the effusion.", [], ["Pleural Effusion"]),
        ("The edema should go.", [], ["Edema"]),
        ("The effusion is not on the left but on the right.", ["Right Pleural Effusion"], ["Left Pleural Effusion"]),
        ("The effusion is not on the left.", [], ["Left Pleural Effusion"]),
        ("No left effusion, but a right effusion.", ["Right Pleural Effusion"], ["Left Pleural Effusion"]),
        ("Where is the effusion? Remove it.", [], []),
        ("Can you see an edema?", [], []),
        ("Would you take out the edema?", [], ["Edema"]),
    ],
)
def test_what_free_words_ask_for(request_, add, remove):
    assert read_request(request_, NAMES) == (add, remove)


@pytest.mark.parametrize("wording", WORDS["requests"]["side"])
def test_a_finding_that_changes_sides_comes_and_goes(wording):
    asked = f"{wording.format(x='effusion', new='left', old='right')}."
    add, remove = read_request(asked, NAMES)
    may_be_both = wording == "the {x} is on the {new}"
    assert (add, remove) == (["Left Pleural Effusion"], [] if may_be_both else ["Right Pleural Effusion"])
    refuse_unclear(asked)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("Is there an edema?", "is a question"),
        ("What is the size of the heart?", "is a question"),
        ("Any effusion?", "is a question"),
        ("Can you see an edema?", "is a question"),
        ("Could you remove the edema?", None),
        ("Is there an edema? Add it.", None),
        ("Could you write it shorter?", None),
        ("Replace the edema by pneumonia.", "replace"),
        ("It is pneumonia rather than edema.", "rather than"),
        ("Pneumonia instead of edema.", "instead"),
        ("The effusion is on the wrong side.", "wrong side"),
        ("You swapped the sides.", "swapped the sides"),
        ("The effusion is on the left side.", None),
    ],
)
def test_words_that_do_not_tell_what_comes_and_what_goes_are_refused(request_, words):
    with pytest.raises(PromptError, match=words) if words else nullcontext():
        refuse_unclear(request_)


def test_the_words_of_training_are_understood():
    for missing, wrong in ((["Edema", "Fracture"], ["Lung Lesion"]), ([], ["Pneumonia"]), (["Cardiomegaly"], [])):
        assert read_request(correction_request(missing, wrong), NAMES) == (missing, wrong)
    assert stated("Clear. There is hernia.", "Hernia") and not stated("There is no hernia.", "Hernia")


@pytest.mark.parametrize("act", ["add", "deny", "drop"])
def test_every_wording_of_training_is_understood(act):
    for wording in WORDS["requests"][act]:
        asked = f"{wording.format(a='an effusion', x='effusion')}."
        add, remove = (["Pleural Effusion"], []) if act == "add" else ([], ["Pleural Effusion"])
        assert read_request(asked, NAMES) == (add, remove), asked
