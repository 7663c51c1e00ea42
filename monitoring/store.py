"""The monitor's memory: predictions and feedback on them.

Once a call that writes has returned, what it wrote is on disk: each is one transaction.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, Table, and_, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from monitoring import tables
from monitoring.database import open_engine
from monitoring.journal import Journal
from monitoring.records import Conflict, Counts, Feedback, FeedbackResult, LabelConflict, Labelled, Prediction
from monitoring.retention import Retention

T = TypeVar("T")
_CHUNK = 500  # keys that one query looks for
_PREDICTIONS, _FEEDBACK = tables.predictions.c, tables.feedback.c
_SAME_ROW = and_(_PREDICTIONS.request_id == _FEEDBACK.request_id, _PREDICTIONS.row == _FEEDBACK.row)


class Store(Journal):
    """Predictions and feedback, and what ``Journal`` keeps.

    Args:
        engine: of a database whose tables are made; ``open_store`` makes both.
        retention: what ``prune`` leaves.
    """

    def __init__(self, engine: Engine, retention: Retention = Retention()) -> None:  # noqa: B008
        super().__init__(engine)
        self.retention = retention

    def add_predictions(self, predictions: Iterable[Prediction]) -> int:
        """Keep predictions in one transaction.

        Returns:
            How many were new: a row that is known stays as it is.
        """
        # In one order, so that two writers of the same rows never wait for each other.
        rows = sorted((asdict(one) for one in predictions), key=lambda row: (row["request_id"], row["row"]))
        with self._engine.begin() as connection:
            return _insert_new(connection, tables.predictions, rows)

    def add_feedback(self, feedback: Sequence[Feedback]) -> FeedbackResult:
        """Keep labels in one transaction, also of predictions that have not arrived.

        Raises:
            LabelConflict: a row has another label already; nothing is kept.
        """
        rows = sorted((asdict(one) for one in feedback), key=lambda row: (row["request_id"], row["row"]))
        keys = list({(one.request_id, one.row) for one in feedback})
        with self._engine.begin() as connection:
            new = _insert_new(connection, tables.feedback, rows)
            kept = {
                (row.request_id, row.row): row.label
                for row in _with_keys(connection, select(tables.feedback), _FEEDBACK, keys)
            }
            conflicts = [
                Conflict(one.request_id, one.row, kept[one.request_id, one.row], one.label)
                for one in feedback
                if kept[one.request_id, one.row] != one.label
            ]
            if conflicts:
                raise LabelConflict(conflicts)
            known = _with_keys(connection, select(_PREDICTIONS.row), _PREDICTIONS, keys)
        return FeedbackResult(new, len(rows) - new, len(keys) - len(known))

    def waiting(self, keys: Sequence[tuple[str, int]]) -> list[Feedback]:
        """The labels of some rows, told by id and row."""
        with self._engine.connect() as connection:
            found = _with_keys(connection, select(tables.feedback), _FEEDBACK, keys)
        return [Feedback(**row._mapping) for row in found]

    def remove_feedback(self, keys: Sequence[tuple[str, int]]) -> int:
        """Forget the labels of some rows.

        Returns:
            How many there were.
        """
        with self._engine.begin() as connection:
            removed = [
                connection.execute(delete(tables.feedback).where(_in(_FEEDBACK, some))).rowcount
                for some in _chunks(keys)
            ]
        return sum(removed)

    def models_of(self, request_ids: Sequence[str]) -> dict[str, str]:
        """The model that answered each request, as far as it is known."""
        found: dict[str, str] = {}
        with self._engine.connect() as connection:
            for some in _chunks(sorted(set(request_ids))):
                statement = select(_PREDICTIONS.request_id, _PREDICTIONS.model)
                rows = connection.execute(statement.where(_PREDICTIONS.request_id.in_(some)))
                found |= {row.request_id: row.model for row in rows}
        return found

    def predictions(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
        limit: int | None = None,
    ) -> list[Prediction]:
        """Predictions of a model, oldest first.

        Args:
            model: its name.
            since: the earliest time, included.
            until: the latest time, excluded.
            version: only of this one.
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
        """Predictions of a model whose truth is known, oldest first; arguments as of ``predictions``."""
        columns = select(tables.predictions, _FEEDBACK.label, _FEEDBACK.time.label("labelled"))
        joined = columns.join(tables.feedback, _SAME_ROW)
        statement = _windowed(joined, model, since, until, version, limit)
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return [Labelled(_prediction(row), row.label, row.labelled) for row in reversed(rows)]

    def counts(self, model: str) -> dict[str, Counts]:
        """How much is known of each version of a model that predicted anything."""
        statement = (
            select(
                _PREDICTIONS.version,
                func.count().label("predictions"),
                func.count(_FEEDBACK.request_id).label("labelled"),
                func.max(_PREDICTIONS.time).label("newest"),
            )
            .join_from(tables.predictions, tables.feedback, _SAME_ROW, isouter=True)
            .where(_PREDICTIONS.model == model)
            .group_by(_PREDICTIONS.version)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement).all()
        return {row.version: Counts(row.predictions, row.labelled, row.newest) for row in rows}

    def newest(self) -> datetime | None:
        """Time of the newest prediction of any model; None if there is none."""
        with self._engine.connect() as connection:
            found: datetime | None = connection.execute(select(func.max(_PREDICTIONS.time))).scalar_one()
        return found

    def prune(self, now: datetime) -> int:
        """Remove what is too old or too much.

        Returns:
            How many predictions went.
        """
        kept = self.retention
        without_prediction = ~select(_PREDICTIONS.row).where(_SAME_ROW).exists()
        with self._engine.begin() as connection:
            gone = connection.execute(delete(tables.predictions).where(_PREDICTIONS.time < now - kept.age)).rowcount
            excess = connection.execute(select(func.count()).select_from(tables.predictions)).scalar_one() - kept.rows
            if excess > 0:
                oldest = (
                    select(_PREDICTIONS.request_id, _PREDICTIONS.row)
                    .join_from(tables.predictions, tables.feedback, _SAME_ROW, isouter=True)
                    .order_by(_FEEDBACK.request_id.is_not(None), _PREDICTIONS.time)
                    .limit(excess)
                )
                statement = delete(tables.predictions).where(_key(_PREDICTIONS).in_(oldest))
                gone += connection.execute(statement).rowcount
            late = _FEEDBACK.time < now - kept.waiting
            connection.execute(delete(tables.feedback).where(late, without_prediction))
        return gone

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def open_store(url: str, retention: Retention = Retention()) -> Store:  # noqa: B008
    """The store of a database, whose tables are made or brought up to date.

    Args:
        url: as ``database_url`` gives it.
        retention: what ``prune`` leaves.

    Raises:
        DatabaseError: the database cannot be reached or used; the message says which.
    """
    return Store(open_engine(url), retention)


