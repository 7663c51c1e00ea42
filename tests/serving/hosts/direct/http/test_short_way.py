"""Plain predictions past ASGI, on real sockets: an answer has the bytes of the long way's, and nothing is lost."""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import Request, Response
from serving.hosts.direct.app import Application
from serving.hosts.direct.batches import Batches
from serving.hosts.direct.http.short_way import LARGEST, ShortProtocol, ShortWay
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Table, targets_of
from serving.hosts.direct.routes import model_of
from serving.security.gate import Gate
from serving.security.grants import Keys
from serving.security.keys import KeyFile
from tests.support.handlers.models import LINE, Formula
from tests.support.waiting import wait_until

IDENTIFIER = re.compile(rb"[0-9a-f]{20}")  # of a request: each has its own
PATHS = ("/predictions/line", "/predictions/line/1.2", "/v1/models/line:predict", "/v2/models/line/infer")
ROW, ROWS = b'{"x": 6}', b'{"instances": [{"x": 6}, {"x": 7}]}'
V2 = b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [6.0, 7.0]}]}'


class Service:
    """A worker's port with one model, in a thread of its own.

    Args:
        store: folder with the file of keys.
        short: whether plain requests take the short way.
    """

    def __init__(self, store: Path, short: bool = True) -> None:
        self.handler = ModelHandler(LINE, Formula(LINE), Codec(LINE, 5000), ())
        self.batches: list[int] = []  # requests of each
        self.hold = threading.Event()  # no batch ends before it is set
        self.hold.set()
        self.refused: list[tuple[str, int, str]] = []
        self.counted: list[tuple[str, int]] = []
        self.shown: list[str] = []  # authorization that the model sees
        self.taken = 0  # requests that took the short way
        models: Any = SimpleNamespace(table=Table())
        self._models = models
        keys = Keys(KeyFile(store), store)
        application = Application(models, Metadata(models, dict), self._serving, refused=self._refuse)
        gate = Gate(application, keys, model_of, refused=self._refuse)
        count = gate.count

        def counted(name: str, status: int) -> None:
            self.counted.append((name, status))
            count(name, status)

        gate.count = counted  # type: ignore[method-assign]
        service = self

        class Way(ShortWay):
            def target(self, path: str) -> Any:
                target = super().target(path)
                service.taken += target is not None
                return target

        class Protocol(ShortProtocol):
            way = Way(models, gate, application.identifiers, self._refuse) if short else None

        self.protocol = Protocol
        config = uvicorn.Config(gate, http=Protocol, port=0, log_level="error", lifespan="on", loop="uvloop", ws="none",
                                server_header=False, date_header=False)  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> "Service":
        self._thread.start()
        wait_until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.should_exit = True
        self._thread.join()

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        self.model = Batches(self._handle, asyncio.get_running_loop(), inline=False)
        models: Any = {"line": {"1.2": SimpleNamespace(contract=LINE, batches=self.model, patience=10.0)}}
        self._models.table = Table(models, {"line": "1.2"}, targets_of(models, {"line": "1.2"}))
        yield

    def _handle(self, requests: Sequence[Request], waited: Sequence[float]) -> list[Response]:
        self.batches.append(len(requests))
        self.shown += [request.headers.get("authorization", "") for request in requests]
        self.hold.wait(10)
        return self.handler.handle(requests, waited)

    def _refuse(self, path: str, status: int, code: str) -> None:
        self.refused.append((path, status, code))

    def connect(self) -> socket.socket:
        return socket.create_connection(self._server.servers[0].sockets[0].getsockname(), timeout=10)

    def ask(self, *pieces: bytes) -> bytes:
        """Send bytes on a connection of their own, and return all that comes until it closes."""
        with self.connect() as client:
            for piece in pieces:
                client.sendall(piece)
            return rest(client)


def rest(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            received += piece
    return received


def post(path: str, body: bytes, *lines: str, last: bool = True) -> bytes:
    """A request; the last one of a connection closes it."""
    head = [f"POST {path} HTTP/1.1", "Host: model", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, *(["Connection: close"] if last else []), "", ""]).encode() + body


