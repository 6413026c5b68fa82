"""Instruct data as chats: by rules, by a chat model whose answers are checked, and through a killed run."""

import json
import time
from multiprocessing import get_context

import pytest
import torch
from datasets import load_dataset, load_from_disk
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import positives
from processing_trrg import TRRGProcessor
from tests.helpers.hub_server import checked_card
from tests.helpers.models import TINY_TEXT
from tests.helpers.paths import ROOT
from tests.helpers.stub_chat_server import stub_server
from tests.helpers.tiny_processors import tiny_processor
from training.builders import instruct
from training.builders.instruct import KINDS, PROMPTS, answer_fault
from training.builders.small_data import write_set
from training.data.dialogue import Exchange
from training.data.study import Studies
from training.phantoms.generate import generate_phantom


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    phantoms = [generate_phantom(3, index, 64) for index in range(12)]
    records = [dict(phantom.record) | {"split": "train"} for phantom in phantoms]
    for phantom, record in zip(phantoms, records, strict=True):
        (folder / record["images"][0]["path"]).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(phantom.image).save(folder / record["images"][0]["path"])
    write_set(folder, records)
    return folder


def build(data, out, *more):
    instruct.main(["--data", str(data), "--out", str(out), *more])
    return json.loads((out / "train.manifest.json").read_text()), [
        json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()
    ]


def text_of(message):
    return "".join(item.get("text") or "" for item in message["content"])


def test_every_kind_is_made_by_rules_and_read_by_datasets_and_the_processor(data, tmp_path):
    manifest, rows = build(data, tmp_path / "out")
    assert set(manifest["chats"]) == set(KINDS) and "chat" not in manifest
    assert sum(manifest["chats"].values()) == len(rows)
    assert sum(manifest["chats"].values()) + sum(manifest["dropped"].values()) == 12 * len(KINDS)
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "out" / "train.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    processor = TRRGProcessor.from_pretrained(ROOT / "hub_cards" / "trrg-small")
    for row in (loaded[0], loaded[6]):
        prompt = processor.apply_chat_template(row["messages"])
        inputs = processor(images=[Image.open(path) for path in row["images"]], text=prompt)
        assert (inputs["input_ids"] == processor.image_token_id).any()
        assert text_of(row["messages"][-1]) in prompt
    first, turn = rows[0]["messages"], rows[6]["messages"]
    assert [message["role"] for message in first] == ["system", "user", "assistant"]
    assert [message["role"] for message in turn] == ["system", "user", "assistant", "user", "assistant"]
    assert "Predicted findings:" in text_of(first[1])
    again = build(data, tmp_path / "again")
    assert again == (manifest, rows)


