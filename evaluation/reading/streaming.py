"""Long streams in chunks, in order, in one process or several, with a bounded number of chunks in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def ordered_map(
    function: Callable[[list[Item]], Result],
    chunks: Iterable[list[Item]],
    processes: int,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """`function` of every chunk, in the chunks' order; `initializer(*initargs)` runs once in each process.

    Raises:
        ValueError: `processes` is less than 1.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    if processes == 1:
        if initializer is not None:
            initializer(*initargs)
        yield from map(function, chunks)
        return
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(processes, initializer=initializer, initargs=initargs) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(function, chunk))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
