"""The tables of the store; ``migrations/`` makes them."""

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
)
from sqlalchemy.types import TypeDecorator

from serving import documents

LONGEST_ID = 200  # characters of a request's id
LONGEST_NAME = 100


class Utc(TypeDecorator[datetime]):
    """An aware time, stored in UTC: SQLite has no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return a time in UTC.

        Raises:
            ValueError: the time has no zone.
        """
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no zone; it must be an aware time, such as datetime.now(UTC)")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A value as JSON, in a column of text: SQLite makes an integer of 200.0 where a column is called JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return a value as JSON; NaN and infinity become null.

        Raises:
            DocumentError: it could not be decoded again, such as half of a surrogate pair; says where.
        """
        if value is None:
            return None
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError:
            return _to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the value of a JSON text."""
        return None if value is None else orjson.loads(value)


def _to_json(value: Any) -> str:
    """Encode what orjson does not accept: NumPy's numbers, numbers as keys, integers of more than 64 bits."""
    content = documents.to_json(value)
    if documents.finite(orjson.loads(content)) != documents.finite(value):
        raise documents.DocumentError("it holds an integer of more than 64 bits, which would not be the same again")
    return content.decode()


metadata = MetaData()
_Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in columns of type INTEGER

# On PostgreSQL in partitions, each with this key: ``postgresql/copying.py`` keeps it unique over all.
predictions = Table(
    "predictions",
    metadata,
    Column("request_id", String(LONGEST_ID), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("model", String(LONGEST_NAME), primary_key=True),  # one id may be sent to several
    Column("version", String(LONGEST_NAME), nullable=False),
    Column("time", Utc, nullable=False),
    Column("features", Json, nullable=False),
    Column("output", Json, nullable=False),
    Index("predictions_by_time", "model", "time"),
)


def _same_row(other: Table) -> ColumnElement[bool]:
    """Return whether a row of another table is about a prediction."""
    own, its = predictions.c, other.c
    return and_(own.request_id == its.request_id, own.row == its.row, own.model == its.model)


# A table of its own: a label may come before its prediction; its model is empty where it names none.
feedback = Table(
    "feedback",
    metadata,
    Column("request_id", String(LONGEST_ID), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("model", String(LONGEST_NAME), primary_key=True),
    Column("label", Json, nullable=False),
    Column("time", Utc, nullable=False),
)
SAME_ROW = _same_row(feedback)

# What a person decided about a captured conversation.
reviews = Table(
    "reviews",
    metadata,
    Column("request_id", String(LONGEST_ID), primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("model", String(LONGEST_NAME), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("time", Utc, nullable=False),
)
REVIEWED = _same_row(reviews)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("model", String(LONGEST_NAME), nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("created", Utc, nullable=False),
    Column("started", Utc),
    Column("ended", Utc),
    Column("pid", Integer),
    Column("progress", Text, nullable=False),
    Column("log", Text, nullable=False),
    Column("result", Json, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("model", String(LONGEST_NAME), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("details", Json, nullable=False),
    Column("time", Utc, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("owner", String(LONGEST_NAME), nullable=False),
    Column("expires", Utc, nullable=False),
    Column("fence", Integer, nullable=False),
)
