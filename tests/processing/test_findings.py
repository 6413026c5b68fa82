"""Which findings a sentence states and denies."""

import pytest

from processing_trrg.findings_trrg import stated, states
from processing_trrg.prompt_trrg import CHEXPERT_14

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
    "There is a small left pleural effusion, pneumothorax: none.": (
        {"Pleural Effusion", "Left Pleural Effusion"},
        {"Pneumothorax"},
    ),
    "Mild edema and effusion: none.": ({"Edema"}, {"Pleural Effusion"}),
    "Indication: pneumonia, comparison: none.": ({"Pneumonia"}, {}),
    "No right - sided effusion or left - sided pneumothorax.": ({}, {"Pleural Effusion", "Pneumothorax"}),
    "Lack of inspiration and basilar atelectasis.": ({"Atelectasis"}, {}),
    "Nil effusion.": ({}, {"Pleural Effusion"}),
    "A visible pleural line; the pericardial effusion is old.": ({}, {}),
}


@pytest.mark.parametrize("sentence", SAID)
def test_what_a_sentence_states_and_denies(sentence):
    read = {name: states(sentence, name) for name in (*NAMES, "Left Pleural Effusion")}
    present, absent = ({name for name, value in read.items() if value is asked} for asked in (True, False))
    assert (present, absent - {"Left Pleural Effusion"}) == (set(SAID[sentence][0]), set(SAID[sentence][1]))


def test_a_text_states_what_one_of_its_sentences_does():
    assert stated("Clear. There is hernia.", "Hernia") and not stated("There is no hernia.", "Hernia")
