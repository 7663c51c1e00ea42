"""Metrics of the monitor that leads: two that told the same figures would alarm twice, and be counted twice."""

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.registry import Collector


class Described(Protocol):
    """A collector that tells its families without samples."""

    def describe(self) -> Iterable[Metric]:
        """Return the families, without samples."""

    def collect(self) -> Iterable[Metric]:
        """Return the families."""


class WhileLeading(Collector):
    """Collects another collector's metrics while this monitor leads; register it.

    Args:
        leads: tells whether it does.
    """

    def __init__(self, collector: Described, leads: Callable[[], bool]) -> None:
        self._collector, self._leads = collector, leads

    def describe(self) -> Iterable[Metric]:
        """Return the families, without samples."""
        return self._collector.describe()

    def collect(self) -> Iterable[Metric]:
        """Return the families; without samples where another monitor leads."""
        return self._collector.collect() if self._leads() else self._collector.describe()
