"""A chat model behind a server: what may pass is asked again, what cannot ends the run, nothing is asked twice."""

import json
import time
from email.utils import formatdate

import pytest

from tests.helpers.stub_chat_server import completion, stub_server
from training.builders.chat_model import ChatModel
from training.builders.chat_server import CUT, ChatError, Server

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def server(stub, **settings):
    return Server(stub.url, "m", **{"first_wait": 0.01, "timeout": 5.0, **settings})


def test_prompts_are_asked_in_parallel_and_answers_come_in_their_order(tmp_path):
    def slow(prompt, before):
        time.sleep(0.05)
        return f"to {prompt}"

    with stub_server(slow) as stub:
        chat = ChatModel(server(stub, workers=4), tmp_path / "a.jsonl")
        prompts = [f"p{number}" for number in range(12)]
        assert chat.ask([*prompts, "p0"]) == [f"to {prompt}" for prompt in [*prompts, "p0"]]
        assert sorted(stub.prompts) == sorted(prompts) and 1 < stub.most <= 4
        path, _, body = stub.requests[0]
        assert path == "/v1/chat/completions" and body["model"] == "m" and body["temperature"] == 0
    assert chat.counts() == {
        "asked": 12, "from_cache": 0, "prompt_tokens": 84, "completion_tokens": 36, "retries": {}, "failures": {}
    }  # fmt: skip


def test_no_more_is_sent_than_a_kill_may_lose():
    with stub_server(lambda prompt, before: "fine") as stub:
        replies = server(stub, workers=2).replies([f"p{number}" for number in range(20)])
        for taken in range(3):
            next(replies)
            time.sleep(0.1)  # the answer is written down
            assert len(stub.prompts) <= 2 + taken
        replies.close()


GARBAGE = {
    "status 429": (429, {"Retry-After": "0"}, b"{}"),
    "status 500": (500, {}, b"oops"),
    "not JSON": (200, {}, completion("a long answer")[:40]),
    "broken connection (IncompleteRead)": (200, {"Transfer-Encoding": "chunked"}, b"ff\r\n{"),
    "no answer in the JSON": (200, {}, completion(None)),
    "time-out": None,
}


@pytest.mark.parametrize("reason", [*GARBAGE, "html", "list", "deep", "half a character"])
def test_what_may_pass_is_asked_again(reason):
    bad = GARBAGE.get(reason) or {
        "html": (200, {}, b"<html>busy</html>"), "list": (200, {}, b"[]"), "deep": (200, {}, b"[" * 100_000),
        "half a character": (200, {}, completion("\ud800")), "time-out": None,
    }[reason]  # fmt: skip
    with stub_server(lambda prompt, before: bad if before < 2 else "fine") as stub:
        chat = ChatModel(server(stub, timeout=0.3 if bad is None else 5.0))
        assert chat.ask(["p"]) == ["fine"] and len(stub.prompts) == 3
        counted = chat.counts()["retries"]
        assert sum(counted.values()) == 2 and (reason not in GARBAGE or set(counted) <= {reason, "not JSON"})


def test_a_body_that_drips_for_ever_is_late():
    def drip():
        while not stub.ended.wait(0.05):
            yield b" "

    with stub_server(lambda prompt, before: (200, {}, drip())) as stub:
        chat = ChatModel(server(stub, timeout=0.3, retries=0))
        started = time.monotonic()
        assert chat.ask(["p"]) == [None] and time.monotonic() - started < 3
        assert chat.counts()["failures"] == {"time-out": 1}


@pytest.mark.parametrize("header", ["1", "date"])
def test_retry_after_is_obeyed(header):
    def busy(prompt, before):
        after = formatdate(time.time() + 2, usegmt=True) if header == "date" else header
        return (429, {"Retry-After": after}, b"") if not before else "fine"

    with stub_server(busy) as stub:
        started = time.monotonic()
        assert ChatModel(server(stub)).ask(["p"]) == ["fine"]
        assert 0.9 < time.monotonic() - started < 4


