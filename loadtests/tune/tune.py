"""Find a model's best batch and worker settings on the running service, under a latency objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loadtests import wrk
from loadtests.tune.candidates import Candidate, registered
from loadtests.tune.champion import Champion
from serving.hosts.torchserve.management import Management

CLIENTS = (1, 16, 64, 256)
ROUNDS = 5  # of the winner against what is served now


@dataclass(frozen=True)
class Point:
    """A candidate under one load.

    Attributes:
        per_second: good answers.
        p50: ms, as p99.
        errors: requests without a good answer.
    """

    candidate: Candidate
    clients: int
    per_second: float
    p50: float
    p99: float
    errors: int

    def holds(self, p99_ms: float) -> bool:
        """Whether it keeps to the objective without an error."""
        return self.errors == 0 and self.p99 <= p99_ms


Measure = Callable[[str, Candidate, int], Point]


def measure_with_wrk(url: str, script: Path, seconds: float) -> Measure:
    """Measures a served name by load from wrk.

    Args:
        url: of the inference port.
        script: for wrk, with the requests.
        seconds: of one measurement.
    """

    def measure(name: str, candidate: Candidate, clients: int) -> Point:
        load = wrk.run(f"{url}/predictions/{name}", script, clients, seconds)
        return Point(candidate, clients, load.per_second, load.p50, load.p99, load.errors)

    return measure


@dataclass(frozen=True)
class Tuner:
    """Tries candidates beside a served model, which goes on answering.

    Attributes:
        management: of the running service.
        store: the model store, whose archives alone may be registered.
        champion: the served version.
        measure: puts load on a name.
        say: is told what happens.
    """

    management: Management
    store: Path
    champion: Champion
    measure: Measure
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        """What candidates are served as."""
        return f"{self.champion.contract.name}-candidate"

    def sweep(self, candidates: Sequence[Candidate], clients: Sequence[int] = CLIENTS) -> list[Point]:
        """Measure each candidate under each load."""
        points = []
        for i, candidate in enumerate(candidates):
            with registered(self.management, self.store, self.champion.archive, candidate, self.name) as name:
                self.measure(name, candidate, min(16, max(clients)))  # a warm-up
                found = [self.measure(name, candidate, count) for count in clients]
            best = max(found, key=lambda point: point.per_second)
            figures = f"{best.per_second:,.0f} a second, p99 {best.p99:.1f} ms with {best.clients} clients"
            self.say(f"{i + 1}/{len(candidates)} {candidate}: {figures}")
            points += found
        return points

    def compare(self, winner: Candidate, today: Candidate, clients: int) -> tuple[Point, Point]:
        """The winner and what is served now, in turn, by their medians."""
        found: dict[Candidate, list[Point]] = {winner: [], today: []}
        for _ in range(ROUNDS):
            for candidate in (winner, today):
                with registered(self.management, self.store, self.champion.archive, candidate, self.name) as name:
                    self.measure(name, candidate, min(16, clients))
                    found[candidate].append(self.measure(name, candidate, clients))
        return middle(found[winner]), middle(found[today])


def best(points: Sequence[Point], p99_ms: float) -> Point | None:
    """The highest throughput that holds the objective; None if nothing holds it."""
    return max((point for point in points if point.holds(p99_ms)), key=lambda point: point.per_second, default=None)


def middle(points: Sequence[Point]) -> Point:
    """The medians of several measurements of the same."""
    first = points[0]
    values = {name: median(getattr(point, name) for point in points) for name in ("per_second", "p50", "p99")}
    return Point(first.candidate, first.clients, errors=sum(point.errors for point in points), **values)
