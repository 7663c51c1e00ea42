"""What starts a job's training somewhere, finds it again and ends it; and the files by which a job knows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class UnreachableError(Exception):
    """What runs the trainings does not answer now; the next look asks again."""


class RefusedError(Exception):
    """What runs the trainings refuses one; asking again would not help."""


@dataclass(frozen=True)
class JobFiles:
    """The files of one job, in a folder that its training sees too.

    Attributes:
        folder: named by the job's number.
    """

    folder: Path

    @property
    def rows(self) -> Path:
        """The labelled rows that the job learns from."""
        return self.folder / "rows.jsonl"

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.folder / "train.log"

    @property
    def result(self) -> Path:
        """The training's result."""
        return self.folder / "result.json"

    @property
    def submission(self) -> Path:
        """The name by which a cluster knows the newest training of the job; there is none for a process."""
        return self.folder / "submission"


class Launcher(Protocol):
    """A place where trainings run. Each job has one at a time.

    Attributes:
        outlives: whether a training goes on when the monitor ends, for the next monitor to find.
        machine: name of the machine whose processes they are; empty where they run in a cluster.
    """

    outlives: bool
    machine: str

    def start(self, job: JobFiles, arguments: Sequence[str]) -> int | None:
        """Start a training; return the id of its process, where it is one of this machine.

        Args:
            arguments: of ``marloop``; ``train`` is the first.

        Raises:
            UnreachableError, RefusedError: nothing was started.
        """

    def age(self, job: JobFiles) -> float | None:
        """Return the seconds since the training was started; None if none runs.

        Raises:
            UnreachableError: nothing is known.
        """

    def end(self, job: JobFiles) -> None:
        """End the training, if one runs, with all that it started.

        Raises:
            UnreachableError: it may still run.
        """

    def end_all(self, jobs: Path) -> int:
        """End every training whose job has a folder in ``jobs``; return how many there were.

        Raises:
            UnreachableError: some may still run.
        """

    def under_way(self, jobs: Path) -> list[JobFiles]:
        """Return the jobs with a folder in ``jobs`` whose training runs on this machine; none where it has none."""

    def output(self, job: JobFiles) -> str | None:
        """Return what the newest training printed; None where that is in the job's log already.

        Raises:
            UnreachableError: nothing is known.
        """
