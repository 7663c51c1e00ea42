"""PostgreSQL is killed or hangs while labels arrive: nothing that was acknowledged is lost, and health is told."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI

from monitoring.api import gate
from tests.conftest import Figures
from tests.support.monitoring.databases import PostgreSQL, new_database, postgresql_server
from tests.support.monitoring.worlds import Monitor
from tests.support.serving.stores import add
from tests.support.waiting import wait_until

PATIENCE = 30.0  # s in which every answer has come, whatever the database does: twice what is promised


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture
def monitor(server: PostgreSQL, tmp_path: Path) -> Iterator[Monitor]:
    monitor = Monitor(tmp_path, database=new_database(server.url, "monitor"))
    add(monitor.models)
    yield monitor
    monitor.store.close()


def tell(monitor: Monitor, name: str) -> int:
    return monitor.tell({"request_id": name, "label": 1, "model": "doubling"}).status_code


def tell_until_refused(monitor: Monitor, acknowledged: list[str]) -> int:
    while (status := tell(monitor, name := f"label-{len(acknowledged)}")) == 200:
        acknowledged.append(name)
    return status


def kept(monitor: Monitor, names: list[str]) -> list[str]:
    """Those of the labels that the database has."""
    there = {label.request_id for label in monitor.store.waiting([(name, 0) for name in names])}
    return [name for name in names if name in there]


def test_labels_acknowledged_before_the_database_is_killed_are_there_after_it(
    server: PostgreSQL, monitor: Monitor, figures: Figures
) -> None:
    acknowledged: list[str] = []
    processes = server.processes()
    with ThreadPoolExecutor(1) as caller:
        telling = caller.submit(tell_until_refused, monitor, acknowledged)
        wait_until(lambda: len(acknowledged) > 50)
        processes[0].kill()
        assert telling.result(PATIENCE) == 503
    psutil.wait_procs(processes, timeout=30)  # the children end by themselves
    assert tell(monitor, "away") == 503
    assert monitor.client.get("/healthz").status_code == 200
    server.start()
    wait_until(lambda: tell(monitor, "back") == 200, timeout=PATIENCE)
    assert kept(monitor, acknowledged) == acknowledged
    figures(f"{len(acknowledged)} acknowledged, all there")


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The URL of the application in a server: a client of tests would wait for its threads, as no caller does."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def test_a_database_that_hangs_keeps_nobody_waiting_for_ever(
    server: PostgreSQL, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 1.0)
    label = {"label": 1, "model": "doubling"}
    with listening(monitor.app) as url, httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        assert client.post("/feedback", json=label | {"request_id": "before"}).status_code == 200
        stopped = server.processes()
        for process in stopped:
            process.suspend()
        try:
            response = client.post("/feedback", json=label | {"request_id": "meanwhile"})
            assert (response.status_code, "retry-after" in response.headers) == (503, True)
            assert client.get("/healthz").status_code == 200
        finally:
            for process in reversed(stopped):
                process.resume()
        wait_until(
            lambda: client.post("/feedback", json=label | {"request_id": "after"}).status_code == 200, timeout=60
        )
    assert kept(monitor, ["before", "after"]) == ["before", "after"]
