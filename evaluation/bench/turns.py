"""Two ways of the same work by turns, and the row of the table that comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Way = Callable[[], object]


@dataclass
class Row:
    """A row of the table.

    Attributes:
        subject: the file of this folder that measured it.
        what, baseline: ours, and what it is measured beside.
        reach: the goal in words.
        why: the ratio in a sentence, or why nothing was measured.
        unit: of `ours` and `theirs`, the least of all turns; None where nothing was measured.
        ratio: of the two; `median` of the pairs of turns, and their quartiles `spread`.
    """

    subject: str
    what: str
    baseline: str
    reach: str
    why: str
    unit: str = "ms"
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    median: float | None = None
    spread: tuple[float, float] | None = None

    def measured(self, ours: list[float], theirs: list[float]) -> "Row":
        """The row with the times of each turn."""
        pairs = np.array(ours) / np.array(theirs)
        self.ours, self.theirs = min(ours), min(theirs)
        self.ratio, self.median = self.ours / self.theirs, float(np.median(pairs))
        self.spread = (float(np.quantile(pairs, 0.25)), float(np.quantile(pairs, 0.75)))
        return self

    def by_turns(self, ours: Way, theirs: Way, seconds: float, count: int = 1) -> "Row":
        """The row, measured: `ours` and `theirs` do the work `count` times."""
        times = by_turns({"ours": ours, "theirs": theirs}, seconds)
        return self.measured(*([time / count for time in times[name]] for name in ("ours", "theirs")))


def cpu_ms(work: Way) -> float:
    """Milliseconds of CPU time of this process: other work on the machine counts little."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def by_turns(ways: dict[str, Way], seconds: float, turns: int = 3) -> dict[str, list[float]]:
    """Milliseconds of each way at each turn: about `seconds` in all, at least `turns`, one at `seconds` 0."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    end = time.process_time() + seconds
    while len(next(iter(times.values()))) < (turns if seconds else 1) or time.process_time() < end:
        for name, work in ways.items():
            times[name].append(cpu_ms(work))
    return times
