"""The Ray host as its users meet it: the same bytes, streams, promotions without a failed request, an end that is one.

What is promised on all hosts is in the tests beside these, on Ray too by `make ray-test`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from msgspec.structs import replace

from handlers.entry_points.image import ImageService
from handlers.entry_points.tabular import TabularService
from handlers.http.kserve import PATH
from handlers.message import Request, Response
from loadtests.requests import faults, payloads
from loadtests.requests.payloads import Payload
from serving import archive
from serving.hosts.host import LaunchError
from serving.hosts.ray import background
from serving.hosts.ray.settings import Place
from serving.registry import Registry, Version, file_sha256
from serving.settings import ROOT
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import ONE_REPLICA, Server, environment, needs_ray, put, serve, settings_for
from tests.integration.hosts.test_hosts import NEXT, add_version, counted
from tests.support.chat_archive import register_echo
from tests.support.training.former import FORMER
from tests.support.waiting import wait_until

LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})
SERVICES = {"linear": TabularService, "fashion": ImageService}
TEXT = "Grüße, 世界 😀"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Ray host with linear, of which another version waits, fashion, and the echo; a replica each."""
    needs_ray()
    store = put(tmp_path_factory.mktemp("ray") / "store", *SERVICES)
    add_version(Registry(store), "linear")
    register_echo(store, "chat", 4, 12, 0.002)
    with contextlib.ExitStack() as stack:
        variables = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in ONE_REPLICA.items():
            variables.setenv(name, value)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(serve(settings_for(store, folder, host="ray")))


def core(server: Server, model: str, folder: Path) -> Any:
    """The core of the champion's archive, in this process, with the handlers of this tree."""
    archive.unpack(server.settings.model_store / f"{model}-{server.contract(model).version}.mar", folder)
    config = yaml.safe_load((folder / archive.CONFIG).read_bytes())
    service = SERVICES[model]()
    service.initialize(
        SimpleNamespace(system_properties={"model_dir": str(folder)}, model_yaml_config=config, model_name=None)
    )
    return service.handler


def requests(server: Server, model: str) -> Iterator[Payload]:
    """A request of each format, and one of each fault."""
    contract, rng = server.contract(model), np.random.default_rng(1)
    yield payloads.example(contract)
    for protocol in payloads.PATHS:
        yield payloads.valid(contract, rng, protocol)
        yield payloads.edge(contract, rng, protocol)
    yield from faults.faults(contract, rng)