def test_what_stays_wrong_is_a_failure_and_asked_again_by_the_next_run(tmp_path):
    cache = tmp_path / "a.jsonl"
    with stub_server(lambda prompt, before: (503, {}, b"") if prompt == "bad" else f"to {prompt}") as stub:
        chat = ChatModel(server(stub, retries=2), cache)
        assert chat.ask(["good", "bad"]) == ["to good", None]
        counts = chat.counts()
        assert counts["failures"] == {"status 503": 1} and counts["retries"] == {"status 503": 2}
    with stub_server(lambda prompt, before: "now fine") as stub:
        backend = server(stub)
        backend.identity = chat.backend.identity  # the same server, on another port
        chat = ChatModel(backend, cache)
        assert chat.ask(["good", "bad"]) == ["to good", "now fine"] and stub.prompts == ["bad"]
        assert chat.counts()["from_cache"] == 1 and chat.counts()["prompt_tokens"] == 14


def test_a_server_that_is_down_ends_the_run_and_keeps_what_was_answered(tmp_path):
    with stub_server(lambda prompt, before: "fine" if prompt < "p05" else (500, {}, b"")) as stub:
        chat = ChatModel(server(stub, retries=0, workers=1), tmp_path / "a.jsonl")
        with pytest.raises(ChatError, match=r"20 prompts in a row had no answer.*status 500"):
            chat.ask([f"p{number:02d}" for number in range(60)])
        assert chat.counts()["asked"] == 25
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_what_cannot_pass_ends_the_run_at_once_and_names_no_key(status, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with stub_server(lambda *_: (status, {"Location": "http://127.0.0.1:9/"}, f"bad key {KEY}".encode())) as stub:
        chat = ChatModel(server(stub), tmp_path / "a.jsonl")
        with pytest.raises(ChatError, match=f"status {status}") as raised:
            chat.ask(["p"] * 3)
        assert stub.requests[0][1]["Authorization"] == f"Bearer {KEY}" and len(stub.prompts) == 1
    assert KEY not in str(raised.value) + repr(vars(chat)) + "".join(capfd.readouterr())
    assert KEY not in json.dumps(chat.counts()) and not (tmp_path / "a.jsonl").exists()


def test_an_address_that_is_none_and_a_key_in_the_open_are_refused(monkeypatch):
    for url in ("host/v1", "ftp://host", "http://user:secret@host/v1"):
        with pytest.raises(ChatError, match="url has the scheme") as raised:
            Server(url, "m")
        assert "secret" not in str(raised.value)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ChatError, match="unencrypted"):
        Server("http://example.org/v1", "m")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY} two")
    with pytest.raises(ChatError, match="a blank") as raised:
        Server("https://example.org/v1", "m")
    assert KEY not in str(raised.value)


def test_an_answer_that_was_cut_short_is_none_and_not_asked_again(tmp_path):
    with stub_server(lambda *_: (200, {}, completion("There is a", "length"))) as stub:
        for asked in (1, 0):
            chat = ChatModel(server(stub), tmp_path / "a.jsonl")
            assert chat.ask(["p"]) == [""]
            assert chat.counts()["asked"] == asked and chat.counts()["failures"] == ({CUT: 1} if asked else {})
        assert len(stub.prompts) == 1


def test_a_line_that_a_kill_cut_short_is_taken_off(tmp_path):
    with stub_server(lambda prompt, before: prompt) as stub:
        ChatModel(server(stub), tmp_path / "a.jsonl").ask(["p", "q"])
        whole = (tmp_path / "a.jsonl").read_text()
        (tmp_path / "a.jsonl").write_text(whole + whole[:30])
        assert ChatModel(server(stub), tmp_path / "a.jsonl").ask(["p", "q", "r"]) == ["p", "q", "r"]
        assert len(stub.prompts) == 3 and len((tmp_path / "a.jsonl").read_text().splitlines()) == 3
