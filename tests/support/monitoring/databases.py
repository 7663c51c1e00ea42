"""Databases for tests: a file of SQLite, and a real PostgreSQL where it is installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from loadtests.bench.processes import free_ports

SUPERUSER = "postgres"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of the test's own, in a folder and on a port of its own; skips where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: Debian's package postgresql has it")
    as_user: tuple[str | Path, ...] = ()
    if os.geteuid() == 0:  # as which it refuses to run
        as_user = ("runuser", "-u", SUPERUSER, "--")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, SUPERUSER)
        data, (port,) = folder / "data", free_ports(1)
        _run(*as_user, programs[-1] / "initdb", "-D", data, "-U", SUPERUSER, "--auth=trust", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = (*as_user, programs[-1] / "pg_ctl", "-D", data, "-w")
        _run(*control, "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{port}"
        finally:
            _run(*control, "-m", "immediate", "stop")


def new_database(server: str, name: str, options: str = "") -> str:
    """The URL of an empty database of a server; the options are those of ``CREATE DATABASE``."""
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" {options}'))
    engine.dispose()
    return f"{server}/{name}"


def _run(*command: str | Path) -> None:
    # Nothing is captured: the server would keep the pipe open.
    done = subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, timeout=120, cwd="/")
    assert done.returncode == 0, command
