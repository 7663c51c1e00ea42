"""The process that keeps the copy of a shared store up to date beside a host, and answers on a socket that it runs."""

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from serving.store.shared.mirror import Mirror


def serve(mirror: Mirror, path: Path) -> None:
    """Keep a copy up to date until the process ends.

    Args:
        path: of the Unix socket.

    Raises:
        OSError: the socket cannot be made.
    """
    path.unlink(missing_ok=True)  # of a process that was killed
    with _Server(str(path), _Handler) as server:
        threading.Thread(target=server.serve_forever, name="liveness", daemon=True).start()
        mirror.run_forever(threading.Event())


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - the base class calls it so
        """Answer that the process lives."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
