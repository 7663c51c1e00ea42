"""A registry in PostgreSQL: a row with its revision, locked by whoever changes it.

The lock is the transaction's, so that it ends with its holder's connection: a killed process is rolled back.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from serving.store.faults import ArchiveError
from serving.store.shared.interface import Snapshot

if TYPE_CHECKING:
    from psycopg import Connection

PATIENCE = 300  # s that a writer waits for others
# A holder whose machine has gone is noticed after a minute, one that hangs after half an hour; each is rolled back.
_OPTIONS = {
    "connect_timeout": 5,
    "application_name": "marloop registry",
    "options": f"-c lock_timeout={PATIENCE}s -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 "
    "-c tcp_keepalives_count=3 -c idle_in_transaction_session_timeout=30min",
}
_LOCK = 20131233  # PostgreSQL's advisory lock of who makes the table
_TABLE = """
CREATE TABLE IF NOT EXISTS marloop_registry (
    store text PRIMARY KEY, revision bigint NOT NULL, content bytea, changed timestamptz NOT NULL DEFAULT now()
)
"""
_MISSING = "42P01"  # the table is not there yet (PostgreSQL, appendix A)


class PostgresRegistry:
    """The registry of one model store.

    Args:
        url: ``postgresql://…``, with the password.
        store: URL of the model store, which the row is named by.
    """

    def __init__(self, url: str, store: str) -> None:
        scheme, _, rest = url.partition("://")
        if scheme.partition("+")[0] not in ("postgres", "postgresql"):
            raise ArchiveError("MARLOOP_REGISTRY is database: DATABASE_URL must name a PostgreSQL, postgresql://…")
        self._url, self._store = f"postgresql://{rest}", store

    def read(self, known: str = "") -> Snapshot | None:
        """See ``SharedRegistry``."""
        query = "SELECT revision, CASE WHEN revision <> %s THEN content END FROM marloop_registry WHERE store = %s"
        with self._connected("read") as connection:
            try:
                row = connection.execute(query, (int(known or 0), self._store)).fetchone()
            except Exception as error:
                if getattr(error, "sqlstate", "") != _MISSING:
                    raise
                connection.rollback()
                row = None
        revision, content = row or (0, None)
        if known and str(revision) == known:
            return None
        return Snapshot(content, str(revision) if content is not None else "")

    @contextlib.contextmanager
    def changing(self) -> Iterator["PostgresChange"]:
        """See ``SharedRegistry``: the row's lock is held until the transaction ends."""
        with contextlib.ExitStack() as stack:
            with self._explained("changed"):
                connection = stack.enter_context(self._connect())
                if connection.execute("SELECT to_regclass('marloop_registry')").fetchone() == (None,):
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    connection.execute(_TABLE)
                connection.execute(
                    "INSERT INTO marloop_registry (store, revision) VALUES (%s, 0) ON CONFLICT DO NOTHING",
                    (self._store,),
                )
                connection.commit()  # others may make their rows while this one waits for its own
                query = "SELECT revision, content FROM marloop_registry WHERE store = %s FOR UPDATE"
                row = connection.execute(query, (self._store,)).fetchone() or (0, None)
            change = PostgresChange(connection, self._store, *row)
            yield change
            with self._explained("changed"):
                change.flush()
                connection.commit()

    @contextlib.contextmanager
    def _connected(self, verb: str) -> Iterator["Connection[Any]"]:
        with self._explained(verb), self._connect() as connection:
            yield connection

    def _connect(self) -> "Connection[Any]":
        try:
            import psycopg  # an extra
        except ImportError as error:
            way = "pip install -e '.[postgres]'"
            raise ArchiveError(f"MARLOOP_REGISTRY=database needs the extra postgres: {way}") from error
        return psycopg.connect(self._url, **_OPTIONS)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn exceptions of the database into ``ArchiveError``; none has the URL, which has a password."""
        try:
            yield
        except ArchiveError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ArchiveError(f"the registry in the database of DATABASE_URL cannot be {verb}: {text}") from error


class PostgresChange:
    """See ``Change``: written by the revision that was read, when the block ends without an error."""

    def __init__(self, connection: "Connection[Any]", store: str, revision: int, content: bytes | None) -> None:
        self._connection, self._store, self._revision, self.content = connection, store, revision, content
        self._new: bytes | None = None

    def write(self, content: bytes) -> None:
        """See ``Change``."""
        self._new = content

    def flush(self) -> None:
        """Send what was written."""
        if self._new is None:
            return
        query = (
            "UPDATE marloop_registry SET content = %s, revision = revision + 1, changed = now() "
            "WHERE store = %s AND revision = %s"
        )
        written = self._connection.execute(query, (self._new, self._store, self._revision))
        if written.rowcount != 1:
            raise ArchiveError("the registry in the database of DATABASE_URL changed under its lock: run it again")
