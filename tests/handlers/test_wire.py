"""A batch's way between socket and core is TorchServe's own, only shorter: same requests in, same bytes out."""

import importlib
import logging
import os
import socket
import struct
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers import wire
from handlers.entry_points.tabular import TabularService
from handlers.message import JSON, MOST_PARTS, NEXT, STATUS, Part, Request, Response
from handlers.torchserve import request_at

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # TorchServe leaves the file of its version open
    torchserve: Any = importlib.import_module("ts")
    protocol: Any = importlib.import_module("ts.protocol.otf_message_handler")
    service: Any = importlib.import_module("ts.service")
    contexts: Any = importlib.import_module("ts.context")

BYTES = st.binary(max_size=12)
TEXT = st.text(max_size=6)
# Two names that differ in nothing but case would leave it open which of them counts.
NAME = st.sampled_from(["Content-Type", "x-request-id", "X-Top-K", "body", "é", ""])
KIND = st.sampled_from(["", JSON, "Multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "text/é"])
FIELD = st.one_of(st.tuples(NAME, TEXT), st.tuples(st.just("Content-Type"), KIND))
FORM = "application/x-www-form-urlencoded"
PARAMETER = st.tuples(st.sampled_from(["body", "top_k", "é", "data"]), KIND, BYTES)
REQUEST = st.tuples(TEXT, st.lists(FIELD, max_size=3), st.lists(PARAMETER, max_size=3))
RESPONSE = st.builds(
    Response,
    st.sampled_from([200, *STATUS.values()]),
    BYTES,
    st.sampled_from([JSON, "application/octet-stream"]),
    st.dictionaries(st.sampled_from(["X-Truncated-Rows", "x", "é"]), TEXT, max_size=2),
)


class Chunks:
    """A socket whose bytes arrive in given pieces; a ``recv`` beyond them means that the other side has closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = [chunk for chunk in chunks if chunk]
        self.calls = 0

    def recv(self, size: int, /) -> bytes:
        self.calls += 1
        if not self.chunks:
            return b""
        chunk, self.chunks[0] = self.chunks[0][:size], self.chunks[0][size:]
        if not self.chunks[0]:
            del self.chunks[0]
        return chunk


def number(value: int) -> bytes:
    return struct.pack("!i", value)


def field(value: bytes) -> bytes:
    return number(len(value)) + value


def request(ident: str, headers: Sequence[tuple[str, str]], parameters: Sequence[tuple[str, str, bytes]]) -> bytes:
    """A request as the frontend writes it."""
    named = b"".join(field(name.encode()) + field(value.encode()) for name, value in headers)
    parts = b"".join(field(name.encode()) + field(kind.encode()) + field(value) for name, kind, value in parameters)
    return field(ident.encode()) + named + number(-1) + parts + number(-1)


def batch(*requests: bytes) -> bytes:
    """The message that asks for a prediction."""
    return b"I" + b"".join(requests) + number(-1)


def load(name: bytes, gpu: int, limit: bool) -> bytes:
    """The message that asks for a model to be loaded."""
    head = b"L" + field(name) + field(b"/models/" + name) + number(64) + field(b"handler.py")
    return head + number(gpu) + field(b"") + struct.pack("!?", limit)


MESSAGE = st.one_of(
    st.lists(REQUEST, max_size=4).map(lambda requests: batch(*(request(*one) for one in requests))),
    st.builds(load, BYTES, st.integers(-1, 3), st.booleans()),
    st.just(b"X"),  # no command
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Several messages in a row, perhaps cut off, in pieces."""
    stream = b"".join(draw(st.lists(MESSAGE, min_size=1, max_size=3)))
    stream = stream[: draw(st.one_of(st.just(len(stream)), st.integers(0, len(stream))))]
    ends = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in zip([0, *ends], [*ends, len(stream)], strict=True)]


def nothing(requests: Sequence[Request]) -> list[Response]:
    return []


@contextmanager
def installed(version: str = wire.VERSION, enabled: bool = True, answer: wire.Answer = nothing) -> Iterator[bool]:
    """TorchServe with the short way, and afterwards as it was."""
    functions = {name: getattr(protocol, name) for name in ("_retrieve_buffer", "_retrieve_inference_msg")}
    with (
        mock.patch.multiple(protocol, **functions),
        mock.patch.object(service.Service, "predict", service.Service.predict),
        mock.patch.dict(os.environ, TS_DECODE_INPUT_REQUEST="false"),
    ):
        yield wire.install(enabled, version, answer)


def context_of(headers: list[Any], idents: dict[int, str]) -> Any:
    """TorchServe's context of one batch."""
    context = contexts.Context("model", "", {}, 1, None, "")
    context.request_processor, context.request_ids = headers, idents
    return context


def as_handed_on(message: list[dict[str, Any]]) -> list[Request]:
    """A batch as TorchServe hands it to a handler, and the handler to the core: of parts of one name the last."""
    headers, parts, idents = service.Service.retrieve_data_for_inference(message)
    context = context_of(headers, idents)
    return [request_at(part, context, i) for i, part in enumerate(parts)]


def as_requests(message: list[dict[str, Any]]) -> list[Request]:
    """A batch as TorchServe reads it from its socket, every part of it."""
    return [
        wire.request_of(
            [Part(part["name"], bytes(part["value"]), part["contentType"]) for part in one["parameters"]],
            {h["name"].decode().lower(): h["value"].decode() for h in one["headers"]},
            one["requestId"].decode(),
        )
        for one in message
    ]


def outcomes(connection: Any) -> list[Any]:
    """Every message until the first exception, and the kind of that; a text would quote bytes or a bytearray."""
    found: list[Any] = []
    while True:
        try:
            command, message = protocol.retrieve_msg(connection)
        except (SystemExit, Exception) as error:
            return [*found, (type(error), getattr(error, "code", None))]
        raw = command == b"I" and any(not isinstance(one, Request) for one in message)
        found.append((bytes(command), as_requests(message) if raw else message))


@settings(max_examples=500)
@given(streams())
def test_the_same_messages_and_the_same_end_are_read_however_the_bytes_arrive(chunks: list[bytes]) -> None:
    with installed(enabled=False):
        expected = outcomes(Chunks(*chunks))
    with installed():
        assert outcomes(Chunks(*chunks)) == expected


@settings(deadline=None)
@given(st.lists(FIELD, max_size=3), st.lists(PARAMETER, max_size=3, unique_by=lambda part: part[0]))
def test_the_longer_way_to_the_core_hands_on_the_same_request(
    headers: list[tuple[str, str]], parameters: list[tuple[str, str, bytes]]
) -> None:
    names = {name for name, _ in headers}
    parameters = [part for part in parameters if part[0] not in names]  # one takes the other's place in the context
    stream = batch(request("id", headers, parameters))
    with installed(enabled=False):
        _, message = protocol.retrieve_msg(Chunks(stream))
    with installed():
        _, requests = protocol.retrieve_msg(Chunks(stream))
    assert as_handed_on(message) == requests


def many_fields(count: int) -> bytes:
    """A form of so many empty fields."""
    return request("id", [("Content-Type", FORM)], [(f"a{i}", "", b"") for i in range(count)])


STREAMS: dict[str, Callable[[int], bytes]] = {
    "fields": many_fields,
    "one name": lambda size: request("id", [("Content-Type", FORM)], [("a", "", b"")] * size),
    "one field": lambda size: request("id", [], [("body", JSON, bytes(20 * size))]),
    "a long name": lambda size: request("id", [("Content-Type", FORM)], [("a" * 20 * size, "", b"1")] * 2),
    "headers": lambda size: request("id", [(f"h{i}", "1") for i in range(size)], [("body", JSON, b"1")]),
    "a long header": lambda size: request("id", [("h" * 20 * size, "1" * 20 * size)], [("body", JSON, b"1")]),
    "requests": lambda size: b"".join([request("id", [("a", "b")], [("body", JSON, b"1")])] * (size // 2)),
    "a long id": lambda size: request("i" * 20 * size, [], [("body", JSON, b"1")]),
}


def work(stream: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """What it takes to read a stream that arrives in pieces of a size: lengths that are read, and bytes that are moved.

    No clock is asked, since another process would change what it says.
    """
    counted = 0

    def length_at(data: bytes, at: int) -> tuple[int]:
        nonlocal counted
        counted += 1
        found: tuple[int] = struct.unpack_from("!i", data, at)
        return found

    class Received(wire._Received):
        def fill(self, connection: wire.Connection, missing: int) -> None:
            nonlocal counted
            super().fill(connection, missing)
            counted += len(self.data)

    monkeypatch.setattr(wire, "_int", mock.Mock(unpack_from=length_at))
    monkeypatch.setattr(wire, "_Received", Received)
    connection: Any = Chunks(*(stream[at : at + size] for at in range(0, len(stream), size)))
    wire.Reader().read_batch(connection)
    return counted


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("kind", STREAMS)
def test_what_reading_costs_grows_with_the_bytes_and_not_faster_however_they_arrive(
    kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = STREAMS[kind](200) + number(-1), STREAMS[kind](1600) + number(-1)
    limit = 1.5 * len(many) / len(few)
    assert work(many, size, monkeypatch) < limit * work(few, size, monkeypatch)


def test_of_a_form_of_too_many_parts_one_too_many_is_kept() -> None:
    with installed():
        _, (found,) = protocol.retrieve_msg(Chunks(batch(many_fields(MOST_PARTS)), b""))
        assert len(found.parts) == MOST_PARTS
        _, (found,) = protocol.retrieve_msg(Chunks(batch(many_fields(100_000)), b""))
        assert len(found.parts) == len(found.form) == MOST_PARTS + 1


def test_two_parts_of_a_name_are_both_handed_on() -> None:
    stream = batch(request("id", [("Content-Type", FORM)], [("a", "image/png", b"1"), ("a", "", b"2")]))
    with installed():
        _, (found,) = protocol.retrieve_msg(Chunks(stream))
    assert found.parts == (Part("a", b"1", "image/png"), Part("a", b"2"))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
def test_every_split_of_characters_and_lengths_is_put_together(size: int) -> None:
    stream = batch(request("id", [("Né", "value")], [("né", "text/plain; é", b"body")])) * 3
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    with installed():
        found = outcomes(Chunks(*chunks))
    assert found[:-1] == 3 * [
        (b"I", [Request(b"", {"né": "value"}, {"né": b"body"}, "id", (Part("né", b"body", "text/plain; é"),))])
    ]
    assert found[-1] == (SystemExit, 0)


def test_one_recv_is_enough_for_a_batch_that_has_arrived() -> None:
    connection = Chunks(batch(*[request("id", [("a", "b")], [("body", "", b"1")])] * 32))
    with installed():
        _, requests = protocol.retrieve_msg(connection)
    assert len(requests) == 32
    assert connection.calls == 1


def test_names_that_are_not_utf8_end_no_worker() -> None:
    bad = (
        field(b"id\xff") + field(b"\xff") + field(b"\xff") + number(-1) + field(b"\xff") + field(b"\xff") + field(b"1")
    )
    with installed():
        (_, (found,)), _ = outcomes(Chunks(batch(bad + number(-1))))
    assert found == Request(b"", {"\ufffd": "\ufffd"}, {"\ufffd": b"1"}, "id\ufffd", (Part("\ufffd", b"1", "\ufffd"),))


@given(st.lists(st.tuples(TEXT, RESPONSE), max_size=4))
def test_a_batch_is_answered_byte_for_byte_as_torchserve_does(answers: list[tuple[str, Response]]) -> None:
    requests = [Request(b"", {"host": "h"}, {}, ident) for ident, _ in answers]
    responses = [response for _, response in answers]
    idents = {i: ident for i, (ident, _) in enumerate(answers)}
    context = context_of([contexts.RequestProcessor({"host": "h"}) for _ in answers], idents)
    handler = TabularService()
    handler.handler = mock.Mock(handle=lambda given: responses)
    bodies = handler.handle([{}] * len(answers), context)
    expected = protocol.create_predict_response(bodies, idents, "Prediction success", HTTPStatus.OK, context=context)
    assert wire.encode(requests, responses) == expected


def test_the_worker_asks_the_core_for_what_it_read_and_sends_what_it_says() -> None:
    seen: list[Request] = []

    def answer(requests: Sequence[Request]) -> list[Response]:
        seen.extend(requests)
        return [Response(200, b"yes") for _ in requests]

    with installed(answer=answer):
        _, requests = protocol.retrieve_msg(Chunks(batch(request("id", [], [("body", "", b"1")]))))
        sent = service.Service.predict(mock.Mock(), requests)
    assert seen == [Request(b"1", {}, {}, "id")]
    assert sent == wire.encode(seen, [Response(200, b"yes")])


def test_a_call_by_grpc_which_has_no_headers_is_told_that_nothing_follows() -> None:
    called, asked = Request(b"", {}, {}, "a"), Request(b"", {"host": "h"}, {}, "a")
    said = Response(200, b"yes")
    last = said._replace(headers={NEXT: "false"})
    assert wire.encode([called], [said]) == wire.encode([asked], [last])
    more = said._replace(headers={NEXT: "true"})
    assert wire.encode([called], [more]) == wire.encode([asked], [more])


@pytest.mark.parametrize("name", ["body", "data", "x", ""])
def test_the_only_input_of_a_call_by_grpc_is_its_body_whatever_its_name(name: str) -> None:
    with installed():
        _, (found,) = protocol.retrieve_msg(Chunks(batch(request("id", [], [(name, "", b"1")]))))
    assert found == Request(b"1", {}, {}, "id")


def test_messages_that_were_read_ahead_stay_with_their_own_connection() -> None:
    def one(ident: str) -> bytes:
        return batch(request(ident, [], []))

    first, second = Chunks(one("a") + one("b")), Chunks(one("c") + one("d"))
    with installed():
        order = [protocol.retrieve_msg(c)[1][0].id for c in (first, second, first, second)]
    assert order == ["a", "c", "b", "d"]


def test_what_was_read_ahead_goes_away_with_its_connection() -> None:
    connection = Chunks(batch() + b"I")
    gone = weakref.ref(connection)
    with installed():
        protocol.retrieve_msg(connection)
        del connection
        assert gone() is None


def test_a_real_socket_is_read_without_waiting_for_bytes_that_nobody_owes() -> None:
    asked = batch(request("id", [], [("body", "", bytes(range(256)) * 20_000)]))  # 5 MB, more than a socket holds
    worker, frontend = socket.socketpair()
    with worker, frontend, installed():
        worker.settimeout(20)
        writer = threading.Thread(target=frontend.sendall, args=(asked + b"I",))
        writer.start()
        _, requests = protocol.retrieve_msg(worker)
        writer.join()
        assert requests[0].body == bytes(range(256)) * 20_000
        frontend.sendall(number(-1))
        assert protocol.retrieve_msg(worker) == (b"I", [])


@pytest.mark.parametrize(
    ("enabled", "version", "warnings"), [(False, wire.VERSION, 0), (True, "0.12.1", 1), (True, "", 1)]
)
def test_torchserve_is_left_alone_where_told_so_or_where_it_is_another(
    enabled: bool, version: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = (protocol._retrieve_buffer, protocol._retrieve_inference_msg, service.Service.predict)
    with caplog.at_level(logging.INFO), installed(version, enabled) as short:
        assert not short
        assert (protocol._retrieve_buffer, protocol._retrieve_inference_msg, service.Service.predict) == before
    assert len(caplog.records) == warnings
    assert all(version in record.getMessage() for record in caplog.records)


def test_the_installed_torchserve_is_the_one_that_is_known() -> None:
    with installed(torchserve.__version__) as short:
        assert short
        assert protocol._retrieve_buffer.__module__ == wire.__name__


def test_one_of_whom_nothing_is_said_yet_is_left_out_of_the_answer() -> None:
    requests = [Request(b"", {}, {}, ident) for ident in "abc"]
    said = Response(200, b"yes")
    assert wire.encode(requests, [None, said, None]) == wire.encode(requests[1:2], [said])
    assert wire.encode(requests, [None, None, None]) == wire.encode([], [])


def test_a_second_without_a_message_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE", 0.01)
    worker, frontend = socket.socketpair()
    told = threading.Event()
    with worker, frontend:
        reader = wire.Reader(told.set)

        def write() -> None:
            if told.wait(20):
                frontend.sendall(b"I")

        writer = threading.Thread(target=write)
        writer.start()
        assert reader.read_bytes(worker, 1) == b"I"
        writer.join()
        told.clear()
        frontend.sendall(b"II")
        assert reader.read_bytes(worker, 1) + reader.read_bytes(worker, 1) == b"II"
    assert not told.is_set()
