"""One way to ask a chat model: a checkpoint on this machine, or a server (`chat_server.py`).

    chat = ChatModel(Server("https://host/v1", "model"), cache=Path("answers.jsonl"))
    chat.ask(["Rewrite ..."])      # a text a prompt, None where none came
    chat.counts()                  # prompts, tokens, retries, failures

Each answer is on the disk before the next one is waited for: a run that was killed goes on and asks nothing twice but
the few prompts that were under way. What failed is asked again by the next run; `FAILURES_IN_A_ROW` end the run.
"""

import argparse
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from training.builders.chat_server import CUT, KEY, ChatError, Reply, Server

FAILURES_IN_A_ROW = 20


class Backend(Protocol):
    """Who answers. `identity` is what the answers depend on beside the prompt; `counted` what happened on the way."""

    identity: str
    counted: Counter[str]

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, Reply]]:
        """(number of the prompt, its reply), as they come."""


class ChatModel:
    """Prompts to texts, each prompt asked once.

    Args:
        backend: a `LocalModel` or a `Server`.
        cache: JSON Lines that answers are appended to and read from; None asks a prompt again that comes again.
    """

    def __init__(self, backend: Backend, cache: Path | None = None):
        self.backend, self.cache = backend, cache
        self.answers: dict[str, Reply] = {}
        self.asked = self.cached = 0
        self.failures: Counter[str] = Counter()
        for row in read_lines(cache) if cache else []:
            self.answers[row["key"]] = Reply(row["text"], None, row["prompt_tokens"], row["completion_tokens"])
        self.used: set[str] = set()
        self._number = count()

    def ask(self, prompts: Sequence[str]) -> list[str | None]:
        """The answer of each prompt, None where it failed.

        Raises:
            ChatError: the model cannot be asked, or `FAILURES_IN_A_ROW` prompts failed.
        """
        keys = [self._key(prompt) for prompt in prompts]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self.answers}
        self.cached += len(set(keys)) - len(missing)
        self.used.update(keys)
        order, failed = list(missing), 0
        with tqdm(total=len(missing), desc="ask", unit="prompt", disable=not missing) as bar:
            for number, reply in self.backend.replies([*missing.values()]):
                self.asked += 1
                bar.update()
                if reply.failure:
                    self.failures[reply.failure] += 1
                failed = 0 if reply.text is not None else failed + 1
                if reply.text is not None:
                    self._keep(order[number], reply)
                elif failed == FAILURES_IN_A_ROW:
                    raise ChatError(
                        f"{failed} prompts in a row had no answer, the last one: {reply.failure}; what was answered "
                        "before is kept, the same command goes on"
                    )
        return [self.answers[key].text if key in self.answers else None for key in keys]

    def counts(self) -> dict[str, Any]:
        """For a manifest: prompts asked now and taken from the cache, tokens of all answers used, retries, failures."""
        used = [self.answers[key] for key in self.used if key in self.answers]
        return {
            "asked": self.asked,
            "from_cache": self.cached,
            "prompt_tokens": sum(reply.prompt_tokens for reply in used),
            "completion_tokens": sum(reply.completion_tokens for reply in used),
            "retries": dict(self.backend.counted),
            "failures": dict(self.failures),
        }

    def _key(self, prompt: str) -> str:
        if self.cache is None:
            return str(next(self._number))
        return hashlib.sha256(f"{self.backend.identity}\n{prompt}".encode()).hexdigest()

    def _keep(self, key: str, reply: Reply) -> None:
        self.answers[key] = reply
        if self.cache:
            row = {"key": key} | {name: value for name, value in reply._asdict().items() if name != "failure"}
            append_lines(self.cache, [row])


class LocalModel:
    """A causal language model with a chat template.

    Raises:
        ValueError: the model's tokenizer has no chat template.
    """

    def __init__(self, name: str, max_new_tokens: int, temperature: float, batch_size: int):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
        if self.tokenizer.chat_template is None:
            raise ValueError(f"{name}: its tokenizer has no chat template; expected a chat model")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(name, dtype="auto").eval().to(self.device)
        self.max_new_tokens, self.temperature, self.batch_size = max_new_tokens, temperature, batch_size
        self.identity = json.dumps([name, max_new_tokens, temperature])
        self.counted: Counter[str] = Counter()

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, Reply]]:
        """Answers of the prompts, batch by batch."""
        for start in range(0, len(prompts), self.batch_size):
            yield from enumerate(self._batch(prompts[start : start + self.batch_size]), start)

    def _batch(self, prompts: Sequence[str]) -> list[Reply]:
        import torch

        tokenizer = self.tokenizer
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt").to(self.device)
        inputs.pop("token_type_ids", None)
        how = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.inference_mode():
            ids = self.model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, pad_token_id=tokenizer.pad_token_id, **how
            )
        written = ids[:, inputs["input_ids"].shape[1] :]
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        answered = (written != tokenizer.pad_token_id).sum(dim=1).tolist()
        ends = torch.tensor(self.model.generation_config.eos_token_id or [], device=self.device).flatten()
        whole = torch.isin(written, ends).any(dim=1) | (written.shape[1] < self.max_new_tokens)
        said = tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            Reply(text.strip(), None, *tokens) if ended else Reply("", CUT, *tokens)
            for text, ended, *tokens in zip(said, whole.tolist(), asked, answered, strict=True)
        ]


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file; one that a kill cut short is taken off it."""
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with file.open("r+b") as cut:
            cut.truncate(whole)
    return [json.loads(line) for line in content[:whole].splitlines()]


def append_lines(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append lines that are on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
        lines.flush()
        os.fsync(lines.fileno())


def add_arguments(parser: argparse.ArgumentParser, temperature: float) -> None:
    """How the model that `--model` names is asked."""
    parser.add_argument("--url", help=f"address of a server that speaks the OpenAI protocol; its key: {KEY}")
    parser.add_argument("--workers", type=int, default=8, help="prompts a server is asked at once")
    parser.add_argument("--retries", type=int, default=5, help="of a prompt that a server does not answer")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer of a server")
    parser.add_argument("--batch-size", type=int, default=8, help="prompts a local model is asked at once")
    parser.add_argument("--max-new-tokens", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=temperature, help="0: always the likeliest word")


def backend(options: argparse.Namespace) -> Backend:
    """What the arguments of `add_arguments` and `--model` ask for.

    Raises:
        ChatError, ValueError: see `Server` and `LocalModel`.
    """
    if not options.url:
        return LocalModel(options.model, options.max_new_tokens, options.temperature, options.batch_size)
    return Server(
        options.url, options.model, options.max_new_tokens, options.temperature,
        options.workers, options.retries, options.timeout,
    )  # fmt: skip


def check_arguments(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the command where a number makes no sense, or a URL has no model."""
    for name in ("workers", "batch_size", "max_new_tokens"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected at least 1")
    if options.retries < 0 or options.timeout <= 0 or not 0 <= options.temperature < math.inf:
        parser.error("--retries and --temperature must be at least 0, --timeout above 0")
    if options.url and not options.model:
        parser.error("--url needs --model, the name that the server has for it")
