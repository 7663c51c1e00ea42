"""What the monitor has acknowledged is there, whenever it is killed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from monitoring.store.database import database_url
from monitoring.store.predictions import open_store
from serving.settings import Settings
from serving.supervision.companion import monitor as companion
from tests.integration.conftest import settings_for
from tests.support.waiting import wait_until

CLIENTS = 4


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name in ("DATABASE_URL", "MARLOOP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MARLOOP_PROBE_INTERVAL", "3600")
    settings = settings_for(tmp_path / "store", tmp_path / "run")
    yield settings
    companion(settings).stop(settings)


def send(settings: Settings, client: int, acknowledged: set[str], stop: threading.Event) -> None:
    """Give feedback as fast as it is taken; what was acknowledged is noted."""
    with httpx.Client(timeout=10, trust_env=False) as http, suppress(httpx.TransportError):
        number = len(acknowledged)
        while not stop.is_set():
            number += 1
            ids = [f"{client}-{number}-{i}" for i in range(3)]
            body = [{"request_id": one, "label": number} for one in ids]
            if http.post(f"{settings.monitor_url}/feedback", json=body).status_code == 200:
                acknowledged.update(ids)


def during_load(settings: Settings, acknowledged: set[str], act: Callable[[], object]) -> None:
    """Do something once each client's feedback is flowing."""
    stop, own = threading.Event(), [set[str]() for _ in range(CLIENTS)]
    known = len(acknowledged)
    threads = [threading.Thread(target=send, args=(settings, known + i, own[i], stop)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(len(one) > 20 for one in own), poll=0.01)
        act()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    acknowledged.update(*own)


def test_no_acknowledged_feedback_is_lost_when_the_monitor_is_killed_under_load(settings: Settings) -> None:
    monitor = companion(settings)
    acknowledged: set[str] = set()

    def kill() -> None:
        process = monitor.find(settings)
        assert process is not None
        process.kill()
        psutil.wait_procs([process], timeout=10)

    for _ in range(2):
        monitor.start(settings)
        during_load(settings, acknowledged, kill)
    store = open_store(database_url({}, settings.run_dir))
    found = {one.request_id for one in store.waiting([(one, 0) for one in sorted(acknowledged)])}
    store.close()
    assert len(acknowledged) > 2 * CLIENTS * 20
    assert acknowledged <= found
