"""The traffic of each model in the last minutes, from the exporter: what the console charts where no Prometheus is.

Series are compared between two looks as Prometheus's ``rate()`` does: a counter that went back began again at zero. A
look that fails leaves a gap. Memory is bounded by the window, whatever the exporter sends for how long.
"""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from monitoring.periodic import repeat

STEP = 5.0  # s between two looks
WINDOW = 900.0  # s that are kept
POINTS = int(WINDOW / STEP) + 1  # of a model
MODELS = 200  # that are kept; more would be no page that one reads
PATIENCE = 4.0  # s that the exporter may take
SHARES = (0.5, 0.95, 0.99)
REQUESTS, SECONDS = "model_requests_total", "model_request_duration_seconds_bucket"
_LABELS = {REQUESTS: "code", SECONDS: "le"}


class Point(NamedTuple):
    """Traffic since the look before; None where it is not known.

    Attributes:
        time: on the sampler's clock, s.
        requests: answered ones a second, errors too.
        refused: answers of status 4xx a second.
        failed: answers of status 5xx a second.
        seconds: quantiles of the time in the worker, one for each of ``SHARES``.
    """

    time: float
    requests: float | None = None
    refused: float | None = None
    failed: float | None = None
    seconds: tuple[float | None, ...] = (None,) * len(SHARES)


class Series(NamedTuple):
    """Identity of a series; ``label`` is its status code, or its bucket's bound."""

    name: str
    model: str
    label: str
    others: tuple[tuple[str, str], ...]


class Look(NamedTuple):
    """Values of all series at a moment."""

    time: float
    values: Mapping[Series, float]


class Traffic:
    """Looks at the exporter, and keeps the points of the last minutes.

    Args:
        url: of the exporter.
        client: asks it; with a timeout of its own.
        clock: a monotonic clock in s.

    Attributes:
        fault: why the last look failed; empty if it did not.
    """

    def __init__(self, url: str, client: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._client, self._clock = url, client, clock
        self._lock = threading.Lock()
        self._points: dict[str, deque[Point]] = {}
        self._former: Look | None = None
        self.fault = ""

    def look(self) -> None:
        """Ask the exporter once, and add a point, or a gap, to each model."""
        now, new, fault = self._clock(), dict[str, Point](), ""
        try:
            response = self._client.get(f"{self._url}/metrics", timeout=PATIENCE)
            response.raise_for_status()
            look = Look(now, parse(response.text))
            former, self._former = self._former, look
            if former and 0 < now - former.time <= WINDOW:
                new = points(former, look)
        except httpx.HTTPStatusError as error:
            fault = f"it answered {error.response.status_code}"
        except (httpx.HTTPError, ValueError) as error:
            fault = str(error) or type(error).__name__
        self._add(new, now, fault)

    def run_forever(self, stop: threading.Event) -> None:
        """Look every ``STEP`` seconds until ``stop`` is set."""
        repeat(lambda took: max(0.0, STEP - took), self.look, stop, fault="cannot look at the traffic")

    def of(self, model: str) -> list[tuple[float, Point]]:
        """Return a model's points of the window, oldest first, each with its age in s."""
        with self._lock:
            kept = [*self._points.get(model, ())]
        now = self._clock()
        return [(now - point.time, point) for point in kept if now - point.time <= WINDOW]

    def _add(self, new: Mapping[str, Point], now: float, fault: str) -> None:
        with self._lock:
            self.fault = fault
            for model in [model for model, kept in self._points.items() if now - kept[-1].time > WINDOW]:
                del self._points[model]
            for model in [*new][: MODELS - len(self._points.keys() - new.keys())]:
                self._points.setdefault(model, deque(maxlen=POINTS)).append(new[model])
            for model, kept in self._points.items():
                if model not in new and kept[-1] != Point(kept[-1].time):
                    kept.append(Point(now))  # one marks a gap, however long it is


def parse(text: str) -> dict[Series, float]:
    """Return the values of the series that the charts need from a page of metrics.

    Raises:
        ValueError: it is no such page.
    """
    lines = (line for line in text.splitlines() if line.startswith((f"{REQUESTS}{{", f"{SECONDS}{{")))
    values: dict[Series, float] = {}
    for family in text_string_to_metric_families("".join(f"{line}\n" for line in lines)):
        for sample in family.samples:
            labels = dict(sample.labels)
            model, label = labels.pop("model", ""), labels.pop(_LABELS[sample.name], "")
            if model:
                values[Series(sample.name, model, label, tuple(sorted(labels.items())))] = sample.value
    return values


def points(former: Look, look: Look) -> dict[str, Point]:
    """Return the traffic of each model between two looks."""
    elapsed = look.time - former.time
    counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for series, increase in increases(former.values, look.values):
        if series.name == REQUESTS:
            counts[series.model][series.label[:1]] += increase
        else:
            buckets[series.model][float(series.label)] += increase
    return {
        model: Point(
            look.time,
            sum(counts[model].values()) / elapsed,
            counts[model]["4"] / elapsed,
            counts[model]["5"] / elapsed,
            tuple(quantile(share, buckets[model]) for share in SHARES),
        )
        for model in sorted({*counts, *buckets})
    }


def increases(former: Mapping[Series, float], values: Mapping[Series, float]) -> Iterator[tuple[Series, float]]:
    """Yield by how much each counter has grown; one that is new, or went back, began at zero."""
    for series, value in values.items():
        before = former.get(series, 0.0)
        yield series, value - before if value >= before else value


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile of a histogram, interpolated as Prometheus's ``histogram_quantile`` does.

    Args:
        share: between 0 and 1.
        buckets: cumulative counts by upper bound; the last bound is infinite.

    Returns:
        None without an observation; the highest finite bound where the quantile lies above it.
    """
    total = buckets.get(math.inf, 0.0)
    if not total:
        return None
    lower, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= share * total:
            if bound == math.inf:
                break
            return lower + (bound - lower) * (share * total - below) / (count - below)
        lower, below = bound, max(below, count)
    return lower
