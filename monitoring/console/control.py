"""What the console needs of the loop to change something, and how it says no."""

from typing import Any, Protocol

from monitoring.records import Job, Trigger
from serving.launch import LaunchError
from serving.management import ManagementError
from serving.registry import ArchiveError


class RetrainRefused(Exception):  # noqa: N818
    """A retraining is not queued; the message says why."""


# By exception, the HTTP status that a button answers with.
REFUSALS: dict[type[Exception], int] = {
    RetrainRefused: 409,
    KeyError: 404,
    ArchiveError: 409,
    LaunchError: 502,
    ManagementError: 502,
}


class Retraining(Protocol):
    """Queues retrainings and switches versions."""

    def request(self, model: str, trigger: Trigger, reason: str) -> Job:
        """Queue a job, or say why not."""

    def cancel(self, id: int) -> Any:
        """End a job."""

    def promote(self, model: str, version: str, who: str) -> Any:
        """Make a version champion."""

    def rollback(self, model: str, who: str) -> str:
        """Go back to the former champion, whose version is returned."""
