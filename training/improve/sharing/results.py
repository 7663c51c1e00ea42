"""Results of trainings, kept by key: whoever needs one reads it, and trains what nobody has trained or is at."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Column, MetaData, String, Table, select, text
from sqlalchemy.dialects.postgresql import insert

from serving import documents
from training.improve.sharing.database import alone_with, connect
from training.recipe import Data, Recipe

T = TypeVar("T")
PAUSE = 1.0  # s between two looks at what others are training
_LOCK = text("SELECT pg_try_advisory_lock(CAST(:key AS bigint))")
_UNLOCK = text("SELECT pg_advisory_unlock(CAST(:key AS bigint))")
_TABLE = Table(
    "marloop_trainings", MetaData(), Column("key", String, primary_key=True), Column("result", String, nullable=False)
)


class Results(Protocol):
    """A place of results."""

    def read(self, key: str, kind: type[T]) -> T | None:
        """Return a result; None where there is none so far."""

    def write(self, key: str, result: Any, kind: type[Any]) -> None:
        """Keep a result."""

    def claim(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Yield whether this worker may train it; nobody else may until the end of the block, or of this worker."""


class FileResults:
    """Results of one worker at a time, a file of JSON each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str, kind: type[T]) -> T | None:
        """Return a result; None where there is none, or its file is damaged."""
        result: T | None = documents.read_kept(self._folder / f"{key}.json", kind)
        return result

    def write(self, key: str, result: Any, kind: type[Any]) -> None:
        """Keep a result."""
        self._folder.mkdir(parents=True, exist_ok=True)
        documents.write_json(self._folder / f"{key}.json", result, kind)

    def claim(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Yield True: there is no other worker."""
        return contextlib.nullcontext(True)


class SharedResults:
    """Results of workers on several machines, in a table of PostgreSQL.

    A claim is a lock of the worker's connection, so that it ends with the worker.

    Args:
        url: of SQLAlchemy.
        prefix: of every key in the table.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._engine, self._prefix = connect(url), prefix
        with alone_with(self._engine):
            _TABLE.create(self._engine, checkfirst=True)

    def read(self, key: str, kind: type[T]) -> T | None:
        """Return a result; None where there is none so far.

        Raises:
            ValueError: the row is damaged, or another version of Marloop wrote it.
        """
        row = select(_TABLE.c.result).where(_TABLE.c.key == self._prefix + key)
        with self._engine.connect() as connection:
            content = connection.execute(row).scalar()
        try:
            return None if content is None else documents.from_json(content.encode(), kind)
        except ValueError as error:
            where = f"{_TABLE.name} has a damaged result, key {self._prefix + key!r}: {error}"
            raise ValueError(f"{where}. Delete the row, and it is trained again") from error

    def write(self, key: str, result: Any, kind: type[Any]) -> None:
        """Keep a result, unless there is one: it is as good."""
        content = documents.to_json(result, kind).decode()
        row = insert(_TABLE).values(key=self._prefix + key, result=content).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            connection.execute(row)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Yield whether this worker may train it."""
        number = int.from_bytes(hashlib.sha256((self._prefix + key).encode()).digest()[:8], signed=True)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            claimed = bool(
                connection.execute(text("SELECT pg_try_advisory_lock(CAST(:key AS bigint))"), {"key": number}).scalar()
            )
            try:
                yield claimed
            finally:
                if claimed:
                    connection.execute(_UNLOCK, {"key": number})


def results_of(command: str, model: str, runs: Path, url: str) -> Results:
    """Return the place of a command's results for a model: a folder of ``runs``, or the shared database."""
    return SharedResults(url, f"{command}/{model}/") if url else FileResults(runs / command / model)


def key_of(recipe: Recipe[Any], hp: Any, data: Data) -> str:
    """Return the key of a training: a digest of its hyperparameters, data, and the metric that decides."""
    sizes = [len(data.train), len(data.validation or [])]
    inputs = [asdict(hp), data.sha256, sizes, *filter(None, [recipe.scoring.key])]
    return hashlib.sha256(msgspec.json.encode(inputs, order="sorted")).hexdigest()[:16]


def train_all(
    results: Results,
    trainings: Mapping[str, Callable[[], T]],
    kind: type[T],
    pause: Callable[[], None] = lambda: time.sleep(PAUSE),
) -> dict[str, T]:
    """Return a result for each key, in this order: read, else trained, else awaited from the worker that is at it.

    Args:
        trainings: by key.
        kind: the type of a result.
        pause: called before each further look at what others are training.
    """
    finished: dict[str, T] = {}
    while missing := [key for key in trainings if key not in finished]:
        before = len(finished)
        for key in missing:
            if (result := _read_or_train(results, key, trainings[key], kind)) is not None:
                finished[key] = result
        if len(finished) == before:
            pause()
    return {key: finished[key] for key in trainings}


def _read_or_train(results: Results, key: str, train: Callable[[], T], kind: type[T]) -> T | None:
    """Return a result; None where another worker is at it."""
    if (result := results.read(key, kind)) is not None:
        return result
    with results.claim(key) as claimed:
        if not claimed:
            return None
        if (result := results.read(key, kind)) is not None:  # finished by another one a moment ago
            return result
        result = train()
        results.write(key, result, kind)
        return result
