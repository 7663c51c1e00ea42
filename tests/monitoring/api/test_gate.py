"""What every call must be: allowed before it is read, of a known size, kind and depth, and answered in time."""

import asyncio
import itertools
import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import sqlalchemy.event
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.types import Message

from handlers.observe.sink import BATCH
from monitoring.api import gate
from monitoring.api.gate import depth_of
from monitoring.assembly import assemble
from monitoring.live.settings import MonitorSettings
from serving.registry import Registry
from serving.settings import Settings
from tests.support.monitoring.worlds import Monitor, event
from tests.support.serving.stores import add

JSON = "application/json"


async def ask(app: Any, path: str, messages: Iterator[Message], headers: Mapping[str, str]) -> tuple[Any, int]:
    """The answer to a POST from loopback, and how many pieces of its body were read; a body without end waits."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"127.0.0.1:8090"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8090),
    }
    read, sent = 0, []

    async def receive() -> Message:
        nonlocal read
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        read += 1
        assert message
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return {"status": sent[0]["status"], "headers": dict(sent[0]["headers"]), "body": body}, read


def endless() -> Iterator[Message]:
    return ({"type": "http.request", "body": b" " * 65536, "more_body": True} for _ in itertools.count())


def post(app: FastAPI, path: str, messages: Iterator[Message], **headers: str) -> tuple[Any, int]:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(ask(app, path, messages, told))


def changing(app: FastAPI) -> list[str]:
    """The paths of every route that takes something, from the application itself: a new one is among them."""
    found = []
    for context in iter_route_contexts(app.routes):
        if context.methods and context.methods & {"POST", "PUT", "PATCH", "DELETE"}:
            assert context.path
            found.append(context.path.replace("{model}", "doubling").replace("{name}", "doubling"))
    return [path.replace("{id}", "1").replace("{number}", "1.0") for path in found]


def whole(folder: Path, token: str) -> FastAPI:
    """A monitor with every route that the command serves."""
    places = {"MARLOOP_MODEL_STORE": str(folder / "models"), "MARLOOP_RUN_DIR": str(folder / "run")}
    environ = places | {"MARLOOP_TOKEN": token}
    settings = Settings.from_environment(environ)
    add(Registry(settings.model_store))
    nowhere = MonitorSettings("http://127.0.0.1:1", "http://127.0.0.1:1")
    return assemble(settings, environ, nowhere).app


def test_every_route_that_takes_something_says_401_before_it_reads(tmp_path: Path) -> None:
    app = whole(tmp_path, "secret")
    paths = changing(app)
    assert {
        "/events",
        "/feedback",
        "/alerts",
        "/models/doubling/retrain",
        "/models/doubling/challenge",
        "/console/models/doubling/try",
    } <= {*paths}
    for path in paths:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
            answer, read = post(app, path, endless(), content_type=JSON, hx_request="true", **headers)
            assert (path, answer["status"], read) == (path, 401, 0)
            assert answer["headers"][b"connection"] == b"close"


def test_every_route_that_takes_something_has_a_limit_also_without_a_length(tmp_path: Path) -> None:
    app = whole(tmp_path, "")
    for path in changing(app):
        kind = BATCH if path == "/events" else JSON
        answer, read = post(app, path, endless(), content_type=kind, hx_request="true")
        unread = path.endswith(("/promote", "/rollback", "/cancel", "/challenge")) and path.startswith("/console")
        assert unread or (path, answer["status"]) == (path, 413)
        assert read * 65536 < 40e6
        told, read = post(app, path, endless(), content_type=kind, content_length="300000000", hx_request="true")
        assert unread or path.startswith("/console") or (told["status"], read) == (413, 0)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_of_another_page_can_send_is_no_json(tmp_path: Path, kind: str) -> None:
    app = whole(tmp_path, "")
    body = json.dumps({"request_id": "a", "label": 1}).encode()
    for path in changing(app):
        if path.startswith("/console"):
            continue
        message = {"type": "http.request", "body": body, "more_body": False}
        answer, _ = post(app, path, iter([message]), **({"content_type": kind} if kind else {}))
        assert (path, answer["status"]) == (path, 415)


def test_a_page_of_another_site_is_known_by_what_its_browser_says(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
        assert (
            monitor.client.post("/feedback", json={"request_id": "a", "label": 1}, headers=headers).status_code == 403
        )


def test_a_compressed_body_is_not_unpacked(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    for path in ("/feedback", "/events"):
        for encoding in ("gzip", "deflate", "br", "zstd"):
            assert monitor.client.post(path, content=b"x", headers={"Content-Encoding": encoding}).status_code == 415


def test_a_slow_body_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.05)
    first = {"type": "http.request", "body": b"{", "more_body": True}
    answer, _ = post(Monitor(tmp_path).app, "/feedback", iter([first]), content_type=JSON)
    assert answer["status"] == 408


def test_depth_is_counted_outside_of_texts() -> None:
    assert depth_of(b"") == depth_of(b"3") == 0
    assert depth_of(rb'{"a[[[": "\"[[{", "b": [1, {"c": []}], "d": [[]]}') == 4
    assert depth_of(b'"[[' + b"[" * 100) == 0


def test_a_body_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    app = whole(tmp_path, "")
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    for path in (
        "/feedback",
        "/alerts",
        "/models/doubling/retrain",
        "/models/doubling/challenge",
        "/models/doubling/promote",
    ):
        answer, _ = post(app, path, iter([{"type": "http.request", "body": deep}]), content_type=JSON)
        assert (path, answer["status"]) == (path, 400)


def test_while_every_thread_waits_for_the_store_health_is_told_and_the_rest_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.3)
    monitor = Monitor(tmp_path)
    add(monitor.models)
    held = threading.Event()
    monkeypatch.setattr(monitor.store, "counts", lambda _: held.wait(60))

    async def run() -> None:
        import httpx

        transport = httpx.ASGITransport(monitor.app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090") as client:
            threads = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
            waiting = [client.get("/models") for _ in range(threads + 5)]
            answers = asyncio.gather(*waiting)
            await asyncio.sleep(0)
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503  # there was no probe
            assert "python_info" not in (metrics := await client.get("/metrics")).text
            assert metrics.status_code == 200
            for answer in await answers:
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "5"
            held.set()

    asyncio.run(run())


def test_a_fault_of_the_store_shows_no_sql(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    with monitor.store.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE predictions")
    answers = [monitor.client.get("/models"), monitor.send(event()), monitor.tell({"request_id": "a", "label": 1})]
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        detail = answer.json()["detail"]
        assert "SELECT" not in detail.upper()
        assert "predictions" not in detail
        assert detail.rpartition(" ")[2] in caplog.text  # the id


def test_a_damaged_registry_is_a_503_and_labels_are_kept(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    monitor.send(event("a"))
    for content in ("{", "[]", "", '{"doubling": {"1.0": 3}}', "\x00" * 100):
        (monitor.models.store / "registry.json").write_text(content)
        for path in ("/models", "/models/doubling/versions"):
            answer = monitor.client.get(path)
            assert (answer.status_code, "cannot be read" in answer.json()["detail"]) == (503, True)
        assert monitor.send(event("b")).status_code == 503
        assert monitor.client.get("/metrics").status_code == 200
    assert monitor.tell({"request_id": "a", "label": 12}).json()["accepted"] == 1
    assert monitor.tell({"request_id": "b", "label": 12, "model": "doubling"}).json()["waiting"] == 1


def test_every_route_of_the_application_is_one_of_fastapi(tmp_path: Path) -> None:
    """Else ``changing`` would not see it."""
    contexts = list(iter_route_contexts(whole(tmp_path, "").routes))
    assert sum(isinstance(context.original_route, APIRoute) for context in contexts) > 20


def test_the_page_of_all_calls_is_ours_and_has_the_headers_of_the_console(tmp_path: Path) -> None:
    client = TestClient(whole(tmp_path, "secret"), "http://127.0.0.1:8090")
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    described = client.get("/openapi.json").json()["paths"]
    assert len(described) > 12
    for path in described:
        assert f" {path}</code>" in page.text
    for word in ("request_id", "correct", "application/cloudevents-batch+json", "list of Alert"):
        assert word in page.text
    assert not re.search(r"https?://(?!127\.0\.0\.1)", page.text)
    assert client.get("/redoc").url.path == "/docs"
    assert client.get("/docs/oauth2-redirect").status_code == 404


def test_while_another_process_holds_the_database_writers_are_told_to_come_again(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    with sqlite3.connect(tmp_path / "monitor.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(12) as pool:
            sent = [pool.submit(monitor.send, event(str(i))) for i in range(6)]
            sent += [pool.submit(monitor.tell, {"request_id": str(i), "label": 1}) for i in range(6)]
            for path in ("/healthz", "/metrics", "/models"):  # a reader does not wait for a writer
                assert monitor.client.get(path).status_code == 200
            for one in sent:
                assert (one.result().status_code, one.result().headers["retry-after"]) == (503, "5")
        other.execute("ROLLBACK")
    assert monitor.send(event("a")).json()["new"] == 1


def test_a_database_that_cannot_be_written_acknowledges_nothing(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    with monitor.store.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @sqlalchemy.event.listens_for(monitor.store.database.engine, "checkout")
    def full(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # as if the disk were full

    label = {"request_id": "a" * 200, "label": 1, "model": "doubling"}
    many = [label | {"row": row} for row in range(5000)]
    assert monitor.tell(*many).status_code == 503
    assert monitor.store.waiting([("a" * 200, 0)]) == []

    @sqlalchemy.event.listens_for(monitor.store.database.engine, "checkout")
    def read_only(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA query_only = on")

    assert monitor.tell(label).status_code == 503
    assert monitor.client.get("/models").status_code == 200
