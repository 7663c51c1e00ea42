"""Limits of the store: how long and how much it keeps."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from msgspec import Meta, field

from handlers.observe.settings import EnvironmentSettings, says, variables

Positive = Annotated[int, Meta(gt=0, lt=10**9, title="a positive integer")]


class Retention(EnvironmentSettings, frozen=True, rename=variables("KEEP_")):
    """Limits of age and number of the predictions that are kept."""

    days: Annotated[Positive, says("Days that the monitor keeps predictions.")] = 90
    rows: Annotated[
        Positive, says("How many predictions of all models at most; the oldest without a label go first.")
    ] = 1_000_000
    waiting_days: Annotated[Positive, says("Days that a label waits for its prediction.")] = 7
    share: Annotated[
        float,
        says(
            "Share of all rows, 0 to 1, that may become too old at once: more is taken for a clock that jumped, and "
            "nothing goes.",
            ge=0,
            le=1,
        ),
    ] = field(default=0.5, name="MARLOOP_PRUNE_SHARE")

    @property
    def age(self) -> timedelta:
        """Return the greatest age of a prediction."""
        return timedelta(days=self.days)

    @property
    def waiting(self) -> timedelta:
        """Return the time that a label waits for its prediction."""
        return timedelta(days=self.waiting_days)


class PruneRefusedError(Exception):
    """More would be removed at once than may be; the message says how much."""


@dataclass(frozen=True)
class Expired:
    """Numbers of rows that are too old or too many.

    Attributes:
        rows: all predictions.
        old: predictions that are too old.
        excess: predictions that are not too old, but too many.
        labels: all labels.
        late: labels that waited too long for their prediction.
    """

    rows: int
    old: int
    excess: int
    labels: int
    late: int

    def refusal(self, share: float) -> str | None:
        """Return why nothing may go for its age, as when the clock jumped; None if it may."""
        if self.old <= share * self.rows and self.late <= share * self.labels:
            return None
        return (
            f"{self.old} of {self.rows} predictions and {self.late} of {self.labels} labels would be too old at once, "
            f"more than the share of {share:g} (MARLOOP_PRUNE_SHARE): nothing was removed for its age. If the clock is "
            "right, `marloop prune --all` removes them"
        )
