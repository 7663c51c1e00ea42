"""The command ``status``, as a user and as a program calls it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from monitoring.__main__ import app

READY = {"ready": False, "reason": "a model does not answer", "models": {"a 1.0": "as expected", "b 1.0": "503"}}


class Monitor(BaseHTTPRequestHandler):
    """A monitor that finds one of two models ready."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/readyz" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(READY).encode())

    def log_message(self, *arguments: object) -> None:
        """Keep silent."""


@pytest.fixture
def port() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Monitor) as server:
        threading.Thread(target=server.serve_forever).start()
        yield str(server.server_port)
        server.shutdown()


def test_status_tells_which_models_are_not_ready(port: str) -> None:
    done = CliRunner().invoke(app, ["status"], env={"MARLOOP_MONITOR_PORT": port}, catch_exceptions=False)
    said = "monitor: answers, and finds the models not ready\n  a model does not answer\n  b 1.0: 503\n"
    assert (done.exit_code, done.output) == (1, said)


def test_status_in_json_is_what_the_monitor_answers(port: str) -> None:
    done = CliRunner().invoke(app, ["status", "--json"], env={"MARLOOP_MONITOR_PORT": port}, catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"running": True, **READY})
