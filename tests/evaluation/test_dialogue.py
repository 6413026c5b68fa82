"""dialogue.py through its entry point, with a tiny untrained model, SYNTHETIC phantoms and made-up questions."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation import dialogue
from evaluation.predictions.chats import Chats, Question, yes_no_tokens
from evaluation.predictions.prediction_parts import PARTS, PREDICTIONS, RunError
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor, prepare_studies
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.checkpoints import read, save_checkpoint
from tests.helpers.tiny_processors import radiograph, tiny_processor
from training.builders import vqa_rad
from training.builders.builder import TreeError
from training.builders.small_data import write_set
from training.phantoms.generate import generate_phantom

STUDIES = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), "trrg")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four phantoms in two splits, the second with two views; a question of each of the first two."""
    folder = tmp_path_factory.mktemp("data")

    def records():
        for index in range(STUDIES):
            phantom = generate_phantom(7, index, 64)
            name = phantom.record["images"][0]["path"]
            Image.fromarray(phantom.image).save(folder / name)
            views = [{"path": name, "view": "frontal"}] * (2 if index == 1 else 1)
            yield dict(phantom.record) | {"images": views, "split": "test" if index < 3 else "train"}

    write_set(folder, records())
    rows = [("phantom-7-0", "Is there a nodule?", "No"), ("phantom-7-1", "Which side?", "left")]
    questions = [dict(zip(("study_id", "question", "answer"), row, strict=True)) for row in rows]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    return folder


def run(out: Path, checkpoint: Path, data: Path, *more: object) -> list[dict]:
    arguments = ["--checkpoint", checkpoint, "--data", data, "--split", "test", "--out", out, "--max-new-tokens", 8]
    dialogue.main([*map(str, arguments), "--resamples", "20", *map(str, more)])
    return read(out / PREDICTIONS)


def test_every_task_in_one_run_and_any_batch_size(checkpoint, data, tmp_path, capsys):
    lines = run(tmp_path / "a", checkpoint, data, "--train-split", "train")
    assert [line["study_id"] for line in lines] == [f"phantom-7-{index}" for index in range(3)]
    assert set(dialogue.TASKS) < set(lines[0])
    assert [line["vqa"] is None for line in lines] == [False, False, True]
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert {name.split("/")[0] for name in metrics["scores"]} == set(dialogue.TASKS)
    accuracy = metrics["scores"]["binary_qa/accuracy"]
    assert set(accuracy) == {"model", "commonest", "clues", "signature"} and metrics["commonest_of"] == "train"
    assert accuracy["model"]["low"] <= accuracy["model"]["value"] <= accuracy["model"]["high"]
    assert "patients:3" in accuracy["signature"] and "binary_qa/accuracy" in capsys.readouterr().out
    ones = run(tmp_path / "b", checkpoint, data, "--batch-size", 1)
    for line, alone in zip(lines, ones, strict=True):
        chances, other = line.pop("binary_qa"), alone.pop("binary_qa")
        assert {name: chance for name, (chance, _) in chances.items()} == pytest.approx(
            {name: chance for name, (chance, _) in other.items()}, abs=1e-5
        )
    assert ones == lines


def test_a_killed_run_goes_on_and_asks_nothing_twice(checkpoint, data, tmp_path, monkeypatch):
    tasks = ("--tasks", "complete_qa", "--batch-size", 1)
    whole = run(tmp_path / "whole", checkpoint, data, *tasks)
    asked: list[str] = []

    def watched(chats, studies, _):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.extend(study.study_id for study in studies)
        return ask(chats, studies, _)

    ask = dialogue.TASKS["complete_qa"]
    monkeypatch.setitem(dialogue.TASKS, "complete_qa", watched)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", checkpoint, data, *tasks)
    assert len(read(next((tmp_path / "cut" / PARTS).iterdir()))) == 2
    monkeypatch.setitem(dialogue.TASKS, "complete_qa", ask)
    with pytest.raises(RunError, match="other settings"):
        run(tmp_path / "cut", checkpoint, data, "--tasks", "view")
    assert run(tmp_path / "cut", checkpoint, data, *tasks) == whole


