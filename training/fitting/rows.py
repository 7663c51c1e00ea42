"""The batches of a fit: rows in one order for all processes, of which each takes its share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from training.fitting.distributed import ALONE, Processes
from training.recipe import Hyperparameters, Split, to_tensors

VALIDATION_ROWS = 1000  # of a batch


class Batch(NamedTuple):
    """A process's share of a batch.

    Attributes:
        inputs: of its rows, in the contract's order.
        target: of its rows.
        weight: FP32 ``(n,)`` of its rows.
        total: sum of the weights of the whole batch, divided by the number of processes: over these, gradients are
            averaged.
        rows: rows of the whole batch.
    """

    inputs: list[Tensor]
    target: Tensor
    weight: Tensor
    total: Tensor
    rows: int

    def mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean of a value of each row, ``(n,)``; its mean over processes is the batch's."""
        return (values * self.weight).sum() / self.total


class Rows(Dataset[Batch]):
    """A split whose item is a whole batch: indexing tensors once beats collating rows one by one."""

    def __init__(self, split: Split, processes: Processes = ALONE) -> None:
        self._inputs = to_tensors(split)
        self._target = torch.from_numpy(split.target)
        self._weight = torch.ones(len(split)) if split.weight is None else torch.from_numpy(split.weight)
        self._processes = processes

    def __len__(self) -> int:
        return len(self._target)

    def __getitem__(self, index: list[int]) -> Batch:
        own = self._processes.share(index)
        weight = self._weight[own]
        if not own:  # every process takes part in every step, here with a row that counts for nothing
            own, weight = index[:1], torch.zeros(1)
        total = self._weight[index].sum() / self._processes.count
        return Batch([values[own] for values in self._inputs], self._target[own], weight, total, len(index))


class _SharedOrder(RandomSampler):
    """The order of ``RandomSampler``, drawn by the first process: others have drawn more, or fewer, random numbers."""

    def __init__(self, rows: Rows, processes: Processes) -> None:
        super().__init__(rows)
        self._processes = processes

    def __iter__(self) -> Iterator[int]:
        drawn = int(torch.empty((), dtype=torch.int64).random_().item())
        self.generator = torch.Generator().manual_seed(self._processes.agreed(drawn))
        yield from super().__iter__()


def training_batches(split: Split, hp: Hyperparameters, processes: Processes = ALONE) -> DataLoader[Batch]:
    """Return the batches of an epoch, in another order each time; ``hp.batch_size`` rows are of all processes."""
    rows = Rows(split, processes)
    order = RandomSampler(rows) if processes.count == 1 else _SharedOrder(rows, processes)
    return DataLoader(rows, sampler=BatchSampler(order, hp.batch_size, drop_last=False), batch_size=None)


def validation_batches(split: Split, processes: Processes = ALONE) -> DataLoader[Batch]:
    """Return the batches of rows that are watched; each row counts for one, whatever its weight."""
    rows = Rows(replace(split, weight=None), processes)
    order = BatchSampler(SequentialSampler(rows), VALIDATION_ROWS, drop_last=False)
    return DataLoader(rows, sampler=order, batch_size=None)
