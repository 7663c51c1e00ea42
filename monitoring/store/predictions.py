"""Predictions and feedback in the store.

Each call that writes is one transaction, which is on disk when the call returns.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Row, Select, func, select

from monitoring.store import tables
from monitoring.store.database import Database, open_database
from monitoring.store.journal import Journal
from monitoring.store.postgresql.copying import lines_of, stage
from monitoring.store.postgresql.partitions import Partitions
from monitoring.store.records import Counts, Feedback, FeedbackResult, Labelled, Prediction
from monitoring.store.retention import Expired, Removal, Retention
from monitoring.store.rows import Added, Check, anything, keep_feedback, keep_predictions, unique, with_keys

_PREDICTIONS, _FEEDBACK = tables.predictions.c, tables.feedback.c


class Store:
    """Predictions and feedback, and the journal of the same database; ``open_store`` makes it."""

    def __init__(self, database: Database, retention: Retention = Retention()) -> None:  # noqa: B008
        self.database, self.journal, self.retention = database, Journal(database), retention
        self._engine = database.engine
        self._partitions = Partitions(database, retention.age) if database.is_postgresql else None
        self._removal = Removal(database, retention, self._partitions)

    def add_predictions(self, predictions: Iterable[Prediction], check: Check = anything) -> Added:
        """Store predictions in one transaction; a stored row stays as it is."""
        rows = unique(predictions)
        lines = lines_of(rows) if self._partitions else []
        prepare = partial(stage, lines=lines) if lines else None
        with self.database.writing(prepare) as connection:
            return keep_predictions(connection, rows, check, staged=bool(lines))

    def add_feedback(
        self,
        feedback: Sequence[Feedback],
        check: Check = anything,
        *,
        correct: bool = False,
        now: datetime | None = None,
    ) -> FeedbackResult:
        """Store labels in one transaction, also of predictions that have not arrived.

        Args:
            correct: whether a label may replace another one.
            now: time of the decision that records replaced labels.

        Raises:
            WrongLabels: their models do not have them; nothing is kept.
            AmbiguousLabels: several models answered the request; nothing is kept.
            LabelConflict: a row has another label already; nothing is kept.
        """
        with self.database.writing() as connection:
            return keep_feedback(connection, feedback, check, correct, now)

    def waiting(self, keys: Sequence[tuple[str, int]]) -> list[Feedback]:
        """Return the labels of any model for some rows, each a request id and a position."""
        with self._engine.connect() as connection:
            rows = with_keys(connection, select(tables.feedback), keys)
        return [Feedback(**row._mapping) for row in rows]

    def predictions(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
        limit: int | None = None,
    ) -> list[Prediction]:
        """Return predictions of a model, oldest first.

        Args:
            since: the earliest time, included.
            until: the latest time, excluded.
            version: None for all.
            limit: keeps the newest.
        """
        statement = _windowed(select(tables.predictions), model, since, until, version, limit)
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return [_prediction(row) for row in reversed(rows)]

    def labelled(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
        limit: int | None = None,
    ) -> list[Labelled]:
        """Return predictions of a model whose truth is known, oldest first; arguments as of ``predictions``."""
        columns = select(tables.predictions, _FEEDBACK.label, _FEEDBACK.time.label("labelled"))
        joined = columns.join(tables.feedback, tables.SAME_ROW)
        statement = _windowed(joined, model, since, until, version, limit)
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return [Labelled(_prediction(row), row.label, row.labelled) for row in reversed(rows)]

    def counts(self, model: str) -> dict[str, Counts]:
        """Return the numbers of rows of each version of a model that predicted anything."""
        statement = (
            select(
                _PREDICTIONS.version,
                func.count().label("predictions"),
                func.count(_FEEDBACK.request_id).label("labelled"),
                func.max(_PREDICTIONS.time).label("newest"),
            )
            .join_from(tables.predictions, tables.feedback, tables.SAME_ROW, isouter=True)
            .where(_PREDICTIONS.model == model)
            .group_by(_PREDICTIONS.version)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return {row.version: Counts(row.predictions, row.labelled, row.newest) for row in rows}

    def count(self, model: str, since: datetime, until: datetime) -> int:
        """Return the number of predictions of a model, ``until`` excluded; reads the index alone."""
        statement = select(func.count()).where(_PREDICTIONS.model == model, _PREDICTIONS.time >= since)
        with self._engine.connect() as connection:
            number: int = connection.execute(statement.where(_PREDICTIONS.time < until)).scalar_one()
        return number

    def newest(self, until: datetime | None = None) -> datetime | None:
        """Return the time of the newest prediction of any model, ``until`` included; None if there is none."""
        statement = select(func.max(_PREDICTIONS.time))
        if until is not None:
            statement = statement.where(_PREDICTIONS.time <= until)
        with self._engine.connect() as connection:
            time: datetime | None = connection.execute(statement).scalar_one()
        return time

    def make_partitions(self, now: datetime) -> int:
        """Make PostgreSQL's partitions of the present and the time after it that are missing; return how many were."""
        return self._partitions.make(now) if self._partitions else 0

    def expired(self, now: datetime) -> Expired:
        """Return the numbers of rows that ``prune`` would remove."""
        return self._removal.expired(now)

    def prune(self, now: datetime, bounded: bool = True) -> int:
        """Remove rows that are too old or too many, and return how many predictions went.

        Args:
            bounded: whether to refuse when more than ``retention.share`` of all rows are too old.

        Raises:
            PruneRefusedError: refused for their age; predictions that were too many went all the same.
        """
        return self._removal.prune(now, bounded)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def open_store(url: str, retention: Retention = Retention()) -> Store:  # noqa: B008
    """Return the store of a database, whose tables are made or brought up to date.

    Args:
        url: from ``database_url``.

    Raises:
        DatabaseError: the database cannot be reached or used; the message says which.
    """
    return Store(open_database(url), retention)


def _windowed(
    statement: Select[Any],
    model: str,
    since: datetime | None,
    until: datetime | None,
    version: str | None,
    limit: int | None,
) -> Select[Any]:
    """Restrict a statement to a model, a time and a version; newest rows come first, so that a limit keeps them."""
    statement = statement.where(_PREDICTIONS.model == model)
    if since is not None:
        statement = statement.where(_PREDICTIONS.time >= since)
    if until is not None:
        statement = statement.where(_PREDICTIONS.time < until)
    if version is not None:
        statement = statement.where(_PREDICTIONS.version == version)
    newest = (_PREDICTIONS.time.desc(), _PREDICTIONS.request_id.desc(), _PREDICTIONS.row.desc())
    return statement.order_by(*newest).limit(limit)


def _prediction(row: Row[Any]) -> Prediction:
    return Prediction(row.request_id, row.row, row.model, row.version, row.time, row.features, row.output)
