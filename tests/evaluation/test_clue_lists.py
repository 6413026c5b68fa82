"""clue_lists.py through its entry point, with a tiny untrained model; and what its sentences are."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import clue_lists
from evaluation.clue_lists import WORDS, nonsense, nonsense_scores, plain, reworded, said_scores, wording_scores
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14
from processing_trrg import ClueScore, Report, check_clues
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.tiny_processors import tiny_processor
from training.builders.small_data import phantom_records, write_set
from training.phantoms.generate import generate_phantom

TRAINING = Path(clue_lists.__file__).parents[1] / "training"


def test_every_part_is_measured(tmp_path, capsys, monkeypatch):
    assert clue_lists.SIZES == (1, 10, 100, 1000)
    monkeypatch.setattr(clue_lists, "SIZES", (1, 30))
    folder = save_checkpoint(tmp_path / "checkpoint", "trrg")
    arguments = ["--checkpoint", str(folder), "--count", "2", "--resamples", "0", "--out", str(tmp_path / "out")]
    reports = write_reports(tmp_path / "reports", train=["Clear lungs."], validation=["Basal edema, some."])
    clue_lists.main([*arguments, "--reports", str(reports)])
    part = json.loads((tmp_path / "out" / "clue_lists.json").read_text())["phantoms (SYNTHETIC)"]
    assert set(part) == {"nonsense", "wordings", "reports", "said", "sizes"} and set(part["sizes"]) == {"1", "30"}
    assert "| 30 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--data: nowhere does not exist"):
        clue_lists.main([*arguments, "--data", "nowhere"])
    with pytest.raises(SystemExit):
        clue_lists.main(["--checkpoint", str(save_checkpoint(tmp_path / "other", "maira1")), *arguments[2:]])
    assert "expected pairwise clues" in capsys.readouterr().err


def write_reports(folder, **splits):
    folder.mkdir()
    rows = [
        {"study_id": f"{split}{n}", "patient_id": f"p{n}", "split": split, "images": [], "findings": text}
        for split, texts in splits.items()
        for n, text in enumerate(texts)
    ]
    (folder / "studies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_findings_in_words_of_reports_are_new_sentences_of_one_finding(tmp_path):
    texts = ["Kerley b lines again. Right rib fracture.", "Basal edema, some. No edema. Possible pneumonia.", "Edema.",
             "An effusion on the right, again. Edema without effusion."]  # fmt: skip
    folder = write_reports(tmp_path / "reports", train=["Right rib fracture."], validation=texts)
    clues = check_clues([*CHEXPERT_14, "Right Pleural Effusion"])
    told = clue_lists.of_reports(clues, str(folder))
    assert {(clue["name"], clue["positive"]) for clue in told} == {
        ("Edema", "Kerley b lines again."), ("Edema", "Basal edema, some."),  # "Edema." is a known wording
        ("Pleural Effusion", "An effusion on the right, again."),
    }  # fmt: skip
    assert {clue["negative"] for clue in told} == {"There is no edema.", "There is no pleural effusion."}
    empty = write_reports(tmp_path / "none", train=["a"], validation=["Edema."])
    with pytest.raises(ValueError, match="no new sentence of its validation reports claims a finding"):
        clue_lists.of_reports(clues, str(empty))


def test_words_of_reports_count_by_the_mean_of_their_sentences():
    truth = np.array([[1, 1], [0, 0]] * 5)
    right, patients = truth[:, 0].astype(float), [str(n) for n in range(10)]
    told = np.stack([right, right, right, 1 - right], axis=1)
    row = clue_lists.report_scores(truth, truth.astype(float), told, [0] * 4, ["Edema", "Fracture"], patients, 5)
    assert row["findings"] == {"Edema": {"sentences": 4, "own": 1.0, "told": 0.75}}
    assert [cell["value"] for cell in row["mean"]] == [1.0, 0.75]
    assert clue_lists.report_scores(truth, truth, told, [], ["Edema", "Fracture"], patients, 5) == {}


def test_a_source_has_the_name_of_its_whole_path(tmp_path, monkeypatch):
    checkpoint, sources = str(save_checkpoint(tmp_path / "checkpoint", "trrg")), []
    monkeypatch.setattr(clue_lists, "measure", lambda write, processor, some, *rest: sources.extend(some) or {})
    for hospital in "ab":
        data = tmp_path / hospital / "nih"
        write_set(data, phantom_records(data, generate_phantom, 0, {"test": 2}, 64, 1))
        arguments = ["--data", str(data), "--split", "test", "--out", str(tmp_path / "out")]
        clue_lists.main(["--checkpoint", checkpoint, *arguments])
    assert len(set(sources)) == 3 and str(data) in sources


def test_the_sentences_are_the_measures_own():
    assert set(WORDS["wordings"]) == set(CHEXPERT_14) and len(WORDS["nonsense"]) == 40
    clues = check_clues(nonsense(1000))
    assert len({clue["positive"] for clue in clues}) == 1000 and clues[0]["negative"].startswith("There is no heron")
    files = [file for file in TRAINING.rglob("*") if file.suffix in (".py", ".json")]
    texts = [file.read_text(encoding="utf-8").lower() for file in files]
    mine = list(WORDS["nonsense"])
    mine += [sentence for pairs in WORDS["wordings"].values() for pair in pairs for sentence in pair]
    assert not [sentence for sentence in mine if any(sentence.lower() in text for text in texts)]
    assert not [text for text in texts if "evaluation.clue_lists" in text or "clue_lists.json" in text]


def test_no_nonsense_is_a_finding_to_the_labeler():
    found = {thing: label_report(f"There is {thing}.") for thing in WORDS["nonsense"]}
    assert not {t: row for t, row in found.items() if any(row[n] == 1 for n in CHEXPERT_14 if n != "No Finding")}


def test_new_words_stand_for_the_same_findings_and_are_no_own_words():
    own = tiny_processor("trrg").clues
    for number in (0, 1):
        assert [clue["name"] for clue in reworded(own, number)] == [clue["name"] for clue in plain(own)]
        assert not {c["positive"] for c in reworded(own, number)} & {c["positive"] for c in own}


def test_scores_of_invented_reports():
    def report(text: str, heard: bool) -> Report:
        clues = [ClueScore("Edema", 0.9, selected=True), ClueScore("There is a bunion.", 0.1, selected=heard)]
        return Report(text, None, text, clues)

    own = [report("There is edema.", False)] * 2
    mixed = [report("There is edema.", False), report("There is a nodule in the lung.", True)]
    scores = nonsense_scores(own, mixed, ["a", "b"], 5)
    assert scores["nonsense clues selected"]["value"] == scores["reports with other findings"]["value"] == 0.5
    truth = np.array([[1], [1], [0], [0]])
    said = said_scores(truth, [np.array([[True], [False], [True], [False]])], list("abcd"), 5)
    assert said[0]["said"]["value"] == said[0]["invented"]["value"] == 0.5
    (unknown,) = said_scores(np.full((4, 1), -100), [np.array([[True]] * 4)], list("abcd"), 5)
    assert unknown["said"] == unknown["invented"] == {"value": None, "low": None, "high": None}
    truth, names = np.repeat([1, 0], 5)[:, None], ["Edema"]
    right = np.linspace(1, 0, 10)[:, None]
    row = wording_scores(truth, [right, 1 - right], names, [str(n) for n in range(10)], 5)
    assert row["findings"] == {"Edema": [1.0, 0.0]} and row["mean"][1]["value"] == 0
