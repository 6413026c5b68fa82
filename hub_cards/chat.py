"""Talk about a study in the terminal, behind its report: `make chat STUDY=path`, or lines from a pipe.

    words          a question
    /add X         a finding that the report misses; /remove X: one that it should not state
    /clue X=0, Y=1 clues edited by hand, 0 to 1; /clues: what they are
    /ground        where the findings are, by clues and by the model's words, in pixels of the picture
    /correct words a correction in free words
    /report        the current report
    /quit          the end, as is the end of the input; Ctrl-C breaks an answer off

Research only, never for clinical use.
"""

import re
import sys
from typing import Any

MARKS = {"kept": " ", "added": "+", "removed": "-", "changed": "~"}
HELP = "Ask a question, or: /add X, /remove X, /clue X=0, /clues, /ground, /correct words, /report, /quit"


def talk(study: Any, tokenizer: Any) -> None:
    """Read lines until the end; answers come token by token.

    Args:
        study: a `TalkedStudy`.
        tokenizer: of its language model.
    """
    from transformers import TextStreamer

    print(f"\n{HELP}")
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not sys.stdin.isatty():
            print(line)
        if line == "/quit":
            return
        try:
            if not line.startswith("/"):
                study.ask(line, streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True))
            elif line == "/report":
                print(study.text)
            elif line == "/clues":
                for clue in study.clues:
                    print(f"{'>' if clue.selected else ' '} {clue.score:.2f} {clue.name} {clue.answer or ''}".rstrip())
            elif line == "/ground":
                study.ground()
                for box in study.boxes:
                    print(f"{box.finding}: x {box.x}, y {box.y}, {box.w} wide, {box.h} high, by its {box.source}")
                if not study.boxes:
                    print("No finding has a place.")
            else:
                print_correction(correct(study, *line.partition(" ")[::2]))
        except ValueError as error:
            print(f"! {error}")
        except KeyboardInterrupt:
            print("\n! broken off; the chat is as it was")


def correct(study: Any, command: str, words: str) -> Any:
    """The `Correction` that a command asks for.

    Raises:
        ValueError: an unknown command, a clue without a number, or see `TalkedStudy.correct`.
    """
    if command == "/correct":
        return study.correct(words)
    if command == "/clue":
        edits = dict(pair.rpartition("=")[::2] for pair in words.split(","))
        if not all(name and re.fullmatch(r"\s*\d*\.?\d+\s*", score) for name, score in edits.items()):
            raise ValueError(f"/clue: expected clues and their scores, /clue Edema=0, got {words!r}")
        return study.correct(clues={name.strip(): float(score) for name, score in edits.items()})
    if command in ("/add", "/remove"):
        return study.correct(**{command[1:]: [words]})
    raise ValueError(f"{command} is no command. {HELP}")


def print_correction(done: Any) -> None:
    """The new report sentence by sentence, what became of each, and what was not done."""
    for kind, before, after in done.changes:
        print(f"{MARKS[kind]} {after or before}" + (f"   (was: {before})" if kind == "changed" else ""))
    if done.not_done is None:
        print("Whether this was done is not known: it names no finding.")
    elif done.not_done:
        print(f"Not done: {', '.join(done.not_done)}")
