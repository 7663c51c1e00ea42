"""A part that hangs is killed; one that starts, or a busy machine, is not taken for one."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, UnixStreamServer
from threading import Thread
from typing import Any, cast

import psutil
import pytest

from serving.processes import runs
from serving.settings import ROOT
from serving.supervision.supervisor import State, Supervisor
from serving.supervision.watcher import SILENCE, STARTING, Watch, answers, scheduling_delays
from tests.support.waiting import wait_until


class Parts:
    """A supervisor's view of one real process, which answers as it is told, by a clock of the test's own."""

    def __init__(self, pid: int) -> None:
        self.pid, self.now, self.answering, self.starved = pid, 0.0, True, 0.0
        self.watch = Watch(cast(Supervisor, self), self._ask, lambda: self.now, self._delays)

    def states(self) -> list[State]:
        return [State("a", "RUNNING", self.pid, 0.0, "")]

    def parts(self) -> dict[str, str]:
        return {"a": "http://127.0.0.1:1/"}

    def _ask(self, url: str) -> bool:
        self.now += 0.001 if self.answering else 5.0
        return self.answering

    def _delays(self, pid: int) -> dict[int, float]:
        return {1: 0.5, 2: self.starved * self.now}

    def look(self, after: float = 1.0) -> list[str]:
        self.now += after
        return self.watch.look()


@pytest.fixture
def parts() -> Iterator[Parts]:
    family = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    with subprocess.Popen([sys.executable, "-c", f"{family}; time.sleep(600)"]) as process:
        wait_until(lambda: bool(psutil.Process(process.pid).children()))
        yield Parts(process.pid)
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()


def test_one_that_hangs_is_killed_with_its_children_in_less_than_fifteen_seconds(parts: Parts) -> None:
    children = psutil.Process(parts.pid).children()
    parts.look()
    parts.answering, silent = False, parts.now
    while not parts.look():
        assert parts.now - silent < 15
    assert SILENCE < parts.now - silent < 15
    assert not any(runs(process) for process in children)


def test_one_that_waits_for_a_core_is_not_killed_unless_it_waits_for_minutes(parts: Parts) -> None:
    parts.look()
    parts.answering, parts.starved, silent = False, 0.99, parts.now
    while not parts.look():
        assert parts.now - silent < STARTING + 10
    assert parts.now - silent > STARTING


def test_the_system_says_how_long_threads_wait_for_a_core() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system does not count how long threads wait for a core")
    before = scheduling_delays(os.getpid())
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    after = scheduling_delays(os.getpid())
    assert os.getpid() in after
    assert all(after[thread] >= delay for thread, delay in before.items() if thread in after)
    assert scheduling_delays(2**22 + 1) == {}


def test_one_late_answer_is_no_hang(parts: Parts) -> None:
    parts.look()
    for answering in (False, True, False, True):
        parts.answering = answering
        assert parts.look() == []


def test_one_that_starts_has_more_time(parts: Parts) -> None:
    parts.answering = False
    while parts.now < STARTING - 10:
        assert parts.look() == []
    while not parts.look():
        assert parts.now < STARTING + 20


def test_seconds_in_which_nobody_got_to_run_count_for_nobody(parts: Parts) -> None:
    parts.look()
    parts.answering = False
    assert parts.look() == []
    assert parts.look(after=60.0) == []  # the machine was busy with others


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_will_do(status: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Not on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        assert answers(f"http://127.0.0.1:{server.server_port}/ping")
        thread.join()


def test_a_part_that_shares_its_port_is_asked_on_a_socket_of_its_own() -> None:
    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline())
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    asked: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        assert not answers(f"unix:{folder}/socket")
        with UnixStreamServer(f"{folder}/socket", Handler) as server:
            thread = Thread(target=server.handle_request)
            thread.start()
            assert answers(f"unix:{folder}/socket")
            thread.join()
    assert asked == [b"GET /ping HTTP/1.1\r\n"]


def test_nobody_there_and_one_that_never_answers_are_alike() -> None:
    assert not answers("http://127.0.0.1:1/ping")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # which takes connections and reads nothing
        assert not answers(f"http://127.0.0.1:{server.server_port}/", patience=0.1)


def test_a_folder_without_parts_has_nothing_to_ask(tmp_path: Path) -> None:
    class None_(Parts):
        def states(self) -> list[State]:
            return []

    assert None_(0).look() == []


def test_one_whose_supervisor_was_killed_before_it_looked_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.supervision.watcher", "--run-dir", str(tmp_path / "run")]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0
