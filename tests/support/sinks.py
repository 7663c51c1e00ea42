"""A sink for events, over HTTP: it keeps what it is sent, and misbehaves as it is told."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from tests.support.serving.threaded import QuietHandler, threaded


class Received:
    """What came, and what is answered.

    Attributes:
        statuses: of the next answers, in order; after them 202.
        hang: while it is set, nothing is answered.
        bodies: of every request, decoded.
        headers: of every request, names in lower case.
    """

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.hang = threading.Event()
        self.released = threading.Event()
        self.connections = 0
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for body in self.bodies for event in body]


@contextlib.contextmanager
def sink(port: int = 0) -> Iterator[Received]:
    """A sink on a port of this machine until the block ends."""
    received = Received()

    class Handler(QuietHandler):
        def setup(self) -> None:
            super().setup()
            received.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if received.hang.is_set():
                received.released.wait(60)
                self.close_connection = True
                return
            received.bodies.append(json.loads(body))
            received.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(received.statuses.pop(0) if received.statuses else 202)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with threaded(Handler, received.released, port) as address:
        received.url = f"{address}/events?from=worker"
        yield received
