"""What Ray and Kubernetes have in common: a training is submitted over HTTP by a name, and asked for by it."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from monitoring.retraining.launch.launcher import JobFiles, RefusedError, UnreachableError
from serving.documents import write_atomically

TIMEOUT = 10.0  # s of one call
ENDING = 20.0  # s until a training that was asked to end is asked again at the next look
POLL = 0.5  # s between two looks at one that is ending
SUBMITTING = 60.0  # s until a submission is answered: Ray waits for an agent when it has just begun
UNANSWERED = "unanswered"  # behind the name of a submission


class Api:
    """An HTTP API of a cluster.

    Args:
        name: of the cluster, for errors.
        client: has the address and the credentials.
    """

    def __init__(self, name: str, client: httpx.Client) -> None:
        self._name, self._client = name, client

    def call(self, method: str, path: str, **content: Any) -> httpx.Response | None:
        """Return the response; None where what the path names does not exist.

        Raises:
            UnreachableError: there is no answer, or one that another time may be better.
            RefusedError: the call is refused.
        """
        try:
            response = self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self._name} at {self._client.base_url} does not answer: {error}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        said = f"{self._name} answers {response.status_code}: {' '.join(response.text.split())[-300:]}"
        if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise UnreachableError(said)
        if not response.is_success:
            raise RefusedError(said)
        return response

    def document(self, path: str) -> dict[str, Any] | None:
        """Return an object of the API; None where it does not exist.

        Raises:
            UnreachableError, RefusedError: as ``call``.
        """
        response = self.call("GET", path)
        try:
            document = None if response is None else response.json()
        except ValueError as error:
            raise UnreachableError(f"{self._name} answers {path} with no JSON") from error
        if document is not None and not isinstance(document, dict):
            raise UnreachableError(f"{self._name} answers {path} with no object")
        return document


class Submissions(ABC):
    """Trainings that a cluster runs; the newest one's name is in the job's folder, so that any monitor finds it."""

    outlives = True
    machine = ""

    def start(self, job: JobFiles, arguments: Sequence[str]) -> None:
        """Submit a training.

        Raises:
            UnreachableError, RefusedError: nothing was started.
        """
        former, unanswered = _submission(job)
        name = former if unanswered else f"marloop-{job.folder.name}-{secrets.token_hex(4)}"
        # Before it is submitted: one whose answer is lost may run, and is found by its name, or submitted again by it.
        write_atomically(job.submission, f"{name} {UNANSWERED}".encode(), private=True)
        try:
            self.submit(name, arguments)
        except RefusedError as error:
            if not unanswered or "already exists" not in str(error):
                job.submission.unlink()
                raise
        write_atomically(job.submission, name.encode(), private=True)

    def age(self, job: JobFiles) -> float | None:
        """Return the seconds since the training was started; None if none runs.

        Raises:
            UnreachableError: nothing is known.
        """
        name = _name(job)
        since = self.running_since(name) if name else None
        return None if since is None else max(0.0, time.time() - since)

    def end(self, job: JobFiles) -> None:
        """End the training, if one runs, and wait until it has.

        Raises:
            UnreachableError: it may still run.
        """
        name = _name(job)
        if not name or self.running_since(name) is None:
            return
        self.stop(name)
        deadline = time.monotonic() + ENDING
        while self.running_since(name) is not None:
            if time.monotonic() > deadline:
                raise UnreachableError(f"{name} has not ended after {ENDING:g} s")
            time.sleep(POLL)

    def end_all(self, jobs: Path) -> int:
        """End every training whose job has a folder in ``jobs``; return how many there were.

        Raises:
            UnreachableError: some may still run.
        """
        running = [job for job in map(JobFiles, sorted(jobs.glob("*"))) if self.age(job) is not None]
        for job in running:
            self.end(job)
        return len(running)

    def under_way(self, jobs: Path) -> list[JobFiles]:
        """Return none: a monitor that no longer leads must not end what the leader finds and waits for."""
        return []

    def output(self, job: JobFiles) -> str:
        """Return what the newest training printed.

        Raises:
            UnreachableError: nothing is known.
        """
        name = _name(job)
        return self.printed(name) if name else ""

    @abstractmethod
    def submit(self, name: str, arguments: Sequence[str]) -> None:
        """Submit ``marloop`` with these arguments under a name."""

    @abstractmethod
    def running_since(self, name: str) -> float | None:
        """Return the time at which a training was submitted, s since the epoch; None if it does not run."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Ask a training to end."""

    @abstractmethod
    def printed(self, name: str) -> str:
        """Return what a training has printed, or why it has not begun."""


def _name(job: JobFiles) -> str:
    return _submission(job)[0]


def _submission(job: JobFiles) -> tuple[str, bool]:
    """Return the name of the newest submission, empty for none, and whether the cluster has not answered it."""
    try:
        name, _, mark = job.submission.read_text().strip().partition(" ")
    except FileNotFoundError:
        return "", False
    return name, mark == UNANSWERED
