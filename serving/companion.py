"""A small service of ours that runs in the background beside TorchServe: start it, find it, stop it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from serving.settings import ROOT, Settings

START_TIMEOUT = 90.0  # s; on a busy machine, what the monitor imports takes long
STOP_TIMEOUT = 10.0


class CompanionError(Exception):
    """It did not start; the message has the end of its log."""


@dataclass(frozen=True)
class Companion:
    """One such service.

    Attributes:
        name: of its log.
        command: behind ``python -m``; must take ``--run-dir``, by which copies on one machine are told apart.
        url: answers 200 when it runs.
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
        """
        found = self.find(settings)
        process = found or spawn(self.arguments(settings), self.log(settings), settings)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            gone = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            if gone or time.monotonic() > deadline:
                log = self.log(settings)
                why = "ended" if gone else f"does not answer on {self.url}"
                raise CompanionError(f"the {self.name} {why}. The end of {log}:\n{tail(log)}")
            time.sleep(poll)
        return found is None

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(self.url, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, settings: Settings) -> int:
        """End it.

        Returns:
            How many processes were ended.
        """
        found = self.find(settings)
        if found is None:
            return 0
        with contextlib.suppress(psutil.NoSuchProcess):
            found.terminate()
            try:
                found.wait(STOP_TIMEOUT)
            except psutil.TimeoutExpired:
                found.kill()
                found.wait(STOP_TIMEOUT)
        return 1

    def find(self, settings: Settings) -> psutil.Process | None:
        """Its process for these settings; None if there is none."""
        wanted = self.arguments(settings)[1:]
        return next((process for process, command in commands() if command[1:] == wanted), None)

    def log(self, settings: Settings) -> Path:
        """Where it writes."""
        return settings.run_dir / f"{self.name}.log"

    def arguments(self, settings: Settings) -> list[str]:
        """Its command line."""
        return [sys.executable, "-m", *self.command, "--run-dir", str(settings.run_dir.resolve())]


def exporter(settings: Settings) -> Companion:
    """The exporter of the workers' metrics."""
    return Companion("exporter", ("serving", "exporter"), f"{settings.exporter_url}/healthz")


def management(settings: Settings) -> Companion:
    """The port that stands before TorchServe's management."""
    return Companion("management", ("serving", "management"), f"{settings.management_url}/healthz")


def spawn(
    command: list[str],
    log: Path,
    settings: Settings,
    variables: Mapping[str, str] | None = None,
    append: bool = False,
) -> psutil.Process:
    """Start a command in a session of its own: neither Ctrl-C in this terminal nor this process's end is for it.

    Args:
        command: the program and its arguments.
        log: takes what it prints.
        settings: become its environment, beside this process's.
        variables: go before both.
        append: whether the log keeps what it has.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    shell = subprocess.run(
        ["sh", "-c", f'"$@" {">>" if append else ">"}"$0" 2>&1 & echo $!', str(log), *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **settings.to_environment(), **(variables or {})},
        check=True,
    )
    return psutil.Process(int(shell.stdout))


def commands() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Every process of this machine with its command line."""
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"]:
            yield process, process.info["cmdline"]


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