def chunked(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


LONG = json.dumps({"instances": [{"x": i} for i in range(400)]}).encode()
CASES = {
    **{f"{path} {name}": post(path, body) for path in PATHS for name, body in {
        "row": ROW, "rows": ROWS, "v2": V2, "empty": b"", "broken": b'{"x": ', "wrong": b'{"x": "a"}',
        "other": b'{"y": 1}',
    }.items()},
    "type": post(PATHS[0], ROW, "Content-Type: text/csv"),
    "form": post(PATHS[0], b"x=6", "Content-Type: application/x-www-form-urlencoded"),
    "accept": post(PATHS[3], V2, "Accept: application/octet-stream"),
    "query": post(PATHS[0] + "?x=6", b""),
    "escaped": post("/predictions/l%69ne", ROW),
    "absolute": post("http://model/predictions/line", ROW),
    "gzip body": post(PATHS[0], gzip.compress(ROW, mtime=0), "Content-Encoding: gzip"),
    "unknown coding": post(PATHS[0], ROW, "Content-Encoding: br"),
    "long": post(PATHS[0], LONG),
    "long as gzip": post(PATHS[0], LONG, "Accept-Encoding: gzip"),
    "large": post(PATHS[0], ROW + b" " * LARGEST),
    "chunks": chunked(PATHS[0], ROW),
    "timeout": post(PATHS[0], ROW, "X-Request-Timeout: 5"),
    "hidden": post(PATHS[0], ROW, "Marloop-Path: v2"),
    "expect": post(PATHS[0], ROW, "Expect: 100-continue"),
    "upgrade": post(PATHS[0], ROW, "Upgrade: h2c", "Connection: upgrade, close", last=False),
    "1.0": post(PATHS[0], ROW).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "get": post(PATHS[0], b"").replace(b"POST", b"GET"),
    "delete": post(PATHS[0], b"").replace(b"POST", b"DELETE"),
    "nowhere": post("/predictions/nobody", ROW),
    "two lengths": post(PATHS[0], ROW, "Content-Length: 9"),
    "length and chunks": post(PATHS[0], ROW, "Transfer-Encoding: chunked"),
    "in turn": post(PATHS[0], ROW, last=False) + post(PATHS[3], V2, last=False) + post(PATHS[0], b"{", last=False)
    + post("/ping", b"", last=False).replace(b"POST", b"GET") + post(PATHS[2], ROWS),
}  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    store = tmp_path_factory.mktemp("store")
    with Service(store) as short, Service(store, short=False) as long:
        yield short, long


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_byte_for_byte_that_of_the_long_way(both: tuple[Service, Service], case: str) -> None:
    short, long = (IDENTIFIER.sub(b"ID", service.ask(CASES[case])) for service in both)
    assert short == long
    assert short.startswith(b"HTTP/1.")


@pytest.mark.parametrize("end", ["", " ", "\t", " \t "])
def test_blanks_around_a_headers_value_are_no_part_of_it(both: tuple[Service, Service], end: str) -> None:
    for service in both:
        lines = [f"Authorization: Bearer{end}", f"Content-Type: application/json{end}", f"Accept: {end}"]
        assert service.ask(post(PATHS[0], ROW, *lines)).startswith(b"HTTP/1.1 200 OK")
        assert service.shown[-1] == "Bearer"


def test_a_request_that_comes_byte_by_byte_is_answered(both: tuple[Service, Service]) -> None:
    whole = post(PATHS[0], ROW)
    answers = [service.ask(*(whole[i : i + 1] for i in range(len(whole)))) for service in both]
    assert b"200 OK" in answers[0]
    assert IDENTIFIER.sub(b"", answers[0]) == IDENTIFIER.sub(b"", answers[1])


def test_plain_requests_take_the_short_way_on_a_connection_that_stays(both: tuple[Service, Service]) -> None:
    service = both[0]
    before = service.taken
    with service.connect() as client:
        for _ in range(3):
            client.sendall(post(PATHS[0], ROW, last=False))
            assert client.recv(65536).endswith(b"}")
    assert service.taken == before + 3


def test_pipelined_requests_are_answered_in_their_order_while_the_first_one_takes_long(tmp_path: Path) -> None:
    with Service(tmp_path) as service, service.connect() as client:
        service.hold.clear()
        client.sendall(post(PATHS[0], b'{"x": 1}', last=False))
        wait_until(lambda: bool(service.batches))
        client.sendall(b"".join(post(PATHS[0], b'{"x": %d}' % x, last=x == 9) for x in range(2, 10)))
        service.hold.set()
        answers = [json.loads(body) for body in re.findall(rb"\{[^{}]*\}", rest(client))]
        alone = [
            json.loads(service.ask(post(PATHS[0], b'{"x": %d}' % x)).partition(b"\r\n\r\n")[2]) for x in range(1, 10)
        ]
    assert answers == alone


def test_a_request_whose_client_is_gone_is_not_computed(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        service.hold.clear()
        first, gone, there = service.connect(), service.connect(), service.connect()
        with first, there:
            first.sendall(post(PATHS[0], ROW))
            wait_until(lambda: bool(service.batches))
            gone.sendall(post(PATHS[0], ROW))
            there.sendall(post(PATHS[0], ROW))
            wait_until(lambda: len(service.model._waiting) == 2)
            gone.close()
            wait_until(lambda: any(waiting.future.cancelled() for waiting in service.model._waiting))
            service.hold.set()
            assert b"200 OK" in rest(first)
            assert b"200 OK" in rest(there)
    assert service.batches == [1, 1]


def test_keys_are_asked_for_counted_and_hidden_from_the_model(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    right, other, slow = file.add("right"), file.add("other", ("another",)), file.add("slow", rate=1)
    with Service(tmp_path) as service:
        statuses = [
            service.ask(post(PATHS[0], ROW, *lines))[9:12].decode()
            for lines in ([], [f"Authorization: Bearer {right}"], [f"X-API-Key: {right}"], ["X-API-Key: wrong"],
                          [f"X-API-Key: {other}"], [f"X-API-Key: {slow}"], [f"X-API-Key: {slow}"])
        ]  # fmt: skip
    assert statuses == ["401", "200", "200", "401", "403", "200", "429"]
    assert [entry for entry in service.counted if entry[1] == 200] == [("right", 200)] * 2 + [("slow", 200)]
    assert sorted(name for name, status in service.counted if status != 200) == ["none", "other", "slow", "unknown"]
    assert service.shown == ["-", "", ""]


def test_where_there_is_no_room_the_refusal_says_when_to_come_back(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        assert b"200 OK" in service.ask(post(PATHS[0], ROW))
        service.model._pace = 1.0  # s that a byte takes
        service.hold.clear()
        with service.connect() as first:
            first.sendall(post(PATHS[0], ROW))
            wait_until(lambda: len(service.batches) == 2)
            refusal = service.ask(post(PATHS[0], ROW))
            service.hold.set()
            assert b"200 OK" in rest(first)
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in refusal
    assert service.refused == [(PATHS[0], 503, "overloaded")]


def test_the_request_by_which_an_overload_is_told_keeps_its_place(tmp_path: Path) -> None:
    with Service(tmp_path) as service, service.connect() as first, service.connect() as second:
        service.hold.clear()
        first.sendall(post(PATHS[0], ROW))
        wait_until(lambda: bool(service.batches))
        model = service.model
        model._pace, model._arrived, model._since = 0.4 / model._running, 1e9, model._timer() - 1.0
        second.sendall(post(PATHS[0], ROW))
        wait_until(lambda: any(model._timer() - waiting.since > 0.2 for waiting in model._waiting))
        service.hold.set()
        assert model._overloaded
        assert b"200 OK" in rest(first)
        assert b"200 OK" in rest(second)


@pytest.mark.parametrize("lines", [[], ["X-Request-Timeout: 5"]], ids=["short", "long"])
def test_a_draining_worker_answers_and_closes_the_connection(tmp_path: Path, lines: list[str]) -> None:
    with Service(tmp_path) as service, service.connect() as before, service.connect() as after:
        before.sendall(post(PATHS[0], ROW, last=False))
        first = before.recv(65536)
        service.protocol.draining = True
        answers = []
        for client in (before, after):
            client.sendall(post(PATHS[0], ROW, *lines, last=False))
            answers.append(rest(client))
    assert b"connection: close" not in first
    assert all(answer.count(b"connection: close\r\n") == 1 for answer in answers)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)


def test_a_draining_worker_answers_what_was_sent_at_once(tmp_path: Path) -> None:
    with Service(tmp_path) as service, service.connect() as client:
        service.hold.clear()
        client.sendall(post(PATHS[0], ROW, last=False))
        wait_until(lambda: bool(service.batches))
        client.sendall(post(PATHS[0], ROW, last=False) + post(PATHS[0], ROW))
        service.protocol.draining = True
        service.hold.set()
        assert rest(client).count(b"200 OK") == 3


def test_a_stopping_worker_answers_what_it_took_and_closes_the_connection(tmp_path: Path) -> None:
    with Service(tmp_path) as service, service.connect() as client:
        service.hold.clear()
        client.sendall(post(PATHS[0], ROW, last=False))
        wait_until(lambda: bool(service.batches))
        service._server.should_exit = True
        wait_until(lambda: not service._server.servers[0].sockets)
        service.hold.set()
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer
