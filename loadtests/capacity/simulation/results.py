"""Results of simulated runs: counts and latencies over time, and means over several runs with their intervals."""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from loadtests.capacity.simulation.replica import Outcome

CONFIDENCE = 0.95


class Point(msgspec.Struct, frozen=True):
    """An interval of a run.

    Attributes:
        time: s from the start to its start.
        rate: requests a second that came.
        replicas: in service at its start.
        p99: s; None where nothing was answered.
        refused: number; likewise ``failed``.
    """

    time: float
    rate: float
    replicas: int
    p99: float | None
    refused: int
    failed: int


class Run(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        requests: number that came after the warm-up.
        refused: number that the host turned away, to come back later.
        failed: number lost with a node, or without a replica to go to.
        late: share of the requests without a good answer within the bound.
        p50: s of the answered; likewise ``p99``. NaN where nothing was answered.
        replica_hours: of all replicas from their start on.
        course: the run over time.
    """

    requests: int
    refused: int
    failed: int
    late: float
    mean: float
    p50: float
    p99: float
    replica_hours: float
    course: list[Point]


class Interval(msgspec.Struct, frozen=True):
    """A mean over runs.

    Attributes:
        mean: of the runs.
        half: half the width of the confidence interval; infinite with one run.
    """

    mean: float
    half: float


class Tally:
    """The outcomes of a run, by the time at which the requests came.

    Args:
        interval: s of a point of the course.
        bound: s within which an answer is good.
    """

    def __init__(self, seconds: float, warm_up: float, interval: float, bound: float) -> None:
        self._warm_up, self._interval, self._bound = warm_up, interval, bound
        count = math.ceil(seconds / interval)
        self._lengths = [min(interval, seconds - number * interval) for number in range(count)]
        self._latencies = [array("d") for _ in range(count)]
        self._others: dict[Outcome, list[int]] = {"refused": [0] * count, "failed": [0] * count}
        self._replicas = [0] * count
        self._counted = {"refused": 0, "failed": 0}
        self._warm = array("d")

    @property
    def points(self) -> int:
        """Number of points of the course."""
        return len(self._lengths)

    def record(self, arrived: float, latency: float, outcome: Outcome) -> None:
        """Count a request that came at a time in s."""
        number = min(int(arrived / self._interval), self.points - 1)
        if outcome == "answered":
            self._latencies[number].append(latency)
            if arrived >= self._warm_up:
                self._warm.append(latency)
            return
        self._others[outcome][number] += 1
        self._counted[outcome] += arrived >= self._warm_up

    def see(self, number: int, replicas: int) -> None:
        """Note the replicas in service at the start of an interval."""
        self._replicas[number] = replicas

    def run(self, replica_hours: float) -> Run:
        """Return what was counted."""
        latencies = np.asarray(self._warm)
        refused, failed = self._counted["refused"], self._counted["failed"]
        requests = len(latencies) + refused + failed
        good = int(np.count_nonzero(latencies <= self._bound))
        p50, p99 = np.quantile(latencies, [0.5, 0.99]).tolist() if len(latencies) else (math.nan, math.nan)
        return Run(
            requests=requests,
            refused=refused,
            failed=failed,
            late=1 - good / requests if requests else 0.0,
            mean=float(latencies.mean()) if len(latencies) else math.nan,
            p50=p50,
            p99=p99,
            replica_hours=replica_hours,
            course=[self._point(number) for number in range(len(self._latencies))],
        )

    def _point(self, number: int) -> Point:
        latencies, length = self._latencies[number], self._lengths[number]
        refused, failed = self._others["refused"][number], self._others["failed"][number]
        return Point(
            time=number * self._interval,
            rate=(len(latencies) + refused + failed) / length,
            replicas=self._replicas[number],
            p99=float(np.quantile(latencies, 0.99)) if latencies else None,
            refused=refused,
            failed=failed,
        )


def interval(runs: Sequence[Run], figure: Callable[[Run], float]) -> Interval:
    """Return the mean of a figure over independent runs, with its confidence interval by Student's t.

    See A. Law, Simulation Modeling and Analysis, "Confidence intervals from independent replications".
    """
    from scipy.stats import t  # takes half a second

    values = np.array([figure(run) for run in runs], float)
    if len(values) < 2:
        return Interval(float(values.mean()), math.inf)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(float(values.mean()), float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error)


def describe(runs: Sequence[Run], bound: float) -> Iterator[str]:
    """Yield what runs have shown, a line a figure, each a mean with its confidence interval."""

    def shown(figure: Callable[[Run], float], form: str) -> str:
        told = interval(runs, figure)
        return f"{told.mean:{form}}" + ("" if math.isinf(told.half) else f" ± {told.half:{form}}")

    yield f"requests: {shown(lambda run: run.requests, ',.0f')}, {len(runs)} runs"
    yield f"p50 {shown(lambda run: 1000 * run.p50, ',.1f')} ms, p99 {shown(lambda run: 1000 * run.p99, ',.1f')} ms"
    yield f"without an answer within {1000 * bound:g} ms: {shown(lambda run: 100 * run.late, '.3f')} %"
    yield f"refused: {shown(lambda run: run.refused, ',.0f')}; failed: {shown(lambda run: run.failed, ',.1f')}"
    yield f"replica hours: {shown(lambda run: run.replica_hours, ',.1f')}"