def without_id(body: bytes) -> Any:
    """An answer without the id of its request, which is in errors; binary ones as they are."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    for holder in (answer, answer.get("error") if isinstance(answer, dict) else None):
        if isinstance(holder, dict):
            holder.pop("request_id", None)
    return answer


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("model", SERVICES)
def test_answers_are_those_of_the_archives_core_in_every_format(host: Server, model: str, tmp_path: Path) -> None:
    answering, number = core(host, model, tmp_path), host.contract(model).version
    count = 0
    for payload in requests(host, model):
        path, headers = payload.path(model), {name.lower(): value for name, value in payload.headers.items()}
        there = host.client.post(f"{host.url}{path}", content=payload.body, headers=payload.headers)
        behind: Mapping[str, str] = {} if path.startswith("/predictions/") else {PATH: path[1:]}
        here: Response
        (here,) = answering.handle([Request(payload.body, {**headers, **behind}, {}, "id")])
        expected = here.status, here.content_type, without_id(here.body)
        assert (there.status_code, there.headers["content-type"], without_id(there.content)) == expected, payload
        if here.status == 200:
            assert there.content == here.body
        count += 1
    assert count > 25, f"{model} {number}"


def test_metadata_is_at_the_plain_base_url(host: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/linear/ready", "/v1/models/linear"):
        assert host.client.get(f"{host.url}{path}").status_code == 200, path
    assert host.client.get(f"{host.url}/v2/models/linear").json()["inputs"][0]["name"] == "x"
    assert host.client.get(f"{host.url}/v1/models").json() == {"models": ["chat", "fashion", "linear"]}


def test_a_language_model_streams_its_text(host: Server) -> None:
    body = {"messages": [{"role": "user", "content": TEXT}], "stream": True}
    pieces: list[str] = []
    with host.client.stream("POST", f"{host.url}/predictions/chat/1.0/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: "))["choices"]
                pieces += [choice["delta"].get("content") or "" for choice in choices]
    assert len(pieces) > 2
    assert "".join(pieces) == TEXT


def test_a_body_that_is_too_large_is_a_413_in_json(host: Server) -> None:
    answer = host.client.post(f"{host.url}/predictions/linear", content=b" " * 6_553_501)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_the_exporter_counts_what_the_replicas_answered(host: Server) -> None:
    before = counted(host, "fashion")
    for _ in range(20):
        assert host.client.post(f"{host.url}/predictions/fashion", content=b"{").status_code == 400
    assert (counted(host, "fashion") - before)["400"] == 20


def test_a_version_is_promoted_and_rolled_back_without_a_failed_request(host: Server) -> None:
    registry, changes = Registry(host.settings.model_store), background.rollout(host.settings)
    former = registry.champion("linear").number
    with clients(host.url, LINEAR, count=4) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
        assert changes.promote("linear", NEXT) == former
        assert host.client.post(f"{host.url}/predictions/linear/{NEXT}", json={"x": 6}).status_code == 200
        assert host.client.post(f"{host.url}/predictions/linear/{former}", json={"x": 6}).status_code == 404
        assert changes.promote("linear", former) == NEXT
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_what_is_deployed_is_what_the_configuration_says(host: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "ray-config", "--host", "127.0.0.1"],
        cwd=ROOT,
        env=environment(host.settings) | ONE_REPLICA,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = {entry["name"] for entry in yaml.safe_load(done.stdout)["applications"]}
    registry = Registry(host.settings.model_store)
    assert names == {f"{name}-{number}" for name, (number, _) in registry.champions().items()}


@pytest.mark.ray
def test_a_broken_version_never_takes_the_champion_down(host: Server) -> None:
    registry, changes = Registry(host.settings.model_store), background.rollout(host.settings)
    champion = registry.champion("linear")
    content = registry.verify(champion.version).read_bytes()
    contract = registry.champion_contract("linear")
    wrong = replace(contract, version="8.0", example=replace(contract.example, response={"prediction": -1.0}))
    path = registry.store / "linear-8.0.mar"
    path.write_bytes(archive.rewritten(content, {archive.CONTRACT: wrong.to_json()}))
    with registry.change() as models:
        models["linear"]["8.0"] = Version(path.name, file_sha256(path), "challenger", "2026-01-01T00:00:00+00:00")
    with clients(host.url, LINEAR, count=4) as outcomes:
        with pytest.raises(LaunchError, match=r"linear 8\.0 does not load: .*answered"):
            changes.promote("linear", "8.0")
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples
    assert registry.champion("linear").number == champion.number


@pytest.mark.ray
def test_an_archive_of_a_former_release_answers(host: Server) -> None:
    registry, changes = Registry(host.settings.model_store), background.rollout(host.settings)
    content = FORMER.read_bytes()
    contract = archive.read_contract(content)
    with zipfile.ZipFile(io.BytesIO(content)) as members:  # as that release wrote it: its handlers know no newer field
        document = json.loads(members.read(archive.CONTRACT)) | {"name": "former"}
    path = registry.store / "former-1.0.mar"
    path.write_bytes(archive.rewritten(content, {archive.CONTRACT: json.dumps(document).encode()}))
    version = Version(path.name, file_sha256(path), "champion", "2026-01-01T00:00:00+00:00")
    with registry.change() as models:
        models["former"] = {contract.version: version}
    changes.converge()
    body = json.dumps(contract.example.request).encode()
    headers = {"content-type": "application/json"}
    answer = host.client.post(f"{host.url}/predictions/former", content=body, headers=headers)
    assert answer.json() == contract.example.response


@pytest.mark.ray
def test_a_head_that_was_killed_serves_the_same_again(host: Server) -> None:
    head = background.find(host.settings)
    assert head is not None
    head.kill()
    psutil.wait_procs([head], timeout=10)

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return host.client.post(f"{host.url}/predictions/linear", json={"x": 6}).status_code == 200
        return False

    wait_until(lambda: not answers(), timeout=60)
    wait_until(answers, timeout=180, poll=0.5)


def test_it_starts_only_where_its_ports_are_free(host: Server, tmp_path: Path) -> None:
    other = replace(host.settings, run_dir=tmp_path / "run")
    with pytest.raises(LaunchError, match="set MARLOOP_INFERENCE_PORT"):
        background.start(other)


def test_make_down_leaves_no_process(host: Server) -> None:
    """The last test of this module."""
    done = subprocess.run(
        [sys.executable, "-m", "serving", "down"],
        cwd=ROOT,
        env=os.environ | host.settings.to_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert background.find_all(host.settings) == []
    assert not Place(host.settings).folder.exists()
