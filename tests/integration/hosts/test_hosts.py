"""What is promised to users on every host; what one has not stands in the table of docs/operations.md."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from serving import archive
from serving.registry import Registry, Version, file_sha256
from serving.security.grants import LOOK
from serving.security.keys import KeyFile
from serving.settings import ROOT
from tests import readme
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import RAY, Server, environment, monitored
from tests.support.waiting import wait_until

LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})
NEXT = "7.0"  # the number of a version that a test makes


@pytest.fixture(scope="module", params=["torchserve", "direct", RAY])
def own(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each host, which captures, with its monitor and a store of its own, whose model linear has a second version."""
    folder = tmp_path_factory.mktemp("hosts")
    models = Path(shutil.copytree(store, folder / "store"))
    add_version(Registry(models), "linear")
    with monitored(models, folder / "runs", {"MARLOOP_PROBE_INTERVAL": "0.2"}, request.param) as server:
        yield server


def add_version(registry: Registry, model: str) -> None:
    """Register the champion once more, as a challenger of another number."""
    content = registry.verify(registry.champion(model).version).read_bytes()
    contract = replace(registry.champion_contract(model), version=NEXT)
    manifest = json.loads(archive.read_file(content, archive.MANIFEST))
    manifest["model"]["modelVersion"] = NEXT
    path = registry.store / f"{model}-{NEXT}.mar"
    changed = {archive.CONTRACT: contract.to_json(), archive.MANIFEST: json.dumps(manifest).encode()}
    path.write_bytes(archive.rewritten(content, changed))
    with registry.change() as models:
        version = Version(path.name, file_sha256(path), "challenger", "2026-01-01T00:00:00+00:00")
        models[model][NEXT] = version


def monitor(server: Server, method: str, path: str, **request: object) -> httpx.Response:
    response = httpx.request(method, f"{server.settings.monitor_url}{path}", timeout=60, trust_env=False, **request)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response


def counted(server: Server, model: str) -> Counter[str]:
    """The requests that workers have answered, by status."""
    text = httpx.get(f"{server.settings.exporter_url}/metrics", timeout=30, trust_env=False).text
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "model_requests_total" and sample.labels["model"] == model:
                counts[sample.labels["code"]] += int(sample.value)
    return counts


def test_what_readme_and_docs_show_is_answered_so(own: Server) -> None:
    for example in readme.shown():
        if "/fashion" not in example.command:  # which learns less here than for a user
            answer = example.run(own.url)
            assert example.agrees(answer), answer


def test_the_exporter_counts_what_was_sent(own: Server) -> None:
    before = counted(own, "fashion")
    for body in [b"{"] * 20:
        assert own.client.post(f"{own.url}/predictions/fashion", content=body).status_code == 400
    assert (counted(own, "fashion") - before)["400"] == 20


def test_what_is_refused_before_a_batch_is_counted(own: Server) -> None:
    if own.settings.host != "direct":
        pytest.skip("TorchServe counts by itself what it refuses, on port 8082, and the front of Ray counts nothing")
    before = counted(own, "fashion"), counted(own, "")
    assert own.client.get(f"{own.url}/predictions/fashion").status_code == 405
    assert own.client.post(f"{own.url}/predictions/nothing", json={}).status_code == 404
    assert (counted(own, "fashion") - before[0])["405"] == 1
    assert (counted(own, "") - before[1])["404"] == 1


def test_the_console_charts_what_was_asked_without_prometheus(own: Server) -> None:
    def is_charted() -> bool:
        own.client.post(f"{own.url}/predictions/fashion", content=b"{")
        page = monitor(own, "GET", "/console/models/fashion/traffic").text
        return "Requests a second" in page and page.count("<polyline") > 6  # three legends have six

    wait_until(is_charted, timeout=60)


def test_the_monitor_finds_every_model_ready_and_gets_what_was_predicted(own: Server) -> None:
    wait_until(lambda: monitor(own, "GET", "/healthz").is_success and ready(own))

    def predictions() -> int:
        return int({model["name"]: model["predictions"] for model in monitor(own, "GET", "/models").json()}["flights"])

    before, row = predictions(), own.contract("flights").example.request
    for _ in range(5):
        assert own.client.post(f"{own.url}/predictions/flights", json=row).status_code == 200
    wait_until(lambda: predictions() >= before + 5)  # what was asked before may only come now


def ready(server: Server) -> bool:
    return httpx.get(f"{server.settings.monitor_url}/readyz", timeout=30, trust_env=False).status_code == 200


def test_a_version_is_promoted_and_rolled_back_by_the_monitor_without_a_failed_request(own: Server) -> None:
    registry = Registry(own.settings.model_store)
    former = registry.champion("linear").number
    with clients(own.url, LINEAR) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        monitor(own, "POST", "/models/linear/promote", json={"version": NEXT})
        assert registry.champion("linear").number == NEXT
        assert own.client.post(f"{own.url}/predictions/linear/{NEXT}", json={"x": 6}).status_code == 200
        monitor(own, "POST", "/models/linear/rollback")
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples
    assert registry.champion("linear").number == former


def test_many_clients_get_each_their_own_answer(own: Server) -> None:
    answers: dict[int, float] = {}

    def ask(x: int) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            answers[x] = client.post(f"{own.url}/predictions/linear", json={"x": x}).json()["prediction"]

    threads = [threading.Thread(target=ask, args=(x,)) for x in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[x] for x in range(40)] == pytest.approx([2 * x for x in range(40)], abs=0.1)


