"""More requests than can be answered: whoever has no turn soon is told at once to come back, and the others are quick.

All requests of a batch are answered together, and the frontend hands over up to 64 of them. While it holds few, a batch
may take as long as it does. When requests wait for longer than two batches take, more come than are answered, and a
long batch only makes the others wait: then a batch answers a few and turns the rest away, until nobody is turned away.

How long a request has waited only its header ``X-Request-Start`` tells, which a gateway sets. Half of a batch must have
one, so that no single client can make all others be turned away.
"""

from collections.abc import Sequence
from statistics import median

from handlers.message import Request

CLOCK_ERROR = 3600.0  # s: an X-Request-Start further from now is no time, or of a clock that is wrong
LONG = 0.05  # s that a batch takes: with shorter ones nobody waits long
BATCHES = 2  # that fit into the time a request waited, when there are too many
TURNS = 4  # requests of a usual cost that a batch answers then
CALM = 2.0  # s without anybody turned away, after which batches may be long again


class Overload:
    """How long each batch may take.

    Args:
        patience: seconds, where there are no more requests than can be answered.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last = 0.0  # s that the last batch took
        self._each = 0.0  # s of that for each request which was answered
        self._until = 0.0  # when batches may be long again

    def seconds_for(self, requests: Sequence[Request], now: float) -> float:
        """Return the seconds that a batch may take.

        Args:
            requests: of the batch.
            now: seconds since the epoch.
        """
        if self._last > LONG:
            waited = waits(requests, now)
            if 2 * len(waited) > len(requests) and median(waited) > BATCHES * self._last:
                self._until = now + CALM
        return min(self._patience, TURNS * self._each) if now < self._until else self._patience

    def ended(self, now: float, seconds: float, answered: int, refused: int) -> None:
        """Learn from a batch.

        Args:
            now: seconds since the epoch, before it.
            seconds: that it took.
            answered: how many requests had their turn.
            refused: how many had none.
        """
        self._last, self._each = seconds, seconds / max(answered, 1)
        if refused and now < self._until:
            self._until = now + CALM


def waits(requests: Sequence[Request], now: float) -> list[float]:
    """Return the seconds since each ``X-Request-Start`` that is a time."""
    headers = [request.headers["x-request-start"] for request in requests if "x-request-start" in request.headers]
    starts = [start for start in map(request_start, headers) if start is not None]
    # A clock may be a little ahead of ours.
    return [max(0.0, now - start) for start in starts if abs(now - start) < CLOCK_ERROR]


def request_start(header: str) -> float | None:
    """The time of an ``X-Request-Start``: seconds since the epoch from ``t=1700000000.123``, where proxies write
    seconds, milliseconds or microseconds; None where it is no time.
    """
    try:
        value = float(header.removeprefix("t="))
    except ValueError:
        return None
    scale = 1 if value < 1e11 else 1e3 if value < 1e14 else 1e6
    return value / scale
