"""The monitor's clock: the wall's, or that of the events, as in a replay of the past."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

ClockName = Literal["wall", "events"]
Clock = Callable[[], datetime]
AHEAD = timedelta(minutes=5)  # greatest difference of two machines' clocks


def wall_clock() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class EventClock:
    """A clock that stands at the newest time of any event that arrived, and never goes back.

    Args:
        start: its time before the first event; aware.
        limit: later times are ignored: one event from a wrong clock would stop this one for good.
    """

    def __init__(self, start: datetime, limit: Clock = wall_clock) -> None:
        self._time, self._limit = start, limit
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """Return the newest time, in UTC."""
        return self._time

    def advance(self, time: datetime) -> None:
        """Advance to the time of an event that arrived."""
        with self._lock:
            if self._time < time <= self._limit():
                self._time = time.astimezone(UTC)
