import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from serving.readiness import Readiness, ask, ask_all
from serving.registry import Registry
from tests.support.serving.stores import add, alter, contract_of_doubling

URL = "http://127.0.0.1:8080"


class Doubling(BaseHTTPRequestHandler):
    """A server whose every model doubles x."""

    def do_POST(self) -> None:  # noqa: N802
        x = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["x"]
        body = json.dumps({"prediction": 2 * x}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Doubling) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def answer(response: httpx.Response) -> Readiness:
    """What becomes of an answer to the example."""
    with httpx.Client(transport=httpx.MockTransport(lambda request: response)) as client:
        return ask(client, URL, contract_of_doubling())


def test_the_example_is_sent_to_the_contracts_own_version() -> None:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"prediction": 12.0})

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        assert ask(client, URL, contract_of_doubling(version="1.7")).ready
    (request,) = asked
    assert (request.method, str(request.url)) == ("POST", f"{URL}/predictions/doubling/1.7")
    assert json.loads(request.content) == {"x": 6.0}


@pytest.mark.parametrize("found", [12, 12.0, 12.0001])
def test_a_model_is_ready_if_it_gives_the_answer_of_its_example(found: float) -> None:
    readiness = answer(httpx.Response(200, json={"prediction": found}))
    assert (readiness.name, readiness.version, readiness.ready, readiness.detail) == ("doubling", "1.0", True, "")
    assert readiness.milliseconds > 0


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (httpx.Response(200, json={"prediction": 12.5}), '200: {"prediction":12.5}'),
        (httpx.Response(200, json={"prediction": "12"}), '200: {"prediction":"12"}'),
        (httpx.Response(200, json={"prediction": 12, "more": 1}), '200: {"prediction":12,"more":1}'),
        (httpx.Response(200, json=[12]), "200: [12]"),
        (httpx.Response(201, json={"prediction": 12}), '201: {"prediction":12}'),
        (httpx.Response(503, text="no\n  worker"), "503: no worker"),
        (httpx.Response(200, text="12 of sorts"), "JSONDecodeError: "),
    ],
)
def test_any_other_answer_is_not_ready_and_is_shown(response: httpx.Response, detail: str) -> None:
    readiness = answer(response)
    assert not readiness.ready
    assert readiness.detail.startswith(detail)


def test_a_server_that_cannot_be_reached_is_not_ready() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    with httpx.Client(transport=httpx.MockTransport(fail)) as client:
        readiness = ask(client, URL, contract_of_doubling())
    assert (readiness.ready, readiness.detail) == (False, "ConnectError: Connection refused")


def test_every_champion_is_asked_and_a_refused_one_does_not_hide_the_others(registry: Registry, url: str) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    add(registry, "c", "1.3")
    add(registry, "d", state="challenger")
    found = ask_all(registry, url)
    assert [(one.name, one.version, one.ready) for one in found] == [
        ("a", "1.0", True),
        ("b", "1.0", False),
        ("c", "1.3", True),
    ]
    assert found[1].detail.startswith("refused: ")
    assert "b-1.0.mar has SHA-256" in found[1].detail


def test_a_proxy_in_the_environment_is_not_asked_for_what_runs_here(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # where nothing listens
    assert [one.ready for one in ask_all(registry, url)] == [True]


def test_a_store_without_champions_has_nothing_to_ask(registry: Registry) -> None:
    assert ask_all(registry, URL) == []
