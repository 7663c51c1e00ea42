"""Locust against the session's TorchServe: a short run of every model, its report, its gate and its metrics."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from serving.ports import free_ports
from serving.settings import ROOT
from tests.integration.conftest import Server, environment
from tests.support.waiting import wait_until

# Importing Locust would change Python's sockets for all tests.
pytestmark = pytest.mark.skipif(find_spec("locust") is None, reason="Locust is not installed: pip install -e '.[load]'")
STRICT = """
default: {p95_ms: 10000, p99_ms: 10000, error_ratio: 0, throughput: 1}
models: {linear: {p95_ms: 0.001}}
"""


def start(server: Server, reports: Path, *options: str, port: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "loadtests", "run", "--reports", str(reports), *options]
    command += ["--port", str(port or free_ports(1)[0])]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(server.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a run; one that hangs is ended with its workers, and is gone before another test begins."""
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, output


def contents(reports: Path) -> dict[str, str]:
    (folder,) = reports.iterdir()
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_smoke_run_of_every_model_gets_only_right_answers_and_leaves_its_report(
    chatting: Server, tmp_path: Path, processes: str
) -> None:
    options = ["--profile", "smoke", "--time", "6", "--users", "9", "--processes", processes]
    slo = tmp_path / "slo.yaml"
    slo.write_text(
        "default: {p95_ms: 10000, p99_ms: 10000, error_ratio: 0, throughput: 1}\n"
        "models: {chat: {ttft_p95_ms: 10000, tokens_per_second: 1}}"
    )
    code, output = finish(start(chatting, tmp_path / "reports", *options, "--slo", str(slo)))
    assert code == 0, output
    assert "every objective is met" in output
    files = contents(tmp_path / "reports")
    assert "<html" in files["report.html"]
    assert "every objective is met" in files["slo.txt"]
    for model in ("linear", "flights", "fashion"):
        assert f"{model} native" in files["stats_stats.csv"]
    for what in ("stream", "time to first token", "tokens per second"):
        assert f"chat {what}" in files["stats_stats.csv"]
    assert "ttft_p95_ms" in files["slo.txt"]


def test_an_objective_that_nothing_can_meet_fails_the_run_and_is_named(server: Server, tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"
    slo.write_text(STRICT)
    options = ["--model", "linear", "--profile", "smoke", "--time", "3", "--slo", str(slo)]
    code, output = finish(start(server, tmp_path / "reports", *options))
    assert code == 1, output
    assert "linear: p95_ms is " in output
    assert "but must be at most 0.001" in output


@pytest.mark.usefixtures("interruptible")
def test_the_metrics_are_there_while_it_runs_and_ctrl_c_ends_it_with_a_report(server: Server, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = start(server, tmp_path / "reports", "--model", "linear", "--profile", "soak", port=port)

    def counting() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return False
        return 'locust_requests_total{kind="native",model="linear",outcome="right"}' in text

    ended = threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/metrics")

    scraping = [threading.Thread(target=scrape) for _ in range(4)]  # so that Ctrl-C comes while the metrics are written
    try:
        wait_until(counting, timeout=60)
        for thread in scraping:
            thread.start()
        process.send_signal(signal.SIGINT)
    finally:
        code, output = finish(process)
        ended.set()
        for thread in scraping:
            if thread.ident:
                thread.join()
    assert code == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    assert {"report.html", "slo.txt", "stats_stats.csv"} <= set(contents(tmp_path / "reports"))
