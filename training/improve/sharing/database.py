"""The PostgreSQL in which workers on several machines share their trials and trainings."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handlers.observe.settings import SECRET, EnvironmentSettings, says
from training.data import install

LOCK = 20131233  # PostgreSQL's advisory lock of a worker that makes tables or opens a study
# A machine that vanished is noticed by the server after 40 s, and its locks are free again.
KEEPALIVE = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4"


class SharingSettings(EnvironmentSettings, frozen=True):
    """Where workers of a search or an ablation share what they try."""

    search_storage: Annotated[
        str,
        says(
            "The PostgreSQL in which workers of `marloop search` and `marloop ablate` on several machines share their "
            "trials; unset: files of this machine. It needs `pip install -e '.[postgres]'`.",
            title="URL",
            extra_json_schema=SECRET,
            examples=["postgresql://user:password@127.0.0.1:5432/marloop"],
        ),
    ] = ""


class StorageError(Exception):
    """The database cannot be reached or used; the message says which, and why."""


def storage_url(given: str, environ: Mapping[str, str]) -> str:
    """Return the URL of the shared database, for SQLAlchemy; empty where nothing is shared.

    Args:
        given: of the command line; empty for the environment's.

    Raises:
        ValueError: it is no URL of PostgreSQL.
    """
    url = given or SharingSettings.from_environment(environ).search_storage
    if not url:
        return ""
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ValueError(
            f"the storage is of the kind {scheme!r}; it must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Without "
            "one, workers of one machine share files"
        )
    url = f"postgresql+psycopg://{rest}"
    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:  # such as a port that is no number
        raise ValueError(f"the storage is no URL of a database: {error}") from None
    return url


def connection_options() -> dict[str, Any]:
    """Return the arguments of SQLAlchemy's engine: a connection for each use, and a lost machine is noticed."""
    options = {"client_encoding": "utf8", "connect_timeout": 5, "options": KEEPALIVE}
    return {"poolclass": NullPool, "hide_parameters": True, "connect_args": options}


def connect(url: str) -> Engine:
    """Return the engine of a shared database, which connects when it is first used."""
    return create_engine(url, **connection_options())


@contextlib.contextmanager
def alone_with(engine: Engine) -> Iterator[None]:
    """Run a block in one worker at a time, on all machines."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        yield


@contextlib.contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn what the database or its driver raises in a block into a ``StorageError``."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise StorageError(f"a storage in PostgreSQL needs psycopg: {install('postgres')}") from error
    except Exception as error:  # Optuna wraps what SQLAlchemy raises
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        if not isinstance(cause, SQLAlchemyError):
            raise
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise StorageError(f"cannot use the storage {_shown(url)}: {reason}. The same command goes on") from error


def _shown(url: str) -> str:
    if not url:
        return "of this machine"
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "that is given, whose URL cannot be read"
