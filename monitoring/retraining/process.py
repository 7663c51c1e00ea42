"""The training command as a process of its own: started, found again after a restart of the monitor, and ended.

It has a session of its own, so that it outlives a killed monitor. Its command line, which names the job's folder,
identifies it: process ids are used again.
"""

import contextlib
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import psutil

from monitoring.store.records import Labelled
from serving import documents
from serving.documents import write_atomically
from serving.processes import commands, end, group_of, runs, spawn, tail
from serving.settings import Settings
from training.packaging.result_file import Trained

GRACE = 3.0  # s between SIGTERM and SIGKILL; a training goes on from its last checkpoint
_LINES = 500  # at the log's end, which are searched for progress
_COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STEP = re.compile(r"[\w-]+: \S|epoch \d+/\d+")  # such as "flights: fitting 200,000 rows"


class TrainingProcesses:
    """The trainings of one run, each in ``jobs/ID`` in the run's folder.

    Args:
        settings: become the command's environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs = settings.run_dir.resolve() / "jobs"
        self._started: dict[int, psutil.Process] = {}

    @property
    def place(self) -> str:
        """Return the machine and folder of the trainings, which differ between monitors."""
        return f"{socket.gethostname()}:{self._jobs}"

    def rows(self, id: int) -> Path:
        """Return the file of the labelled rows that the job learns from."""
        return self._jobs / str(id) / "rows.jsonl"

    def log(self, id: int) -> Path:
        """Return the job's log."""
        return self._jobs / str(id) / "train.log"

    def clear(self, id: int) -> None:
        """Remove the process and folder of an earlier job of this number, in another database."""
        self.end(id)
        shutil.rmtree(self._jobs / str(id), ignore_errors=True)

    def start(self, id: int, model: str, options: Sequence[str]) -> int:
        """Start the job's training, whose rows must be written, and return the id of the process.

        Args:
            options: further options of the command ``train``; those for its files are added.
        """
        files = ["--feedback", str(self.rows(id)), "--result", str(self._result(id))]
        store = ["--promote", "never", "--store", str(self._settings.model_store)]
        command = [sys.executable, "-m", "training", "train", model, *options, *store, *files]
        self._started[id] = spawn(command, self.log(id), self._settings)
        return self._started[id].pid

    def age(self, id: int) -> float | None:
        """Return the seconds since the job's training was started; None if none runs."""
        process = self._find(id)
        with contextlib.suppress(psutil.NoSuchProcess):
            return time.time() - process.create_time() if process else None
        return None

    def end(self, id: int) -> None:
        """End the job's training, if one runs, with its child processes."""
        if process := self._find(id):
            end(group_of(process), grace=GRACE)

    def end_all(self) -> int:
        """End every training of this run, also those that outlived a monitor; return how many there were."""
        mark = f"{self._jobs}{os.sep}"
        trainings = [process for process, path in _results() if path.startswith(mark)]
        for process in trainings:
            end(group_of(process), grace=GRACE)
        return len(trainings)

    def under_way(self) -> list[int]:
        """Return the ids of the jobs whose training runs in this run's folder."""
        paths = (Path(path) for _, path in _results())
        own = (path.parent.name for path in paths if path.parent.parent == self._jobs)
        return [int(name) for name in own if name.isdecimal()]

    def end_former(self, id: int, place: str) -> None:
        """End the training that a monitor which led before has left on this machine, unless it is this monitor's.

        Args:
            place: of that monitor; empty where it is not known.
        """
        machine, _, folder = place.partition(":")
        if place == self.place or machine != socket.gethostname():
            return
        path = str(Path(folder, str(id), "result.json"))
        for process in [process for process, result in _results() if result == path]:
            end(group_of(process), grace=GRACE)

    def result(self, id: int) -> Trained | None:
        """Return the result of the job's training; None if there is none so far.

        Raises:
            ValueError: the file is no such result.
        """
        try:
            trained: Trained = documents.read_json(self._result(id), Trained)
            return trained
        except FileNotFoundError:
            return None

    def progress(self, id: int) -> str:
        """Return the last line of the log that names a step, else its last line."""
        lines = [line.strip() for line in _COLORS.sub("", tail(self.log(id), _LINES)).splitlines()]
        steps = [line for line in lines if _STEP.match(line)]  # other lines are libraries'
        return next(reversed(steps or [line for line in lines if line]), "")[:500]

    def last_lines(self, id: int) -> str:
        """Return the end of the log."""
        return tail(self.log(id))

    def _result(self, id: int) -> Path:
        return self._jobs / str(id) / "result.json"

    def _find(self, id: int) -> psutil.Process | None:
        training = self._started.get(id)
        if training is None or not runs(training):
            own = str(self._result(id))
            training = next((process for process, path in _results() if path == own and runs(process)), None)
            self._started = {id: training} if training else {}
        return training


def write_rows(path: Path, labelled: Sequence[Labelled]) -> None:
    """Write the rows that a training learns from, a JSON object a line, oldest first: all of them, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"time": row.prediction.time.isoformat(), "features": row.prediction.features, "label": row.label}
        for row in labelled
    )
    lines = map(orjson.dumps, rows)
    write_atomically(path, b"\n".join([*lines, b""]), private=True)


def _results() -> Iterator[tuple[psutil.Process, str]]:
    """Yield every training on this machine that writes a result file, and the file's path."""
    for process, command in commands():
        if command[1:4] == ["-m", "training", "train"] and "--result" in command[:-1]:
            yield process, command[command.index("--result") + 1]
