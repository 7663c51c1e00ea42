"""Serving settings to try: each is a copy of the champion's archive, registered beside it under a name of its own."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from serving.archive import read_config, with_settings
from serving.documents import write_atomically
from serving.hosts.torchserve.management import Management, ManagementError


@dataclass(frozen=True, order=True)
class Candidate:
    """Serving settings of a model.

    Attributes:
        workers: number of processes.
        batch_size: most requests in one batch.
        max_batch_delay: ms that a batch waits for more requests; TorchServe takes 0 for "not set", which is 100.
    """

    workers: int = 1
    batch_size: int = 64
    max_batch_delay: int = 1

    def __str__(self) -> str:
        delay = f", {self.max_batch_delay} ms" if self.batch_size > 1 else ""
        return f"{self.workers} worker{'s' * (self.workers > 1)}, batches of {self.batch_size}{delay}"

    @classmethod
    def of(cls, archive: bytes) -> "Candidate":
        """Return the settings of an archive."""
        values = read_config(archive)
        return cls(values["minWorkers"], values["batchSize"], values["maxBatchDelay"])

    def options(self) -> list[str]:
        """Return the options of ``marloop package`` that choose the candidate."""
        return [part for name, value in asdict(self).items() for part in (f"--{name.replace('_', '-')}", str(value))]


def grid(workers: Iterable[int], batch_sizes: Iterable[int], delays: Iterable[int]) -> list[Candidate]:
    """Return every combination; a batch of one never waits, so its delay does not count."""
    return sorted({Candidate(w, b, d if b > 1 else 1) for w, b, d in itertools.product(workers, batch_sizes, delays)})


def configured(archive: bytes, candidate: Candidate) -> bytes:
    """Copy an archive with a candidate's settings."""
    workers = {"minWorkers": candidate.workers, "maxWorkers": candidate.workers}
    batches = {"batchSize": candidate.batch_size, "maxBatchDelay": candidate.max_batch_delay}
    return with_settings(archive, workers | batches)


@contextmanager
def registered(management: Management, store: Path, archive: bytes, candidate: Candidate, name: str) -> Iterator[str]:
    """Serve a candidate under a name of its own, and remove it whatever happens.

    Yields:
        The name.

    Raises:
        ManagementError: TorchServe refused the candidate.
    """
    path = store / f"{name}.mar"
    try:
        write_atomically(path, configured(archive, candidate))
        remove(management, name)  # a killed tuning may have left it
        management.register(path.name, name)
        yield name
    finally:
        remove(management, name)
        path.unlink(missing_ok=True)


def remove(management: Management, name: str) -> None:
    """Unregister a name, if it is there."""
    for version in management.versions().get(name, []):
        try:
            management.unregister(name, version)
        except ManagementError as error:
            if "404" not in str(error):
                raise
