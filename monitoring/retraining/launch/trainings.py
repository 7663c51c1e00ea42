"""The trainings of jobs: what each is given, what it says while it runs, and its result; a launcher runs it."""

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson

from monitoring.retraining.launch.launcher import JobFiles, Launcher, UnreachableError
from monitoring.retraining.launch.process import ProcessLauncher
from monitoring.store.records import Labelled
from serving import documents
from serving.documents import write_atomically
from serving.processes import tail
from serving.settings import Settings
from training.packaging.result_file import Trained

_LINES = 500  # at the log's end, which are searched for progress
_COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STEP = re.compile(r"[\w-]+: \S|epoch \d+/\d+")  # such as "flights: fitting 200,000 rows"


class JobTrainings:
    """The trainings of one run, each in ``jobs/ID`` in the run's folder.

    Args:
        launcher: runs them; None for processes of this machine.
    """

    def __init__(self, settings: Settings, launcher: Launcher | None = None) -> None:
        self._store = settings.model_store
        self._jobs = settings.run_dir.resolve() / "jobs"
        self._launcher = launcher or ProcessLauncher(settings)

    @property
    def outlive(self) -> bool:
        """Whether they go on when the monitor ends, for the next monitor to find."""
        return self._launcher.outlives

    @property
    def place(self) -> str:
        """Return the machine and folder of the trainings, which differ between monitors that share neither."""
        return f"{self._launcher.machine}:{self._jobs}"

    def rows(self, id: int) -> Path:
        """Return the file of the labelled rows that the job learns from."""
        return self._files(id).rows

    def log(self, id: int) -> Path:
        """Return the job's log."""
        return self._files(id).log

    def clear(self, id: int) -> None:
        """End the training, and remove the folder, of an earlier job of this number, in another database."""
        self.end(id)
        shutil.rmtree(self._files(id).folder, ignore_errors=True)

    def start(self, id: int, model: str, options: Sequence[str]) -> int | None:
        """Start the job's training, whose rows must be written; return the id of its process, if it is one here.

        Args:
            options: further options of the command ``train``, which name the rows; those for its result are added.

        Raises:
            UnreachableError, RefusedError: the launcher's; nothing was started.
        """
        job = self._files(id)
        store = ["--promote", "never", "--store", str(self._store)]
        return self._launcher.start(job, ["train", model, *options, *store, "--result", str(job.result)])

    def age(self, id: int) -> float | None:
        """Return the seconds since the job's training was started; None if none runs."""
        return self._launcher.age(self._files(id))

    def end(self, id: int) -> None:
        """End the job's training, if one runs, with all that it started."""
        self._launcher.end(self._files(id))

    def end_all(self) -> int:
        """End every training of this run, also those that outlived a monitor; return how many there were."""
        return self._launcher.end_all(self._jobs)

    def under_way(self) -> list[int]:
        """Return the ids of the jobs whose training runs on this machine, in this run's folder."""
        names = (job.folder.name for job in self._launcher.under_way(self._jobs))
        return [int(name) for name in names if name.isdecimal()]

    def end_former(self, id: int, place: str) -> None:
        """End the training that a monitor which led before has left on this machine, unless it is this monitor's.

        Args:
            place: of that monitor; empty where it is not known.
        """
        machine, _, folder = place.partition(":")
        if place != self.place and machine and machine == self._launcher.machine:
            self._launcher.end(JobFiles(Path(folder, str(id))))

    def result(self, id: int) -> Trained | None:
        """Return the result of the job's training; None if there is none so far.

        Raises:
            ValueError: the file is no such result.
        """
        try:
            trained: Trained = documents.read_json(self._files(id).result, Trained)
            return trained
        except FileNotFoundError:
            return None

    def progress(self, id: int) -> str:
        """Return the last line of the log that names a step, else its last line."""
        lines = [line.strip() for line in _COLORS.sub("", self._tail(id, _LINES)).splitlines()]
        steps = [line for line in lines if _STEP.match(line)]  # other lines are libraries'
        return next(reversed(steps or [line for line in lines if line]), "")[:500]

    def last_lines(self, id: int) -> str:
        """Return the end of the log."""
        return self._tail(id)

    def _files(self, id: int) -> JobFiles:
        return JobFiles(self._jobs / str(id))

    def _tail(self, id: int, lines: int = 25) -> str:
        """Return the end of the log, once what a cluster has of it is copied there: pages and the API read it."""
        job = self._files(id)
        with contextlib.suppress(UnreachableError):
            printed = (self._launcher.output(job) or "").encode()
            if printed and not (job.log.exists() and job.log.read_bytes() == printed):
                job.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(job.log, printed, private=True)
        return tail(job.log, lines)


def write_rows(path: Path, labelled: Sequence[Labelled]) -> None:
    """Write the rows that a training learns from, a JSON object a line, oldest first: all of them, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"time": row.prediction.time.isoformat(), "features": row.prediction.features, "label": row.label}
        for row in labelled
    )
    lines = map(orjson.dumps, rows)
    write_atomically(path, b"\n".join([*lines, b""]), private=True)
