"""The command ``challenge``, as a user calls it, beside a monitor that answers as the test says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from monitoring.__main__ import app
from monitoring.retraining.command import Jobs, JobState, follow

QUEUED = {"id": 3, "state": "queued", "progress": "", "model": "credit"}
PROMOTED = QUEUED | {"state": "promoted", "progress": "promoted: its RMSE is lower"}


class Monitor(ThreadingHTTPServer):
    """Notes what it is asked, and answers a challenge with one response, looks at the job with others in turn."""

    def __init__(self, status: int, answer: Any, *jobs: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.answer, self.jobs = status, answer, list(jobs)
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []

    def __enter__(self) -> "Monitor":
        threading.Thread(target=self.serve_forever).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Monitor

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body, self.headers["authorization"]))
        self._answer(self.server.status, self.server.answer)

    def do_GET(self) -> None:
        self._answer(200, self.server.jobs.pop(0))

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Keep silent."""


def challenge(port: int, *options: str, token: str = "") -> Any:
    environment = {"MARLOOP_MONITOR_PORT": str(port), "MARLOOP_TOKEN": token}
    return CliRunner().invoke(app, ["challenge", *options], env=environment)


@pytest.fixture
def refusing() -> Iterator[Monitor]:
    with Monitor(409, {"detail": "credit 1.0 is the champion itself: name another version"}) as monitor:
        yield monitor


def test_it_asks_the_monitor_and_says_where_the_job_is_followed() -> None:
    with Monitor(202, QUEUED) as monitor:
        done = challenge(monitor.server_port, "credit", "1.1", "--reason", "an import", token="secret")
        page = f"http://127.0.0.1:{monitor.server_port}/console/jobs/3"
    assert (done.exit_code, done.output) == (0, f"job 3: credit 1.1 challenges the champion: {page}\n")
    assert monitor.asked == [
        ("/models/credit/challenge", {"version": "1.1", "reason": "an import"}, "Bearer secret"),
    ]


def test_a_name_is_part_of_the_path_whatever_it_holds() -> None:
    with Monitor(202, QUEUED) as monitor:
        challenge(monitor.server_port, "a/../b c", "1.1")
    assert monitor.asked[0][0] == "/models/a%2F..%2Fb%20c/challenge"


@pytest.mark.parametrize(("last", "code"), [(PROMOTED, 0), (PROMOTED | {"state": "refused", "progress": "no"}, 1)])
def test_wait_tells_each_step_and_ends_with_the_job(last: dict[str, Any], code: int) -> None:
    running = QUEUED | {"state": "running", "progress": "judging 1.1"}
    with Monitor(202, QUEUED, running, running, last) as monitor:
        done = challenge(monitor.server_port, "credit", "1.1", "--wait")
    assert done.exit_code == code
    assert done.output.splitlines()[1:] == ["judging 1.1", last["progress"]]


def test_a_refusal_is_the_monitors_own_sentence(refusing: Monitor) -> None:
    done = challenge(refusing.server_port, "credit", "1.0")
    assert done.exit_code == 1
    assert done.output == "error: credit 1.0 is the champion itself: name another version\n"


def test_faults_of_the_request_are_sentences_too() -> None:
    fault = {"type": "string_too_short", "loc": ["body", "version"], "msg": "String should have at least 1 character"}
    with Monitor(422, {"detail": [fault]}) as monitor:
        done = challenge(monitor.server_port, "credit", "")
    assert (done.exit_code, done.output) == (1, "error: version: String should have at least 1 character\n")


def test_a_monitor_that_does_not_run_is_said_with_the_way_out() -> None:
    with Monitor(202, QUEUED) as monitor:
        port = monitor.server_port
    done = challenge(port, "credit", "1.1")
    assert done.exit_code == 1
    assert done.output == (
        f"error: the monitor does not answer on http://127.0.0.1:{port}: start it with `marloop up`\n"
    )


def test_a_monitor_that_is_killed_meanwhile_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([None, None, PROMOTED])

    def answer(request: httpx.Request) -> httpx.Response:
        content = next(answers)
        if content is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=content)

    with httpx.Client(base_url="http://monitor", transport=httpx.MockTransport(answer)) as client:
        job = follow(Jobs(client), msgspec.convert(QUEUED, JobState), poll=0)
    assert job.state == "promoted"
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "the monitor does not answer; the job goes on when it runs again",
        "promoted: its RMSE is lower",
    ]
