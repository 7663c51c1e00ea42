"""The database of the store: SQLite beside the run by default, PostgreSQL where ``DATABASE_URL`` names one.

A process that is frozen, or cut off, in the middle of a transaction keeps its locks. So PostgreSQL ends a session that
is idle within one, and both ends look after each other by TCP's keepalives.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from monitoring.store import migrations
from monitoring.store.sqlite.sqlite_file import WatchedFile, fault_of, lock_of
from serving.settings import DatabaseSettings

BUSY = 3.0  # s that a writer waits for another: whoever sends rows or labels tries again later
PATIENCE = 5.0  # s until a database that does not answer counts as away
WAY_BACK = "`marloop restore` puts the newest good backup in its place, and keeps it beside"
LOCK = 20131232  # PostgreSQL's advisory lock of a writer; the migrations have another one
IDLE = 8.0  # s that a transaction may wait for its client: less than a lease lasts
SESSION = {
    "TimeZone": "UTC",
    "jit": "off",  # it takes longer than a look-up of some hundred rows, and is asked for where plans are forbidden
    "idle_in_transaction_session_timeout": f"{int(IDLE * 1000)}",
    "tcp_keepalives_idle": "5",  # s; a server that lost its client lets go of the locks 11 s later
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
CLIENT = {  # else a database without an encoding, as initdb makes it where LANG is C, answers with bytes
    "client_encoding": "utf8",
    "connect_timeout": int(PATIENCE),
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
POOL: dict[str, Any] = {"pool_pre_ping": True, "pool_timeout": PATIENCE, "hide_parameters": True}
_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = {int(BUSY * 1000)}"


class DatabaseError(Exception):
    """The database cannot be reached or used; the message says which, and why."""


class StoreBusyError(SQLAlchemyError):
    """Others write for longer than a caller should wait."""


class StoreDamagedError(SQLAlchemyError):
    """The file of the database has changed; the message says what is wrong with it, and what is to be done."""


class Database:
    """An open database with its tables and a lock: one thread or process writes at a time.

    Args:
        apart: for transactions that wait for no writer and no reader; None: the same engine.

    Attributes:
        watched: the file of SQLite; None of PostgreSQL.
    """

    def __init__(self, engine: Engine, apart: Engine | None = None) -> None:
        self.engine, self._apart = engine, apart or engine
        self.is_postgresql = engine.dialect.name == "postgresql"
        self._turn = threading.Lock()
        self._guards = threading.local()
        self.watched = WatchedFile(sqlite_file(engine)) if engine.dialect.name == "sqlite" else None

    @contextlib.contextmanager
    def writing(self, prepare: Callable[[Connection], object] | None = None) -> Iterator[Connection]:
        """Yield a transaction that no other writer's overlaps with, of this process or of another one.

        Args:
            prepare: called in the transaction while other processes may still write.

        Raises:
            StoreBusyError: others write for too long.
            StoreDamagedError: the file has changed: what is written now would be lost at the next start.
            SQLAlchemyError: the database does not answer, or refuses.
        """
        if not self._turn.acquire(timeout=BUSY):  # no lock of the database: who waits has no connection
            raise StoreBusyError(f"other writers held the store for {BUSY:g} s")
        try:
            if self.watched and (fault := self.watched.glance()):
                raise StoreDamagedError(f"the database {self.watched.file} is damaged: {fault}. {WAY_BACK}")
            with self.engine.begin() as connection:
                if prepare:
                    prepare(connection)
                _begin_writing(connection)
                if guard := getattr(self._guards, "check", None):
                    guard(connection)
                yield connection
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def locking_rows(self) -> Iterator[Connection]:
        """Yield a transaction that locks rows alone, beside all writers; of a file it is one of ``writing``.

        Raises:
            SQLAlchemyError: the database does not answer, or refuses.
        """
        if not self.is_postgresql:
            with self.writing() as connection:
                yield connection
            return
        with self._apart.begin() as connection:
            connection.exec_driver_sql(_LOCK_TIMEOUT)
            yield connection

    @contextlib.contextmanager
    def guarded(self, check: Callable[[Connection], None]) -> Iterator[None]:
        """Run a check in every writing transaction of this thread; an exception of it ends the transaction."""
        self._guards.check = check
        try:
            yield
        finally:
            self._guards.check = None

    def close(self) -> None:
        """Close the connections and the file."""
        self.engine.dispose()
        self._apart.dispose()
        if self.watched:
            self.watched.close()


def database_url(environ: Mapping[str, str], run_dir: Path) -> str:
    """Return the URL in ``DATABASE_URL``, else that of ``monitor.db`` in the folder of the run.

    psycopg, of the extra ``postgres``, is the driver of ``postgres://`` and ``postgresql://``.

    Raises:
        DatabaseError: the file that ``DATABASE_URL_FILE`` names holds no URL.
    """
    try:
        url = DatabaseSettings.from_environment(environ).url
    except ValueError as error:
        raise DatabaseError(str(error)) from error
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        return f"postgresql+psycopg{separator}{rest}"
    return url or f"sqlite:///{run_dir.resolve() / 'monitor.db'}"


def open_database(url: str) -> Database:
    """Connect to a database, and make its tables or bring them up to date.

    Raises:
        DatabaseError: it cannot be reached or used.
    """
    try:
        is_postgresql = make_url(url).get_backend_name() == "postgresql"
        engine = _connect(url) if is_postgresql else create_engine(url, **POOL)
        if engine.dialect.name == "sqlite":
            file = sqlite_file(engine)
            file.parent.mkdir(parents=True, exist_ok=True)
            if fault := fault_of(file):
                raise DatabaseError(f"the database {file} is damaged: {fault}. {WAY_BACK}")
            event.listen(engine, "connect", _prepare_sqlite)
            with lock_of(file), engine.connect() as connection:
                # Permanent; readers and the writer do not wait for each other. Two processes that set it at once fail.
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        elif not is_postgresql:
            raise DatabaseError(f"DATABASE_URL names {engine.dialect.name}; it must be sqlite or postgresql")
        migrations.upgrade(engine)
    except ModuleNotFoundError as error:
        raise DatabaseError(f"{error}: PostgreSQL needs `pip install -e '.[postgres]'`") from error
    except CommandError as error:  # such as "Can't locate revision"
        raise DatabaseError(
            f"the tables of {_shown(url)} are of another version of Marloop ({error}): use the version that made them"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        way = "; MARLOOP_RUN_DIR or DATABASE_URL names another place" if isinstance(error, OSError) else ""
        raise DatabaseError(f"cannot use the database {_shown(url)}: {reason}{way}") from error
    return Database(engine, _connect(url, pool_size=1, max_overflow=0) if is_postgresql else None)


def _connect(url: str, **pool: int) -> Engine:
    """Return an engine of PostgreSQL whose sessions end when their client is frozen or gone."""
    engine = create_engine(url, connect_args=CLIENT, **POOL, **pool)
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def sqlite_file(engine: Engine) -> Path:
    """Return the file of a SQLite database."""
    return Path(engine.url.database or "")


def _begin_writing(connection: Connection) -> None:
    """Lock the database for a transaction that has just begun.

    Raises:
        SQLAlchemyError: another one writes for longer than ``BUSY``.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:  # without the lock, a label and its prediction that arrive at once would not see each other
        connection.exec_driver_sql(_LOCK_TIMEOUT)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    settings = ", ".join("set_config(%s, %s, false)" for _ in SESSION)
    connection.execute(f"SELECT {settings}", [part for item in SESSION.items() for part in item])
    connection.commit()  # a rollback would take the settings back


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")
    connection.execute("PRAGMA synchronous = FULL")  # flush at every commit: what was acknowledged outlives a power cut


def _shown(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "of DATABASE_URL, which is no URL,"
