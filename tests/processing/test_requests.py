"""Which findings a request in free words asks to add and to remove, and which requests are refused."""

from contextlib import nullcontext

import pytest

from processing_trrg.prompt_trrg import CHEXPERT_14, PromptError, correction_request
from processing_trrg.requests_trrg import read_request, refuse_unclear
from training.data.corrections import WORDS

NAMES = CHEXPERT_14[1:]


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
        ("Could you state that there is a fracture?", ["Fracture"], []),
        ("Pneumothorax: please remove.", [], ["Pneumothorax"]),
        ("Pneumothorax - please remove.", [], ["Pneumothorax"]),
        ("The tube must go in the report.", ["Support Devices"], []),
        ("Remove the left effusion, not the right one.", [], ["Left Pleural Effusion"]),
        ("Remove the left effusion, keep the other side.", [], ["Left Pleural Effusion"]),
        ("There is no effusion on the left, and not on the right.", [], ["Left Pleural Effusion"]),
        ("It's not right, remove the left effusion.", [], ["Left Pleural Effusion"]),
        ("The catheter runs from the left subclavian vein to the right atrium.", ["Left Support Devices"], []),
        (
            "Remove the edema and move the effusion from right to left.",
            ["Left Pleural Effusion"],
            ["Edema", "Right Pleural Effusion"],
        ),
        (
            "The patient does not have an edema, and the side of the effusion is wrong, it is left.",
            ["Left Pleural Effusion"],
            ["Edema", "Right Pleural Effusion"],
        ),
        ("The effusion on the left side is wrong, remove it.", [], ["Left Pleural Effusion"]),
        ("Could you make it shorter?", [], []),
        ("No fracture and mention a cardiomegaly.", ["Cardiomegaly"], ["Fracture"]),
        ("Drop the nodule and there is no edema.", [], ["Lung Lesion", "Edema"]),
        ("I see no edema and drop the effusion.", [], ["Edema", "Pleural Effusion"]),
        ("The effusion and the edema should be removed.", [], ["Edema", "Pleural Effusion"]),
        ("Edema and effusion must go.", [], ["Edema", "Pleural Effusion"]),
        ("The edema and the effusion are not there.", [], ["Edema", "Pleural Effusion"]),
        ("The effusion and the nodule are wrong.", [], ["Lung Lesion", "Pleural Effusion"]),
        ("That is wrong, there is an effusion.", ["Pleural Effusion"], []),
        ("It's wrong, there's no effusion.", [], ["Pleural Effusion"]),
        ("No, the effusion is on the left.", ["Left Pleural Effusion"], []),
        ("The effusion isn't on the left but on the right.", ["Right Pleural Effusion"], ["Left Pleural Effusion"]),
        ("The effusion is not left but right.", ["Right Pleural Effusion"], ["Left Pleural Effusion"]),
        ("Remove edema, not effusion.", [], ["Edema"]),
        ("You left the edema out.", ["Edema"], []),
        ("You are right about the edema.", ["Edema"], []),
        ("The line ends in the right atrium, not in the left.", ["Support Devices"], []),
        ("Ignore the effusion.", [], ["Pleural Effusion"]),
        ("Is it possible to remove the edema?", [], ["Edema"]),
        ("Can the edema be removed?", [], ["Edema"]),
        ("Please tell me whether there is edema.", [], []),
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
    refuse_unclear(asked, NAMES)


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
        ("The left effusion is on the wrong side.", "wrong side"),
        ("There is also an effusion on the opposite side of the left one.", "opposite side"),
        ("Remove the left effusion; the other side is fine.", None),
        ("Add the valve replacement.", None),
        ("The PICC was replaced, please mention it.", None),
        ("Remove the pneumonia. There is edema instead.", None),
        ('Use "heart" instead of "cardiac silhouette".', None),
        ("Could you reword it?", None),
        ("\u80ba\u6c34\u816b\u3092\u8ffd\u52a0", None),
        ("from left " * 8000, None),
        ("Delete the effusion on the right and add one on the left.", "one on the left"),
        ("Add a right effusion and remove the left.", "left"),
        ("Keep the left effusion but remove the right one.", "right one"),
        ("There is no left effusion but a right one.", "right one"),
        ("Remove the left effusion, not the right one.", None),
        ("Change edema to pneumonia.", "change edema to"),
        ("The edema is actually pneumonia.", "actually"),
        ("The edema is wrong, it's pneumonia.", "wrong, it's"),
        ("Swap left and right effusion.", "swap"),
        ("Remove all findings except the effusion.", "except"),
        ("Kein Pneumothorax.", "not in English"),
        ("Retirez les nodules.", "not in English"),
    ],
)
def test_words_that_do_not_tell_what_comes_and_what_goes_are_refused(request_, words):
    with pytest.raises(PromptError, match=words) if words else nullcontext():
        refuse_unclear(request_, NAMES)


@pytest.mark.parametrize("between", WORDS["requests"]["between"])
@pytest.mark.parametrize("act", ["add", "deny", "drop"])
@pytest.mark.parametrize("side_first", [True, False])
def test_a_side_beside_another_change_is_read_as_training_words_it(act, between, side_first):
    for side in WORDS["requests"]["side"][2:]:
        for other in WORDS["requests"][act]:
            two = [side.format(x="effusion", new="left", old="right"), other.format(a="an edema", x="edema")]
            add, remove = read_request(between.join(two if side_first else two[::-1]) + ".", NAMES)
            edema = {"Edema"} if act == "add" else set()
            assert {*add} == {"Left Pleural Effusion"} | edema, two
            assert {*remove} == {"Right Pleural Effusion"} | ({"Edema"} - edema), two


@pytest.mark.parametrize("between", WORDS["requests"]["between"])
def test_two_requests_of_training_are_read_as_each_alone(between):
    acts = [(act, wording) for act in ("add", "deny", "drop") for wording in WORDS["requests"][act]]
    wrong = []
    for act, wording in acts:
        for other_act, other in acts:
            two = wording.format(a="an effusion", x="effusion"), other.format(a="an edema", x="edema")
            asked = {"Pleural Effusion": act == "add", "Edema": other_act == "add"}
            add, remove = read_request(between.join(two) + ".", NAMES)
            if {*add} != {n for n, is_added in asked.items() if is_added} or {*remove} != {*asked} - {*add}:
                wrong.append(between.join(two))
    assert not wrong


def test_the_words_of_training_are_understood():
    for missing, wrong in ((["Edema", "Fracture"], ["Lung Lesion"]), ([], ["Pneumonia"]), (["Cardiomegaly"], [])):
        assert read_request(correction_request(missing, wrong), NAMES) == (missing, wrong)


@pytest.mark.parametrize("act", ["add", "deny", "drop"])
def test_every_wording_of_training_is_understood(act):
    for wording in WORDS["requests"][act]:
        asked = f"{wording.format(a='an effusion', x='effusion')}."
        add, remove = (["Pleural Effusion"], []) if act == "add" else ([], ["Pleural Effusion"])
        assert read_request(asked, NAMES) == (add, remove), asked
