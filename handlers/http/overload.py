"""Shorten batches under overload: answer a few requests quickly, and turn the rest away to come back later.

All requests of a batch are answered together, and the frontend hands over up to 64 of them. Without overload a batch
may take its time. Requests that wait for longer than two batches take are a sign of overload. Then each batch answers a
few requests and turns the rest away, until no request is turned away.

Only the header ``X-Request-Start``, which a gateway sets, says how long a request has waited. Half of a batch must have
it, so that no single client can have all others turned away.
"""

from collections.abc import Sequence
from statistics import median

from handlers.message import Request

CLOCK_ERROR = 3600.0  # s: an X-Request-Start further from now is no time, or comes from a wrong clock
LONG = 0.05  # s: shorter batches keep no request waiting long
BATCHES = 2  # a request that waits for longer than this many batches is a sign of overload
TURNS = 4  # requests of usual cost that a batch answers under overload
CALM = 2.0  # s without a request turned away, after which batches may be long again


class Overload:
    """Bounds the time of each batch by how long its requests have waited.

    Args:
        patience: seconds that a batch may take without overload.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last = 0.0  # s of the last batch
        self._each = 0.0  # s of the last batch for each answered request
        self._until = 0.0  # end of the overload, s since the epoch

    def seconds_for(self, requests: Sequence[Request], now: float) -> float:
        """Return the seconds that a batch of these requests may take; ``now`` is in seconds since the epoch."""
        if self._last > LONG:
            waited = waits(requests, now)
            if 2 * len(waited) > len(requests) and median(waited) > BATCHES * self._last:
                self._until = now + CALM
        return min(self._patience, TURNS * self._each) if now < self._until else self._patience

    def ended(self, now: float, seconds: float, answered: int, refused: int) -> None:
        """Note a batch.

        Args:
            now: seconds since the epoch, at its start.
            seconds: its duration.
            answered: number of answered requests.
            refused: number of requests that were turned away.
        """
        self._last, self._each = seconds, seconds / max(answered, 1)
        if refused and now < self._until:
            self._until = now + CALM


def waits(requests: Sequence[Request], now: float, waited: Sequence[float] = ()) -> list[float]:
    """Return the seconds since each ``X-Request-Start`` that is a time; for other requests what their host knows."""
    seconds = dict(enumerate(waited))
    for i, request in enumerate(requests):
        if "x-request-start" in request.headers:
            start = request_start(request.headers["x-request-start"])
            if start is not None and abs(now - start) < CLOCK_ERROR:
                seconds[i] = max(0.0, now - start)  # the other clock may be a little ahead of ours
    return list(seconds.values())


def request_start(header: str) -> float | None:
    """Return the seconds since the epoch of an ``X-Request-Start`` such as ``t=1700000000.123``; None if it is no time.

    Proxies write seconds, milliseconds or microseconds.
    """
    try:
        value = float(header.removeprefix("t="))
    except ValueError:
        return None
    scale = 1 if value < 1e11 else 1e3 if value < 1e14 else 1e6
    return value / scale
