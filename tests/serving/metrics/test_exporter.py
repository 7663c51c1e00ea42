"""The merge of the workers' metrics: nothing goes back, the dead leave no gauges, and it is served over HTTP."""

import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics.exporter import WorkerMetrics, server
from serving.settings import ROOT

# A worker's life: it answers what it is told to, line by line, until it is killed.
WORKER = """
import json, sys
from pathlib import Path
from handlers.observe.metrics_folder import hold_folder
from tests.handlers.observe.test_telemetry import GOOD, LINE, World
lock = hold_folder(Path(sys.argv[1]), LINE)
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


def state(registry: CollectorRegistry) -> tuple[float | None, float | None, float | None]:
    """Whether the folder is usable, how many files are left out, and how many workers have no metrics."""
    names = ("marloop_metrics_folder_usable", "marloop_damaged_metrics_files", "marloop_workers_without_metrics")
    usable, damaged, lost = (registry.get_sample_value(name) for name in names)
    return usable, damaged, lost


def test_without_any_worker_there_is_nothing_but_the_state_of_the_folder(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    assert state(registry) == (1, 0, 0)
    assert len(list(registry.collect())) == 3
    tmp_path.rmdir()
    assert state(registry) == (0, 0, 0)
    assert WorkerMetrics(tmp_path).complaints() == [f"{tmp_path} cannot be written to, or is full"]


def entry(key: bytes) -> bytes:
    """A file of metrics with one value under a key."""
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    row = struct.pack(f"i{len(padded)}sdd", len(key), padded, 1.0, 0.0)
    return struct.pack("ii", 8 + len(row), 0) + row


def made_up(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(content))


def void(_: object) -> None:
    return None


DAMAGED: dict[str, Callable[[Path], None]] = {
    "empty": made_up("counter_1.db", b""),
    "three bytes": made_up("counter_1.db", b"\1\0\0"),
    "random": made_up("histogram_1.db", random.Random(0).randbytes(70_000)),
    "text": made_up("counter_1.db", b"hello, this is no file of metrics"),
    "cut": made_up("counter_1.db", entry(b'["a","a_total",{},"A"]')[:-20]),
    "longer than it is": made_up("counter_1.db", struct.pack("ii", 2**31 - 1, 0) + bytes(100)),
    "negative": made_up("counter_1.db", struct.pack("iii", 100, 0, -50) + bytes(100)),
    "no key": made_up("counter_1.db", entry(b"{}")),
    "a key of another kind": made_up("counter_1.db", entry(b'["a",5,{},"A"]')),
    "a label that is none": made_up("counter_1.db", entry(b'["a","a_total",{"b c":"1"},"A"]')),
    "a bound that is none": made_up("histogram_1.db", entry(b'["a","a_bucket",{"le":"x"},"A"]')),
    "not UTF-8": made_up("counter_1.db", entry(b'["a","a_total",{"\xff":"1"},"A"]')),
    "a name that is none": made_up("gauge_x.db", b""),
    "a name without a number": made_up("counter.db", b""),
    "a folder": lambda folder: (folder / "counter_1.db").mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / "gauge_liveall_1.db"),
    "a link to nowhere else": lambda folder: (folder / "counter_1.db").symlink_to("counter_1.db"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_left_out_and_counted_and_all_others_are_shown(
    kind: str, registry: CollectorRegistry, tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    worker().answer(3)
    DAMAGED[kind](tmp_path)
    assert answered(registry) == 3
    assert state(registry) == (1, 1, 0)
    (complaint,) = WorkerMetrics(tmp_path).complaints()
    assert str(tmp_path) in complaint
    assert "left out" in complaint


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_the_damaged_file_of_a_worker_that_died_costs_only_its_own_counts(
    damage: bytes, registry: CollectorRegistry, tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    first, second = worker(), worker()
    first.answer(3)
    second.answer(4)
    first.kill()
    (tmp_path / f"counter_{first.process.pid}.db").write_bytes(damage)
    assert answered(registry) == 4
    assert state(registry) == (1, 1, 0)


@pytest.mark.parametrize("name", ["abc.lock", "1.lock", ".lock", "12.34.lock"])
def test_a_lock_that_is_none_harms_nothing(
    name: str, registry: CollectorRegistry, tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    worker().answer(2)
    (tmp_path / name).mkdir()
    (tmp_path / "abc.lock.lock").write_text("")
    assert answered(registry) == 2


def test_a_worker_that_lives_and_has_no_metrics_is_counted(
    registry: CollectorRegistry, tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    one = worker()
    for path in tmp_path.glob("*.db"):
        path.unlink()
    assert state(registry) == (1, 0, 1)
    assert WorkerMetrics(tmp_path).complaints() == [f"worker {one.process.pid} serves without metrics"]
    one.kill()
    assert state(registry) == (1, 0, 0)


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
        (tmp_path / "counter_1.db").write_bytes(b"")
        assert httpx.get(f"{url}/metrics").status_code == 200
        health = httpx.get(f"{url}/healthz")
        assert (health.status_code, health.text[:3]) == (200, "ok\n")
        assert "counter_1.db is left out" in health.text
        assert httpx.get(f"{url}/livez").text == "ok\n"  # asked each second, it reads no file
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
