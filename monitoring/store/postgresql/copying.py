"""Predictions into PostgreSQL by COPY, each once.

COPY knows no ``ON CONFLICT``. So rows go into a temporary table of the connection, beside other writers, and from there
into the predictions in one statement. The temporary table is empty again after each transaction.

No unique index spans the partitions of the predictions: it would have to contain the time, and a request that is sent
again has another one. A row is unique because ``Database.writing`` lets one writer in at a time, which looks for the
key in every partition before it writes. Within a partition an index sees to it as well.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Row, Table, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from monitoring.store import tables
from monitoring.store.records import Prediction

Line = tuple[Any, ...]  # columns of a row, as COPY takes them
COLUMNS = tuple(column.name for column in tables.predictions.columns)
_DIALECT, _UTC, _JSON = postgresql.dialect(), tables.Utc(), tables.Json()  # type: ignore[no-untyped-call]
_STAGED = Table(
    "staged_predictions",
    MetaData(),
    *(Column(column.name, column.type, nullable=False) for column in tables.predictions.columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
_CREATE = CreateTable(_STAGED, if_not_exists=True)
_COPY = 'COPY staged_predictions (request_id, "row", model, version, time, features, output) FROM STDIN'
_PREDICTIONS, _FEEDBACK = tables.predictions.c, tables.feedback.c


def lines_of(predictions: Sequence[Prediction]) -> list[Line]:
    """Return rows as COPY takes them.

    Raises:
        DocumentError: features or an output cannot be kept as JSON; says where.
        ValueError: a time has no zone.
    """
    return [
        (
            row.request_id,
            row.row,
            row.model,
            row.version,
            _UTC.process_bind_param(row.time, _DIALECT),
            _JSON.process_bind_param(row.features, _DIALECT),
            _JSON.process_bind_param(row.output, _DIALECT),
        )
        for row in predictions
    ]


def stage(connection: Connection, lines: Sequence[Line]) -> None:
    """Copy rows into the temporary table of a transaction.

    Raises:
        DBAPIError: the database does not answer, or refuses.
    """
    connection.execute(_CREATE)
    driver: Any = connection.connection.driver_connection  # psycopg's, in the same transaction
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            for line in lines:
                copy.write_row(line)
    except connection.dialect.loaded_dbapi.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError(_COPY, None, error, hide_parameters=True) from error


def by_index(connection: Connection) -> None:
    """Have the rest of a transaction look rows up by an index, whatever PostgreSQL knows of the tables' sizes.

    A partition that is new looks empty until it is analyzed, a minute or a million rows later.
    """
    plans = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
    settings = ", ".join(f"set_config('{name}', 'off', true)" for name in plans)
    connection.exec_driver_sql(f"SELECT {settings}")


def insert_staged(connection: Connection) -> int:
    """Insert the staged rows whose key is new; return how many there were. Only within ``Database.writing``."""
    by_index(connection)
    known = select(_PREDICTIONS.row).where(
        _PREDICTIONS.request_id == _STAGED.c.request_id,
        _PREDICTIONS.row == _STAGED.c.row,
        _PREDICTIONS.model.concat("") == _STAGED.c.model,  # no reason to read all of a model's rows by the other index
    )
    new = insert(tables.predictions).from_select(COLUMNS, select(_STAGED).where(~known.exists()))
    statement = new.on_conflict_do_nothing()
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def labels_of_staged(connection: Connection) -> list[Row[Any]]:
    """Return the labels of any model for the staged rows."""
    keys = select(_STAGED.c.request_id, _STAGED.c.row).distinct().subquery()
    same = (_FEEDBACK.request_id == keys.c.request_id) & (_FEEDBACK.row == keys.c.row)
    return list(connection.execute(select(tables.feedback).join(keys, same)))
