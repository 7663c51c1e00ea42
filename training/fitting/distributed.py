"""Several processes that fit one network, on one machine or on many, as torchrun and Ray Train start them.

Each takes its share of every batch, and gradients are averaged over all by gloo (data parallelism, Li et al. 2020).
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy

T = TypeVar("T")
PATIENCE = timedelta(minutes=15)  # as long as the download of a data set may take, for which the others wait
_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")


class ProcessLostError(Exception):
    """Another process of the training has ended, or does not answer."""


@dataclass(frozen=True)
class Processes:
    """This process among those that fit one network.

    Attributes:
        rank: number among all; 0 is the first, which alone packages, registers and prints.
        count: number of all.
        local_rank: number among those of this machine.
        local_count: number of those of each machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Processes":
        """Read what torchrun says; one process alone where ``RANK`` or ``WORLD_SIZE`` is not set.

        Raises:
            ValueError: a variable is no number, or the numbers do not go together.
        """
        if not environ.keys() >= {"RANK", "WORLD_SIZE"}:
            return ALONE
        rank, count = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
        local_rank, local_count = _number(environ, "LOCAL_RANK", 0), _number(environ, "LOCAL_WORLD_SIZE", 1)
        if rank >= count or local_rank >= local_count:
            raise ValueError(
                f"RANK {rank} of WORLD_SIZE {count}, LOCAL_RANK {local_rank} of LOCAL_WORLD_SIZE {local_count}: ranks "
                "are counted from 0; `torchrun` sets all four"
            )
        if count % local_count:
            raise ValueError(
                f"WORLD_SIZE {count} is no multiple of LOCAL_WORLD_SIZE {local_count}: start as many processes on each "
                "machine, by the same --nproc-per-node"
            )
        return cls(rank, count, local_rank, local_count)

    @property
    def is_first(self) -> bool:
        """Whether this is the first of all processes."""
        return self.rank == 0

    def share(self, rows: list[int]) -> list[int]:
        """Return this process's part of the rows of a batch; the parts of all are the batch."""
        return rows[self.rank :: self.count]

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            dist.barrier()

    def agreed(self, value: T) -> T:
        """Return the first process's value, in every process."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        agreed: T = values[0]
        return agreed

    @contextlib.contextmanager
    def first_of_each_machine(self) -> Iterator[None]:
        """Run a block in one process of each machine, then in the others: what the first fetches, they find."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def trainer(self) -> dict[str, Any]:
        """Return arguments for Lightning's trainer."""
        if self.count == 1:
            return {}
        strategy = DDPStrategy(cluster_environment=_Environment(self), process_group_backend="gloo")
        nodes = self.count // self.local_count
        return {"strategy": strategy, "devices": self.local_count, "num_nodes": nodes, "use_distributed_sampler": False}


ALONE = Processes()


@contextlib.contextmanager
def joined(environ: Mapping[str, str], patience: timedelta = PATIENCE) -> Iterator[Processes]:
    """Join the other processes for the length of a block, if the environment says that there are others.

    Args:
        environ: the process's own, in which torch finds the first process's address.
        patience: how long a process waits for another.

    Raises:
        ProcessLostError: another process ended, or did not answer in time.
        ValueError: the environment contradicts itself.
    """
    processes = Processes.from_environment(environ)
    if processes.count == 1:
        yield ALONE
        return
    joins = not dist.is_initialized()  # Ray Train has joined them
    try:
        if joins:
            dist.init_process_group("gloo", rank=processes.rank, world_size=processes.count, timeout=patience)
        yield processes
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise ProcessLostError(
            f"process {processes.rank} of {processes.count} has lost another one, which ended or does not answer; its "
            f"own output tells why ({' '.join(str(error).split())[-120:]}). The same command goes on from the last "
            "checkpoint"
        ) from error
    finally:
        if joins and dist.is_initialized():
            dist.destroy_process_group()


class _Environment(TorchElasticEnvironment):
    """What Lightning asks about the processes."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def world_size(self) -> int:
        return self._processes.count

    def global_rank(self) -> int:
        return self._processes.rank

    def local_rank(self) -> int:
        return self._processes.local_rank

    def node_rank(self) -> int:
        return self._processes.rank // self._processes.local_count


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r}; it must be a whole number, as `torchrun` sets it")
    return int(text)


def _is_lost(error: RuntimeError) -> bool:
    """Tell whether an error is of the connections between processes."""
    return isinstance(error, dist.DistError) or any(text in str(error) for text in _LOST)
