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
        reach: the goal in words; rows without one are explained, but stand in no table.
        why: the ratio in a sentence, or why nothing was measured.
        unit: of `ours` and `theirs`, the least of all turns; None where nothing was measured.
        ratio: the median of those of the pairs of turns; `spread` their quartiles.
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
    spread: tuple[float, float] | None = None

    def measured(self, ours: list[float], theirs: list[float]) -> "Row":
        """The row with the times of each turn."""
        pairs = np.array(ours) / np.array(theirs)
        self.ours, self.theirs = min(ours), min(theirs)
        low, self.ratio, high = map(float, np.quantile(pairs, (0.25, 0.5, 0.75)))
        self.spread = low, high
        return self

    def by_turns(self, ours: Way, theirs: Way, seconds: float, count: int = 1, turns: int = 5) -> "Row":
        """The row, measured: `ours` and `theirs` do the work `count` times."""
        times = by_turns({"ours": ours, "theirs": theirs}, seconds, turns)
        return self.measured(*([time / count for time in times[name]] for name in ("ours", "theirs")))


def cpu_ms(work: Way) -> float:
    """Milliseconds of CPU time of this process: other work on the machine counts little."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def by_turns(ways: dict[str, Way], seconds: float, turns: int = 5) -> dict[str, list[float]]:
    """Milliseconds of each way at each turn, after one that is not counted; each way goes first in every second turn.

    It takes at least `turns` and `seconds`, and up to three times that until the ratio is `settled`. At `seconds` 0 it
    is one turn.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    order, done, spent = list(ways), 0, 0.0
    if seconds:
        for work in ways.values():
            work()
    start = time.process_time()
    while not done or (seconds and (done < turns or spent < seconds or (spent < 3 * seconds and not settled(times)))):
        for name in order:
            times[name].append(cpu_ms(ways[name]))
        order.reverse()
        done, spent = done + 1, time.process_time() - start
    return times


def settled(times: dict[str, list[float]]) -> bool:
    """Whether the median ratio of the first two ways is known to some 2 %: the quartiles over the root of the turns."""
    first, second, *_ = *times.values(), [1.0]
    low, middle, high = np.quantile(np.array(first) / np.array(second), (0.25, 0.5, 0.75))
    return bool(high - low < 0.02 * middle * len(first) ** 0.5)
