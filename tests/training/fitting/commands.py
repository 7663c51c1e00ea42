"""``python -m training`` in a process of its own, and what it prints."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import pytest

from serving.settings import ROOT


class Command:
    """A training that was started, and what it has printed."""

    def __init__(self, arguments: Sequence[str], launch: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *launch, "-m", "training", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def read_until(self, start: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith(start):
                return
        pytest.fail(f"it ended without a line {start!r}:\n{self.output}")

    def end(self) -> int:
        """Wait for the end; the exit code."""
        rest, _ = self.process.communicate(timeout=240)
        self.output += rest
        return self.process.returncode


@contextlib.contextmanager
def command(
    *arguments: str, launch: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """Start ``python -m training`` with arguments, and end it whatever happens.

    Args:
        launch: options of Python before ``-m training``.
        environment: default: this process's.
    """
    running = Command(arguments, launch, environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()
