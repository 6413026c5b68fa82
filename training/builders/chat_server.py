"""A chat model behind a server that speaks the OpenAI protocol, asked by several threads.

What may pass (429, 5xx, time-outs, a broken connection, half a JSON, no answer in it) is asked again, later each time
or when `Retry-After` says, and counts as a failure after the last try. What cannot pass (a wrong key, model or address)
raises. The key is read from the environment variable OPENAI_API_KEY and appears nowhere else.
"""

import http.client
import json
import math
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple

LONGEST_ANSWER = 1 << 24
"""Bytes of a server's answer; a longer one is none."""
LONGEST_WAIT = 600.0
"""Seconds before a server is asked again, whatever it says."""
CUT = "cut short at --max-new-tokens"
KEY = "OPENAI_API_KEY"
_TEMPORARY = (408, 409, 425, 429)


class ChatError(ValueError):
    """A chat model that cannot be asked at all; asking again would not help."""


class Reply(NamedTuple):
    """What came of one prompt: a text (empty where the model was cut short), or None and why."""

    text: str | None
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Again(Exception):
    """A failure that may pass; `wait` seconds are asked for, None leaves them to us."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class Server:
    """A server that speaks the OpenAI protocol: POST to `url`/chat/completions.

    Args:
        url: with its version, as "https://api.openai.com/v1" or "http://127.0.0.1:8000/v1".
        workers: prompts asked at once.
        retries: of one prompt.
        timeout: seconds for one whole answer.
        first_wait: seconds before the first retry; doubled each time.

    Raises:
        ChatError: the address is none, the key is none, or it would travel unencrypted.
    """

    def __init__(
        self,
        url: str,
        model: str,
        max_new_tokens: int = 400,
        temperature: float = 0.0,
        workers: int = 8,
        retries: int = 5,
        timeout: float = 120.0,
        first_wait: float = 1.0,
    ):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ChatError(
                f"url has the scheme {parts.scheme!r}; expected http(s)://host[:port]/v1, without a key in it"
            )
        self.key = os.environ.get(KEY, "").strip()
        if not all("!" <= character <= "~" for character in self.key):
            raise ChatError(f"{KEY} holds a blank or a character beyond ASCII; expected a key")
        if self.key and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ChatError(f"{KEY} would travel unencrypted to {parts.hostname}; use https, or unset the key")
        self.url, self.where = f"{url.rstrip('/')}/chat/completions", parts.netloc
        self.settings = {"model": model, "max_tokens": max_new_tokens, "temperature": temperature}
        self.workers, self.retries, self.timeout, self.first_wait = workers, retries, timeout, first_wait
        self.identity = json.dumps([url, self.settings])
        self.counted: Counter[str] = Counter()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stop, self._lock = threading.Event(), threading.Lock()

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, Reply]]:
        """Answers of the prompts as they come. The next prompt is sent when the answer before it was taken, so that
        whoever keeps the answers loses at most `workers` of them."""
        self._stop.clear()
        pool, left = ThreadPoolExecutor(self.workers), enumerate(prompts)
        under_way: dict[Future[Reply], int] = {}

        def send(most: int) -> None:
            under_way.update({pool.submit(self._ask, prompt): number for number, prompt in islice(left, most)})

        try:
            send(self.workers)
            while under_way:
                for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(done), done.result()
                    send(1)
        finally:
            self._stop.set()  # who waits to ask again gives up
            pool.shutdown(cancel_futures=True)

    def _ask(self, prompt: str) -> Reply:
        for tried in range(self.retries + 1):
            try:
                return self._once(prompt)
            except _Again as again:
                failure = again.reason
                pause = again.wait if again.wait is not None else self.first_wait * 2**tried * random.uniform(0.5, 1)
            with self._lock:
                self.counted[failure] += tried < self.retries
            if tried == self.retries or self._stop.wait(min(pause, LONGEST_WAIT)):
                break
        return Reply(None, failure)

    def _once(self, prompt: str) -> Reply:
        body = json.dumps({**self.settings, "messages": [{"role": "user", "content": prompt}]}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, body, headers)
        until = time.monotonic() + self.timeout
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return _reply(_read(response, until))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _TEMPORARY or error.code >= 500:
                raise _Again(f"status {error.code}", _retry_after(error.headers.get("Retry-After"))) from None
            if error.code in (400, 413, 422):  # this prompt, perhaps too long
                return Reply(None, f"status {error.code}")
            raise ChatError(
                f"{self.where} answers with status {error.code}; expected 200. Look at the URL, the model's name and "
                f"{KEY}"
            ) from None
        except TimeoutError:
            raise _Again("time-out") from None
        except urllib.error.URLError as error:
            late = isinstance(error.reason, TimeoutError)
            raise _Again("time-out" if late else f"no connection ({type(error.reason).__name__})") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"broken connection ({type(error).__name__})") from None


def _read(response: http.client.HTTPResponse, until: float) -> bytes:
    """The whole body; one that drips for ever is late, however often a byte comes."""
    pieces, size = [], 0
    while piece := response.read1(65536):
        size += len(piece)
        pieces.append(piece)
        if time.monotonic() > until:
            raise TimeoutError
        if size > LONGEST_ANSWER:
            raise _Again("an answer without end")
    return b"".join(pieces)


def _reply(body: bytes) -> Reply:
    """A server's answer as the protocol has it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _Again("not JSON") from None
    try:
        choice = answer["choices"][0]
        text, usage = choice["message"]["content"], answer.get("usage") or {}
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        text.encode()  # half a character is no text
        cut = choice.get("finish_reason") == "length"
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        raise _Again("no answer in the JSON") from None
    return Reply("", CUT, *tokens) if cut else Reply(text.strip(), None, *tokens)


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, of a number or a date; None where there is none."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
