"""The probe asks each champion its example, and says what came of it."""

import json
import threading
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from monitoring.app import create_app
from monitoring.probe import Prober
from serving.registry import Registry
from tests.serving.stores import add, alter
from tests.waiting import wait_until

URL = "http://service"


class Service:
    """A service that answers as it is told, and a prober of it."""

    def __init__(self, store: Path) -> None:
        self.models = Registry(store)
        self.metrics = CollectorRegistry()
        self.answers: dict[str, httpx.Response | Exception] = {}
        self.asked: list[str] = []
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.prober = Prober(self.models, URL, self.metrics, client, lambda: 1000.0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        name = request.url.path.split("/")[2]
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


def test_the_monitor_tells_what_the_probe_found(service: Service) -> None:
    add(service.models, "a")
    service.answers["a"] = httpx.Response(500, json={"error": "no"})
    with TestClient(create_app(service.prober, service.metrics, 0.01)) as client:
        wait_until(lambda: bool(service.prober.last.found))
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["models"] == {"a 1.0": '500: {"error":"no"}'}
        service.answers.clear()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert 'probe_success{model="a",version="1.0"} 1.0' in client.get("/metrics").text
        assert "/readyz" in json.dumps(client.get("/openapi.json").json())
