"""A database that the version before this one made, and what that version answered over HTTP from it (fb5798e)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from handlers.observe.settings import Credentials
from monitoring.api.access import Access
from monitoring.api.jobs import jobs_router
from monitoring.retraining.result import JobResult, Shadowed
from monitoring.store import tables
from monitoring.store.predictions import Store, open_store
from serving.settings import ROOT
from tests.support.monitoring.loops import Loop, shadowed_of, verdict_of, watched_of

FORMER = ROOT / "tests" / "support" / "monitoring"
PAIRS = [(b'"passed":true,"requests":0', b'"requests":0,"passed":true')]  # the order of two keys is another one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The database, and the log's folder that it names."""
    file = tmp_path / "former.db"
    with sqlite3.connect(file) as connection:
        connection.executescript((FORMER / "former_jobs.sql").read_text())
    connection.close()
    opened = open_store(f"sqlite:///{file}")
    yield opened
    opened.close()


def test_its_jobs_are_read_by_their_type(store: Store) -> None:
    running, cancelled, failed, promoted, refused, rolled_back = store.journal.jobs()
    assert (running.result.stage, running.result.verdict, running.result.shadow) == ("judge", None, None)
    assert cancelled.result == JobResult(cancel=True)
    assert failed.result.error == "the training ended: none of its rows fits"
    assert shadowed_of(promoted) == Shadowed(0, passed=True, reason="no requests to send")
    assert not verdict_of(refused).promote
    assert [check.name for check in verdict_of(rolled_back).checks] == ["gain"]
    assert (watched_of(rolled_back).former, watched_of(rolled_back).open) == ("1.0", False)


def test_they_are_told_over_http_as_before(store: Store, tmp_path: Path) -> None:
    app = FastAPI()
    loop = Loop(tmp_path)
    app.include_router(jobs_router(store.journal, loop.retraining, loop.challenges, Access(Credentials())))
    body = TestClient(app, "http://127.0.0.1:8090", client=("127.0.0.1", 50000)).get("/jobs").content
    expected = (FORMER / "former_jobs.json").read_bytes()
    for before, after in PAIRS:
        expected = expected.replace(before, after)
    assert body == expected
    schema = app.openapi()["components"]["schemas"]["Job"]["properties"]["result"]
    assert schema == {"additionalProperties": True, "type": "object", "title": "Result"}


def test_what_another_version_added_to_a_result_stays_in_the_database(store: Store) -> None:
    id, result = 4, tables.jobs.c.result
    this = tables.jobs.c.id == id
    with store.database.writing() as connection:
        kept = {"stage": "train", "colour": "blue", "error": "no"}
        connection.execute(update(tables.jobs).where(this).values(result=kept))
    assert store.journal.job(id).result == JobResult(stage="train", error="no")
    store.journal.extend_job(id, JobResult(attempts=2))
    with store.database.writing() as connection:
        assert connection.execute(select(result).where(this)).scalar_one() == kept | {"attempts": 2}


def test_a_result_that_cannot_be_read_is_told_and_stops_nothing(store: Store) -> None:
    with store.database.writing() as connection:
        this = tables.jobs.c.id == 4
        connection.execute(update(tables.jobs).where(this).values(result={"attempts": "many"}))
    error = store.journal.job(4).result.error
    assert error.startswith("its result in the database cannot be read: ")
    assert error.endswith("`$.attempts`")
    assert len(store.journal.jobs()) == 6


def test_a_result_is_written_as_it_was(store: Store) -> None:
    """Each result, written by this version into an empty column, is the same JSON."""
    before = results(store)
    with store.database.writing() as connection:
        connection.execute(update(tables.jobs).values(result={}))
    for id, document in before.items():
        store.journal.extend_job(id, msgspec.convert(document, JobResult))
    assert results(store) == before


def results(store: Store) -> dict[int, Any]:
    with store.database.writing() as connection:
        return {row.id: row.result for row in connection.execute(select(tables.jobs.c.id, tables.jobs.c.result))}
