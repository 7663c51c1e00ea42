"""The interface of a host: it serves the registry's champions on this machine; its rollout changes the served versions.

A host is a module of these functions; ``serving/hosts/chosen.py`` has the table of all of them.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
from filelock import FileLock

from serving.readiness import Readiness
from serving.registry import ArchiveError, Registry, Version
from serving.settings import Settings
from serving.supervision.companion import Companion
from serving.supervision.supervisor import Program

TIMEOUT = 120.0  # s for a change, which waits until a model is loaded
LOCK = "rollout.lock"  # in the model store
Say = Callable[[str], None]


class LaunchError(Exception):
    """A host cannot be started, or does not take a change; the message says why and what to do."""


class Rollout(Protocol):
    """Changes the versions that a running host serves. One change at a time, on this machine: the others wait."""

    def answers(self) -> bool:
        """Tell whether the host answers."""

    def beside(self, name: str, number: str) -> None:
        """Serve a version beside the champion, which still answers requests without a version.

        Raises:
            ArchiveError: its archive is not as registered.
            KeyError: no such model or version.
            LaunchError: the host refuses it, or does not serve the model, so that it would be the default.
        """

    def withdraw(self, name: str, number: str) -> None:
        """Stop serving a version, unless it is the registry's champion.

        Raises:
            LaunchError: the host refuses.
        """

    def promote(self, name: str, number: str) -> str:
        """Make a version champion: it is loaded first, and the former one goes when it has answered its requests.

        Returns:
            The former champion's number, empty if there was none. Promoting the champion returns its own number, and
            finishes a promotion that was broken off.

        Raises:
            ArchiveError: its archive is not as registered; nothing has changed.
            KeyError: no such model or version.
            LaunchError: the host refuses. Either the registry still names the former champion, or ``converge``
                completes the change.
        """

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Serve the registry's champions and nothing else of their models: a new one is ready before the old one goes.

        A model that was removed from the registry goes too.

        A champion whose archive is not as registered is reported and left out; its served version stays.

        Args:
            keep: models and versions that may stay beside.

        Raises:
            LaunchError: the host refuses a change; the other models are up to date.
        """


@dataclass(frozen=True)
class Reach:
    """Addresses of a running host, from another machine; empty: those of the settings.

    Attributes:
        inference_url: of the inference port.
        management_address: of TorchServe's management, ``unix:/path`` or the URL of its port.
        token: for that port, where one is configured.
    """

    inference_url: str = ""
    management_address: str = ""
    token: str = ""


HERE = Reach()


class Host(Protocol):
    """Starts, finds and stops the processes that serve; the settings of each call name the run."""

    @property
    def TITLE(self) -> str:  # noqa: N802 - a constant of a module
        """Name of the host in sentences."""

    def start(self, settings: Settings, poll: float = ..., say: Say = ...) -> list[Readiness]:
        """Start it, or bring the running one up to date, and wait until every champion answers.

        Returns:
            The readiness of every champion; refused archives are among them.

        Raises:
            LaunchError: it ended, or did not answer in time; the message has the end of its log.
            SupervisorError: its supervisor cannot be started.
        """

    def stop(self, settings: Settings) -> int:
        """End it and every process that it started, and return their number."""

    def find(self, settings: Settings) -> psutil.Process | None:
        """Return its first process; None if it does not run."""

    def memory(self, settings: Settings) -> dict[str, float]:
        """Return the resident memory of its processes, by kind, in MB."""

    def parts(self, settings: Settings) -> Sequence[str]:
        """Return the names of its supervised parts."""

    def foreground(self, settings: Settings) -> tuple[Sequence[Program], Sequence[str]]:
        """Make ready what it needs; return its parts for a container's supervisor, and the command before their end.

        Raises:
            LaunchError: it cannot be started.
        """

    def companions(self, settings: Settings) -> Sequence[Companion]:
        """Return our services that run beside it, in the order in which they start."""

    def rollout(self, settings: Settings, reach: Reach = ..., say: Say = ...) -> Rollout:
        """Return the object that changes its versions."""


@contextlib.contextmanager
def alone(registry: Registry) -> Iterator[None]:
    """Change the served versions within the block while other processes wait, whichever host runs.

    Raises:
        LaunchError: the model store cannot be written.
    """
    try:
        registry.store.mkdir(parents=True, exist_ok=True)
        held = FileLock(registry.store / LOCK).acquire()
    except OSError as error:
        what = "what is served can only be changed from where the model store can be written"
        raise LaunchError(f"{what}: {error}") from error
    with held:
        yield


def bring_up_to_date(registry: Registry, bring: Callable[[str, str, Version], None], say: Say) -> None:
    """Bring every champion up to date; one whose archive is not as registered is reported and left out.

    Args:
        bring: makes a host serve the version of a model's name and a number.

    Raises:
        LaunchError: a host refuses a change; the other models are up to date.
    """
    faults = []
    for name, (number, version) in registry.champions().items():
        try:
            bring(name, number, version)
        except ArchiveError as error:
            say(f"refused {name} {number}: {error}")
        except LaunchError as error:
            faults.append(str(error))
    if faults:
        raise LaunchError("; ".join(faults))


def champion_number(registry: Registry, name: str) -> str:
    """Return the number of a model's champion; empty if there is none."""
    champion = registry.champions().get(name)
    return champion.number if champion else ""
