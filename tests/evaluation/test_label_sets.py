"""Label sets of the user's own: phrases read by the labeler's rules, and files that are refused with a reason."""

import pickle
from pathlib import Path

import pytest

from evaluation.metrics.count_table import CountTable
from evaluation.metrics.label_set_scores import label_set_rows, label_set_scores
from evaluation.reading.label_sets import LabelSet, read_label_set

ICU = {
    "name": "icu",
    "labels": {
        "Tracheal tube": ["endotracheal tube", "ETT", "tracheostom*"],
        "Any tube": ["*tube", "ett", "chest drain"],
        "Nipple shadow": ["nipple shadow"],
        "Effusion": ["effusion"],
        "Consolidation": ["consolidation", "no acute disease"],
    },
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ETT in place. No chest-drain or nipple shadow.", {"Tracheal tube": 1, "Any tube": 1, "Nipple shadow": 0}),
        ("The endotracheal tube has been removed.", {"Tracheal tube": 0, "Any tube": 0}),
        ("NASOGASTRIC\nTUBE tip in the stomach.", {"Any tube": 1}),
        ("Possible nipple shadow. History of tracheostomy.", {"Nipple shadow": -1}),
        ("Nipple shadow?", {"Nipple shadow": -1}),
        ("No nipple shadow, small left pleural effusion.", {"Nipple shadow": 0, "Effusion": 1}),
        ("Indication: ETT placement. Findings: no effusion. Impression: small effusion.", {"Effusion": 1}),
        ("Tubes, consolidations, effusional, xett.", {}),  # other words
        ("Consolidation on the left, no effusion.", {"Consolidation": 1, "Effusion": 0}),
        ("No acute disease.", {"Consolidation": 1}),  # a phrase with a denial in it is still a phrase
        ("", {}),
    ],
)
def test_phrases_are_read_as_findings_are(text: str, expected: dict) -> None:
    for labels in (LabelSet(ICU), pickle.loads(pickle.dumps(LabelSet(ICU)))):  # noqa: S301 - our own bytes
        assert labels.label(text) == dict.fromkeys(ICU["labels"]) | expected


def test_scores_by_hand() -> None:
    labels = LabelSet({"name": "two", "labels": {"A": ["effusion"], "B": ["edema"]}})
    pairs = [("Effusion.", "Effusion. Edema."), ("Edema.", "No edema."), ("Possible edema.", "Effusion.")]
    rows = label_set_rows([{"prediction": labels.label(one), "reference": labels.label(two)} for one, two in pairs])
    scores = label_set_scores(CountTable.from_rows(rows), labels.name, labels.labels, resamples=10)
    assert {name: score["value"] for name, score in scores.items()} == pytest.approx(
        {"label_set_average/macro": 1 / 3, "label_set_average/micro": 2 / 5, "label_set/A": 2 / 3, "label_set/B": 0}
    )
    assert [scores[f"label_set/{name}"]["support"] for name in "AB"] == [2, 1]
    changed = LabelSet({"name": "two", "labels": {"A": ["effusion"], "B": ["oedema"]}})
    assert changed.name != labels.name and changed.name.startswith("two-")  # the signature tells the sets apart


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got None; expected the two keys name and labels"),
        ("- a", "a list; expected the two keys"),
        ("name: a\nlabel: {}", "a dict; expected the two keys"),
        ("name: a\nlabels: {}", "labels is a dict; expected 1 to 200 names"),
        ("name: a|b\nlabels: {A: [x]}", r"name is 'a\|b'; expected a text of at most 60"),
        ("name:\nlabels: {A: [x]}", "name is ''; expected a text"),
        ("name: a\nlabels: {A/B: [x]}", "label is 'A/B'; expected a text"),
        ("name: a\nlabels: {A: x}", "label 'A' is 'x'; expected a list of phrases"),
        ("name: a\nlabels: {A: []}", "label 'A' is a list; expected a list of phrases"),
        ("name: a\nlabels: {A: [x, 7, ' ']}", "label 'A': phrase ' '; expected at most 100 letters of plain words"),
        ("name: a\nlabels: {A: ['a(b']}", r"phrase 'a\(b'; expected"),
        ("name: a\nlabels: {A: ['a*b']}", r"phrase 'a\*b'; expected"),
        ("name: a\nlabels: {A: ['*']}", r"phrase '\*'; expected"),
        ("name: a\nlabels: {A: [' a']}", "phrase ' a'; expected"),
        ("name: a\nlabels: {A: [" + "b" * 101 + "]}", "expected at most 100 letters"),
        ("name: a\nlabels: {A: [x], A: [y]}", "'A' is doubled; expected each name once"),
        ("name: a\nname: b\nlabels: {A: [y]}", "'name' is doubled"),
        ("name: a\nlabels: {A: [*tube]}", "YAML aliases are not read; quote a phrase"),
        ("name: a\nlabels: {A: [x", "not YAML: while parsing"),
        ("[" * 5000, "nested deeper than labels: name: phrases"),
        ("- " * 5000, "nested deeper than"),
        ("x: [" + "\n" * 5000 + "'", "not YAML"),
        ("name: a\nlabels: {A: [" + ", ".join(f"w{n}" for n in range(2001)) + "]}", "2001 phrases; at most 2000"),
        ("name: a\nlabels: {A: ['" + "x" * 2**18 + "']}", "at most 262144 are read"),
        ("name: a\nlabels: {A: [!!python/name:os.system '']}", "phrase ''; expected"),
    ],
)
def test_bad_files_stop_with_the_file_and_the_reason(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.yaml: .*{message}"):
        read_label_set(file)
