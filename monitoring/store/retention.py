"""Limits of the store: how long and how much it keeps, and the removal of what exceeds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from msgspec import Meta, field
from sqlalchemy import Column, Select, Table, delete, false, func, select, tuple_

from handlers.observe.settings import EnvironmentSettings, says, variables
from monitoring.store import tables
from monitoring.store.database import Database
from monitoring.store.postgresql.partitions import Partitions

Positive = Annotated[int, Meta(gt=0, lt=10**9, title="a positive integer")]
_PIECE = 5000  # rows that one transaction removes
_PREDICTIONS, _FEEDBACK = tables.predictions.c, tables.feedback.c
_KEY = (_PREDICTIONS.request_id, _PREDICTIONS.row, _PREDICTIONS.model)
_LABEL_KEY = (_FEEDBACK.request_id, _FEEDBACK.row, _FEEDBACK.model)
_WITHOUT_PREDICTION = ~select(_PREDICTIONS.row).where(tables.SAME_ROW).exists()
_REVIEWS = tables.reviews.c
_REVIEW_KEY = (_REVIEWS.request_id, _REVIEWS.row, _REVIEWS.model)


class Retention(EnvironmentSettings, frozen=True, rename=variables("KEEP_")):
    """Limits of age and number of the predictions that are kept."""

    days: Annotated[
        Positive, says("Days that the monitor keeps predictions; on PostgreSQL up to a twelfth, or a day, more.")
    ] = 90
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


class Removal:
    """Removes the predictions and labels that exceed the limits.

    Args:
        partitions: those of the predictions; None where they are one table.
    """

    def __init__(self, database: Database, retention: Retention, partitions: Partitions | None) -> None:
        self._database, self._retention, self._partitions = database, retention, partitions

    def expired(self, now: datetime) -> Expired:
        """Return the numbers of rows that ``prune`` would remove."""
        return self._count(now, self._cutoff(now))

    def prune(self, now: datetime, bounded: bool = True) -> int:
        """Remove rows that are too old or too many, and return how many predictions went.

        A transaction removes a partition or some thousand rows, so that other writers do not wait long.

        Args:
            bounded: whether to refuse when more than ``retention.share`` of all rows are too old.

        Raises:
            PruneRefusedError: refused for their age; predictions that were too many went all the same.
        """
        retention, cutoff = self._retention, self._cutoff(now)
        expired = self._count(now, cutoff)
        refusal = expired.refusal(retention.share) if bounded else None
        gone = 0
        if refusal is None:
            gone += self._partitions.drop(cutoff) if self._partitions else 0
            gone += self._remove(tables.predictions, _KEY, select(*_KEY).where(_PREDICTIONS.time < cutoff))
            late = select(*_LABEL_KEY).where(_FEEDBACK.time < now - retention.waiting, _WITHOUT_PREDICTION)
            self._remove(tables.feedback, _LABEL_KEY, late)
        gone += self._remove_oldest(expired.excess if refusal is None else max(0, expired.rows - retention.rows))
        gone_with = ~select(_PREDICTIONS.row).where(tables.REVIEWED).exists()
        self._remove(tables.reviews, _REVIEW_KEY, select(*_REVIEW_KEY).where(gone_with))
        if refusal is not None:
            raise PruneRefusedError(refusal)
        return gone

    def _cutoff(self, now: datetime) -> datetime:
        """Return the time before which predictions are too old; a partition goes once all of it is."""
        bound = now - self._retention.age
        return self._partitions.cutoff(bound) if self._partitions else bound

    def _count(self, now: datetime, cutoff: datetime) -> Expired:
        retention, count = self._retention, select(func.count())
        with self._database.engine.connect() as connection:

            def counted(table: Table, *conditions: Any) -> int:
                number: int = connection.execute(count.select_from(table).where(*conditions)).scalar_one()
                return number

            rows, labels = counted(tables.predictions), counted(tables.feedback)
            old = counted(tables.predictions, _PREDICTIONS.time < cutoff)
            late = counted(tables.feedback, _FEEDBACK.time < now - retention.waiting, _WITHOUT_PREDICTION)
        return Expired(rows, old, max(0, rows - old - retention.rows), labels, late)

    def _remove_oldest(self, count: int) -> int:
        """Remove so many predictions, the oldest without a label first; return how many there were.

        The last of them is looked for once: sorting all rows for each piece would take longer than others need to come.
        """
        labelled, time = _FEEDBACK.request_id.is_not(None), _PREDICTIONS.time
        joined = tables.predictions.outerjoin(tables.feedback, tables.SAME_ROW)
        order = select(labelled.label("labelled"), time).select_from(joined).order_by(labelled, time)
        with self._database.engine.connect() as connection:
            last = connection.execute(order.offset(count - 1).limit(1)).one_or_none() if count > 0 else None
        if last is None:
            return 0
        alike = labelled if last.labelled else ~labelled
        before = alike & (time < last.time) | (~labelled if last.labelled else false())
        chosen = select(*_KEY).select_from(joined)
        gone = self._remove(tables.predictions, _KEY, chosen.where(before), count)
        return gone + self._remove(tables.predictions, _KEY, chosen.where(alike, time == last.time), count - gone)

    def _remove(self, table: Table, key: Sequence[Column[Any]], chosen: Select[Any], most: int | None = None) -> int:
        """Delete the chosen rows, or so many of them; return how many there were."""
        gone = 0
        while most is None or gone < most:
            some = chosen.limit(_PIECE if most is None else min(_PIECE, most - gone))
            with self._database.writing() as connection:
                removed = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
            gone += removed
            if not removed:
                break
        return gone
