"""What is sent to the dashboard of a head that hangs up."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serving.hosts.host import LaunchError
from serving.hosts.ray.cluster import ServeApi


@pytest.mark.parametrize("hung_up", [1, 99])
def test_versions_are_sent_again_to_a_head_that_hangs_up_for_as_long_as_is_said(hung_up: int, tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Head(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:  # noqa: N802
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.close_connection = True
            if len(bodies) > hung_up:
                self.send_response(200)
                self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Head) as head:
        thread = threading.Thread(target=head.serve_forever)
        thread.start()
        try:
            api = ServeApi(f"http://127.0.0.1:{head.server_port}", tmp_path / "token", 0.5 if hung_up > 1 else 60)
            if hung_up > 1:
                with pytest.raises(LaunchError, match="does not take the versions"):
                    api.deploy({})
            else:
                api.deploy({})
        finally:
            head.shutdown()
            thread.join()
    assert bodies == [b"{}"] * 2
