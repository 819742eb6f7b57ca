"""Which items make the batch of each step: a function of seed and step alone."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pixelkin.engine.randomness import seeded
from pixelkin.errors import PixelkinError

Visit = tuple[int, int]
"""(index of the item, number of the visit counted from the start of the training)."""


class StepSampler(Sampler[list[Visit]]):
    """The batches of steps `start` … `steps` − 1 for one of several processes.

    Visits run through endless shuffled passes over the data; step s takes visits
    s · batch_size … (s + 1) · batch_size − 1, of which each process takes its contiguous share.
    So a resumed training, and one with another number of processes, sees the same global batches.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        start: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise PixelkinError(
                f"batch size {batch_size} cannot be shared by {world_size} processes; "
                f"use a multiple of {world_size}"
            )
        self.length = length
        self.batch_size = batch_size
        self.start = start
        self.steps = steps
        self.seed = seed
        self.share = batch_size // world_size
        self.rank = rank
        self._pass: tuple[int, np.ndarray[Any, np.dtype[np.int64]]] | None = None

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[Visit]]:
        for step in range(self.start, self.steps):
            first = step * self.batch_size + self.rank * self.share
            yield [(self._index(visit), visit) for visit in range(first, first + self.share)]

    def _index(self, visit: int) -> int:
        number, place = divmod(visit, self.length)
        if self._pass is None or self._pass[0] != number:
            order = np.random.default_rng((self.seed, number)).permutation(self.length)
            self._pass = number, order
        return int(self._pass[1][place])

    def state(self) -> dict[str, int]:
        """What must be equal for a resumed training to go on with the same batches."""
        return {"length": self.length, "batch_size": self.batch_size, "seed": self.seed}


class VisitedBatches(Dataset[Any]):
    """`data` addressed by lists of visits; gives collated batches.

    The CPU generators are seeded for each visit from (seed, visit), and for collating from the
    batch's first visit, whichever process or worker does it.
    """

    def __init__(
        self, data: Dataset[Any], collate: Callable[[list[Any]], Any], *, seed: int
    ) -> None:
        self.data = data
        self.collate = collate
        self.seed = seed

    def __getitems__(self, visits: list[Visit]) -> Any:
        items = []
        for index, number in visits:
            with seeded(self.seed, number):
                items.append(self.data[index])
        with seeded(self.seed, visits[0][1], 1):
            return self.collate(items)


def load_batches(
    data: Dataset[Any],
    sampler: StepSampler,
    *,
    collate: Callable[[list[Any]], Any],
    workers: int,
    pin_memory: bool,
) -> DataLoader[Any]:
    """One iterator over all remaining steps; there are no epochs to restart workers at."""
    # Classes defined in a recipe file cannot be imported by a spawned worker; a forked one has
    # them. Python 3.14 no longer forks by default.
    fork = workers > 0 and sys.platform == "linux"
    return DataLoader(
        VisitedBatches(data, collate, seed=sampler.seed),
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if fork else None,
        # Without its own generator the loader draws from the global one, so that a resumed
        # training would have drawn once more.
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
