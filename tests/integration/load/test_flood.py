"""Requests that never end, more of them than TorchServe has memory for: it answers others, and goes on afterwards."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from serving.settings import Settings
from tests.integration.conftest import Server
from tests.support.waiting import wait_until

CONNECTIONS = 9000
BODY = 82_000  # bytes; 738 MB together
HELD, PATIENCE = 8.0, 30.0  # s: until TorchServe has read what it can; on a busy machine it answers later
RECOVERED = 10.0  # s


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as the system allows; skipped where these are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + 500:
        pytest.skip(f"only {hard} files may be open")
    # Not a few more than the connections: this process may have others open.
    enough = 3 * CONNECTIONS if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nine_thousand_unfinished_requests_are_outlived(own: Server, files: None) -> None:
    with unfinished(own.settings, CONNECTIONS, BODY):
        started, pings = time.monotonic(), list[bool]()

        def held() -> bool:
            pings.append(is_answered(own))
            return any(pings) and time.monotonic() > started + HELD

        wait_until(held, timeout=PATIENCE)
    wait_until(lambda: is_answered(own), timeout=RECOVERED)
    response = own.client.post(f"{own.url}/predictions/linear", json={"x": 6})
    assert response.json()["prediction"] == pytest.approx(12, abs=0.01)


def test_more_of_the_largest_bodies_than_there_is_memory_for_are_outlived(own: Server, files: None) -> None:
    with unfinished(own.settings, 250, 6_500_000):
        wait_until(lambda: is_answered(own), timeout=RECOVERED)
    wait_until(lambda: is_answered(own), timeout=RECOVERED)


@contextlib.contextmanager
def unfinished(settings: Settings, count: int, size: int) -> Iterator[None]:
    """Connections that have sent all of a request but its last byte, as far as they were let."""
    head = f"POST /predictions/linear HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):  # it defends itself
                address = ("127.0.0.1", settings.inference_port)
                connection = stack.enter_context(socket.create_connection(address, timeout=2))
                connection.sendall(head + b" " * (size - 1))
        yield


def is_answered(server: Server) -> bool:
    """Whether /ping answers within a second."""
    try:
        return httpx.get(f"{server.url}/ping", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
