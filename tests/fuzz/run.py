"""Hostile inputs for minutes or hours: `make fuzz MINUTES=10`, or `python -m tests.fuzz.run --minutes 10 --only texts`.

Each target runs in a process of its own, which ends at its time. An input that breaks one is made small and kept in
tests/fuzz/corpus/NAME; from then on `make test` runs it. One that kills the process or takes longer than 20 s is kept
as it was.
"""

import argparse
import hashlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
ROUND = 200  # inputs of one seed
MAX_SECONDS = 20  # for one input, on a busy machine
START = 120  # seconds more for a process, to load what it needs
MAX_GROWTH = 2 * 1024**2  # KiB of memory by which a process may grow


class TimeIsUp(BaseException):
    """Ends a round of Hypothesis, which goes on after an `Exception`."""


def bounded(run: Any, data: bytes) -> bool:
    """`run(data)`.

    Raises:
        TimeoutError, MemoryError: it took more than 20 s, or 2 GiB more than the process had.
    """

    def late(*_: Any) -> None:
        raise TimeoutError(f"no answer in {MAX_SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, late)
    signal.alarm(MAX_SECONDS)
    try:
        read = run(data)
    finally:
        signal.alarm(0)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MAX_GROWTH:
        raise MemoryError("more than 2 GiB for one input")
    return read


def fuzz(name: str, seconds: float, first: int, last_input: Path, least: int = 1) -> dict[str, int]:
    """Run one target for `seconds`, `least` inputs in any case; counts of inputs read and refused.

    Raises:
        Exception: whatever the target raised for the smallest input found, which `last_input` then holds.
    """
    target, counts, found = TARGETS[name], {"read": 0, "refused": 0}, []
    end = time.monotonic() + seconds

    @settings(
        max_examples=ROUND, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
    )  # fmt: skip
    @given(target.inputs())
    def one(data: bytes) -> None:
        if time.monotonic() > end and (found or sum(counts.values()) >= least):
            raise TimeIsUp
        last_input.write_bytes(data)
        try:
            counts["read" if bounded(target.run, data) else "refused"] += 1
        except Exception as error:
            found[:] = data, error
            raise

    try:
        while time.monotonic() < end or sum(counts.values()) < least:
            seed(first)(one)()
            first += 1
    except TimeIsUp:
        if found:
            last_input.write_bytes(found[0])
            raise found[1] from None
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2, help="in all, shared by the targets")
    parser.add_argument("--only", choices=TARGETS, help="this target alone")
    parser.add_argument("--seed", type=int, help="of the first round; default: a new one each time")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # the process of one target
    options = parser.parse_args()
    names = [options.only] if options.only else list(TARGETS)
    seconds = options.minutes * 60 / len(names)
    first = random.randrange(2**32) if options.seed is None else options.seed
    if options.worker:
        try:
            print(fuzz(options.only, seconds, first, options.worker), flush=True)
        except Exception:  # noqa: BLE001  # any error of a target is what is looked for
            traceback.print_exc()
            return 1
        return 0
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            last_input = Path(folder, "input")
            command = [sys.executable, "-m", "tests.fuzz.run", "--only", name, "--minutes", str(seconds / 60)]
            command += ["--seed", str(first), "--worker", str(last_input)]
            try:
                done = subprocess.run(
                    command, text=True, capture_output=True, check=False, timeout=seconds + START + MAX_SECONDS
                )
                *_, how = f"stopped with {done.returncode}", *done.stdout.splitlines()  # after what tokenizers print
                told = done.stderr[-3000:]
            except subprocess.TimeoutExpired:
                done, how, told = None, "hangs, and was stopped", ""
            print(f"{name} (seed {first}): {how}", flush=True)
            if done is None or done.returncode:
                failed += 1
                print(told, flush=True)
                if not last_input.exists():  # it did not come so far
                    continue
                data = last_input.read_bytes()
                kept = CORPUS / name / f"{hashlib.sha256(data).hexdigest()[:12]}.fuzz"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(data)
                print(f"kept as {kept}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
