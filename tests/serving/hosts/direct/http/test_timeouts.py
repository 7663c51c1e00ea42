"""Clients that send or read too slowly, on real sockets: their connections end, and nobody else's."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from serving.hosts.direct.http.timeouts import LARGEST_HEAD, PatientProtocol
from tests.support.waiting import wait_until

HEAD = b"POST /v2/models/line/infer HTTP/1.1\r\nHost: model\r\nContent-Length: 8\r\n"
WHOLE = HEAD + b"\r\n" + b"12345678"
LARGE = 32 * 1024 * 1024  # bytes, more than sockets have room for


class Quick(PatientProtocol):
    head_seconds = 0.3
    body_seconds = 0.4
    read_seconds = 0.5


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer the length of a body, or as many bytes as a path asks for; a path may have it answer before the body."""
    read, size = b"", int(scope["path"].partition("/large/")[2] or 0)
    if scope["path"] != "/early":
        message: Any = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            read += message.get("body", b"")
    body = bytes(size) or b"%d" % len(read)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(application, http=Quick, port=0, log_level="error", lifespan="off", timeout_keep_alive=20)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=10)


def rest(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            received += piece
    return received


def drip(client: socket.socket, content: bytes) -> bytes:
    """Send a byte each 50 ms until the server ends the connection; returns what it says."""
    with contextlib.suppress(OSError):
        for i in range(len(content)):
            client.sendall(content[i : i + 1])
            client.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                return client.recv(65536) + rest(client)
    client.settimeout(10)
    return rest(client)


def test_a_client_that_sends_nothing_is_let_go(address: tuple[str, int]) -> None:
    with connect(address) as client:
        assert rest(client) == b""


@pytest.mark.parametrize("sent", [HEAD[:20], HEAD, WHOLE + HEAD[:9]], ids=["line", "head", "second head"])
def test_half_a_head_is_a_408(address: tuple[str, int], sent: bytes) -> None:
    with connect(address) as client:
        client.sendall(sent)
        assert b"HTTP/1.1 408 Request Timeout\r\n" in rest(client)


@pytest.mark.parametrize("content", [HEAD * 9, HEAD + b"\r\n" + b"1" * 7, b"\r\n" * 99], ids=["head", "body", "blank"])
def test_a_client_that_sends_byte_by_byte_is_ended_however_often_it_sends(
    address: tuple[str, int], content: bytes
) -> None:
    with connect(address) as client:
        if b"1" in content[-7:]:
            client.sendall(content[:-7])
            content = content[-7:]
        begun = time.monotonic()
        answer = drip(client, content)
        assert time.monotonic() - begun < 15  # all of a long one would take 30
    assert answer.startswith(b"HTTP/1.1 408 ") == (content[:1] != b"\r")


def test_a_body_that_never_comes_is_a_408_in_the_form_of_its_protocol(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(HEAD + b"\r\n")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"connection: close\r\n" in answer
    assert b'{"error":"the body of the request was not there after 0.4 s' in answer


def test_a_body_that_is_not_waited_for_ends_its_connection_too(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(HEAD.replace(b"/v2/models/line/infer", b"/early") + b"\r\n")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_does_not_read_is_ended(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(WHOLE.replace(b"/v2/models/line/infer", b"/large/%d" % LARGE))
        time.sleep(1.5)
        assert len(rest(client)) < LARGE


def test_who_sends_whole_requests_keeps_its_connection(address: tuple[str, int]) -> None:
    with connect(address) as client:
        for pause in (0, 0.6, 0.6):  # longer than a head may take
            time.sleep(pause)
            client.sendall(WHOLE)
            assert client.recv(65536).endswith(b"\r\n\r\n8")
        client.sendall(WHOLE * 20)
        received = b""
        while received.count(b"\r\n\r\n8") < 20:
            received += client.recv(65536)


def test_a_head_without_an_end_is_a_431(address: tuple[str, int]) -> None:
    with connect(address) as client:
        line = b"A: " + b"a" * 1000 + b"\r\n"
        client.sendall(HEAD + line * (LARGEST_HEAD // 1000))
        client.sendall(line)  # with which it has more than a head may have
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert b'"code":"head_too_large"' in answer


def test_what_is_no_http_is_a_400_in_json(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\n\x01A: b\r\n\r\n")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n")
    assert b'"code":"invalid_http"' in answer
