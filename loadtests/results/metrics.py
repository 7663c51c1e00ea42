"""The run's metrics for Prometheus, computed from Locust's statistics when they are scraped.

They cost a request nothing, and are sums over all workers where the load is distributed:

- ``locust_requests_total{model,kind,outcome}``: kind is the format of a valid request (native, v1, v2, v2-binary, npy),
  or edge, invalid, example, shed; outcome is right, wrong (no answer included) or shed;
- ``locust_request_duration_seconds{model}``: histogram; Locust rounds to whole milliseconds and two digits;
- ``locust_users``: number of concurrent users.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtests.results import tally

if TYPE_CHECKING:
    from locust.stats import RequestStats

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # s


class LoadCollector(Collector):
    """A collector of Locust's statistics.

    Args:
        stats: returns the current statistics: Locust replaces them when a run begins.
    """

    def __init__(self, stats: "Callable[[], RequestStats]", users: Callable[[], int], models: Sequence[str]) -> None:
        self._stats, self._users, self._models = stats, users, models

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: the metrics are known only when they are collected."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        yield GaugeMetricFamily("locust_users", "Users that ask at once", self._users())
        requests = CounterMetricFamily("locust_requests", "Requests that ended", labels=["model", "kind", "outcome"])
        durations = HistogramMetricFamily(
            "locust_request_duration_seconds", "From sending a request to the end of its answer", labels=["model"]
        )
        for model in self._models:
            times: Counter[int] = Counter()
            total = 0.0
            for entry in tally.entries(self._stats(), [model]):
                wrong = entry.stats.num_failures
                right = entry.stats.num_requests - wrong
                requests.add_metric([model, entry.kind, "right"], right)
                requests.add_metric([model, entry.kind, "shed" if entry.kind == tally.SHED else "wrong"], wrong)
                times.update(entry.stats.response_times)
                total += entry.stats.total_response_time
            durations.add_metric([model], _cumulative(times), total / 1000)
        yield requests
        yield durations


def _cumulative(times: Counter[int]) -> list[tuple[str, float]]:
    """Return the histogram's buckets of durations in ms."""
    below = [(str(bound), sum(n for time, n in times.items() if time <= 1000 * bound)) for bound in BUCKETS]
    return [*below, ("+Inf", sum(times.values()))]
