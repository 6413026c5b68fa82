"""The folder of a generation run: what each process has written so far, and the files that come of it.

    settings.json       what was asked for; a run is only resumed with the same
    parts/rank-0.jsonl  one line a finished study, appended batch by batch and synced to disk; gone in the end
    predictions.jsonl   in the order of the input; its presence means that the run is complete
    skipped.jsonl       studies left out and why, with --on-error skip

A process may be killed at any moment: a line that was cut short is dropped and its study done again.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from evaluation.predictions.records import parse, read_lines
from training.config.command_line import writing

SETTINGS, PARTS, PREDICTIONS, SKIPPED = "settings.json", "parts", "predictions.jsonl", "skipped.jsonl"


class RunError(ValueError):
    """A folder that this run may not write to."""


def write_whole(file: Path, text: str) -> None:
    """Write a file so that it is there entirely or not at all."""
    partial = file.with_suffix(".partial")
    with writing(file), partial.open("w", encoding="utf-8") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    partial.replace(file)


class PartFile:
    """The part that one process appends to. The lock lasts as long as the process, however it ends."""

    def __init__(self, out: Path, rank: int):
        self.path = out / PARTS / f"rank-{rank}.jsonl"
        self._file = self.path.open("ab", buffering=0)  # nothing is left to be written by `close`
        _lock(self._file)

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Lines of finished studies; on disk when this returns."""
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with writing(self.path):
            while content:  # a disk that is nearly full takes a part
                content = content[self._file.write(content) :]
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which unlocks it."""
        self._file.close()


def _lock(file: IO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(f"{file.name}: another process is writing to it; end it first") from error


def open_run(out: Path, settings: dict[str, Any], restart: bool) -> None:
    """Make or check the folder and drop lines cut short. For one process, before any opens its part.

    Raises:
        RunError: the folder holds a run with other settings, or one that still writes.
    """
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    for part in _parts(out):
        with part.open("r+b") as file:
            _lock(file)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    if restart:
        for part in _parts(out):
            part.unlink()
        for name in (PREDICTIONS, SKIPPED, SETTINGS):
            (out / name).unlink(missing_ok=True)
    if (out / SETTINGS).exists():
        found = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
        changed = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
        if changed:
            raise RunError(
                f"{out} holds a run with other settings; give another --out, or --restart to replace it:\n"
                + "\n".join(f"  {name}: {found.get(name)!r}, now {settings.get(name)!r}" for name in changed)
            )
    elif (out / PREDICTIONS).exists() or _parts(out):
        raise RunError(f"{out} holds predictions without {SETTINGS}; give another --out, or --restart to replace them")
    write_whole(out / SETTINGS, json.dumps(settings, indent=1) + "\n")
    if is_complete(out):  # killed right after the merge
        shutil.rmtree(out / PARTS)


def is_complete(out: Path) -> bool:
    """Whether the run has ended."""
    return (out / PREDICTIONS).exists()


def finished_studies(out: Path) -> set[str]:
    """Ids of the studies that are done, from the parts of all processes of all earlier attempts."""
    return {record["study_id"] for part in _parts(out) for _, _, record in read_lines(part)}


def merge_parts(out: Path, study_ids: Sequence[str]) -> tuple[int, int]:
    """Write predictions.jsonl and skipped.jsonl in the order of the input; returns how many lines each has.

    Raises:
        RunError: a study is missing or stands twice: the result would not be that of the input.
    """
    places: dict[str, tuple[Path, int]] = {}
    for part in _parts(out):
        for _, offset, record in read_lines(part):
            if record["study_id"] in places:
                raise RunError(f"{part}: study {record['study_id']!r} stands in the parts twice")
            places[record["study_id"]] = part, offset
    missing = [study_id for study_id in study_ids if study_id not in places]
    if missing or len(places) != len(study_ids):
        raise RunError(f"{out}: {len(places)} studies done of {len(study_ids)}; missing {missing[:3]}")
    partials = {name: (out / name).with_suffix(".partial") for name in (PREDICTIONS, SKIPPED)}
    counts = dict.fromkeys(partials, 0)
    with writing(out / PREDICTIONS), ExitStack() as stack:
        parts = {part: stack.enter_context(part.open("rb")) for part in _parts(out)}
        files = {name: stack.enter_context(partial.open("wb")) for name, partial in partials.items()}
        for study_id in study_ids:
            part, offset = places[study_id]
            parts[part].seek(offset)
            line = parts[part].readline()
            name = SKIPPED if "skipped" in parse(line, f"{part} at byte {offset}") else PREDICTIONS
            files[name].write(line)
            counts[name] += 1
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    if counts[SKIPPED]:
        partials[SKIPPED].replace(out / SKIPPED)
    else:
        partials[SKIPPED].unlink()
    partials[PREDICTIONS].replace(out / PREDICTIONS)
    shutil.rmtree(out / PARTS)
    return counts[PREDICTIONS], counts[SKIPPED]


def _parts(out: Path) -> list[Path]:
    return sorted((out / PARTS).glob("rank-*.jsonl"))
