"""How long the store keeps what it knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Retention:
    """What is kept.

    Attributes:
        age: of predictions.
        rows: predictions of all models at most; the oldest without a label go first.
        waiting: how long a label waits for its prediction.
    """

    age: timedelta = timedelta(days=90)
    rows: int = 1_000_000
    waiting: timedelta = timedelta(days=7)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Retention":
        """Read ``MARLOOP_KEEP_DAYS``, ``MARLOOP_KEEP_ROWS`` and ``MARLOOP_KEEP_WAITING_DAYS``; empty ones are unset.

        Raises:
            ValueError: one is no positive integer; names the variable.
        """
        days = _positive(environ, "MARLOOP_KEEP_DAYS", cls.age.days)
        waiting = _positive(environ, "MARLOOP_KEEP_WAITING_DAYS", cls.waiting.days)
        return cls(timedelta(days=days), _positive(environ, "MARLOOP_KEEP_ROWS", cls.rows), timedelta(days=waiting))


def _positive(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable) or str(default)
    if not (text.isdecimal() and 0 < int(text) < 10**9):
        raise ValueError(f"{variable} is {text!r}; it must be a positive integer")
    return int(text)
