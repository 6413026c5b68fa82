"""Reports in other words: kept only where they say the same; a run may be cut short."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evaluation.reading.labeler import label_report
from evaluation.reading.sentences import cut_sentences
from tests.helpers.models import TINY_TEXT
from tests.helpers.stub_chat_server import stub_server
from tests.helpers.tiny_processors import tiny_processor
from training.builders import paraphrases
from training.builders.chat_model import LocalModel
from training.builders.small_data import write_set
from training.data.study import Study
from training.phantoms.generate import generate_phantom
from training.phantoms.scoring import report_sides

REPORT = {"findings": "There is a left pleural effusion. No pneumothorax.", "impression": "Left pleural effusion."}


def records(number=3):
    return [Study(f"s{row}", f"p{row}", "train", **REPORT) for row in range(number)]


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def reword(texts):
    return [text.replace("There is a", "A").replace("effusion.", "effusion is present.") for _, text in texts]


def test_what_says_the_same_is_kept_and_the_rest_goes_with_its_reason(tmp_path):
    out = tmp_path / "p.jsonl"
    answers = iter([*reword(list(REPORT.items())), "Normal chest.", "No effusion.", *REPORT.values()])
    counts = paraphrases.paraphrase(records(), lambda t: [next(answers) for _ in t], out, 1, 1)
    assert counts == {"kept": 1, "rejected": {"labels changed": 1, "nothing was rewritten": 1}}
    assert read(out) == [
        {
            "study_id": "s0",
            "findings": "A left pleural effusion is present. No pneumothorax.",
            "impression": "Left pleural effusion is present.",
        }
    ]
    reasons = [row["reason"] for row in read(tmp_path / "p.rejected.jsonl")]
    assert "Pleural Effusion: 1 -> " in reasons[0] and reasons[1] == "nothing was rewritten"


@pytest.mark.parametrize(
    ("said", "rewritten"),
    [
        ("There is a left pleural effusion.", "There is a right pleural effusion."),
        ("There is a left pleural effusion.", "A pleural effusion is seen."),
        ("Possible nodule in the left lung.", "A nodule in the right lung is possible."),
        ("No left pneumothorax.", "A right pneumothorax is not seen."),
        ("Left effusion and right pneumothorax.", "Right effusion and left pneumothorax."),
    ],
)
def test_a_paraphrase_on_another_side_is_not_kept(tmp_path, said, rewritten):
    study = Study("s", "p", "train", findings=said)
    assert label_report(said) == label_report(rewritten)
    counts = paraphrases.paraphrase([study], lambda texts: [rewritten], tmp_path / "p.jsonl", 1, 1)
    assert counts == {"kept": 0, "rejected": {"sides changed": 1}}
    assert paraphrases.check(study, {"findings": f"{said} Lungs otherwise as above.", "impression": None}) is None


def test_an_empty_section_is_no_paraphrase(tmp_path):
    paraphrases.paraphrase(records(1), lambda texts: ["", *reword(texts[1:])], tmp_path / "p.jsonl", 1, 4)
    assert read(tmp_path / "p.rejected.jsonl")[0]["reason"] == "a section is empty"


def test_a_run_goes_on_where_it_was_cut_short(tmp_path):
    out, asked = tmp_path / "p.jsonl", []

    def dies_at_the_second_batch(texts):
        if asked:
            raise KeyboardInterrupt
        asked.append(texts)
        return reword(texts)

    with pytest.raises(KeyboardInterrupt):
        paraphrases.paraphrase(records(), dies_at_the_second_batch, out, 2, 2)
    with out.open("a") as file:
        file.write('{"study_id": "s1", "find')  # a kill amid writing
    paraphrases.paraphrase(records(), reword, out, 2, 2)
    assert sorted(row["study_id"] for row in read(out)) == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert paraphrases.paraphrase(records(), lambda texts: pytest.fail("asked again"), out, 2, 2)["kept"] == 6


def test_the_command_asks_a_chat_model(tmp_path, capsys):
    torch.manual_seed(0)
    tokenizer = tiny_processor("trrg").tokenizer
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    settings = {k: v for k, v in TINY_TEXT.items() if k != "model_type"} | {"vocab_size": len(tokenizer)}
    LlamaForCausalLM(LlamaConfig(**settings | {"max_position_embeddings": 512})).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_set(
        tmp_path / "data", (dict(generate_phantom(3, index, 64).record) | {"split": "train"} for index in range(3))
    )
    paraphrases.main(
        ["--data", str(tmp_path / "data"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "p.jsonl"),
         "--max-new-tokens", "4", "--batch-size", "2"]
    )  # fmt: skip
    assert '"kept": 0' in capsys.readouterr().out  # an untrained model rewrites nothing faithfully
    assert len(read(tmp_path / "p.rejected.jsonl")) == 3


def test_the_command_asks_a_server_and_asks_again_what_had_no_answer(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    write_set(tmp_path / "data", (dict(record) for record in records(4)))
    state = {"down": True}

    def answer(prompt, before):
        text = prompt.rpartition("\n")[2]
        return (500, {}, b"") if state["down"] and text == REPORT["impression"] else reword([("", text)])[0]

    with stub_server(answer) as stub:
        command = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "p.jsonl"), "--url", stub.url,
                   "--model", "m", "--retries", "0"]  # fmt: skip
        paraphrases.main(command)
        assert '"kept": 0' in capsys.readouterr().out and not read(tmp_path / "p.rejected.jsonl")
        state["down"] = False
        paraphrases.main([*command, "--count", "2"])
    said = capsys.readouterr().out
    assert '"kept": 8' in said and '"asked": 16' in said  # each try is asked for, also of the same text


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    tiny_processor("trrg").tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no chat template"):
        LocalModel(str(tmp_path), 4, 1.0, 1)


def test_swapped_sentences_say_the_same(tmp_path):
    studies = [generate_phantom(3, index, 64).record for index in range(40)]
    out = tmp_path / "p.jsonl"
    paraphrases.paraphrase(studies, paraphrases.sentence_swapper(studies, seed=0), out, 2, 8)
    rows, originals = read(out), {record["study_id"]: record for record in studies}
    assert len(rows) > 40
    sentences = {s for record in studies for part in paraphrases.REPORT_PARTS for s in cut_sentences(record[part])}
    for row in rows:
        original = originals[row["study_id"]]
        assert any(row[part] != original[part] for part in paraphrases.REPORT_PARTS)
        texts = [f"{record['findings']} {record['impression']}" for record in (original, row)]
        assert label_report(texts[0]) == label_report(texts[1])
        assert report_sides(texts[0]) == report_sides(texts[1])
        assert set(cut_sentences(texts[1])) <= sentences