def _insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    if not rows:
        return 0
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing()
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def _windowed(
    statement: Select[Any],
    model: str,
    since: datetime | None,
    until: datetime | None,
    version: str | None,
    limit: int | None,
) -> Select[Any]:
    """The newest rows first, so that a limit keeps them."""
    statement = statement.where(_PREDICTIONS.model == model)
    if since is not None:
        statement = statement.where(_PREDICTIONS.time >= since)
    if until is not None:
        statement = statement.where(_PREDICTIONS.time < until)
    if version is not None:
        statement = statement.where(_PREDICTIONS.version == version)
    newest = (_PREDICTIONS.time.desc(), _PREDICTIONS.request_id.desc(), _PREDICTIONS.row.desc())
    return statement.order_by(*newest).limit(limit)


def _key(columns: Any) -> Any:
    return tuple_(columns.request_id, columns.row)


def _in(columns: Any, keys: Sequence[tuple[str, int]]) -> Any:
    return _key(columns).in_(keys)


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _with_keys(
    connection: Connection, statement: Select[Any], columns: Any, keys: Sequence[tuple[str, int]]
) -> list[Row[Any]]:
    return [row for some in _chunks(keys) for row in connection.execute(statement.where(_in(columns, some)))]


def _prediction(row: Row[Any]) -> Prediction:
    return Prediction(row.request_id, row.row, row.model, row.version, row.time, row.features, row.output)
