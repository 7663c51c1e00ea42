"""The direct host as a user runs it: right answers while versions change, workers die and hang, and the host stops."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from handlers.http.content_encoding import CODINGS
from serving import archive, readiness
from serving.hosts.direct import background
from serving.hosts.direct.board import DRAINING
from serving.hosts.host import LaunchError
from serving.registry import Registry, file_sha256
from serving.settings import ROOT, Settings
from serving.supervision.supervisor import Supervisor
from tests.chaos.load import RIGHT, Question, clients
from tests.clients import environments
from tests.integration.conftest import Server, environment, put, serve, settings_for
from tests.support.waiting import wait_until

LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models."""
    return put(tmp_path_factory.mktemp("models") / "store", "linear", "flights")


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def host(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A direct host with a store of its own; each test leaves it whole."""
    own = shutil.copytree(models, tmp_path_factory.mktemp("direct") / "store")
    with tempfile.TemporaryDirectory() as folder, serve(settings_for(own, Path(folder), host="direct")) as running:
        yield running


def get(settings: Settings, path: str) -> httpx.Response:
    return httpx.get(f"{settings.inference_url}{path}", timeout=5, trust_env=False)


def is_ready(settings: Settings) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return get(settings, "/v2/health/ready").status_code == 200
    return False


def registry_of(server: Server) -> Registry:
    return Registry(server.settings.model_store)


def test_every_model_answers_its_example_on_every_worker(host: Server) -> None:
    names = background.parts(host.settings)
    for name in names:
        transport = httpx.HTTPTransport(uds=str(background.socket_path(host.settings, name)))
        with httpx.Client(transport=transport, timeout=10) as client:
            for model in registry_of(host).champions():
                assert readiness.ask(client, "http://worker", host.contract(model)).detail == ""
    assert len(background.board(host.settings).workers()) == len(names)


def test_versions_are_served_beside_promoted_and_withdrawn_without_a_failed_request(host: Server) -> None:
    registry, rollout = registry_of(host), background.rollout(host.settings)
    (number, version) = registry.champions()["linear"]
    with registry.change() as models:
        models["linear"]["9.9"] = type(version)(version.archive, version.sha256, "challenger", version.created)
    with clients(host.url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        rollout.beside("linear", "9.9")
        assert get(host.settings, "/v2/models/linear").json()["versions"] == [number, "9.9"]
        rollout.withdraw("linear", "9.9")
        assert get(host.settings, "/v2/models/linear").json()["versions"] == [number]
        assert rollout.promote("linear", "9.9") == number
        assert get(host.settings, "/v2/models/linear").json()["versions"] == ["9.9"]
        rollout.promote("linear", number)
        rollout.converge()
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_a_host_that_drains_answers_every_request_and_sends_its_clients_elsewhere(host: Server) -> None:
    board = background.board(host.settings)
    command = [sys.executable, "-m", "serving", "drain", "--seconds", "0"]
    with clients(host.url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        subprocess.run(command, cwd=ROOT, env=environment(host.settings), check=True)
        wait_until(lambda: get(host.settings, "/v2/health/ready").headers.get("connection") == "close")
        answer = get(host.settings, "/v2/health/ready")
        assert (answer.status_code, answer.json()["faults"]) == (503, {"host": "it is about to end: ask another one"})
        assert get(host.settings, "/v2/health/live").status_code == 200
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    (board._folder / DRAINING).unlink()  # else the next test would find it so
    wait_until(lambda: is_ready(host.settings))
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_a_broken_archive_never_takes_the_old_one_down(host: Server) -> None:
    registry = registry_of(host)
    number, version = registry.champions()["linear"]
    broken = registry.store / "broken.mar"
    broken.write_bytes(archive.rewritten((registry.store / version.archive).read_bytes(), {archive.ONNX: b"no graph"}))
    with registry.change() as models:
        models["linear"]["6.6"] = type(version)(broken.name, file_sha256(broken), "challenger", version.created)
    with pytest.raises(LaunchError, match=r"linear 6\.6: "):
        background.rollout(host.settings).promote("linear", "6.6")
    assert registry.champions()["linear"][0] == number
    wait_until(lambda: is_ready(host.settings), timeout=20)


def test_an_archive_that_is_mended_is_served_without_a_word_to_anybody(host: Server) -> None:
    registry = registry_of(host)
    number, version = registry.champions()["linear"]
    content = (registry.store / version.archive).read_bytes()
    with registry.change() as models:
        models["linear"]["7.7"] = type(version)("late.mar", version.sha256, "challenger", version.created)
    board = background.board(host.settings)
    board.ask_beside([("linear", "7.7")])
    wait_until(lambda: not is_ready(host.settings), timeout=20)
    (registry.store / "late.mar").write_bytes(content)
    wait_until(lambda: is_ready(host.settings), timeout=30)
    background.rollout(host.settings).withdraw("linear", "7.7")


def test_a_model_that_is_isolated_crashes_without_its_worker_and_comes_back(host: Server) -> None:
    registry, rollout = registry_of(host), background.rollout(host.settings)
    number, version = registry.champions()["linear"]
    content = (registry.store / version.archive).read_bytes()
    settings = yaml.safe_load(archive.read_file(content, archive.CONFIG))
    settings["handler"]["isolated"] = True
    apart = registry.store / "apart.mar"
    apart.write_bytes(archive.rewritten(content, {archive.CONFIG: yaml.safe_dump(settings).encode()}))
    with registry.change() as models:
        models["linear"]["5.5"] = type(version)(apart.name, file_sha256(apart), "challenger", version.created)
    rollout.promote("linear", "5.5")
    try:
        workers = host.worker_pids()
        children = [child for worker in workers for child in psutil.Process(worker).children()]
        assert len(children) == len(workers)
        row = host.contract("flights").example.request
        flight = host.client.post(f"{host.url}/predictions/flights", json=row).json()
        with clients(host.url, Question("/predictions/flights", row, flight)) as outcomes:
            wait_until(lambda: outcomes.counts[RIGHT] > 50)
            for child in children:
                child.kill()
            with clients(host.url, LINEAR) as linear:  # of many connections, so of every worker
                wait_until(lambda: linear.counts[RIGHT] > 50)
            count = outcomes.counts[RIGHT]
            wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
        assert set(outcomes.counts) == {RIGHT}, outcomes.examples
        assert host.worker_pids() == workers
    finally:
        rollout.promote("linear", number)


def test_a_killed_worker_is_told_and_comes_back(host: Server) -> None:
    before = host.worker_pids()
    killed = psutil.Process(min(before))
    killed.kill()
    wait_until(lambda: killed.pid not in host.worker_pids() and len(host.worker_pids()) == len(before), timeout=30)
    wait_until(lambda: is_ready(host.settings), timeout=60)
    with clients(host.url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_a_hung_worker_is_told_then_ended_and_comes_back(host: Server) -> None:
    hung = psutil.Process(min(host.worker_pids()))
    hung.suspend()
    wait_until(lambda: f"worker {hung.pid}" in background.board(host.settings).faults(1), timeout=5)
    wait_until(lambda: hung.pid not in host.worker_pids(), timeout=60)
    wait_until(lambda: is_ready(host.settings), timeout=60)


def test_a_host_whose_supervisor_was_killed_is_started_anew(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir, host="direct")
    with serve(settings) as server:
        before, supervisor = server.worker_pids(), Supervisor(settings).find()
        assert supervisor is not None
        supervisor.kill()
        wait_until(lambda: Supervisor(settings).find() is None)
        assert all(model.ready for model in background.start(settings))
        assert len(server.worker_pids()) == len(before)
        assert not server.worker_pids() & before


def test_the_host_answers_what_it_took_before_it_stops(models: Path, run_dir: Path) -> None:
    body = b'{"x": 6}'
    head = "POST /predictions/linear HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: 8"
    settings = settings_for(models, run_dir, host="direct")
    with serve(settings):
        address = (settings.bind_address, settings.inference_port)
        with contextlib.ExitStack() as stack:
            # So many that each worker has some.
            connections = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(12)]
            for begun in connections:
                begun.sendall(head.encode() + b"\r\n\r\n" + body[:4])
            wait_until(lambda: is_ready(settings))
            stopping = threading.Thread(target=background.stop, args=(settings,))
            stopping.start()
            wait_until(lambda: not accepts(address))
            for begun in connections:
                begun.sendall(body[4:])
            answers = [b"".join(iter(lambda: begun.recv(65536), b"")) for begun in connections]  # noqa: B023
            stopping.join()
        ends = [line for line in (run_dir / "supervisor.log").read_text().splitlines() if "stopped: direct-" in line]
    assert len(ends) == background.worker_count()
    assert all("exit status 0" in line for line in ends)
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close" in answer.lower()
        assert answer.endswith(b'{"prediction":11.999998}')


def test_a_port_that_is_taken_is_an_error_that_names_it(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir, host="direct")
    address = (settings.bind_address, settings.inference_port)
    with (
        socket.create_server(address, reuse_port=True),
        pytest.raises(LaunchError, match=f"cannot listen on 127.0.0.1:{settings.inference_port}: .* in use"),
    ):
        background.start(settings)
    assert background.find(settings) is None


def test_the_commands_of_a_user_work_from_start_to_stop(models: Path, run_dir: Path) -> None:
    settings = settings_for(models, run_dir, host="direct")

    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "serving", command]
        variables = environment(settings) | variables
        return subprocess.run(arguments, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)

    status = run("status")
    assert (status.returncode, status.stdout) == (1, "the direct host does not run: `make up HOST=direct` starts it\n")
    try:
        up = run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        assert up.stdout.count("curl -H 'Content-Type: application/json' -d '") == 2
        assert "the inference port answers this machine alone, without an API key\n" in up.stdout
        assert run("up").returncode == 0  # again, on what runs already
        other = run("up", MARLOOP_HOST="torchserve")
        assert other.returncode == 1
        assert "the direct host runs here" in other.stdout
        status = run("status", MARLOOP_HOST="torchserve")  # it is told of whatever runs
        assert (status.returncode, status.stdout.count("as expected")) == (0, 2), status.stdout
        assert all(f"{name}: runs for" in status.stdout for name in background.parts(settings))
    finally:
        down = run("down", MARLOOP_HOST="torchserve")
    assert f"stopped {background.worker_count() + 1} processes" in down.stdout
    assert run("status").returncode == 1


HEAD = b"POST /predictions/linear HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"
SMUGGLED = {
    "a bare LF that ends a chunk's line": HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\n{"x": 6}\r\n0\r\n\r\n',
    "a line's end in a chunk's extension": HEAD
    + b'Transfer-Encoding: chunked\r\n\r\n8;a="\r\n"\r\n{"x": 6}\r\n0\r\n\r\n',
    "two encodings beside a length": HEAD
    + b'Transfer-Encoding: chunked, identity\r\nContent-Length: 8\r\n\r\n{"x": 6}',
    "a control character before a name": HEAD + b'\x01Transfer-Encoding: chunked\r\nContent-Length: 8\r\n\r\n{"x": 6}',
}


def exchange(server: Server, sent: bytes) -> bytes:
    """All that is answered to bytes, after which this side sends no more."""
    with socket.create_connection((server.settings.bind_address, server.settings.inference_port), timeout=30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_clients_that_send_slowly_are_ended_and_nobody_waits_for_them(host: Server) -> None:
    address = (host.settings.bind_address, host.settings.inference_port)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(300)]
        ended: set[socket.socket] = set()

        def drip() -> bool:
            """Send a byte on each connection that is still open."""
            for client in slow:
                if client not in ended:
                    try:
                        client.sendall(HEAD[:1])
                        client.setblocking(False)
                        ended.update([client] if client.recv(65536) else [])
                    except BlockingIOError:
                        pass
                    except OSError:
                        ended.add(client)
            return len(ended) == len(slow)

        with clients(host.url, LINEAR) as outcomes:
            wait_until(drip, timeout=40)
            wait_until(lambda: outcomes.counts[RIGHT] > 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


@pytest.mark.parametrize("what", SMUGGLED)
def test_a_request_that_others_could_read_differently_is_refused(host: Server, what: str) -> None:
    assert exchange(host, SMUGGLED[what]).startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests_to_two_models_are_answered_in_order(host: Server) -> None:
    row = json.dumps(host.contract("flights").example.request).encode()
    sent, expected = b"", list[bytes]()
    for _ in range(20):
        for model, body in (("flights", row), ("linear", b'{"x": 6}')):
            head = HEAD.replace(b"linear", model.encode()) + b"Content-Length: %d\r\n\r\n" % len(body)
            sent, expected = sent + head + body, [*expected, b"11.999998" if model == "linear" else b""]
    with socket.create_connection((host.settings.bind_address, host.settings.inference_port), timeout=30) as client:
        client.sendall(sent)
        answered = b""
        while answered.count(b"prediction") < len(expected):
            answered += client.recv(65536)
    answers = re.findall(rb'"prediction":([\d.]+)', answered)
    assert [answer == b"11.999998" for answer in answers] == [value == b"11.999998" for value in expected]


def test_undici_gets_each_its_own_answer_with_eight_requests_under_way_on_one_connection(host: Server) -> None:
    row = host.contract("flights").example.request
    flight = host.client.post(f"{host.url}/predictions/flights", json=row).json()["prediction"]
    report = environments.run("undici", "pipelined.mjs", host.url, json.dumps(row))
    assert report["connections"] == 1
    assert {answer["status"] for answer in report["answers"]} == {200}
    values = [answer["prediction"] for answer in report["answers"]]
    assert values[::2] == pytest.approx([2 * x for x in range(0, 40, 2)], abs=0.1)
    assert values[1::2] == [flight] * 20


@pytest.mark.parametrize("head", [HEAD + b"Connection: close\r\n", HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_connection_ends_where_its_client_says_so(host: Server, head: bytes) -> None:
    with socket.create_connection((host.settings.bind_address, host.settings.inference_port), timeout=30) as client:
        client.sendall(head + b'Content-Length: 8\r\n\r\n{"x": 6}')
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # until the host closes it
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b'{"prediction":11.999998}')


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_curl_sends_and_reads_what_is_compressed(host: Server, tmp_path: Path, coding: str) -> None:
    curl, packer = shutil.which("curl"), shutil.which(coding)
    if not curl or not packer or coding not in (*CODINGS, "gzip"):
        pytest.skip(f"curl or {coding} is not installed: Debian's packages and the extra zstd have them")
    plain = tmp_path / "body"
    plain.write_bytes(json.dumps({"instances": [{"x": 6}] * 1000}).encode())
    subprocess.run([packer, "-q", "-k", str(plain)], check=True)
    (packed,) = (path for path in tmp_path.iterdir() if path != plain)
    headers = (f"Accept-Encoding: {coding}", f"Content-Encoding: {coding}", "Content-Type: application/json")
    command = [curl, "-sS", "--compressed", *(part for header in headers for part in ("-H", header))]
    command += ["--data-binary", f"@{packed}", "-w", "\n%header{content-encoding}"]
    command.append(f"{host.url}/v1/models/linear:predict")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer, _, answered = done.stdout.rpartition("\n")
    assert answered == coding
    assert json.loads(answer)["predictions"] == pytest.approx([12] * 1000, abs=0.05)


def accepts(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
        return True
    return False
