"""The gateway before TorchServe: what TorchServe's own HTTP server lets in is refused or made whole, in order."""

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from serving.ports import free_ports
from serving.settings import ROOT
from tests.integration.conftest import Server
from tests.support.waiting import wait_until

FOLDER = ROOT / "deploy" / "gateway"
HOST = "Host: localhost\r\n"
LINEAR = "POST /predictions/linear HTTP/1.1\r\n" + HOST + "Content-Type: application/json\r\n"
SECRET = "GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"  # a second request that nobody sent openly
LAST = "\r\nConnection: close\r\n\r\n"
SMUGGLED = {
    "Content-Length and chunked": "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECRET,
    "chunked, identity": "Content-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECRET,
    "two Transfer-Encodings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SECRET,
    "two Content-Lengths": "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SECRET,
    "a signed Content-Length": "Content-Length: +8\r\n\r\n{}" + SECRET,
    "a control character in front": "\x0bTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECRET,
    "a space before the colon": "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECRET,
    "xchunked": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECRET,
}


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where nginx listens with the repository's configuration, before TorchServe."""
    if not (program := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")):
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("gateway")
    (port,) = free_ports(1)
    text = (FOLDER / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{server.settings.inference_port}")
    (folder / "nginx.conf").write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: is_open(port))
        yield "127.0.0.1", port
        process.terminate()


def test_a_prediction_passes_as_it_is(gateway: tuple[str, int], server: Server) -> None:
    url = f"http://localhost:{gateway[1]}"
    for path, body in (
        ("/predictions/linear", {"x": 6}),
        ("/predictions/linear/1.0", {"x": 6}),
        ("/v1/models/linear:predict", {"instances": [{"x": 6}]}),
        ("/v2/models/linear/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [6]}]}),
    ):
        through, direct = (httpx.post(f"{base}{path}", json=body) for base in (url, server.url))
        assert (through.status_code, through.content) == (direct.status_code, direct.content) == (200, direct.content)


@pytest.mark.parametrize("kind", SMUGGLED)
def test_a_request_that_can_be_read_in_two_ways_is_refused(gateway: tuple[str, int], kind: str) -> None:
    answers = exchange(gateway, LINEAR + SMUGGLED[kind])
    (status,) = statuses(answers)  # and the second request was no request
    assert status in (400, 411, 413, 501), answers


def test_a_bare_line_feed_in_a_chunk_reaches_torchserve_as_a_body_of_known_length(gateway: tuple[str, int]) -> None:
    for size_line in ("8\n", '8;a="\r\n"\r\n'):
        body = f'Transfer-Encoding: chunked\r\n\r\n{size_line}{{"x": 6}}\r\n0\r\n\r\n'
        answers = statuses(
            exchange(gateway, LINEAR + body + SECRET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
        )
        assert answers in ([200, 200], [400]), (size_line, answers)


@pytest.mark.parametrize(
    "request_text",
    [
        "TRACE / HTTP/1.1\r\n" + HOST + "\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "DELETE /predictions/linear HTTP/1.1\r\n" + HOST + "\r\n",
        "GET /ping HTTP/1.1\r\n\r\n",
        "GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /ping HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/ping HTTP/1.1\r\n" + HOST + "\r\n",
        "GET /models HTTP/1.1\r\n" + HOST + "\r\n",
        "POST /models?url=evil.mar HTTP/1.1\r\n" + HOST + "Content-Length: 0\r\n\r\n",
        "GET /predictions/../models HTTP/1.1\r\n" + HOST + "\r\n",
        "GET /metrics HTTP/1.1\r\n" + HOST + "\r\n",
        "GET /ping HTTP/1.1\r\n" + HOST + "A: " + "a" * 40000 + "\r\n\r\n",
    ],
)
def test_methods_hosts_and_paths_that_are_not_inference_are_refused(
    gateway: tuple[str, int], request_text: str
) -> None:
    found = statuses(exchange(gateway, request_text))
    assert len(found) <= 1
    assert set(found) <= {400, 404, 405, 421}


def test_requests_on_one_connection_are_answered_in_their_order(gateway: tuple[str, int]) -> None:
    flight = '{"distance": 1400, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}'
    flights = "POST /predictions/flights HTTP/1.1\r\n" + HOST + "Content-Type: application/json\r\n"
    first = f"{flights}Content-Length: {len(flight)}\r\n\r\n{flight}"
    bodies = []
    for _ in range(20):
        second = f'{LINEAR}Connection: close\r\nContent-Length: 8\r\n\r\n{{"x": 6}}'
        found = re.findall(r'"prediction":\s*([\d.]+)', exchange(gateway, first + second))
        bodies.append([round(float(value), -1) for value in found])
    assert bodies == [[210.0, 10.0]] * 20


def test_a_head_that_does_not_end_is_not_waited_for(gateway: tuple[str, int]) -> None:
    with socket.create_connection(gateway, timeout=20) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nA: ")
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000) == b""
        assert time.monotonic() - started < 15


def test_unfinished_bodies_never_reach_torchserve(gateway: tuple[str, int], server: Server) -> None:
    head = LINEAR + "Content-Length: 82000\r\n\r\n" + " " * 81000
    connections = [socket.create_connection(gateway, timeout=2) for _ in range(200)]
    try:
        for connection in connections:
            connection.sendall(head.encode())
        assert server.client.post(f"{server.url}/predictions/linear", json={"x": 6}).status_code == 200
        refused = sum(b" 429 " in received(connection) for connection in connections[150:])
        assert refused > 0
    finally:
        for connection in connections:
            connection.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def exchange(address: tuple[str, int], text: str) -> str:
    """Send bytes as they are, and return all that comes back."""
    with socket.create_connection(address, timeout=2) as connection:
        connection.sendall(text.encode("latin-1"))
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass  # it waits for a next request, or wants no more of this one
        return answer.decode("latin-1")


def received(connection: socket.socket) -> bytes:
    """What has come, within a moment."""
    connection.settimeout(0.2)
    try:
        return connection.recv(65536)
    except (TimeoutError, ConnectionResetError):
        return b""


def statuses(answers: str) -> list[int]:
    return [int(status) for status in re.findall(r"HTTP/1\.[01] (\d{3})", answers)]


def test_health_is_told_as_servers_of_language_models_tell_it(gateway: tuple[str, int]) -> None:
    assert httpx.get(f"http://localhost:{gateway[1]}/health").json() == {"status": "Healthy"}
