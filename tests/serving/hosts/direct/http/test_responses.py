"""Refusals have the form of the route that was asked, and what nobody waits for any more is not computed."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from handlers.http.content_encoding import CODINGS, HEADER
from handlers.message import MAX_BODY, InputError, Request, Response
from serving.hosts.direct.app import Application
from serving.hosts.direct.batches import Batches, Overloaded
from serving.hosts.direct.http.bodies import UnreadBody
from serving.hosts.direct.http.responses import refusal
from serving.hosts.direct.http.timeouts import PatientProtocol
from serving.hosts.direct.routes import NATIVE, Target
from tests.serving.hosts.direct.test_app import World
from tests.support import chat_archive
from tests.support.applications import served
from tests.support.waiting import wait_until

NATIVE_FORM, TEXT_FORM, OPENAI_FORM = "native", "text", "openai"
FORMS = {
    "/predictions/line": NATIVE_FORM,
    "/predictions/v2/1.0": NATIVE_FORM,  # a model's name is no protocol
    "/nothing": NATIVE_FORM,
    "/v1/models/line:predict": TEXT_FORM,
    "/v1/models": TEXT_FORM,
    "/v2": TEXT_FORM,
    "/v2/models/line/versions/1.2/infer": TEXT_FORM,
    "/predictions/line/1.2/v2/models/line/infer": TEXT_FORM,
    "/v1/chat/completions": OPENAI_FORM,
    "/v1/embeddings": OPENAI_FORM,
    "/predictions/talk/1.0/v1/completions": OPENAI_FORM,
}
FAULTS: list[tuple[InputError | Overloaded, int, dict[str, str]]] = [
    (InputError("not_found", "nothing is there"), 404, {}),
    (UnreadBody("too_large", "it is too large"), 413, {"Connection": "close"}),
    (
        InputError("unsupported_media_type", "encoded by 'br'", HEADER, ", ".join(CODINGS)),
        415,
        {"Accept-Encoding": ", ".join(CODINGS)},
    ),
    (Overloaded(2.5), 503, {"Retry-After": "3"}),
    (Overloaded(0.1), 503, {"Retry-After": "1"}),
]


def form_of(body: Any) -> str:
    if isinstance(body["error"], str):
        return TEXT_FORM
    return OPENAI_FORM if body["error"].keys() == {"message", "type", "param", "code"} else NATIVE_FORM


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(("fault", "status", "headers"), FAULTS)
def test_a_refusal_has_the_form_of_its_route_and_the_headers_of_its_fault(
    path: str, fault: InputError | Overloaded, status: int, headers: dict[str, str]
) -> None:
    response = refusal(fault, path, Request(b"", {}, {}, "a"))
    assert (response.status, response.headers, response.content_type) == (status, headers, "application/json")
    assert form_of(json.loads(response.body)) == FORMS[path]
    assert response.error is not None


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/predictions/talk/1.0/v1/completions"])
def test_a_body_that_is_too_large_is_refused_in_openais_form_and_ends_its_connection(path: str) -> None:
    world = World()
    world.elsewhere = {"talk": {"1.0": chat_archive.contract("talk", chat_archive.echoed("Hi"))}}
    response = world.ask("POST", path, content=b" " * (MAX_BODY + 1))
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert form_of(response.json()) == OPENAI_FORM
    assert str(MAX_BODY) in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/embeddings", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/predictions/line", "POST"),
        ("PUT", "/v2/models/line/infer", "POST"),
        ("POST", "/v2", "GET"),
        ("DELETE", "/v2/repository/index", "GET, POST"),
    ],
)
def test_another_method_is_told_the_one_that_a_path_takes(method: str, path: str, allowed: str) -> None:
    world = World()
    world.elsewhere = {"talk": {}}
    response = world.ask(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert form_of(response.json()) == FORMS.get(path, TEXT_FORM)


class Slow:
    """A model whose batches take until it is let go, and the bodies that it has computed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.goes_on = threading.Event()
        self.batches: Batches | None = None

    def handle(self, requests: Sequence[Request], waited: Sequence[float]) -> list[Response]:
        self.bodies += [request.body for request in requests]
        self.goes_on.wait(30)
        return [Response(200, b"{}") for _ in requests]

    def application(self) -> Application:
        self.batches = Batches(self.handle, asyncio.get_running_loop(), lambda: 0.0, inline=False)
        model = SimpleNamespace(batches=self.batches, patience=30.0)
        table = SimpleNamespace(targets={"/predictions/slow": Target(NATIVE, model)}, elsewhere={})
        return Application(SimpleNamespace(table=table), SimpleNamespace(), nullcontext)  # type: ignore[arg-type]

    def waiting(self) -> list[bool]:
        """Whether each request in the queue is still waited for."""
        return [not each.future.done() for each in self.batches._waiting] if self.batches else []


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def address(slow: Slow) -> Iterator[tuple[str, int]]:
    made: list[Application] = []  # in the loop of the server

    async def application(scope: Any, receive: Any, send: Any) -> None:
        made.append(made[0] if made else slow.application())
        await made[0](scope, receive, send)

    with served(application, PatientProtocol) as url:
        try:
            yield "127.0.0.1", int(url.rpartition(":")[2])
        finally:
            slow.goes_on.set()


def ask(client: socket.socket, body: bytes) -> None:
    client.sendall(b"POST /predictions/slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def is_answered(client: socket.socket) -> bool:
    received = b""
    while not received.endswith(b"{}"):
        piece = client.recv(65536)
        assert piece, received
        received += piece
    return received.startswith(b"HTTP/1.1 200 ")


def test_a_request_whose_client_is_gone_is_not_computed_if_that_has_not_begun(
    slow: Slow, address: tuple[str, int]
) -> None:
    with socket.create_connection(address, timeout=30) as first, socket.create_connection(address, timeout=30) as last:
        ask(first, b"first")
        wait_until(lambda: slow.bodies == [b"first"])
        with socket.create_connection(address, timeout=30) as gone:
            ask(gone, b"gone")
            wait_until(lambda: slow.waiting() == [True])
        wait_until(lambda: slow.waiting() == [False])
        ask(last, b"last")
        wait_until(lambda: slow.waiting() == [False, True])
        slow.goes_on.set()
        assert is_answered(first)
        assert is_answered(last)
        ask(last, b"again")  # what is over is not waited for
        assert is_answered(last)
    assert slow.bodies == [b"first", b"last", b"again"]
