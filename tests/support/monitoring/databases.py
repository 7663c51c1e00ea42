"""Databases for tests: a file of SQLite, and a real PostgreSQL where it is installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text

from serving.ports import free_ports

SUPERUSER = "postgres"


class PostgreSQL:
    """A server of the test's own, in a folder and on a port of its own.

    Args:
        folder: for its data; empty.
        programs: folder of initdb and pg_ctl.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._as_user: tuple[str | Path, ...] = ()
        if os.geteuid() == 0:  # as which it refuses to run
            self._as_user = ("runuser", "-u", SUPERUSER, "--")
            shutil.chown(folder, SUPERUSER)
        self._folder, self._data, (port,) = folder, folder / "data", free_ports(1)
        # Nothing waits for the disk (-F): what is killed here is a process, never the machine.
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -F"
        self._control = (*self._as_user, programs / "pg_ctl", "-D", self._data, "-w")
        self.url = f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{port}"
        _run(*self._as_user, programs / "initdb", "-D", self._data, "-U", SUPERUSER, "--auth=trust", "--no-sync")

    def start(self) -> None:
        """Start it, after a crash too."""
        _run(*self._control, "-l", self._folder / "log", "-o", self._options, "start")

    def stop(self) -> None:
        """Stop it as a crash would: connections end at once, nothing is flushed."""
        _run(*self._control, "-m", "immediate", "stop")

    def processes(self) -> list[psutil.Process]:
        """Its processes, the first of which is the parent of all."""
        parent = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        return [parent, *parent.children(recursive=True)]


@contextlib.contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """A running PostgreSQL; skips where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: Debian's package postgresql has it")
    with tempfile.TemporaryDirectory() as name:
        server = PostgreSQL(Path(name), programs[-1])
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that runs; skips where there is none."""
    with postgresql_server() as server:
        yield server.url


def new_database(server: str, name: str, options: str = "") -> str:
    """The URL of an empty database of a server; the options are those of ``CREATE DATABASE``."""
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT", connect_args={"client_encoding": "utf8"})
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" {options}'))
    engine.dispose()
    return f"{server}/{name}"


def _run(*command: str | Path) -> None:
    # Nothing is captured: the server would keep the pipe open.
    done = subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, timeout=120, cwd="/")
    assert done.returncode == 0, command
