"""Who may change something."""

from pathlib import Path

import pytest

from handlers.observe.settings import Credentials
from serving.hosts.worker_environment import events_token
from tests.support.monitoring.worlds import Monitor, event
from tests.support.serving.stores import add

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
CHANGING = ("/events", "/feedback")


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer secre", "secret", "Basic secret", "Bearer ä"]
)
def test_where_a_token_is_configured_a_call_without_it_is_refused(
    tmp_path: Path, path: str, header: str | None
) -> None:
    monitor = Monitor(tmp_path, "secret")
    headers = {} if header is None else {b"Authorization": header.encode()}
    response = monitor.client.post(path, json={"request_id": "a", "label": 1}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "MARLOOP_TOKEN" in response.json()["detail"]


def test_with_the_token_a_call_from_anywhere_is_answered(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, "secret")
    add(monitor.models)
    client = monitor.client_from("192.0.2.7", "http://monitor:8090")
    client.headers["Authorization"] = "Bearer secret"
    assert client.post("/feedback", json={"request_id": "a", "label": 1}).status_code == 200
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert client.post("/events", json=[event()], headers=headers).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_calls_from_loopback_are_answered(tmp_path: Path, address: str) -> None:
    client = Monitor(tmp_path).client_from(address, "http://localhost:8090")
    assert client.post("/feedback", json={"request_id": "a", "label": 1}).status_code == 200


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("192.0.2.7", "http://127.0.0.1:8090"),
        ("::ffff:192.0.2.7", "http://127.0.0.1:8090"),
        ("unix", "http://127.0.0.1:8090"),
        ("127.0.0.1", "http://rebound.example:8090"),
    ],
)
@pytest.mark.parametrize("path", CHANGING)
def test_without_a_token_others_are_refused_and_told_why(tmp_path: Path, address: str, url: str, path: str) -> None:
    response = Monitor(tmp_path).client_from(address, url).post(path, json={"request_id": "a", "label": 1})
    assert response.status_code == 403
    assert "without MARLOOP_TOKEN it is answered only on loopback" in response.json()["detail"]


def test_what_changes_nothing_needs_no_token(tmp_path: Path) -> None:
    client = Monitor(tmp_path, "secret").client_from("192.0.2.7", "http://monitor:8090")
    for path in ("/healthz", "/metrics", "/models", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_openapi_names_the_token_and_the_sinks_media_type(tmp_path: Path) -> None:
    described = Monitor(tmp_path).client.get("/openapi.json").json()
    for path in CHANGING:
        assert described["paths"][path]["post"]["security"] == [{"HTTPBearer": []}]
    body = described["paths"]["/events"]["post"]["requestBody"]["content"]
    assert list(body) == ["application/cloudevents-batch+json"]


@pytest.mark.parametrize("path", CHANGING)
def test_without_a_token_a_page_of_another_site_is_refused(tmp_path: Path, path: str) -> None:
    monitor = Monitor(tmp_path)
    for origin in ("http://elsewhere.example", "http://127.0.0.1:8091", "null"):
        response = monitor.client.post(path, json={"request_id": "a", "label": 1}, headers={"Origin": origin})
        assert response.status_code == 403
        assert "no page of another site" in response.json()["detail"]
    own = {"Origin": "http://127.0.0.1:8090"}
    assert monitor.client.post("/feedback", json={"request_id": "a", "label": 1}, headers=own).status_code == 200


def test_the_token_of_a_worker_sends_events_and_does_nothing_else(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, "secret")
    add(monitor.models)
    headers = {"Authorization": f"Bearer {events_token(Credentials('secret'))}"}
    assert monitor.client.post("/events", json=[event("a")], headers=headers | BATCH).status_code == 200
    for path in ("/feedback", "/events/", "/events/more"):
        response = monitor.client.post(path, json={"request_id": "a", "label": 1}, headers=headers)
        assert response.status_code in (307, 401, 404)
    assert monitor.client.post("/feedback", json={"request_id": "a", "label": 1}, headers=headers).status_code == 401