def test_shards_hold_the_pictures_and_completions_the_last_turn(data, tmp_path):
    kinds = ["--kinds", "report", "correction"]
    _, rows = build(data, tmp_path, *kinds)
    _, split = build(data, tmp_path, *kinds, "--completions")
    assert [row["prompt"] + row["completion"] for row in split] == [row["messages"] for row in rows]
    assert all(len(row["completion"]) == 1 and "messages" not in row for row in split)
    for more, columns in ([], ["messages"]), (["--completions"], ["prompt", "completion"]):
        instruct.main(["--data", str(data), "--out", str(tmp_path), "--shards", *more, *kinds])
        loaded = load_from_disk(str(tmp_path / "train"))
        assert len(loaded) == len(rows) and loaded[0]["images"][0].size == (64, 64)
        assert loaded.with_format("arrow")[0]["images"][0][0]["bytes"].as_py()
        assert set(loaded.column_names) == {"study_id", "kind", "images", *columns}
    names = ["README.md", "train", "train.jsonl", "train.manifest.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    card = checked_card(tmp_path)
    assert (card.data.license, card.data.size_categories) == ("apache-2.0", "n<1K")
    assert f"| train | {len(rows)} |" in card.text and "correction, report" in card.text and "SYNTHETIC" in card.text
    assert "--shards --completions" in card.text and "| prompt, completion |" in card.text
    write_set(tmp_path / "real", [dict(vars(Studies(data, "train", 1).records[0])) | {"synthetic": False}])
    (tmp_path / "real" / "phantom-3-0.png").symlink_to(data / "phantom-3-0.png")
    instruct.main(["--data", str(tmp_path / "real"), "--out", str(tmp_path / "of-real"), *kinds])
    card = checked_card(tmp_path / "of-real")
    assert card.data.license == "other" and "whose terms hold" in card.text and "SYNTHETIC" not in card.text


def test_an_untrained_model_has_all_its_answers_dropped_and_counted(data, tmp_path):
    torch.manual_seed(0)
    tokenizer = tiny_processor("trrg").tokenizer
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    settings = {k: v for k, v in TINY_TEXT.items() if k != "model_type"} | {"vocab_size": len(tokenizer)}
    LlamaForCausalLM(LlamaConfig(**settings | {"max_position_embeddings": 2048})).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--max-new-tokens", "3", "--max-studies", "2", "--kinds", *PROMPTS]
    manifest, rows = build(data, tmp_path / "out", *options)
    assert rows == [] and sum(manifest["dropped"].values()) == 8
    assert manifest["chat"]["asked"] > 4 and manifest["chat"]["prompt_tokens"] > 0
    manifest, _ = build(data, tmp_path / "out", *options)
    assert manifest["chat"]["asked"] == 0 and manifest["chat"]["from_cache"] > 4


def ideal(data, tmp_path):
    """Prompt -> the answer that the rules give."""
    _, rows = build(data, tmp_path / "rules", "--kinds", *PROMPTS)
    answers = {}
    for row in rows:
        *_, report, question, answer = row["messages"]
        answers[instruct._prompt(row["kind"], Exchange(*map(text_of, (report, question, answer))))] = text_of(answer)
    return answers, rows


def test_good_answers_of_a_server_are_kept_and_others_dropped_and_counted(data, tmp_path):
    answers, rows = ideal(data, tmp_path)
    lies = {prompt for number, prompt in enumerate(answers) if number % 3 == 0}

    def answer(prompt, before):
        if not before and len(prompt) % 4 == 0:
            return (429, {"Retry-After": "0"}, b"") if len(prompt) % 8 else (200, {}, b'{"choices": [{"mess')
        return "There is a fracture." if prompt in lies else answers[prompt]

    with stub_server(answer) as stub:
        options = ["--url", stub.url, "--model", "m", "--kinds", *PROMPTS]
        manifest, kept = build(data, tmp_path / "out", *options)
        asked = len(stub.prompts)
        assert build(data, tmp_path / "out", *options)[1] == kept and len(stub.prompts) == asked
    assert [row for row in rows if row in kept] == kept and len(kept) == len(answers) - len(lies)
    assert sum(n for reason, n in manifest["dropped"].items() if "labels changed" in reason) == len(lies)
    assert manifest["chat"]["asked"] == len(answers) and manifest["chat"]["retries"]
    assert manifest["chat"]["completion_tokens"] == 3 * len(answers)


def test_a_run_killed_amid_its_requests_goes_on_and_asks_nothing_twice(data, tmp_path):
    answers, _ = ideal(data, tmp_path)
    hold = [False]

    def answer(prompt, before):
        time.sleep(0.02)
        return None if hold[0] else answers[prompt]

    with stub_server(answer) as stub:
        options = ["--data", str(data), "--out", str(tmp_path / "out"), "--url", stub.url, "--model", "m",
                   "--workers", "2", "--kinds", *PROMPTS]  # fmt: skip
        run = get_context("fork").Process(target=instruct.main, args=(options,))
        run.start()
        until = time.monotonic() + 60
        while len(stub.prompts) < 12:
            assert time.monotonic() < until and run.is_alive()
            time.sleep(0.01)
        hold[0] = True  # what is under way stays without an answer
        time.sleep(0.3)
        run.kill()
        run.join()
        answered = set((tmp_path / "out" / "answers.jsonl").read_text().splitlines())
        hold[0], before = False, len(stub.prompts)
        assert not (tmp_path / "out" / "train.jsonl").exists() and len(answered) >= 8
        instruct.main(options)
        asked = stub.prompts
        assert before - len(answered) <= 2 and len(asked) - before == len(answers) - len(answered)
        assert set(asked) == set(answers)


REPORT = (
    "Findings: There is a left effusion. The heart is enlarged. No pneumothorax. Impression: Left pleural effusion."
)
ADDED = REPORT.replace("No pneumothorax.", "There is a pneumothorax.")
MOVED = REPORT.replace("left", "right").replace("Left", "Right")


@pytest.mark.parametrize(
    ("kind", "ours", "text", "fault"),
    [
        ("correction", ADDED, ADDED.replace("The heart is enlarged.", "Cardiomegaly."), None),
        ("correction", ADDED, REPORT, "labels changed: Pneumothorax"),
        ("correction", ADDED, ADDED.replace(" The heart is enlarged.", ""), "labels changed: Cardiomegaly"),
        ("correction", ADDED, "", "empty, or cut short"),
        ("correction", MOVED, REPORT, "sides changed: Pleural Effusion"),
        ("correction", MOVED, MOVED, None),
        ("easy_language", "", "Fluid around the left lung (pleural effusion), a large heart, no pneumothorax.", None),
        ("easy_language", "", "The heart is enlarged.", "labels changed: Pneumothorax, Pleural Effusion"),
        ("easy_language", "", REPORT, "nothing was rewritten"),
        ("summary", "", "Left effusion and cardiomegaly.", None),
        ("summary", "", "Left effusion.", "labels changed: Cardiomegaly"),
        ("summary", "", f"{REPORT} That was all.", "no shorter than the report"),
        ("region_qa", "The heart is enlarged.", "It is enlarged: cardiomegaly.", None),
        ("region_qa", "The heart is enlarged.", "The heart is normal.", "labels changed: Cardiomegaly"),
        ("region_qa", "No pneumothorax.", "There is a rib fracture.", "labels changed: Fracture"),
    ],
)
def test_an_answer_is_kept_where_it_says_what_it_may(kind, ours, text, fault):
    assert answer_fault(kind, Exchange(REPORT, "?", ours), text) == fault


def test_what_cannot_be_built_is_refused(data, tmp_path, capsys):
    for options, words in (
        (["--url", "http://127.0.0.1:9/v1"], "--url needs --model"),
        (["--workers", "0"], "--workers is 0"),
        (["--views", "0"], "--views is 0"),
        (["--kinds", "knowledge"], "invalid choice"),
        (["--data", str(tmp_path)], "add --shards"),
    ):
        with pytest.raises(SystemExit):
            instruct.main(["--data", str(data), "--out", str(tmp_path / "out"), *options])
        assert words in capsys.readouterr().err
    assert positives(label_report(REPORT)) == ["Cardiomegaly", "Pleural Effusion"]
