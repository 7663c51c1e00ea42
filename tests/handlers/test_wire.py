"""The buffered reader of TorchServe's socket reads what TorchServe's own reader reads, however the bytes arrive."""

import importlib
import logging
import os
import socket
import struct
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers import wire

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # TorchServe leaves the file of its version open
    torchserve: Any = importlib.import_module("ts")
    protocol: Any = importlib.import_module("ts.protocol.otf_message_handler")

BYTES = st.binary(max_size=12)
FIELD = st.tuples(BYTES, BYTES)
PARAMETER = st.tuples(st.text(max_size=4), st.sampled_from(["", "application/json", "text/plain", "é"]), BYTES)
REQUEST = st.tuples(BYTES, st.lists(FIELD, max_size=3), st.lists(PARAMETER, max_size=2))


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


def request(ident: bytes, headers: list[tuple[bytes, bytes]], parameters: list[tuple[str, str, bytes]]) -> bytes:
    """A request as the frontend writes it."""
    named = b"".join(field(name) + field(value) for name, value in headers)
    parts = b"".join(field(name.encode()) + field(kind.encode()) + field(value) for name, kind, value in parameters)
    return field(ident) + named + number(-1) + parts + number(-1)


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


@contextmanager
def installed(version: str = wire.VERSION, enabled: bool = True) -> Iterator[bool]:
    """TorchServe's module with the buffered reader, as it was afterwards."""
    functions = {name: getattr(protocol, name) for name in ("_retrieve_buffer", "_retrieve_request")}
    with mock.patch.multiple(protocol, **functions), mock.patch.dict(os.environ, TS_DECODE_INPUT_REQUEST="false"):
        yield wire.install(enabled, version)


def outcomes(connection: Any) -> list[Any]:
    """Every message until the first exception, and the kind of that; a text would quote bytes or a bytearray."""
    found: list[Any] = []
    while True:
        try:
            found.append(protocol.retrieve_msg(connection))
        except (SystemExit, Exception) as error:
            return [*found, (type(error), getattr(error, "code", None))]


@settings(deadline=None, max_examples=500)
@given(streams())
def test_the_same_messages_and_the_same_end_are_read_however_the_bytes_arrive(chunks: list[bytes]) -> None:
    with installed(enabled=False):
        expected = outcomes(Chunks(*chunks))
    with installed():
        assert outcomes(Chunks(*chunks)) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
def test_every_split_of_characters_and_lengths_is_put_together(size: int) -> None:
    stream = batch(request(b"id", [(b"name", b"value")], [("né", "text/plain; é", b"body")])) * 3
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    with installed():
        found = outcomes(Chunks(*chunks))
    assert [message for _, message in found[:-1]] == 3 * [
        [
            {
                "requestId": b"id",
                "headers": [{"name": b"name", "value": b"value"}],
                "parameters": [{"name": "né", "contentType": "text/plain; é", "value": b"body"}],
            }
        ]
    ]
    assert found[-1] == (SystemExit, 0)


def test_one_recv_is_enough_for_a_batch_that_has_arrived() -> None:
    connection = Chunks(batch(*[request(b"id", [(b"a", b"b")], [("body", "", b"1")])] * 32))
    with installed():
        _, requests = protocol.retrieve_msg(connection)
    assert len(requests) == 32
    assert connection.calls == 1


def test_a_name_that_is_not_utf8_fails_as_in_torchserve() -> None:
    stream = batch(field(b"id") + number(-1) + field(b"\xff") + field(b"") + field(b"1") + number(-1))
    with installed(enabled=False):
        expected = outcomes(Chunks(stream))
    with installed():
        assert outcomes(Chunks(stream)) == expected
    assert expected[0][0] is UnicodeDecodeError


def test_messages_that_were_read_ahead_stay_with_their_own_connection() -> None:
    def one(ident: bytes) -> bytes:
        return batch(request(ident, [], []))

    first, second = Chunks(one(b"a") + one(b"b")), Chunks(one(b"c") + one(b"d"))
    with installed():
        order = [protocol.retrieve_msg(c)[1][0]["requestId"] for c in (first, second, first, second)]
    assert order == [b"a", b"c", b"b", b"d"]


def test_what_was_read_ahead_goes_away_with_its_connection() -> None:
    connection = Chunks(batch() + b"I")
    gone = weakref.ref(connection)
    with installed():
        protocol.retrieve_msg(connection)
        del connection
        assert gone() is None


def test_a_real_socket_is_read_without_waiting_for_bytes_that_nobody_owes() -> None:
    asked = batch(request(b"id", [], [("body", "", bytes(range(256)) * 20_000)]))  # 5 MB, more than a socket holds
    worker, frontend = socket.socketpair()
    with worker, frontend, installed():
        worker.settimeout(20)
        writer = threading.Thread(target=frontend.sendall, args=(asked + b"I",))
        writer.start()
        _, requests = protocol.retrieve_msg(worker)
        writer.join()
        assert requests[0]["parameters"][0]["value"] == bytes(range(256)) * 20_000
        frontend.sendall(number(-1))
        assert protocol.retrieve_msg(worker) == (b"I", [])


@pytest.mark.parametrize(
    ("enabled", "version", "warnings"), [(False, wire.VERSION, 0), (True, "0.12.1", 1), (True, "", 1)]
)
def test_torchserve_is_left_alone_where_told_so_or_where_it_is_another(
    enabled: bool, version: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    before: tuple[Callable[..., Any], ...] = (protocol._retrieve_buffer, protocol._retrieve_request)
    with caplog.at_level(logging.INFO), installed(version, enabled) as buffered:
        assert not buffered
        assert (protocol._retrieve_buffer, protocol._retrieve_request) == before
    assert len(caplog.records) == warnings
    assert all(version in record.getMessage() for record in caplog.records)


def test_the_installed_torchserve_is_the_one_that_is_known() -> None:
    with installed(torchserve.__version__) as buffered:
        assert buffered
        assert protocol._retrieve_buffer.__module__ == wire.__name__
