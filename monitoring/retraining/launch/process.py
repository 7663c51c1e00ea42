"""Trainings as processes of this machine.

Each has a session of its own, so that it outlives a killed monitor. Its command line, which names the job's folder,
identifies it: process ids are used again.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from monitoring.retraining.launch.launcher import JobFiles
from serving.processes import commands, end, group_of, runs, spawn
from serving.settings import Settings

GRACE = 3.0  # s between SIGTERM and SIGKILL; a training goes on from its last checkpoint


class ProcessLauncher:
    """Starts trainings here, which append to the job's log.

    Args:
        settings: become the command's environment.
    """

    outlives = False  # `marloop down` must leave nothing behind

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.machine = socket.gethostname()
        self._started: dict[JobFiles, psutil.Process] = {}

    def start(self, job: JobFiles, arguments: Sequence[str]) -> int:
        """Start a training; return the id of its process."""
        command = [sys.executable, "-m", "training", *arguments]
        self._started[job] = spawn(command, job.log, self._settings)
        return self._started[job].pid

    def age(self, job: JobFiles) -> float | None:
        """Return the seconds since the training was started; None if none runs."""
        process = self._find(job)
        with contextlib.suppress(psutil.NoSuchProcess):
            return time.time() - process.create_time() if process else None
        return None

    def end(self, job: JobFiles) -> None:
        """End the training, if one runs, with its child processes."""
        if process := self._find(job):
            end(group_of(process), grace=GRACE)

    def end_all(self, jobs: Path) -> int:
        """End every training of these jobs, also those that outlived a monitor; return how many there were."""
        mark = f"{jobs}{os.sep}"
        trainings = [process for process, path in _results() if path.startswith(mark)]
        for process in trainings:
            end(group_of(process), grace=GRACE)
        return len(trainings)

    def under_way(self, jobs: Path) -> list[JobFiles]:
        """Return the jobs with a folder in ``jobs`` whose training runs."""
        running = (JobFiles(Path(path).parent) for _, path in _results())
        return [job for job in running if job.folder.parent == jobs]

    def output(self, job: JobFiles) -> None:
        """Return None: the process writes into the log itself."""
        return

    def _find(self, job: JobFiles) -> psutil.Process | None:
        training = self._started.get(job)
        if training is None or not runs(training):
            own = str(job.result)
            training = next((process for process, path in _results() if path == own and runs(process)), None)
            self._started = {job: training} if training else {}
        return training


def _results() -> Iterator[tuple[psutil.Process, str]]:
    """Yield every training on this machine that writes a result file, and the file's path."""
    for process, command in commands():
        if command[1:4] == ["-m", "training", "train"] and "--result" in command[:-1]:
            yield process, command[command.index("--result") + 1]
