"""The application runs what it is given."""

import threading
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from monitoring import app
from monitoring.app import Health, create_app
from monitoring.assembly import assemble
from monitoring.live.probe import Prober
from monitoring.live.settings import MonitorSettings
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.support.serving.stores import add
from tests.support.waiting import wait_until


def prober(folder: Path, registry: CollectorRegistry) -> Prober:
    return Prober(Registry(folder), "http://127.0.0.1:1", registry, httpx.Client())


def test_tasks_run_while_the_application_does(tmp_path: Path) -> None:
    started, ended = threading.Event(), threading.Event()

    def task(stop: threading.Event) -> None:
        started.set()
        stop.wait()
        threading.Event().wait(0.2)  # what is left to do
        ended.set()

    registry = CollectorRegistry()
    with TestClient(create_app(Health(prober(tmp_path, registry), registry), 3600, tasks=[task])):
        wait_until(started.is_set, poll=0.01)
        assert not ended.is_set()
    assert ended.is_set()


def test_a_task_that_does_not_end_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LEAVING", 0.1)
    late = threading.Event()
    registry = CollectorRegistry()

    def task(_: threading.Event) -> None:
        late.wait(60)

    with TestClient(create_app(Health(prober(tmp_path, registry), registry), 3600, tasks=[task])):
        pass
    late.set()


def test_a_call_that_is_not_understood_is_told_where_without_its_input(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/double/{number}")
    def double(number: int) -> int:
        return 2 * number

    registry = CollectorRegistry()
    client = TestClient(create_app(Health(prober(tmp_path, registry), registry), 3600, [router]))
    assert client.get("/double/6").json() == 12
    (fault,) = client.get("/double/secret").json()["detail"]
    assert fault["loc"] == ["path", "number"]
    assert "secret" not in str(fault)


def test_a_champion_that_another_version_packed_is_a_notice(tmp_path: Path) -> None:
    settings = Settings(model_store=tmp_path / "store", run_dir=tmp_path / "run", inference_port=1)
    former = ROOT / "tests" / "support" / "training" / "former-linear-1.0.mar"
    add(Registry(settings.model_store), "linear").write_bytes(former.read_bytes())
    monitor = assemble(settings, {}, MonitorSettings())
    try:
        (notice,) = TestClient(monitor.app).get("/readyz").json()["notices"]
    finally:
        monitor.close()
    assert notice.startswith("linear 1.0 was packed by another version of Marloop")


def test_a_monitor_of_a_fleet_asks_for_no_version_beside_a_champion(tmp_path: Path) -> None:
    settings = Settings(model_store=tmp_path / "store", run_dir=tmp_path / "run", inference_port=1)
    with pytest.raises(ValueError, match="MARLOOP_FLEET is on: MARLOOP_SHADOW_REQUESTS must be 0"):
        assemble(settings, {"MARLOOP_FLEET": "on"}, MonitorSettings())
    assemble(settings, {"MARLOOP_FLEET": "on", "MARLOOP_SHADOW_REQUESTS": "0"}, MonitorSettings()).close()
