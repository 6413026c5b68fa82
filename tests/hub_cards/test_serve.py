"""The server: what it refuses; and, where Transformers' serving packages are installed, requests over the loopback."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMultimodalLM
from transformers.utils.import_utils import is_serve_available

from hub_cards.serve import check_request, register
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg.prompt_trrg import REQUEST
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import picture_bytes
from training.phantoms.generate import generate_phantom

SMALL = ROOT / "hub_cards" / "trrg-small"


def image(upside_down: bool = False) -> dict[str, Any]:
    pixels = generate_phantom(2, 0, 256).image
    data = base64.b64encode(picture_bytes(pixels[::-1] if upside_down else pixels)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def request(*parts: dict[str, Any], text: str = REQUEST["trrg"], **fields: Any) -> dict[str, Any]:
    content = [*(parts or [image()]), {"type": "text", "text": text}]
    return {"model": str(SMALL), "messages": [{"role": "user", "content": content}], "max_tokens": 12, **fields}


def url(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


BAD: list[tuple[dict[str, Any], str]] = [
    (request(n=4), "n: one answer"),
    (request(tools=[{"type": "function", "function": {"name": "look"}}]), "tools: this model calls none"),
    (request(url("https://hospital.example/a.png")), "image 0: expected a data: URI"),
    (request(image(), url(str(SMALL / "config.json"))), "image 1: expected a data: URI"),
    (request({"type": "image_url", "image_url": None}), "image 0: expected a data: URI"),
    (request({"type": "text", "text": "hello"}), "messages: no image"),
    (request(image() | {"type": "image"}), "messages: a part of the type 'image'; expected text or image_url"),
    (request(image(), {"type": "video_url", "video_url": {"url": "file:///a"}}), "a part of the type 'video_url'"),
    (request() | {"messages": [{"role": "user", "content": ["image_url"]}]}, "a part of the type 'str'"),
    (request(image(), {"type": "input_audio", "input_audio": "UklGRg=="}), "a part of the type 'input_audio'"),
    (request() | {"messages": [request()["messages"][0] | {"tool_calls": []}]}, "messages: this model calls no tools"),
    (request(operating_point=[0.1]), "operating_point: expected a name or"),
    (request() | {"messages": "hello"}, "messages: expected a list"),
    (request() | {"messages": [{"content": "hello"}]}, "messages: expected a list"),
]
BAD_STUDIES: list[tuple[dict[str, Any], str]] = [
    (request(*[image()] * 40), "40 views, but the model was trained with at most"),
    (request(url("data:image/png;base64,QUJD")), "neither a PNG"),
    (request(url("data:image/png;base64,####")), "damaged or cut short base64"),
    (request(text="What is </s>?"), "special token"),
    (request(operating_point="brave"), "operating_point is 'brave'"),
]


@pytest.mark.parametrize(("body", "reason"), BAD)
def test_what_would_be_ignored_or_invented_is_refused(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_request(body)


def test_what_can_be_answered_is_let_through() -> None:
    check_request(request(n=1))
    part = {"type": "input_image", "image_url": image()["image_url"]["url"]}
    check_request({"input": [{"role": "user", "content": [part]}]})


def test_the_class_is_found_where_the_server_looks() -> None:
    register()
    assert type(AutoModelForMultimodalLM.from_pretrained(SMALL)) is TRRGForConditionalGeneration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of its own, on a free port of the loopback."""
    if not is_serve_available():
        pytest.skip("transformers[serving] is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hub_cards.serve", str(SMALL), "--host", "127.0.0.1", "--port", str(port)]
    log = Path(tmp_path_factory.mktemp("serve")) / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--device", "cpu"], cwd=ROOT, stdout=out, stderr=out, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(1200):
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=5):
                        break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def post(address: str, body: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[int, str]:
    message = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(message, timeout=120) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answer(reply: tuple[int, str]) -> str:
    assert reply[0] == 200, reply
    return json.loads(reply[1])["choices"][0]["message"]["content"]


def test_chats_over_http(server: str) -> None:
    first = answer(post(server, request()))
    assert first.strip().startswith("Findings:")  # the blank is that of the chat template
    turns = [*request()["messages"], {"role": "assistant", "content": first}, {"role": "user", "content": "And now?"}]
    assert answer(post(server, request() | {"messages": turns}))

    status, events = post(server, request(stream=True))
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    told = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert status == 200 and told == first and chunks[-1]["choices"][0]["finish_reason"]

    for point in ("careful", 0.05):  # that it is read shows in BAD_STUDIES; what it moves, in the tests of the dial
        assert answer(post(server, request(operating_point=point)))
    for stream in (False, True):
        status, text = post(server, request(image(upside_down=True), stream=stream))
        pieces = re.findall(r'"content":"([^"]*)"', text)
        assert status == 200 and "".join(pieces).strip() == UNREADABLE, text

    with ThreadPoolExecutor(4) as several:
        assert list(several.map(lambda _: answer(post(server, request())), range(4))) == [first] * 4
    for body, reason in BAD + BAD_STUDIES:
        status, text = post(server, body)
        assert status == 400 and reason in json.loads(text)["error"]["message"], text
    assert post(server, request(no_such_field=1))[0] == 422
    for path, body in (
        ("/v1/completions", {"model": str(SMALL), "prompt": "Findings:", "max_tokens": 4}),
        ("/load_model", {"model": str(SMALL)}),
        ("/reset", {}),
    ):
        assert post(server, body, path)[0] == 404, path

    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as gone:  # a client that goes away half way
        body = json.dumps(request(stream=True, max_tokens=200)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        gone.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        gone.recv(64)
    with socket.create_connection((host, int(port)), timeout=30) as large:
        large.sendall(f"{head}Content-Length: {500 * 1024**2}\r\n\r\n{{".encode())
        assert b" 413 " in large.recv(64)
    assert answer(post(server, request())) == first


def test_the_openai_client(server: str) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0)
    asked = request()
    reply = client.chat.completions.create(**asked)
    assert reply.choices[0].message.content == answer(post(server, asked))
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == reply.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="n: one answer"):
        client.chat.completions.create(**asked, n=4)
