"""One tuning from start to end: sweep, compare, draw, keep."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from loadtests import wrk
from loadtests.tune.candidates import Candidate
from loadtests.tune.champion import Champion
from loadtests.tune.curve import draw
from loadtests.tune.tune import Point, Tuner, best, measure_with_wrk
from serving.hosts.torchserve.management import Management
from serving.settings import ROOT, Settings

REGISTERING = 120.0  # s that workers may take to load


class Tuning:
    """A tuning of one model.

    Args:
        settings: of the running service.
        model: its name.
        p99_ms: the objective.
        seconds: of one measurement.
        folder: for the curve.
        console: is told what happens.

    Raises:
        ArchiveError: the model has no champion, or its archive is not as registered.
        WrkError: wrk is not installed.
    """

    def __init__(
        self, settings: Settings, model: str, p99_ms: float, seconds: float, folder: Path, console: Console
    ) -> None:
        wrk.find()
        self._settings, self._model, self._p99_ms = settings, model, p99_ms
        self._seconds, self._folder, self._console = seconds, folder, console
        self._champion = Champion.of(settings.model_store, model)

    def run(self, candidates: Sequence[Candidate], clients: Sequence[int], keep: bool) -> Point | None:
        """Try every candidate; the best one against what is served now, or None if none keeps to the objective.

        Raises:
            ManagementError: the service does not run, or refused a candidate.
            WrkError: a measurement failed.
        """
        with httpx.Client(timeout=REGISTERING, trust_env=False) as client:
            management = Management(self._settings.management_address, client)
            management.versions()
            script = self._champion.write_requests(self._folder / "requests.lua")
            measure = measure_with_wrk(self._settings.inference_url, script, self._seconds)
            say = self._say
            tuner = Tuner(management, self._settings.model_store, self._champion, measure, say)
            minutes = len(candidates) * (len(clients) + 2) * self._seconds / 60
            say(f"{len(candidates)} candidates, about {minutes:.0f} minutes; {self._model} goes on answering")
            points = tuner.sweep(candidates, clients)
            winner = best(points, self._p99_ms)
            title = f"{self._model}: {len(candidates)} ways to serve it"
            draw(points, winner.candidate if winner else None, self._p99_ms, title, self._folder / "curve.png")
            say(f"curve: {self._folder / 'curve.png'}")
            if winner is None:
                say(f"nothing keeps p99 under {self._p99_ms:g} ms; the settings stay as they are")
                return None
            return self._settle(tuner, winner, keep)

    def _settle(self, tuner: Tuner, winner: Point, keep: bool) -> Point:
        today = Candidate.of(self._champion.archive)
        if winner.candidate == today:
            self._say(f"the best is what is served now: {today}")
            return winner
        after, before = tuner.compare(winner.candidate, today, winner.clients)
        self._show(after, before)
        if keep and after.per_second > before.per_second and after.holds(self._p99_ms):
            package = [sys.executable, "-m", "training", "package", self._model, *after.candidate.options()]
            subprocess.run([*package, "--store", str(self._settings.model_store)], cwd=ROOT, check=True)
        else:
            self._say("the settings stay as they are" if keep else "not kept, as asked")
        return after

    def _show(self, after: Point, before: Point) -> None:
        table = Table("settings", "clients", "answers a second", "p50, ms", "p99, ms", "errors")
        for name, point in (("best", after), ("now", before)):
            figures = (f"{point.per_second:,.0f}", f"{point.p50:.1f}", f"{point.p99:.1f}", str(point.errors))
            table.add_row(f"{name}: {point.candidate}", str(point.clients), *figures)
        self._console.print(table)
        self._say(f"{after.per_second / before.per_second:.2f} times the throughput, medians of rounds in turn")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)
