"""How many rows a second go into PostgreSQL: by INSERT, by COPY, and as events that are decoded and checked first.

Each round tries every way, in another order, with as many processes as asked for, each on a connection of its own. So
whatever else the machine does weighs on all ways alike, and their ratio is taken within a round.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from handlers.observe.events import TYPE
from monitoring.api.events import Ingest
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Prediction
from monitoring.store.rows import anything, keep_predictions
from serving.registry import Registry
from training.figures.text import table

BATCH = 500  # rows, as a worker sends them
WAYS = {
    "insert": "an INSERT of many rows",
    "copy": "COPY, then one INSERT",
    "events": "the same, from the body of `POST /events` on",
}


class NotEmptyError(Exception):
    """The database holds predictions, which the measurement would remove."""


@dataclass(frozen=True)
class Load:
    """What is written in a round.

    Attributes:
        rows: of a real model; they are written again and again under new ids.
        number: of rows that each process writes.
        store: the model store whose contracts events are checked against.
    """

    url: str
    rows: Sequence[Prediction]
    number: int
    processes: int
    store: Path


@dataclass(frozen=True)
class Rates:
    """Rows a second, by way, of each round."""

    load: Load
    rounds: dict[str, list[float]]

    def markdown(self) -> str:
        """Return a table of the medians, and of the ratios within a round."""
        return table(("way", "rows/s", "least and most", "times the first"), self._rows(), right=(1, 3))

    def _rows(self) -> Iterator[list[str]]:
        first = next(iter(self.rounds.values()))
        for way, rates in self.rounds.items():
            ratio = median(rate / other for rate, other in zip(rates, first, strict=True))
            yield [WAYS[way], f"{median(rates):,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}", f"{ratio:.2f}"]


def measure(load: Load, rounds: int, say: Callable[[str], None] = lambda text: None) -> Rates:
    """Write rows in every way, some rounds long; the database is empty afterwards.

    Raises:
        NotEmptyError: it holds predictions.
        DatabaseError: it cannot be used.
    """
    store, context = open_store(load.url), get_context("spawn")
    if store.newest() is not None:
        store.close()
        raise NotEmptyError("the database holds predictions, which this would remove: name an empty one")
    store.make_partitions(datetime.now(UTC))
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    barrier = context.Barrier(load.processes)
    with ProcessPoolExecutor(load.processes, context, _begin, (load, barrier)) as pool:
        for number in range(rounds):
            for way in sorted(WAYS, reverse=bool(number % 2)):
                spans = list(pool.map(_write, [(way, number, worker) for worker in range(load.processes)]))
                seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
                rates[way].append(load.processes * load.number / seconds)
                say(f"round {number + 1}, {way}: {rates[way][-1]:,.0f} rows/s")
                with store.database.writing() as connection:
                    connection.execute(text("TRUNCATE predictions"))
    store.close()
    return Rates(load, rates)


class _Process:
    """What a process keeps between rounds."""

    load: Load
    barrier: Barrier
    store: Store
    ingest: Ingest


def _begin(load: Load, barrier: Barrier) -> None:
    _Process.load, _Process.barrier, _Process.store = load, barrier, open_store(load.url)
    _Process.ingest = Ingest(_Process.store, Contracts(Registry(load.store)), CollectorRegistry())


def _write(task: tuple[str, int, int]) -> tuple[float, float]:
    """Write a process's rows in one way; return when it began and ended, in seconds."""
    way, number, worker = task
    load, now = _Process.load, datetime.now(UTC)
    rows = [
        replace(load.rows[i % len(load.rows)], request_id=f"{way}-{number}-{worker}-{i}", row=0, time=now)
        for i in range(load.number)
    ]
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    events = [_body(batch) for batch in batches] if way == "events" else []
    _Process.barrier.wait(60)
    begin = time.monotonic()
    for event in events:
        _Process.ingest(event)
    for batch in batches if way != "events" else ():
        _insert(batch) if way == "insert" else _Process.store.add_predictions(batch)
    return begin, time.monotonic()


def _insert(rows: Sequence[Prediction]) -> None:
    """Write rows as before there was COPY, and as SQLite does."""
    with _Process.store.database.writing() as connection:
        keep_predictions(connection, rows, anything)


def _body(rows: Sequence[Prediction]) -> bytes:
    """Return rows as the body of a worker's call."""
    return msgspec.json.encode([_event(row) for row in rows])


def _event(row: Prediction) -> dict[str, object]:
    source = f"/models/{row.model}/versions/{row.version}"
    data = {name: getattr(row, name) for name in ("request_id", "row", "model", "version", "features", "output")}
    head = {"specversion": "1.0", "type": TYPE, "source": source, "id": f"{row.request_id}/{row.row}"}
    return {**head, "time": row.time, "data": data}
