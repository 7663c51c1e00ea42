"""How long the store keeps what it knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring.retraining.policy import number


@dataclass(frozen=True)
class Retention:
    """What is kept.

    Attributes:
        age: of predictions.
        rows: predictions of all models at most; the oldest without a label go first.
        waiting: how long a label waits for its prediction.
        share: of all rows that may go at once for their age; more is a clock that jumped, and nothing goes.
    """

    age: timedelta = timedelta(days=90)
    rows: int = 1_000_000
    waiting: timedelta = timedelta(days=7)
    share: float = 0.5

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Retention":
        """Read ``MARLOOP_KEEP_DAYS``, ``…_ROWS``, ``…_WAITING_DAYS`` and ``MARLOOP_PRUNE_SHARE``; empty ones are unset.

        Raises:
            ValueError: one is no positive integer, or the share none; names the variable.
        """
        days = _positive(environ, "MARLOOP_KEEP_DAYS", cls.age.days)
        waiting = _positive(environ, "MARLOOP_KEEP_WAITING_DAYS", cls.waiting.days)
        rows = _positive(environ, "MARLOOP_KEEP_ROWS", cls.rows)
        share = number(environ, "MARLOOP_PRUNE_SHARE", cls.share, 0, 1)
        return cls(timedelta(days=days), rows, timedelta(days=waiting), share)


class PruneRefusedError(Exception):
    """More would go at once than may; the message says how much."""


@dataclass(frozen=True)
class Expired:
    """What would go.

    Attributes:
        rows: predictions that there are.
        old: of these, too old.
        excess: of the others, too many.
        labels: that there are.
        late: of these, such as waited too long for their prediction.
    """

    rows: int
    old: int
    excess: int
    labels: int
    late: int

    def refusal(self, share: float) -> str | None:
        """Why nothing goes for its age: a clock that jumped would let everything be too old; None if it may."""
        if self.old <= share * self.rows and self.late <= share * self.labels:
            return None
        return (
            f"{self.old} of {self.rows} predictions and {self.late} of {self.labels} labels would be too old at once, "
            f"more than the share of {share:g} (MARLOOP_PRUNE_SHARE): nothing was removed for its age. If the clock is "
            "right, `python -m monitoring prune --all` removes them"
        )


def _positive(environ: Mapping[str, str], variable: str, default: int) -> int:
    text = environ.get(variable) or str(default)
    if not (text.isdecimal() and 0 < int(text) < 10**9):
        raise ValueError(f"{variable} is {text!r}; it must be a positive integer")
    return int(text)
