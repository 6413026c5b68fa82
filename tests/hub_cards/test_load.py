"""Eight clients at once, and requests that are made to break a door."""

import base64
import io
import re
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from hub_cards import load
from hub_cards.handler import EndpointHandler
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.tiny_processors import picture_bytes, radiograph


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bomb(side: int) -> bytes:
    """A PNG of a few kB that claims side x side pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    png = bytearray(buffer.getvalue())
    png[16:24] = side.to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    return bytes(png)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> EndpointHandler:
    return EndpointHandler(str(save_checkpoint(tmp_path_factory.mktemp("load") / "trrg-random", "trrg")))


def test_clients_at_once_get_what_each_gets_alone_and_bad_requests_disturb_nobody(endpoint: EndpointHandler) -> None:
    pictures = [encoded(picture_bytes(radiograph(seed=seed))) for seed in range(4)]
    turns = [{"role": "user", "content": "Is there an effusion?"}]
    good = [
        {"inputs": {"images": [picture], "messages": turns[: number % 2]}} for number, picture in enumerate(pictures)
    ]
    alone = [endpoint(request | {"parameters": {"max_new_tokens": 6}}) for request in good]
    bad = {
        "AA*A": "no valid base64",
        encoded(b"GIF89a garbage"): "neither a PNG",
        encoded(bomb(100_000)): "pixels",
        "../../../etc/passwd": "no valid base64",
        "/etc/hostname": "no valid base64|neither a PNG|cut short",
        "": r"\w",
    }

    def ask(number: int) -> None:
        if number % 3 == 2:
            image, reason = list(bad.items())[number % len(bad)]
            with pytest.raises(ValueError, match=reason) as told:
                endpoint({"inputs": {"images": [image]}})
            assert not re.search(r"/tmp|passwd|hostname", str(told.value))
        else:
            request = good[number % len(good)] | {"parameters": {"max_new_tokens": 6}}
            assert endpoint(request) == alone[number % len(good)]

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(24)))
    assert threading.active_count() < 20


class Silent(subprocess.Popen):
    """In place of the server: a process that says nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__([sys.executable, "-S", "-c", "import time; time.sleep(60)"])


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()


def test_a_server_is_reached_past_a_proxy_and_one_that_stays_silent_is_told(tmp_path, monkeypatch) -> None:
    for name in ("config.json", "processor_config.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(load.subprocess, "Popen", Silent)
    monkeypatch.setattr(load, "START_SECONDS", 0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="did not answer; by itself it says why"), load.server(tmp_path, [], 4):
        pass
    with HTTPServer(("127.0.0.1", 0), Healthy) as healthy:
        threading.Thread(target=healthy.serve_forever, daemon=True).start()
        assert load.is_up(healthy.server_port)
        healthy.shutdown()


@pytest.mark.slow
def test_the_table_of_both_doors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save_checkpoint(tmp_path / "trrg-random", "trrg")
    assert load.main([str(checkpoint), "--requests", "300", "--max-new-tokens", "4"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if re.match(r"\| (handler|server)", line)]
    assert len(rows) == 4 and all(float(row[-2]) < 20 for row in rows), rows
