"""Counts of the requests that the front answers by itself: no replica of a model would tell of them."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter

from handlers.observe.telemetry import ERRORS, MODEL, REQUESTS


class Refusals:
    """Counts in ``model_requests_total`` and ``model_input_errors_total``; every label comes from a closed set.

    Args:
        read: returns how many requests were refused since the front began, by STATUS/CODE/PROTOCOL/MODEL/VERSION.
        registry: owner of the counters.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]], registry: CollectorRegistry) -> None:
        self._read = read
        self._requests = Counter(*REQUESTS, (*MODEL, "protocol", "code"), registry=registry)
        self._errors = Counter(*ERRORS, (*MODEL, "reason"), registry=registry)
        self._counted: Mapping[str, int] | None = None  # what another process counted before this one is none of ours

    def look(self) -> None:
        """Count what was refused since the last look; nothing while the front does not run."""
        try:
            counts = self._read()
        except OSError:
            return
        if self._counted is not None:
            for key, count in counts.items():
                before = self._counted.get(key, 0)
                self._count(key, count - before if count >= before else count)  # a front that began anew counts from 0
        self._counted = counts

    def _count(self, key: str, more: int) -> None:
        status, code, protocol, model, version = key.split("/")
        labels = {"model": model, "version": version}
        self._requests.labels(**labels, protocol=protocol or "unknown", code=status).inc(more)
        if status.startswith("4"):
            self._errors.labels(**labels, reason=code).inc(more)
