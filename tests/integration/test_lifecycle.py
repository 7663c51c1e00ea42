"""Starting, deploying while running, surviving and stopping: real processes."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serving.hosts.torchserve import background
from serving.hosts.torchserve.management import Management
from serving.processes import runs
from serving.readiness import ask_all
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.integration.conftest import Server, environment, listening, put, serve, settings_for
from tests.support.waiting import wait_until


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models: every worker takes a second to start."""
    return put(tmp_path_factory.mktemp("models") / "store", "linear", "flights")


@pytest.fixture(scope="module")
def public(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TorchServe on all interfaces, with a store of its own; each test leaves it whole."""
    store = shutil.copytree(models, tmp_path_factory.mktemp("public") / "store")
    with tempfile.TemporaryDirectory() as folder, serve(settings_for(store, Path(folder), "0.0.0.0")) as server:
        yield server


def train(store: Path, runs: Path) -> None:
    """Train linear as a user does."""
    command = [sys.executable, "-m", "training", "train", "linear", "--store", str(store), "--runs", str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def ready(settings: Settings) -> dict[str, bool]:
    return {one.name: one.ready for one in ask_all(Registry(settings.model_store), settings.inference_url)}


def test_an_altered_archive_is_refused_by_name_and_the_rest_is_served(
    models: Path, run_dir: Path, tmp_path: Path
) -> None:
    own_store = shutil.copytree(models, tmp_path / "store")
    altered = own_store / Registry(own_store).champions()["flights"][1].archive
    altered.write_bytes(altered.read_bytes() + b" ")
    settings = settings_for(own_store, run_dir)
    with serve(settings) as server:
        assert ready(settings) == {"flights": False, "linear": True}
        assert server.client.post(f"{server.url}/predictions/flights", json={}).status_code == 404
        log = settings.log.read_text()
        assert "refused flights" in log
        assert altered.name in log


def test_sigterm_ends_the_launcher_and_its_workers_within_ten_seconds(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir)
    command = [sys.executable, "-m", "serving", "launch"]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((run_dir / "log").open("wb"))
        process = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=log, stderr=log)
        stack.callback(background.stop, settings)
        wait_until(lambda: all(ready(settings).values()))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 3
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []


@pytest.mark.parametrize("ended_by", ["make down", "a signal to the container"])
def test_the_end_answers_whom_it_refuses(models: Path, run_dir: Path, ended_by: str) -> None:
    settings = settings_for(models, run_dir)
    command = [sys.executable, "-m", "serving", "supervise"]
    asked, last = list[int](), list[str]()

    def client() -> None:
        """Ask until told to come back later."""
        with httpx.Client(timeout=30) as own:
            while True:
                try:
                    response = own.post(f"{settings.inference_url}/predictions/linear", json={"x": 6})
                except httpx.TransportError as error:
                    last.append(repr(error))
                    return
                asked.append(response.status_code)
                if response.status_code != 200:
                    last.append(f"{response.status_code} {response.headers.get('Retry-After')}")
                    return

    with contextlib.ExitStack() as stack:
        stack.callback(background.stop, settings)
        if ended_by == "make down":
            background.start(settings)
        else:
            log = stack.enter_context((run_dir / "log").open("wb"))
            process = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=log, stderr=log)
            wait_until(lambda: all(ready(settings).values()))
        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(asked) > 200)
        if ended_by == "make down":
            background.stop(settings)
        else:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)
        for thread in threads:
            thread.join()
    assert last == ["503 5"] * 8
    assert set(asked) == {200, 503}


def test_only_the_inference_port_leaves_loopback(public: Server) -> None:
    settings, addresses = public.settings, listening(public.settings)
    outside = {port for ip, port in addresses if ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}
    assert outside == {settings.inference_port}
    assert settings.management_port not in {port for _, port in addresses}  # a check of ours listens there


def test_a_new_champion_is_deployed_while_running_without_a_failed_request(public: Server, tmp_path: Path) -> None:
    settings = public.settings
    train(settings.model_store, tmp_path / "runs")
    assert Registry(settings.model_store).champions()["linear"][0] == "1.1"
    stop, codes = threading.Event(), list[int]()

    def client() -> None:
        with httpx.Client(timeout=30) as own:
            while not stop.is_set():
                codes.append(own.post(f"{public.url}/predictions/linear", json={"x": 6}).status_code)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        wait_until(lambda: len(codes) > 20)
        background.start(settings)
        before = len(codes)
        wait_until(lambda: len(codes) > before + 20)
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {200}
    assert Management(settings.management_address, public.client).versions()["linear"] == ["1.1"]


def test_a_killed_worker_comes_back(public: Server) -> None:
    before = public.worker_pids()
    for pid in before:
        psutil.Process(pid).kill()
    wait_until(lambda: all(ready(public.settings).values()))
    assert not before & public.worker_pids()


def test_stop_ends_the_workers_that_outlive_a_killed_frontend(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir)
    with serve(settings) as server:
        workers = [psutil.Process(pid) for pid in server.worker_pids()]
        frontend = background.find(settings)
        assert frontend is not None
        for worker in workers:
            worker.suspend()  # else it would notice and end by itself
        frontend.kill()
        background.stop(settings)
        wait_until(lambda: not any(map(runs, workers)), timeout=5)  # one that is ending has no command line any more
        assert background.find(settings) is None


def test_the_commands_of_a_user_work_from_start_to_stop(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "serving", command]
        return subprocess.run(
            arguments, cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=120
        )

    assert run("status").returncode == 1
    try:
        up = run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        assert up.stdout.count("curl -H 'Content-Type: application/json' -d '") == 2
        assert "the inference port answers this machine alone, without an API key\n" in up.stdout
        assert run("up").returncode == 0  # again, on what runs already
        status = run("status")
        assert (status.returncode, status.stdout.count("as expected")) == (0, 2)
    finally:
        down = run("down")
    assert "stopped 5 processes" in down.stdout
    assert run("status").returncode == 1
