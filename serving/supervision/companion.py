"""A small service of ours that runs in the background beside TorchServe: start it, find it, stop it."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from serving.processes import commands, end, runs, tail
from serving.settings import Settings
from serving.supervision import watcher
from serving.supervision.supervisor import Program, Supervisor

START_TIMEOUT = 90.0  # s; on a busy machine, what the monitor imports takes long


class CompanionError(Exception):
    """A companion did not start; the message has the end of its log."""


@dataclass(frozen=True)
class Companion:
    """A service that runs beside a host.

    Attributes:
        name: also that of its log.
        command: behind ``python -m``; must take ``--run-dir``, which distinguishes copies on one machine.
        url: answers 200 when it runs; ``unix:/path`` is a socket that answers with any status.
    """

    name: str
    command: tuple[str, ...]
    url: str

    def start(self, settings: Settings, poll: float = 0.1) -> bool:
        """Start it unless it runs, and wait until it answers.

        Returns:
            Whether it was started now.

        Raises:
            CompanionError: it ended, or does not answer.
            SupervisorError: its supervisor cannot be started.
        """
        supervisor, orphan = Supervisor(settings), self.find(settings)
        state = supervisor.state(self.name)
        if orphan and not (state and state.alive):
            end([orphan])
        began = supervisor.start(self.name, self.arguments(settings), self.log(settings), self.url, {})
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            state = supervisor.state(self.name)
            gone = state is None or not state.alive or (began and state.state == "BACKOFF")
            if gone or time.monotonic() > deadline:
                if began:
                    supervisor.stop(self.name)
                log = self.log(settings)
                why = "ended" if gone else f"does not answer on {self.url}"
                raise CompanionError(f"the {self.name} {why}. The end of {log}:\n{tail(log)}")
            time.sleep(poll)
        return began

    def answers(self) -> bool:
        """Tell whether its URL answers."""
        if self.url.startswith("unix:"):
            return watcher.answers(self.url)
        try:
            return httpx.get(self.url, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, settings: Settings) -> int:
        """End it, and return the number of ended processes."""
        process = self.find(settings)
        Supervisor(settings).stop(self.name)
        unsupervised = self.find(settings)
        end([unsupervised] if unsupervised else [])
        return 1 if process else 0

    def find(self, settings: Settings) -> psutil.Process | None:
        """Return its process for these settings; None if there is none."""
        arguments = self.arguments(settings)[1:]
        return next((process for process, command in commands() if command[1:] == arguments and runs(process)), None)

    def log(self, settings: Settings) -> Path:
        """Return its log file."""
        return settings.run_dir / f"{self.name}.log"

    def program(self, settings: Settings) -> Program:
        """Return the companion as a part of a supervisor."""
        return Program(self.name, self.arguments(settings), self.url)

    def arguments(self, settings: Settings) -> list[str]:
        """Return its command line."""
        return [sys.executable, "-m", *self.command, "--run-dir", str(settings.run_dir.resolve())]


def exporter(settings: Settings) -> Companion:
    """Return the exporter of the workers' metrics."""
    return Companion("exporter", ("serving", "exporter"), f"{settings.exporter_url}/livez")


def management(settings: Settings) -> Companion:
    """Return the port that guards TorchServe's management."""
    return Companion("management", ("serving", "management"), f"{settings.management_url}/healthz")


def mirror(settings: Settings) -> Companion:
    """Return what keeps this machine's copy of a shared model store up to date."""
    return Companion("mirror", ("serving", "mirror"), f"unix:{mirror_socket(settings)}")


def mirror_if_shared(settings: Settings) -> list[Companion]:
    """Return the mirror; empty where the model store is a folder of this machine alone."""
    return [mirror(settings)] if settings.store_url else []


def mirror_socket(settings: Settings) -> Path:
    """Return the socket on which the mirror answers."""
    return settings.temporary / "mirror.sock"


def monitor(settings: Settings) -> Companion:
    """Return the monitor, a package of its own."""
    return Companion("monitor", ("monitoring", "serve"), f"{settings.monitor_url}/healthz")
