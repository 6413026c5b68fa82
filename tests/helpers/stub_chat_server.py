"""A chat server of the OpenAI protocol on the loopback, which answers as well or as badly as a test wants."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, int], Any]
"""(prompt, how often it came before) -> a text, (status, headers, bytes or an iterator of pieces), or None: wait until
the server ends."""


def completion(text: str | None, finish: str = "stop") -> bytes:
    """A whole answer of the protocol."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode()


class StubServer(ThreadingHTTPServer):
    """Attributes: `prompts` and `requests` in the order they came, `most` at once."""

    daemon_threads = True

    def __init__(self, answer: Answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.lock, self.ended = answer, threading.Lock(), threading.Event()
        self.prompts: list[str] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.under_way = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: StubServer

    def do_POST(self) -> None:
        stub = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with stub.lock:
            before = stub.prompts.count(prompt)
            stub.prompts.append(prompt)
            stub.requests.append((self.path, dict(self.headers), body))
            stub.under_way += 1
            stub.most = max(stub.most, stub.under_way)
        try:
            answer = stub.answer(prompt, before)
        finally:
            with stub.lock:
                stub.under_way -= 1
        if answer is None:
            stub.ended.wait(30)
            return
        status, headers, content = (200, {}, completion(answer)) if isinstance(answer, str) else answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [content] if isinstance(content, bytes) else content:
            self.wfile.write(piece)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def stub_server(answer: Answer) -> Iterator[StubServer]:
    """A running server."""
    server = StubServer(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
