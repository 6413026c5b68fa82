"""Which studies an optimizer step sees: a pure function of (seed, step, position in the global batch).

Nothing of it has to be saved: a run that resumes at step t, on any number of processes and with any micro-batch size,
draws what the uninterrupted run would have drawn.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """One study of one step.

    Attributes:
        source, index: where it is.
        epoch: how often its source was gone through before.
        count: the number of draws of its source before this one.
    """

    source: int
    index: int
    epoch: int
    count: int


def keyed_rng(*key: int | str) -> np.random.Generator:
    """A random generator that depends on nothing but `key` (same on every machine and process)."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


class StudyPlan:
    """The draws of every step.

    A step's `batch_size` studies are cut into blocks of `block_size`; a block comes from one source. Blocks are dealt
    to the sources so that each one's share stays as near to its weight as whole blocks allow; inside a source studies
    come in a new random order each epoch, and no study is left out of an epoch.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], batch_size: int, block_size: int, seed: int):
        if batch_size % block_size:
            raise ValueError(f"block_size {block_size} does not divide batch_size {batch_size}")
        if any(length < 1 for length in lengths):
            raise ValueError(f"every source needs at least one study; lengths are {list(lengths)}")
        self.lengths, self.batch_size, self.block_size, self.seed = list(lengths), batch_size, block_size, seed
        self.shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._dealt: list[tuple[int, int]] = []  # block -> (source, how many blocks of that source came before)
        self._counts = np.zeros(len(self.lengths), dtype=np.int64)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def step(self, step: int) -> list[Draw]:
        """The `batch_size` draws of optimizer step `step` (from 0), in global order."""
        blocks = self.batch_size // self.block_size
        return [
            self._draw(source, before * self.block_size + i)
            for source, before in (self._block(step * blocks + b) for b in range(blocks))
            for i in range(self.block_size)
        ]

    def _block(self, number: int) -> tuple[int, int]:
        while len(self._dealt) <= number:
            source = int(np.argmax(self.shares * (len(self._dealt) + 1) - self._counts))
            self._dealt.append((source, int(self._counts[source])))
            self._counts[source] += 1
        return self._dealt[number]

    def _draw(self, source: int, count: int) -> Draw:
        epoch, position = divmod(count, self.lengths[source])
        if self._orders.get(source, (-1, None))[0] != epoch:
            order = keyed_rng(self.seed, "order", source, epoch).permutation(self.lengths[source])
            self._orders[source] = (epoch, order)
        return Draw(source, int(self._orders[source][1][position]), epoch, count)


class MicroBatchSampler(Sampler[list[Draw]]):
    """Batch sampler of one process: the micro-batches of steps first_step..last_step-1, in order.

    Micro-batch m of a step is a contiguous piece of the global batch, shared out over the processes in rank order, so
    its studies are the same ones however many processes there are.
    """

    def __init__(self, plan: StudyPlan, micro_batch_size: int, rank: int, world: int, first_step: int, last_step: int):
        together = micro_batch_size * world
        if plan.batch_size % together or (plan.block_size % together and together % plan.block_size):
            raise ValueError(
                f"micro_batch_size {micro_batch_size} x {world} process(es) = {together} fits neither the batch of "
                f"{plan.batch_size} studies nor, as divisor or multiple, the block of {plan.block_size} that come from "
                "one source (optimizer.block_size, else batch_size)"
            )
        self.plan, self.micro_batch_size, self.rank, self.together = plan, micro_batch_size, rank, together
        self.first_step, self.last_step = first_step, last_step

    @property
    def accumulation(self) -> int:
        """Forward passes an optimizer step."""
        return self.plan.batch_size // self.together

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.first_step, self.last_step):
            draws = self.plan.step(step)
            for start in range(0, len(draws), self.together):
                mine = start + self.rank * self.micro_batch_size
                yield draws[mine : mine + self.micro_batch_size]
