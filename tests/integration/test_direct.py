"""The direct host as a process: right answers while versions change, workers die and the host stops."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serving import readiness
from serving.hosts.direct.board import Board
from serving.hosts.direct.rollout import DirectRollout
from serving.hosts.direct.worker import WORKERS
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import settings_for
from tests.support.waiting import wait_until

COUNT = 2  # workers
LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})


class Host:
    """Workers that run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry, self.board = Registry(settings.model_store), Board(settings.run_dir / "direct")
        self.environment = os.environ | settings.to_environment() | {WORKERS: str(COUNT), "CAPTURE_URL": "off"}
        self.processes: list[psutil.Popen] = []

    def start(self) -> psutil.Popen:
        """Start one more worker."""
        command = [sys.executable, "-m", "serving.hosts.direct.worker"]
        self.processes.append(psutil.Popen(command, cwd=ROOT, env=self.environment))
        return self.processes[-1]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.settings.inference_url}{path}", timeout=5, trust_env=False)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.get("/v2/health/ready").status_code == 200
        return False


@contextlib.contextmanager
def running(store: Path, folder: Path) -> Iterator[Host]:
    host = Host(settings_for(store, folder))
    try:
        for _ in range(COUNT):
            host.start()
        wait_until(host.ready, timeout=60)
        yield host
    finally:
        for process in host.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait(30)


@pytest.fixture(scope="module")
def host(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    own = Path(shutil.copytree(store, tmp_path_factory.mktemp("direct") / "store"))
    with tempfile.TemporaryDirectory() as folder, running(own, Path(folder)) as host:
        yield host


def test_every_model_answers_its_example_on_every_worker(host: Host) -> None:
    champions = host.registry.champions()
    with httpx.Client(timeout=10, trust_env=False) as client:
        for name in champions:
            contract = host.registry.champion_contract(name)
            answers = [readiness.ask(client, host.settings.inference_url, contract) for _ in range(8)]
            assert [answer.detail for answer in answers] == [""] * 8
    assert all(set(beat.served) == set(champions) for beat in host.board.workers())


def test_versions_are_served_beside_promoted_and_withdrawn_without_a_failed_request(host: Host) -> None:
    (number, version) = host.registry.champions()["linear"]
    with host.registry.change() as models:
        models["linear"]["9.9"] = type(version)(version.archive, version.sha256, "challenger", version.created)
    rollout = DirectRollout(host.registry, host.board)
    with clients(host.settings.inference_url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        rollout.beside("linear", "9.9")
        assert host.get("/v2/models/linear").json()["versions"] == [number, "9.9"]
        rollout.withdraw("linear", "9.9")
        assert host.get("/v2/models/linear").json()["versions"] == [number]
        assert rollout.promote("linear", "9.9") == number
        assert host.get("/v2/models/linear").json()["versions"] == ["9.9"]
        rollout.promote("linear", number)
        rollout.converge()
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_a_broken_archive_never_takes_the_old_one_down(host: Host) -> None:
    number, version = host.registry.champions()["linear"]
    broken = host.registry.store / "broken.mar"
    broken.write_bytes(b"no archive")
    with host.registry.change() as models:
        from serving.registry import file_sha256

        models["linear"]["6.6"] = type(version)(broken.name, file_sha256(broken), "challenger", version.created)
    rollout = DirectRollout(host.registry, host.board)
    with pytest.raises(Exception, match="linear"):
        rollout.promote("linear", "6.6")
    assert host.registry.champions()["linear"][0] == number
    wait_until(host.ready, timeout=20)


def test_a_killed_worker_is_told_and_the_other_one_answers_on(host: Host) -> None:
    killed = host.start()
    wait_until(lambda: len(host.board.workers()) == COUNT + 1, timeout=60)
    for process in host.processes[:COUNT]:  # what is left is the new one
        process.kill()
        process.wait(30)
    assert host.board.faults(COUNT) == {"workers": f"1 of {COUNT} live"}
    assert host.get("/v2/health/ready").status_code == 503
    with clients(host.settings.inference_url, LINEAR) as outcomes:
        host.start()
        wait_until(host.ready, timeout=60)
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples
    assert killed.is_running()


def test_a_hung_worker_is_told_within_two_seconds(host: Host) -> None:
    hung = host.processes[-1]
    hung.suspend()
    try:
        wait_until(lambda: f"worker {hung.pid}" in host.board.faults(COUNT), timeout=5)
    finally:
        hung.resume()
    wait_until(host.ready, timeout=30)


def test_a_worker_answers_what_it_took_before_it_ends(store: Path) -> None:
    body = b'{"x": 6}'
    head = "POST /predictions/linear HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: 8"
    with tempfile.TemporaryDirectory() as folder, running(store, Path(folder)) as host:
        address = (host.settings.bind_address, host.settings.inference_port)
        with socket.create_connection(address, timeout=30) as begun:
            begun.sendall(head.encode() + b"\r\n\r\n" + body[:4])
            wait_until(host.ready)
            for process in host.processes:
                process.terminate()
            wait_until(lambda: not accepts(address))
            begun.sendall(body[4:])
            answer = b"".join(iter(lambda: begun.recv(65536), b""))
        assert [process.wait(30) for process in host.processes] == [0] * COUNT
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'{"prediction":11.999998}')


def accepts(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
        return True
    return False
