"""A sink of captured predictions that counts them, in place of the monitor."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

KEPT = 2000  # events


class Captured:
    """Events as they came.

    Attributes:
        url: where they are sent.
        bodies: bytes of all batches together; likewise ``rows``.
        events: the first of them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies = self.rows = 0
        self.events: list[dict[str, Any]] = []
        self._turn = threading.Lock()

    def add(self, body: bytes) -> None:
        """Count a batch."""
        events: list[dict[str, Any]] = msgspec.json.decode(body)
        with self._turn:
            self.bodies += len(body)
            self.rows += len(events)
            self.events += events[: max(0, KEPT - len(self.events))]


@contextlib.contextmanager
def counting_sink() -> Iterator[Captured]:
    """Take captured predictions on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            captured.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    captured = Captured(f"http://127.0.0.1:{server.server_port}/events")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield captured
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