@pytest.mark.parametrize("system", ["trrg", "radialog"])
def test_one_look_for_all_questions(system, tmp_path):
    folder = save_checkpoint(tmp_path, system)
    model, processor = TRRGForConditionalGeneration.from_pretrained(folder), TRRGProcessor.from_pretrained(folder)
    looks: list[int] = []
    model.model.vision_tower.register_forward_hook(lambda *_: looks.append(1))
    batch = prepare_studies(processor, [{"images": radiograph(), "study_id": name} for name in "ab"])
    model.config.readable_weights = [0.0] * (1 + 5 * model.config.vision_hidden_size)
    model.config.readable_threshold = 1.0  # it can read nothing, and is asked about every study
    chats = Chats(model.eval(), processor, batch, max_new_tokens=4, do_sample=False)
    assert all(report.readable is False and report.text != UNREADABLE for report in chats.reports)
    questions = [Question(row, "Findings: Clear.", text) for row in (0, 1) for text in ("Any edema?", "Why?", "View?")]
    answers = chats.ask(questions)
    yes = chats.yes_or_no(questions)
    assert len(looks) == 1 and len(answers) == len(yes) == 6 and all(0 <= one.yes <= 1 for one in yes)
    assert chats.ask(questions[4:5]) == answers[4:5]
    processor.max_length = 300
    with pytest.raises(ValueError, match=r"study 'b': report and question are \d+ tokens long, max_length is 300"):
        chats.ask([questions[0], Question(1, "Findings: Clear.", "Why? " * 60)])
    processor.max_length = None
    assert chats.yes_or_no(questions[4:5])[0].yes == pytest.approx(yes[4].yes, abs=1e-5)


def test_yes_is_told_from_no_where_their_replies_part(monkeypatch):
    processor = tiny_processor()
    start, yes, no = yes_no_tokens(processor)
    for word, token in (("Yes. There is.", yes), ("No. There is none.", no)):
        assert processor.reply_ids(word)[0, : len(start) + 1].tolist() == [*start, token]
    monkeypatch.setattr(processor, "reply_ids", lambda text: torch.tensor([[7]]))
    with pytest.raises(ValueError, match="expected tokens that tell yes from no"):
        yes_no_tokens(processor)


def test_what_a_run_cannot_ask_is_told(checkpoint, data, tmp_path):
    with pytest.raises(ValueError, match="vqa: none of 2 studies has"):
        dialogue.main(
            ["--checkpoint", str(checkpoint), "--phantoms", "2", "--tasks", "vqa", "--out", str(tmp_path / "no")]
        )
    with pytest.raises(SystemExit):
        dialogue.main(
            ["--checkpoint", str(checkpoint), "--phantoms", "2", "--train-split", "x", "--out", str(tmp_path)]
        )
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "studies.jsonl").write_text((data / "studies.jsonl").read_text())
    (tmp_path / "bad" / "questions.jsonl").write_text('{"study_id": "phantom-7-0", "question": "Why?"}\n')
    with pytest.raises(ValueError, match=r"questions.jsonl:1: expected study_id, question and answer"):
        run(tmp_path / "out", checkpoint, tmp_path / "bad")


def test_vqa_rad_is_split_by_image(tmp_path):
    root = tmp_path / "rad"
    (root / "images").mkdir(parents=True)
    rows = []
    for image in range(40):
        (root / "images" / f"{image}.jpg").write_bytes(b"")
        rows += [{"image": f"images/{image}.jpg", "question": f"What {n}?", "answer": " Yes "} for n in range(3)]
    (root / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vqa_rad.main(["--root", str(root), "--out", str(tmp_path / "out")])
    studies, questions = read(tmp_path / "out" / "studies.jsonl"), read(tmp_path / "out" / "questions.jsonl")
    assert len(studies) == len({study["study_id"] for study in studies}) == 40 and len(questions) == 120
    assert {study["split"] for study in studies} == {"train", "validation"} and questions[0]["answer"] == "Yes"
    assert (tmp_path / "out" / studies[0]["images"][0]["path"]).exists()
    for line in ("[1]", '{"image": ', "7"):
        (root / "qa.jsonl").write_text(f"{json.dumps(rows[0])}\n{line}\n")
        with pytest.raises(TreeError, match=r"qa\.jsonl:2: "):
            vqa_rad.read_vqa_rad(root)
    (root / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "images" / "3.jpg").unlink()
    with pytest.raises(ValueError, match=r"3.jpg: not there"):
        vqa_rad.read_vqa_rad(root)