def status(path: str, method: str = "GET") -> Callable[[Server], bool]:
    return lambda server: server.client.request(method, f"{server.url}{path}", json={"x": 6}).status_code == 200


def port(name: str) -> Callable[[Server], bool]:
    def listens(server: Server) -> bool:
        address = (server.settings.private_address, getattr(server.settings, name))
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
            return True
        return False

    return listens


def compresses(server: Server) -> bool:
    body = {"instances": [{"x": 6}] * 1000}
    url, headers = f"{server.url}/v1/models/linear:predict", {"accept-encoding": "gzip"}
    return "content-encoding" in server.client.post(url, json=body, headers=headers).headers


def asks_for_keys(server: Server) -> bool:
    """Whether a request without a key is refused once there is one; leaves the server without keys."""
    file = KeyFile(server.settings.model_store)

    def codes() -> set[int]:  # a connection each, since each may reach another worker
        url = f"{server.url}/predictions/linear"
        return {httpx.post(url, json={"x": 6}, timeout=30, trust_env=False).status_code for _ in range(20)}

    file.add("app")
    try:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: codes() == {401}, timeout=6 * LOOK)
        return codes() == {401}
    finally:
        file.path.unlink()
        wait_until(lambda: codes() == {200})


HEAD = b"POST /predictions/linear HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\n"


def answered(server: Server, *sent: bytes, until: bytes) -> bytes:
    """What comes on a connection until it holds something or ends, for what was sent last."""
    with socket.create_connection((server.settings.bind_address, server.settings.inference_port), timeout=30) as client:
        for request in sent:
            received = b""
            with contextlib.suppress(ConnectionError):
                client.sendall(request)
                while until not in received and (piece := client.recv(65536)):
                    received += piece
    return received


def tells_the_methods_that_it_takes(server: Server) -> bool:
    answer = server.client.delete(f"{server.url}/predictions/linear")
    assert answer.status_code >= 400
    return answer.status_code == 405 and "allow" in answer.headers


def ends_a_connection_where_asked(server: Server) -> bool:
    request = HEAD + b'Connection: close\r\nContent-Length: 8\r\n\r\n{"x": 6}'
    assert b"prediction" in answered(server, request, until=b"prediction")
    return b"prediction" not in answered(server, request, request, until=b"prediction")


def refuses_what_others_could_read_differently(server: Server) -> bool:
    request = HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\n{"x": 6}\r\n0\r\n\r\n'
    return answered(server, request, until=b"\r\n").startswith(b"HTTP/1.1 400 ")


# A row of the table, and whether a host has it.
DIFFERENCES: dict[str, Callable[[Server], bool]] = {
    "`/v2/health/ready`, `/v2/models/{model}`, `/v1/models`, `/v2/repository/index` at the plain base URL": status(
        "/v2/models/linear"
    ),
    "`/openapi.json` and `/docs`": status("/docs"),
    "`/models/{model}/invoke`, `/{model}/predict`, `/invocations`": status("/models/linear/invoke", "POST"),
    "answers compressed by `Accept-Encoding`": compresses,
    "TorchServe's gRPC, port 7070": port("grpc_inference_port"),
    "API keys (`marloop keys`)": asks_for_keys,
    "management, port 8081": port("management_port"),
    "TorchServe's own metrics, port 8082": port("metrics_port"),
    "a method that a path does not take is a 405 with `Allow`": tells_the_methods_that_it_takes,
    "`Connection: close` is heeded": ends_a_connection_where_asked,
    "a request that others could read differently (request smuggling) is refused": (
        refuses_what_others_could_read_differently
    ),
}


@pytest.mark.parametrize("row", DIFFERENCES)
def test_a_host_has_what_the_table_says(own: Server, row: str) -> None:
    cells = {line.split("|")[1].strip(): line.split("|")[2:5] for line in table()}
    said = dict(zip(("torchserve", "direct", "ray"), cells[row], strict=True))[own.settings.host].strip()
    assert said.startswith(("yes", "no"))
    assert DIFFERENCES[row](own) == said.startswith("yes")


def table() -> list[str]:
    """The lines of the table of differences."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("### Differences between hosts\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| .*\|$", section, re.MULTILINE)


def test_a_version_and_a_whole_model_are_removed_from_what_runs(own: Server) -> None:
    """The last test of this module: what it removes is gone for good."""
    registry = Registry(own.settings.model_store)
    decisions = monitor(own, "GET", "/decisions").json()
    for model, path in (("linear", f"linear/{NEXT}"), ("fashion", "fashion")):
        number = [NEXT] if path.endswith(NEXT) else ["--yes"]
        command = [sys.executable, "-m", "serving", "remove", model, *number]
        done = subprocess.run(command, cwd=ROOT, env=environment(own.settings), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert own.client.post(f"{own.url}/predictions/{path}", json={"x": 6}).status_code == 404
    assert not list(registry.store.glob("fashion-*.mar"))
    assert registry.models().keys() == {"linear", "flights"}
    assert own.client.post(f"{own.url}/predictions/linear", json={"x": 6}).status_code == 200
    assert monitor(own, "GET", "/decisions").json() == decisions
    wait_until(lambda: ready(own))
