"""Whether what is served answers as it should; archives are hashed again where they changed, and now and then."""

import json
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.readiness import (
    AGAIN,
    LONGEST,
    Champion,
    Champions,
    Readiness,
    ask,
    ask_alive,
    ask_all,
    former_handlers,
)
from serving.registry import Registry, Version, file_sha256
from serving.settings import ROOT
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
        (httpx.Response(200, text="12 of sorts"), "200: 12 of sorts"),
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


class Hashing:
    """Counts how often an archive is hashed, by a clock that stands."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.count = 0.0, 0
        self.champions = Champions(registry, lambda: self.now)
        verify = registry.verify

        def count(version: Version) -> Path:
            self.count += 1
            return verify(version)

        monkeypatch.setattr(registry, "verify", count)

    def read(self) -> Champion | Readiness:
        return self.champions.by_model()["doubling"]


@pytest.fixture
def hashing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Hashing:
    return Hashing(registry, monkeypatch)


def test_an_archive_that_did_not_change_is_hashed_only_now_and_then(registry: Registry, hashing: Hashing) -> None:
    add(registry)
    for _ in range(3):
        assert isinstance(hashing.read(), Champion)
    assert hashing.count == 1
    hashing.now = AGAIN + 1
    hashing.read()
    assert hashing.count == 2


def test_bits_that_change_without_a_trace_are_found_after_a_while(registry: Registry, hashing: Hashing) -> None:
    path = add(registry)
    hashing.read()
    hashing.champions._state = lambda version: ()  # type: ignore[method-assign]  # a file system that tells nothing
    hashing.read()
    alter(path)
    assert isinstance(hashing.read(), Champion)
    hashing.now = AGAIN + 1
    assert isinstance(hashing.read(), Readiness)


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_archive_is_refused_at_once(registry: Registry, hashing: Hashing, same_time: bool) -> None:
    path = add(registry)
    before = path.stat()
    assert isinstance(hashing.read(), Champion)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    if same_time:  # as after rsync --times: only the time of the inode's change tells
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = hashing.read()
    assert isinstance(found, Readiness)
    assert f"{path} has SHA-256" in found.detail
    hashing.read()
    assert hashing.count == 2  # neither is the refused one hashed each time


def pack(registry: Registry, config: str) -> Path:
    path = add(registry)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model-config.yaml", config)
    with registry.change() as models:
        models["doubling"]["1.0"].sha256 = file_sha256(path)
    return path


@pytest.mark.parametrize(
    ("config", "deadline"),
    [
        ("responseTimeout: 3", 3.0),
        ("responseTimeout: 120", LONGEST),
        ("responseTimeout: soon", LONGEST),
        ("responseTimeout: 0", LONGEST),
        ("[]", LONGEST),
        ("{", LONGEST),
        ("", LONGEST),
    ],
)
def test_the_deadline_is_the_archives(registry: Registry, config: str, deadline: float) -> None:
    pack(registry, config)
    found = Champions(registry).by_model()["doubling"]
    assert isinstance(found, Champion)
    assert found.deadline == deadline


def test_a_language_models_worker_is_asked_what_costs_no_token() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=json.loads("{}"))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert ask_alive(client, "http://service", contract_of_doubling("chat"), 1.0) == ""
    assert asked == ["/predictions/chat/1.0/v1/models"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(httpx.ReadTimeout("slow"), "no answer within 1.0 s"), (httpx.ConnectError("refused"), "ConnectError: refused")],
)
def test_one_that_does_not_answer_is_not_alive(error: Exception, told: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with httpx.Client(transport=httpx.MockTransport(fail)) as client:
        assert ask_alive(client, "http://service", contract_of_doubling("chat"), 1.0) == told


def test_a_champion_with_the_handlers_of_another_version_is_told(registry: Registry) -> None:
    former = (ROOT / "tests" / "support" / "training" / "former-linear-1.0.mar").read_bytes()
    add(registry)  # whose handlers are those here: it has none
    add(registry, "linear").write_bytes(former)
    add(registry, "damaged").write_bytes(b"no archive")
    (sentence,) = former_handlers(registry)
    assert sentence.startswith("linear 1.0 was packed by another version of Marloop")
    assert "`marloop package linear`" in sentence
