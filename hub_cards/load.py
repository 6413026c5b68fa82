"""Endpoint handler and server under load: does every answer of eight clients at once equal the one it gets alone?

    python -m hub_cards.load CHECKPOINT [--door handler server] [--clients 8] [--requests 300] [--max-new-tokens 32]

CHECKPOINT is a published folder. The studies are SYNTHETIC phantoms, asked for at several operating points where the
checkpoint has any. Prints for each door a row for one client and one for --clients: seconds of a request at the median
and at the 95th percentile, requests a second, answers that differ from those of one client, and by how many MB the
memory of the process grew from the first third of the requests to their end; then the machine and the versions. Ends
with 1 where an answer differs.
"""

import argparse
import base64
import io
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.phantoms.generate import generate_phantom

STUDIES = 12
"""Different requests; those of a run take turns."""
START_SECONDS = 600
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our own loopback
Ask = Callable[[int], str]


def phantom(number: int) -> str:
    """A phantom as base64 of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(generate_phantom(2024, number, 256).image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def points_of(checkpoint: Path) -> tuple[str | None, ...]:
    """The operating points to ask for."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return ("careful", None, "sensitive") if config.get("clue_operating_points") else (None,)


@contextmanager
def handler(checkpoint: Path, pictures: Sequence[str], max_new_tokens: int) -> Iterator[tuple[Ask, int]]:
    """The endpoint handler in this process: what asks it for a study, and its process."""
    from hub_cards.handler import EndpointHandler

    endpoint, points = EndpointHandler(str(checkpoint)), points_of(checkpoint)

    def ask(number: int) -> str:
        parameters: dict[str, Any] = {"max_new_tokens": max_new_tokens}
        if (point := points[number % len(points)]) is not None:
            parameters["operating_point"] = point
        return json.dumps(endpoint({"inputs": {"images": [pictures[number]]}, "parameters": parameters}))

    yield ask, os.getpid()


@contextmanager
def server(checkpoint: Path, pictures: Sequence[str], max_new_tokens: int) -> Iterator[tuple[Ask, int]]:
    """A server of its own (`serve.py`), on a free port: what asks it for a study, and its process.

    Raises:
        RuntimeError: it does not start.
    """
    from processing_trrg.prompt_trrg import REQUEST

    points = points_of(checkpoint)
    style = json.loads((checkpoint / "processor_config.json").read_text(encoding="utf-8")).get("prompt_style", "trrg")
    port = free_port()
    words = ["-m", "hub_cards.serve", str(checkpoint), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def ask(number: int) -> str:
            picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pictures[number]}"}}
            content = [picture, {"type": "text", "text": REQUEST[style]}]
            body: dict[str, Any] = {"model": str(checkpoint), "messages": [{"role": "user", "content": content}]}
            body |= {"max_tokens": max_new_tokens, "temperature": 0.0}
            if (point := points[number % len(points)]) is not None:
                body["operating_point"] = point
            address, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Content-Type": "application/json"}
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            with DIRECT.open(request, timeout=START_SECONDS) as reply:
                return json.load(reply)["choices"][0]["message"]["content"]

        try:
            end = time.monotonic() + START_SECONDS
            while not is_up(port):
                if process.poll() is not None or time.monotonic() > end:
                    state = "did not answer" if process.returncode is None else f"ended with {process.returncode}"
                    raise RuntimeError(f"the server {state}; by itself it says why: python {' '.join(words)}")
                time.sleep(1)
            yield ask, process.pid
        finally:
            process.terminate()


def is_up(port: int) -> bool:
    """Whether a server answers there."""
    try:
        DIRECT.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def memory(process: int) -> float:
    """Resident memory of a process, in MB (Linux)."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(ask: Ask, process: int, clients: int, requests: int) -> tuple[list[str], list[float], float, float]:
    """Answers and seconds of each request, seconds of all, and the growth of the memory in MB."""
    held: list[float] = []

    def timed(number: int) -> tuple[str, float]:
        if number == requests // 3:
            held.append(memory(process))
        start = time.perf_counter()
        return ask(number % STUDIES), time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers, seconds = zip(*pool.map(timed, range(requests)), strict=True)
    return list(answers), list(seconds), time.perf_counter() - start, memory(process) - held[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="published folder")
    parser.add_argument("--door", nargs="+", choices=("handler", "server"), default=("handler", "server"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    options = parser.parse_args(arguments)
    if not (options.checkpoint / "config.json").is_file():
        parser.error(f"{options.checkpoint}: expected a published folder, with config.json")
    for name in ("clients", "requests", "max_new_tokens"):
        if vars(options)[name] < 1:
            parser.error(f"--{name.replace('_', '-')} is {vars(options)[name]}, expected at least 1")
    pictures, wrong = [phantom(number) for number in range(STUDIES)], 0
    print(
        "| door | clients | requests | p50, s | p95, s | a second | other answers | memory, MB |\n" + "|---" * 8 + "|"
    )
    for door in options.door:
        opened = {"handler": handler, "server": server}[door](options.checkpoint, pictures, options.max_new_tokens)
        with opened as (ask, process):
            alone = [ask(number) for number in range(STUDIES)]
            for clients, requests in ((1, max(STUDIES, options.requests // 4)), (options.clients, options.requests)):
                answers, seconds, total, growth = measure(ask, process, clients, requests)
                differ = sum(answer != alone[number % STUDIES] for number, answer in enumerate(answers))
                p50, p95 = np.percentile(seconds, [50, 95])
                numbers = f"{p50:.2f} | {p95:.2f} | {requests / total:.2f} | {differ} | {growth:+.1f}"
                print(f"| {door} | {clients} | {requests} | {numbers} |", flush=True)
                wrong += differ
    versions = f"torch {version('torch')}, transformers {version('transformers')}"
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}")
    print("Never for clinical use.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
