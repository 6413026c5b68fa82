"""Batches read ahead by other processes, and the errors that happen there."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset


class _Carrying(Dataset):
    """Reads a batch; an error of the data comes back in its place."""

    def __init__(self, read: Callable[[Any], Any]):
        self.read = read

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.read(key)
        except (ValueError, OSError) as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def read_batches(
    read: Callable[[Any], Any], keys: Iterable[Any], workers: int, pin_memory: bool = False
) -> Iterator[Any]:
    """`read(key)` for each key, in order, by so many processes (0: by this one).

    A ValueError or OSError is raised here as it was there: torch makes a page of traceback of it, and a RuntimeError
    where it takes more than a text (`StudyError`).
    """
    loader = DataLoader(
        _Carrying(read),
        sampler=keys,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch
