"""Context that holds the answer is counted, and warned of, by every builder."""

import json

import pytest

from tests.helpers.fake_trees import FINDINGS as TREE_FINDINGS
from tests.helpers.fake_trees import iu_tree, iu_xml
from training.builders import instruct, iu
from training.builders.context_leaks import LEAK, told_share
from training.builders.small_data import write_set
from training.data.study import Study

FINDINGS = "The heart is enlarged. There is a large left pneumothorax with mediastinal shift. No pleural effusion."


def study(indication, findings=FINDINGS, impression=None):
    return Study("s1", "p1", "train", indication=indication, findings=findings, impression=impression)


@pytest.mark.parametrize(
    "indication",
    [
        FINDINGS,
        "Dyspnea. XRAY SHOWED LARGE LEFT PNEUMOTHORAX, MEDIASTINAL SHIFT",
        "Known: heart enlarged, large left pneumothorax, shift, no effusion.",
        "Follow up; no pleural effusion before",
    ],
)
def test_an_indication_that_holds_a_sentence_of_the_report_is_a_leak(indication):
    assert told_share(indication, study(indication)) >= LEAK


@pytest.mark.parametrize(
    "indication",
    [
        None,
        " ",
        "Chest pain, dyspnea.",
        "Rule out pneumothorax.",
        "Pleural effusion?",
        "Fall, evaluate the left lung",
    ],
)
def test_an_ordinary_question_is_none(indication):
    assert told_share(indication, study(indication)) < LEAK


def test_the_impression_counts_and_one_word_does_not():
    told = study("Known small right effusion.", "The lungs are clear.", "Small right effusion.")
    assert told_share(told.indication, told) == 1.0
    named = study("Pneumonia.", "Opacity in the left lower lobe.", "Pneumonia.")
    assert told_share(named.indication, named) < LEAK


def test_small_sets_and_chats_count_it_and_warn(tmp_path, capsys):
    rows = [study(FINDINGS), Study("s2", "p2", "train", indication="Cough.", findings=FINDINGS)]
    counts = write_set(tmp_path / "set", rows)["context_leaks"]
    assert counts == {"indication": {"checked": 2, "holds_answer": 1, "studies": ["s1"]}}
    warned = capsys.readouterr().err
    assert "1 of 2 studies" in warned and "s1" in warned and "pneumothorax" not in warned
    for row in rows:
        row.images = [{"path": "none.png", "view": "frontal"}]
    write_set(tmp_path / "set", rows)
    instruct.main(["--data", str(tmp_path / "set"), "--out", str(tmp_path / "out")])
    manifest = json.loads((tmp_path / "out" / "train.manifest.json").read_text(encoding="utf-8"))
    assert manifest["context_leaks"] == counts


def test_a_builder_of_shards_counts_it(tmp_path, command):
    xml, images = iu_tree(tmp_path)
    told = iu_xml("CXR1", ["CXR1_1_IM-0001-4001"], indication=f"Cough. {TREE_FINDINGS}", findings=TREE_FINDINGS)
    (xml / "1.xml").write_text(told, encoding="utf-8")
    manifest = command(iu, "--xml", xml, "--images", images, "--out", tmp_path / "out")
    counted = manifest["context_leaks"]["indication"]
    assert (counted["holds_answer"], counted["studies"]) == (1, ["CXR1"]) and counted["checked"] >= 1
