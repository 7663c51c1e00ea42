"""The number of replicas as Kubernetes' HorizontalPodAutoscaler decides it.

The rules are those of its `algorithm
<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>`_, the defaults those of
its controller: a look every 15 s, a tolerance of 0.1, growth by the double or by four in 15 s, and of all that was
recommended in five minutes the highest before it shrinks.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

Metric = Literal["cpu", "in-flight"]
GROWTH = 2.0  # times the replicas, or
ADDED = 4  # more of them, whichever is more, in each look


class Autoscaling(msgspec.Struct, frozen=True):
    """Settings of an autoscaler.

    Attributes:
        least: fewest replicas; likewise ``most``.
        metric: share of the cores that is busy, or requests in flight, of a replica on average.
        target: value of the metric that it aims at.
        interval: s between two looks.
        tolerance: relative distance from the target within which nothing changes.
        window: s over which the highest recommendation counts before it shrinks.
    """

    least: int
    most: int
    metric: Metric = "cpu"
    target: float = 0.6
    interval: float = 15.0
    tolerance: float = 0.1
    window: float = 300.0


class Autoscaler:
    """Decides from one look to the next.

    Args:
        replicas: number at the start.
    """

    def __init__(self, settings: Autoscaling, replicas: int) -> None:
        self._settings, self._replicas = settings, replicas
        self._recommended: deque[tuple[float, int]] = deque()

    def decide(self, now: float, values: Sequence[float], silent: int) -> int:
        """Return the number of replicas that there should be.

        Args:
            now: s.
            values: the metric of each replica that is ready.
            silent: number of those that have no value: they start, or are lost.
        """
        settings = self._settings
        wanted = min(max(self._recommend(values, silent), settings.least), settings.most)
        self._recommended.append((now, wanted))
        while self._recommended[0][0] < now - settings.window:
            self._recommended.popleft()
        if wanted < self._replicas:
            wanted = min(self._replicas, max(number for _, number in self._recommended))
        most = math.ceil(max(GROWTH * self._replicas, self._replicas + ADDED))
        self._replicas = min(wanted, most)
        return self._replicas

    def _recommend(self, values: Sequence[float], silent: int) -> int:
        """Return a number by the metric alone; replicas without a value count so that they damp the change."""
        if not values:
            return self._replicas
        ratio = sum(values) / len(values) / self._settings.target
        if self._is_near(ratio):
            return self._replicas
        if not silent:
            return _whole(ratio * len(values))
        total = len(values) + silent
        idle = 0.0 if ratio > 1 else silent * self._settings.target
        damped = (sum(values) + idle) / total / self._settings.target
        number = _whole(damped * total)
        turned = (damped > 1) != (ratio > 1) or (damped > 1) != (number > self._replicas)
        return self._replicas if turned or self._is_near(damped) else number

    def _is_near(self, ratio: float) -> bool:
        return abs(ratio - 1) <= self._settings.tolerance


def _whole(number: float) -> int:
    """Round up, but not for the last bit of a sum: Kubernetes counts in thousandths."""
    return math.ceil(round(number, 6))
