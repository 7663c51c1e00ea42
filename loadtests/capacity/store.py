"""Measures what the monitor and its database take for captured rows and labels, on a monitor of its own."""

import contextlib
import itertools
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from handlers.observe.sink import BATCH
from loadtests.bench import environments
from loadtests.capacity.alone import Alone
from loadtests.capacity.costs import CostsError, StoreCosts
from serving.command_line import ENV_FILE, OFF
from serving.processes import running
from serving.settings import ROOT

ROWS = 20_000
CALL = 500  # rows, as a worker sends them
LABELS = 5000  # in a call
PATIENCE = 60.0  # s until a call is given up


def measure_store(alone: Alone, events: Sequence[dict[str, Any]], url: str) -> StoreCosts:
    """Start a monitor beside a host, and have it store captured rows, each under a new id, and labels for them.

    Args:
        events: at least one.
        url: of an empty database of PostgreSQL; empty for a file of SQLite.

    Raises:
        CostsError: the monitor refused a row, or the database cannot be asked for its size.
        StartError: the monitor does not come up.
    """
    settings, run_dir = alone.settings, alone.folder / "monitor"
    run_dir.mkdir()
    environment = environments.quiet() | settings.to_environment() | {"PYTHONPATH": str(ROOT), ENV_FILE: OFF}
    environment |= {"MARLOOP_RUN_DIR": str(run_dir), "DATABASE_URL": url, "DATABASE_URL_FILE": "", "MARLOOP_TOKEN": ""}
    command = [sys.executable, "-m", "monitoring", "serve", "--run-dir", str(run_dir)]
    size = _size_of(url, run_dir)
    with (
        running(command, environment, alone.folder / "monitor.log") as monitor,
        httpx.Client(base_url=settings.monitor_url, timeout=PATIENCE, trust_env=False) as client,
    ):
        monitor.wait_until(lambda: _answers(client))
        (process,) = (process for process in monitor.processes() if "serve" in process.cmdline())
        rows = list(itertools.islice(renamed(events), ROWS))
        before, cpu, started = size(), _cpu(process), time.perf_counter()
        for i in range(0, ROWS, CALL):
            _post(client, "/events", msgspec.json.encode(rows[i : i + CALL]), BATCH)
        seconds, cpu, middle = time.perf_counter() - started, _cpu(process) - cpu, size()
        labels = [label for row in rows if (label := label_of(row)) is not None]
        for i in range(0, len(labels), LABELS):
            _post(client, "/feedback", msgspec.json.encode(labels[i : i + LABELS]), "application/json")
        after = size()
    return StoreCosts(
        database="postgresql" if url else "sqlite",
        row_bytes=(middle - before) / ROWS,
        label_bytes=(after - middle) / len(labels) if labels else 0.0,
        row_seconds=cpu / ROWS,
        rows_per_second=ROWS / seconds,
    )


def renamed(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the events again and again, each as one of another request."""
    for event in itertools.cycle(events):
        renamed, name = deepcopy(event), str(uuid.uuid4())
        renamed["id"] = f"{name}/0"
        renamed["data"] |= {"request_id": name, "row": 0}
        yield renamed


def label_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return a label that agrees with a row's answer; None where its answer is neither a number nor a class."""
    data = event["data"]
    output = data["output"]
    label = output.get("label") if isinstance(output, dict) else output
    if isinstance(label, bool) or not isinstance(label, int | float | str):
        return None
    return {"request_id": data["request_id"], "row": 0, "model": data["model"], "label": label}


def _post(client: httpx.Client, path: str, body: bytes, kind: str) -> None:
    response = client.post(path, content=body, headers={"Content-Type": kind})
    if response.status_code != 200 or response.json().get("refused"):
        raise CostsError(f"the monitor's {path} answered {response.status_code}: {response.text[:300]}")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _size_of(url: str, run_dir: Path) -> Callable[[], int]:
    """Return a function that tells the bytes of a database: of PostgreSQL by itself, of SQLite by its files."""
    if not url:
        return lambda: _sqlite_bytes(run_dir / "monitor.db")
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    scheme, _, rest = url.partition("://")
    try:
        engine = create_engine(f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url)
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        raise CostsError(f"--database: {error}") from error

    def size() -> int:
        try:
            with engine.connect() as connection:
                return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
        except SQLAlchemyError as error:
            raise CostsError(f"--database: it does not tell its size: {error}") from error

    return size


def _sqlite_bytes(path: Path) -> int:
    """Return the bytes of a file's pages, those included that are only in its log."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        return int(connection.execute(pages).fetchone()[0])
