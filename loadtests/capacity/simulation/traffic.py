"""Traffic of independent callers: a Poisson process whose rate follows a day, with a burst."""

import math
from collections.abc import Iterator

import msgspec
import numpy as np

STEP = 1.0  # s for which the rate is constant


class Traffic(msgspec.Struct, frozen=True):
    """Requests a second over time.

    Attributes:
        peak: requests a second at the busiest time of the day.
        trough: share of the peak at the quietest time, half a period later; 1 is constant traffic.
        period: s of a day. The quietest time is at its start.
        burst: factor of the rate during a burst.
        burst_at: s from the start to the burst.
        burst_seconds: length of the burst; 0 is none.
    """

    peak: float
    trough: float = 1.0
    period: float = 86_400.0
    burst: float = 1.0
    burst_at: float = 0.0
    burst_seconds: float = 0.0

    def rate(self, time: float) -> float:
        """Return the requests a second at a time in s."""
        share = (1 - math.cos(2 * math.pi * time / self.period)) / 2
        factor = self.burst if self.burst_at <= time < self.burst_at + self.burst_seconds else 1.0
        return factor * self.peak * (self.trough + (1 - self.trough) * share)

    def expected(self, seconds: float) -> float:
        """Return the expected number of requests until a time in s."""
        return sum(self.rate(start) * length for start, length in _steps(seconds))

    def arrivals(self, seconds: float, rng: np.random.Generator) -> Iterator[float]:
        """Yield the times of requests, in order, until a time in s.

        In each second the number is drawn from a Poisson distribution, and the times are uniform: a Poisson process
        (S. Ross, Introduction to Probability Models, section "Conditional distribution of the arrival times").
        """
        for start, length in _steps(seconds):
            count = rng.poisson(self.rate(start) * length)
            yield from (start + length * np.sort(rng.random(count))).tolist()


def _steps(seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the start and the length of each step."""
    for number in range(math.ceil(seconds / STEP)):
        yield number * STEP, min(STEP, seconds - number * STEP)
