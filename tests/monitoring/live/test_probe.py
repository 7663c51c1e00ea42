"""The probe asks each champion its example, and says what came of it."""

import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from monitoring.app import Health, create_app
from monitoring.live.probe import Prober, _Probe
from serving.readiness import Readiness
from serving.registry import Registry
from tests.support.serving.stores import add, alter
from tests.support.waiting import wait_until

URL = "http://service"


class Service:
    """A service that answers as it is told, and a prober of it."""

    def __init__(self, store: Path) -> None:
        self.models = Registry(store)
        self.metrics = CollectorRegistry()
        self.answers: dict[str, httpx.Response | Exception] = {}
        self.asked: list[str] = []
        self.hanging: dict[str, threading.Event] = {}
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.now: float | None = None  # else the true time
        self.prober = Prober(self.models, URL, self.metrics, client, lambda: 1000.0, self._time)

    def _time(self) -> float:
        return time.monotonic() if self.now is None else self.now

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        name = request.url.path.split("/")[2]
        if name in self.hanging:
            self.hanging[name].wait(60)
        answer = self.answers.get(name) or httpx.Response(200, json={"prediction": 12.0})
        if isinstance(answer, Exception):
            raise answer
        return answer

    def value(self, name: str, model: str, version: str = "1.0") -> float | None:
        return self.metrics.get_sample_value(name, {"model": model, "version": version})


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "store")


def test_a_right_answer_is_success_and_its_time_is_measured(service: Service) -> None:
    add(service.models, "a")
    assert service.prober.run().ready
    assert service.asked == ["/predictions/a/1.0"]
    assert service.value("probe_success", "a") == 1
    assert service.value("probe_timestamp_seconds", "a") == 1000
    assert service.value("probe_duration_seconds_count", "a") == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"prediction": 13.0}),
        httpx.Response(503, json={"code": 503}),
        httpx.Response(200, text="<html>"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
)
def test_a_wrong_answer_or_none_is_no_success_and_harms_no_other_model(
    service: Service, answer: httpx.Response | Exception
) -> None:
    add(service.models, "a")
    add(service.models, "b")
    service.answers["a"] = answer
    assert not service.prober.run().ready
    assert (service.value("probe_success", "a"), service.value("probe_success", "b")) == (0, 1)


def test_an_altered_archive_is_no_success(service: Service) -> None:
    alter(add(service.models, "a"))
    assert not service.prober.run().ready
    assert service.value("probe_success", "a") == 0
    assert service.asked == []


def test_without_models_it_is_not_ready(service: Service) -> None:
    assert not service.prober.run().ready


def test_a_version_that_is_no_longer_champion_leaves_no_gauges(service: Service) -> None:
    add(service.models, "a", "1.0")
    service.prober.run()
    add(service.models, "a", "1.1", state="challenger")
    service.models.promote("a", "1.1")
    service.prober.run()
    assert service.value("probe_success", "a", "1.0") is None
    assert service.value("probe_success", "a", "1.1") == 1


def test_a_damaged_registry_does_not_end_the_probing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    add(service.models, "a")
    whole = service.models.path.read_text()
    service.models.path.write_text("{")
    stop = threading.Event()
    thread = threading.Thread(target=service.prober.run_forever, args=(0.01, stop))
    thread.start()
    try:
        wait_until(lambda: "cannot probe" in caplog.text)
        service.models.path.write_text(whole)
        wait_until(lambda: service.prober.last.ready)
    finally:
        stop.set()
        thread.join()


def test_a_right_answer_is_true_for_some_seconds_only(service: Service) -> None:
    add(service.models, "a")
    service.now = 0.0
    assert service.prober.run(1.0).ready
    service.now = 4.9  # s; the next one is due at 1, waited for until 2
    assert service.prober.last.ready
    service.now = 6.0
    last = service.prober.last
    assert not last.ready
    assert last.models[0].detail == "the probes hang: its last right answer is too old"
    assert service.value("probe_success", "a") == 0


def test_a_probe_that_never_ends_does_not_keep_the_former_answer_true(service: Service) -> None:
    add(service.models, "a")
    add(service.models, "b")
    service.now = 0.0
    service.prober.run(1.0)
    release = threading.Event()
    service.hanging["a"] = release
    try:
        for second in range(1, 9):
            service.now = float(second)
            service.prober._look(1.0)
            wait_until(lambda: not service.prober._probes["b", "1.0"].flying, poll=0.01)
        assert {one.name: one.ready for one in service.prober.last.models} == {"a": False, "b": True}
    finally:
        release.set()


def test_an_unreadable_registry_makes_every_model_unready_and_names_the_file(service: Service) -> None:
    path = add(service.models, "a")
    service.prober.run()
    service.models.path.write_text("{")
    last = service.prober.run()
    assert not last.ready
    assert f"{service.models.path} is damaged" in last.fault
    assert service.value("probe_success", "a") == 0
    assert path.exists()


def test_an_archive_that_is_damaged_while_it_is_served_is_unready_until_it_is_whole_again(service: Service) -> None:
    path = add(service.models, "a")
    add(service.models, "b")
    assert service.prober.run().ready
    whole = path.read_bytes()
    alter(path)
    last = service.prober.run()
    assert {one.name: one.ready for one in last.models} == {"a": False, "b": True}
    assert "a-1.0.mar has SHA-256" in last.models[0].detail
    path.write_bytes(whole)
    assert service.prober.run().ready
    path.unlink()
    assert "is not there" in service.prober.run().models[0].detail


def test_what_is_usual_for_a_model_is_what_its_next_answer_may_take() -> None:
    probe = _Probe(Readiness("a", "1.0", True, "", 0.0))
    assert probe.patience(8.0) == 8.0
    probe.took.append(0.002)
    assert probe.patience(8.0) == 1.0
    probe.took.append(0.3)
    assert probe.patience(8.0) == 3.0
    probe.took.append(3.0)
    assert probe.patience(8.0) == 8.0


def test_readiness_is_told_of_each_model(service: Service) -> None:
    add(service.models, "a")
    add(service.models, "b")
    service.answers["b"] = httpx.Response(503, json={"code": 503})
    with TestClient(create_app(Health(service.prober, service.metrics), 0.01)) as client:
        wait_until(lambda: client.get("/readyz/a").status_code == 200)
        wait_until(lambda: client.get("/readyz/b").json().get("reason") == '503: {"code":503}')
        assert client.get("/readyz/b").status_code == 503
        assert client.get("/readyz/c").status_code == 404
        assert client.get("/readyz").status_code == 503


def test_the_monitor_tells_what_the_probe_found(service: Service) -> None:
    add(service.models, "a")
    service.answers["a"] = httpx.Response(500, json={"error": "no"})
    with TestClient(create_app(Health(service.prober, service.metrics), 0.01)) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        wait_until(lambda: client.get("/readyz").json()["models"] == {"a 1.0": '500: {"error":"no"}'})
        assert client.get("/readyz").status_code == 503
        service.answers.clear()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert 'probe_success{model="a",version="1.0"} 1.0' in client.get("/metrics").text
        assert "/readyz" in json.dumps(client.get("/openapi.json").json())
