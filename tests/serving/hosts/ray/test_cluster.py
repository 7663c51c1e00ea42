"""What is sent to the dashboard of a head that hangs up, fails or refuses."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serving.hosts.host import LaunchError
from serving.hosts.ray.cluster import ServeApi

HANGS_UP = 0  # in place of a status


class Head(HTTPServer):
    """A dashboard that answers with some statuses, and then with the last of them again and again."""

    def __init__(self, *statuses: int) -> None:
        bodies = self.bodies = list[bytes]()

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:  # noqa: N802
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.close_connection = True
                if status := statuses[min(len(bodies), len(statuses)) - 1]:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(b"why")

            def log_message(self, format: str, *values: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Answer in a thread, and give the URL."""
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.server_port}"
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


@pytest.mark.parametrize("fault", [HANGS_UP, 500])
def test_versions_are_sent_again_to_a_head_that_hangs_up_or_fails(fault: int, tmp_path: Path) -> None:
    head = Head(fault, 200)
    with head.running() as url:
        ServeApi(url, tmp_path / "token").deploy({})
    assert head.bodies == [b"{}"] * 2


@pytest.mark.parametrize(("fault", "told"), [(HANGS_UP, "does not take the versions"), (500, "refuses .*: why")])
def test_versions_are_sent_again_for_as_long_as_is_said(fault: int, told: str, tmp_path: Path) -> None:
    head = Head(fault)
    with head.running() as url, pytest.raises(LaunchError, match=told):
        ServeApi(url, tmp_path / "token", again=0.5).deploy({})
    assert head.bodies == [b"{}"] * 2


def test_what_is_refused_is_not_sent_again(tmp_path: Path) -> None:
    head = Head(400)
    with head.running() as url, pytest.raises(LaunchError, match="refuses the versions: why"):
        ServeApi(url, tmp_path / "token").deploy({})
    assert head.bodies == [b"{}"]
