"""The traffic of each model in the last minutes, from the exporters: what the console charts where no Prometheus is.

Series are compared between two looks as Prometheus's ``rate()`` does: a counter that went back began again at zero. A
look that fails leaves a gap. Of several machines each has an exporter: rates are sums of what their counters grew by.
Memory is bounded by the window, whatever the exporters send for how long.
"""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from monitoring.periodic import repeat

STEP = 5.0  # s between two looks
WINDOW = 900.0  # s that are kept
POINTS = int(WINDOW / STEP) + 1  # of a model
MODELS = 200  # that are kept; more would be no page that one reads
PATIENCE = 4.0  # s that an exporter may take
AT_ONCE = 32  # exporters that are asked at a time
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
    """Looks at the exporters, and keeps the points of the last minutes.

    Args:
        urls: returns those of the exporters, one of each machine; asked at each look, since machines come and go.
        client: asks them; with a timeout of its own.
        clock: a monotonic clock in s.

    Attributes:
        fault: why the last look failed, at least at one of them; empty if it did not.
    """

    def __init__(
        self, urls: Callable[[], Sequence[str]], client: httpx.Client, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._urls, self._client, self._clock = urls, client, clock
        self._lock = threading.Lock()
        self._points: dict[str, deque[Point]] = {}
        self._former: dict[str, Look] = {}
        self.fault = ""

    def look(self) -> None:
        """Ask each exporter once, and add a point, or a gap, to each model."""
        urls, now = list(dict.fromkeys(self._urls())), self._clock()
        pages = self._pages(urls)
        faults = [f"{url}: {page}" if len(urls) > 1 else page for url, page in pages.items() if isinstance(page, str)]
        looks = {url: Look(now, page) for url, page in pages.items() if not isinstance(page, str)}
        pairs = [
            (self._former[url], look)
            for url, look in looks.items()
            if url in self._former and 0 < now - self._former[url].time <= WINDOW
        ]
        self._former = {url: look for url, look in {**self._former, **looks}.items() if url in pages}
        self._add(points(now, pairs), now, "; ".join(faults))

    def _pages(self, urls: Sequence[str]) -> dict[str, Mapping[Series, float] | str]:
        """Return what each exporter tells, or why it does not."""
        if len(urls) == 1:
            return {urls[0]: self._page(urls[0])}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return dict(zip(urls, threads.map(self._page, urls), strict=True))

    def _page(self, url: str) -> Mapping[Series, float] | str:
        try:
            response = self._client.get(f"{url}/metrics", timeout=PATIENCE)
            response.raise_for_status()
            return parse(response.text)
        except httpx.HTTPStatusError as error:
            return f"it answered {error.response.status_code}"
        except (httpx.HTTPError, ValueError) as error:
            return str(error) or type(error).__name__

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
            if sample.name == SECONDS:
                float(label)  # raises where the page makes no sense
            if model:
                values[Series(sample.name, model, label, tuple(sorted(labels.items())))] = sample.value
    return values


def points(now: float, pairs: Sequence[tuple[Look, Look]]) -> dict[str, Point]:
    """Return the traffic of each model, added up over exporters.

    Args:
        now: the time of the points.
        pairs: two looks at each exporter, the former one first.
    """
    counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for former, look in pairs:
        elapsed = look.time - former.time
        for series, increase in increases(former.values, look.values):
            if series.name == REQUESTS:
                counts[series.model][series.label[:1]] += increase / elapsed
            else:
                buckets[series.model][float(series.label)] += increase / elapsed
    return {
        model: Point(
            now,
            sum(counts[model].values()),
            counts[model]["4"],
            counts[model]["5"],
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
