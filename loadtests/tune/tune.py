"""The search for a model's best batch and worker settings on the running service, under a latency objective."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from loadtests import wrk
from loadtests.tune.candidates import Candidate, registered
from loadtests.tune.champion import Champion
from serving.hosts.torchserve.management import Management
from serving.settings import ROOT, Settings
from training.figures.picture import picture

CLIENTS = (1, 16, 64, 256)
ROUNDS = 5  # rounds of the winner against the current settings
REGISTERING = 120.0  # s, the longest that workers may load


class Point(msgspec.Struct, frozen=True):
    """A candidate under one load.

    Attributes:
        per_second: good answers a second.
        p50: ms; likewise ``p99``.
        errors: number of requests without a good answer.
    """

    candidate: Candidate
    clients: int
    per_second: float
    p50: float
    p99: float
    errors: int

    def holds(self, p99_ms: float) -> bool:
        """Tell whether the candidate keeps to the objective without an error."""
        return self.errors == 0 and self.p99 <= p99_ms


Measure = Callable[[str, Candidate, int], Point]


def measure_with_wrk(url: str, script: Path, seconds: float) -> Measure:
    """Return a function that measures a served name by load from wrk.

    Args:
        script: wrk's, with the requests.
    """

    def measure(name: str, candidate: Candidate, clients: int) -> Point:
        load = wrk.run(f"{url}/predictions/{name}", script, clients, seconds)
        return Point(candidate, clients, load.per_second, load.p50, load.p99, load.errors)

    return measure


@dataclass(frozen=True)
class Tuner:
    """A tuner that tries candidates beside a served model, which goes on answering.

    Attributes:
        store: the running service's model store, whose archives alone may be registered.
        champion: the served version.
        measure: puts load on a served name.
    """

    management: Management
    store: Path
    champion: Champion
    measure: Measure
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        """Name under which candidates are served."""
        return f"{self.champion.contract.name}-candidate"

    def sweep(self, candidates: Sequence[Candidate], clients: Sequence[int] = CLIENTS) -> list[Point]:
        """Measure each candidate under each load."""
        points = []
        for i, candidate in enumerate(candidates):
            with registered(self.management, self.store, self.champion.archive, candidate, self.name) as name:
                self.measure(name, candidate, min(16, max(clients)))  # a warm-up
                measured = [self.measure(name, candidate, count) for count in clients]
            best = max(measured, key=lambda point: point.per_second)
            figures = f"{best.per_second:,.0f} a second, p99 {best.p99:.1f} ms with {best.clients} clients"
            self.say(f"{i + 1}/{len(candidates)} {candidate}: {figures}")
            points += measured
        return points

    def compare(self, winner: Candidate, today: Candidate, clients: int) -> tuple[Point, Point]:
        """Measure the winner and the current settings in turn, and return the medians of both."""
        points: dict[Candidate, list[Point]] = {winner: [], today: []}
        for _ in range(ROUNDS):
            for candidate in (winner, today):
                with registered(self.management, self.store, self.champion.archive, candidate, self.name) as name:
                    self.measure(name, candidate, min(16, clients))
                    points[candidate].append(self.measure(name, candidate, clients))
        return middle(points[winner]), middle(points[today])


def best(points: Sequence[Point], p99_ms: float) -> Point | None:
    """Return the point of the highest throughput that holds the objective; None if none does."""
    return max((point for point in points if point.holds(p99_ms)), key=lambda point: point.per_second, default=None)


def middle(points: Sequence[Point]) -> Point:
    """Return the medians of several measurements of one candidate."""
    first = points[0]
    values = {name: median(getattr(point, name) for point in points) for name in ("per_second", "p50", "p99")}
    return Point(first.candidate, first.clients, errors=sum(point.errors for point in points), **values)


def draw_curve(points: Sequence[Point], winner: Candidate | None, p99_ms: float, title: str, path: Path) -> None:
    """Draw a line for each candidate, from few clients to many, the winner thick, and the objective across."""
    with picture(path, 9, 5.5, dpi=120) as figure:
        axes = figure.add_subplot()
        for candidate in sorted({point.candidate for point in points}):
            line = sorted((p for p in points if p.candidate == candidate), key=lambda point: point.clients)
            wins = candidate == winner
            style = {"linewidth": 3.0, "zorder": 3} if wins else {"linewidth": 1.0, "alpha": 0.7}
            label = f"{candidate}{' (best)' if wins else ''}"
            axes.plot([p.per_second for p in line], [p.p99 for p in line], marker="o", label=label, **style)  # type: ignore[arg-type]
        axes.axhline(p99_ms, color="black", linestyle="--", linewidth=1)
        axes.annotate(f"objective: {p99_ms:g} ms", (0.01, p99_ms), xycoords=("axes fraction", "data"), va="bottom")
        axes.set(xlabel="answers a second", ylabel="p99, ms", yscale="log", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


class Tuning:
    """A tuning of one model.

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
        """Try every candidate, then the best against the current settings; None if none keeps to the objective.

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
            draw_curve(points, winner.candidate if winner else None, self._p99_ms, title, self._folder / "curve.png")
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
