"""What Locust's users make of answers: a server of the test's own gives them, good and bad."""

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from handlers.contract import ModelContract
from loadtests.plan import Plan
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.support.chat_archive import contract as contract_of_chat
from tests.support.chat_archive import echoed
from tests.support.serving.stores import add_contract, contract_of_doubling

# Importing Locust would change Python's sockets for all tests.
pytestmark = pytest.mark.skipif(find_spec("locust") is None, reason="Locust is not installed: pip install -e '.[load]'")
FULL = (
    b'{"code": 503, "message": "Model \\"doubling\\" has no worker to serve inference request. Please use scale ..."}'
)


class Server(ThreadingHTTPServer):
    """Gives every request the same answer, of which the end is missing where it claims to be longer."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, status: int, body: bytes, missing: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Answerer)
        self.status, self.body, self.missing = status, body, missing
        self.asked: list[tuple[str, str]] = []


class Answerer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["X-Request-Start"]))
        if self.server.status:
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(self.server.body) + self.server.missing))
            self.end_headers()
            self.wfile.write(self.server.body)
        self.close_connection = not self.server.status or self.server.missing > 0

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(*request.param) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def failures(
    server: Server, folder: Path, contract: ModelContract | None = None
) -> tuple[int, dict[str, set[str]], str]:
    """The exit code of a short run against a server, the failures by name, and the kept verdict."""
    registry = Registry(folder / "store")
    contract = contract or contract_of_doubling()
    add_contract(registry, contract)
    plan = Plan(contract.name, seconds=3, report=str(folder / "report"))
    environment = os.environ | Settings(model_store=registry.store).to_environment() | plan.to_environment()
    host = f"http://127.0.0.1:{server.server_address[1]}"
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    command += ["--host", host, "--csv", str(folder / "stats")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    found: dict[str, set[str]] = {}
    for row in csv.DictReader((folder / "stats_failures.csv").read_text().splitlines()):
        found.setdefault(row["Name"], set()).add(row["Error"])
    return done.returncode, found, (folder / "report" / "slo.txt").read_text()


@pytest.mark.parametrize("server", [(503, FULL)], indirect=True)
def test_what_a_full_queue_turns_away_counts_as_shed(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path)
    assert code == 1
    assert set(found) == {"doubling shed"}
    assert "shed_ratio is 1," in verdict
    assert "error_ratio is" not in verdict


@pytest.mark.parametrize("server", [(200, b'{"prediction": null}')], indirect=True)
def test_a_wrong_answer_with_the_right_code_is_an_error(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path)
    assert code == 1
    assert any("a prediction is no finite number" in text for text in found["doubling native"])
    assert "error_ratio is 1," in verdict
    path, start = server.asked[0]
    assert path.startswith(("/predictions/doubling", "/v1/models/doubling", "/v2/models/doubling"))
    assert start.startswith("t=1")


@pytest.mark.parametrize("server", [(503, b'{"code": 503, "message": "Prediction failed"}')], indirect=True)
def test_another_503_is_an_error(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path)
    assert code == 1
    assert any("status 503 instead of 200" in text for text in found["doubling native"])
    assert "error_ratio is 1," in verdict


@pytest.mark.parametrize("server", [(0, b"")], indirect=True)
def test_no_answer_is_an_error(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path)
    assert code == 1
    assert any(text.startswith("CatchResponseError('no answer: ") for text in found["doubling native"])
    assert "error_ratio is 1," in verdict


PART = b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"role":"assistant"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize("server", [(200, PART, 100)], indirect=True)
def test_a_stream_that_breaks_off_is_an_error(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path, contract_of_chat("chat", echoed("Hello")))
    assert code == 1
    assert any(text.startswith("CatchResponseError('no whole answer: ") for text in found["chat stream"])
    assert "error_ratio is 1," in verdict
    assert "ttft_p95_ms is inf," in verdict
    assert server.asked[0][0].startswith("/predictions/chat/1.0")


@pytest.mark.parametrize("server", [(503, FULL)], indirect=True)
def test_what_a_language_models_full_queue_turns_away_counts_as_shed(server: Server, tmp_path: Path) -> None:
    code, found, verdict = failures(server, tmp_path, contract_of_chat("chat", echoed("Hello")))
    assert code == 1
    assert set(found) == {"chat shed"}
    assert "error_ratio is" not in verdict
