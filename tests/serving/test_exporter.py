"""The merge of the workers' metrics: nothing goes back, the dead leave no gauges, and it is served over HTTP."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from serving.exporter import WorkerMetrics, server
from serving.settings import ROOT

# A worker's life: it answers what it is told to, line by line, until it is killed.
WORKER = """
import json, sys
from pathlib import Path
from handlers.telemetry import hold_lock
lock = hold_lock(Path(sys.argv[1]))
from tests.handlers.test_telemetry import GOOD, LINE, World
world = World(LINE)
world.telemetry.loaded(0.5, "onnxruntime", "abc")
print("ready", flush=True)
for line in sys.stdin:
    world.handler.handle([GOOD] * int(line))
    print("done", flush=True)
"""


class Worker:
    """A process with telemetry."""

    def __init__(self, directory: Path) -> None:
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PATH": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready\n"

    def answer(self, requests: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        assert self._line() == "done\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts workers that write into the test's folder."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def registry(tmp_path: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(tmp_path))
    return registry


def answered(registry: CollectorRegistry) -> float | None:
    labels = {"model": "line", "version": "1.2", "protocol": "native", "code": "200"}
    return registry.get_sample_value("model_requests_total", labels)


def pids(registry: CollectorRegistry) -> set[str]:
    samples = [s for metric in registry.collect() for s in metric.samples]
    return {s.labels["pid"] for s in samples if s.name == "process_resident_memory_bytes"}


def test_workers_are_added_up(registry: CollectorRegistry, worker: Callable[[], Worker]) -> None:
    first, second = worker(), worker()
    first.answer(3)
    second.answer(4)
    assert answered(registry) == 7
    labels = {"model": "line", "version": "1.2"}
    assert registry.get_sample_value("model_request_duration_seconds_count", labels) == 7
    assert registry.get_sample_value("model_load_duration_seconds", labels) == 0.5


def test_a_killed_worker_takes_its_gauges_along_and_leaves_its_counts(
    registry: CollectorRegistry, worker: Callable[[], Worker]
) -> None:
    first, second = worker(), worker()
    first.answer(3)
    second.answer(4)
    assert pids(registry) == {str(first.process.pid), str(second.process.pid)}
    first.kill()
    assert answered(registry) == 7
    assert pids(registry) == {str(second.process.pid)}
    worker().answer(1)
    assert answered(registry) == 8


def test_without_any_worker_there_is_nothing(registry: CollectorRegistry, tmp_path: Path) -> None:
    assert list(registry.collect()) == []
    tmp_path.rmdir()
    assert list(registry.collect()) == []


def test_it_is_served_over_http(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    worker().answer(2)
    running = server(tmp_path, "127.0.0.1", 0)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{running.server_port}"
        response = httpx.get(f"{url}/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert [sample.value for sample in families["model_requests"].samples] == [2]
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/elsewhere").status_code == 404
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_a_port_that_is_taken_is_an_error_that_says_which_variable_helps(tmp_path: Path) -> None:
    running = server(tmp_path, "127.0.0.1", 0)
    environ = {"MARLOOP_EXPORTER_PORT": str(running.server_port), "MARLOOP_RUN_DIR": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-m", "serving", "exporter"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    running.server_close()
    assert done.returncode == 1
    assert f"cannot listen on http://127.0.0.1:{running.server_port}" in done.stdout
    assert "MARLOOP_EXPORTER_PORT" in done.stdout


def test_prometheus_reads_what_is_in_the_files_as_it_is_written(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    one = worker()
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(tmp_path))
    for total in range(1, 6):
        one.answer(1)
        assert answered(registry) == total
