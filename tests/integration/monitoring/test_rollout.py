"""Versions come and go on a real TorchServe under load; whatever is killed, it ends with the registry's champion."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from handlers.contract import ModelContract
from handlers.observe.settings import CAPTURE_URL
from monitoring.retraining.judging.shadow import shadow
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Shadowed
from monitoring.store.records import Prediction
from serving.hosts.host import LaunchError
from serving.hosts.torchserve import background, rollout
from serving.hosts.torchserve.management import Management
from serving.hosts.torchserve.rollout import TorchServeRollout
from serving.registry import ArchiveError, Registry, Version, file_sha256
from serving.settings import ROOT, Folders
from tests.integration.conftest import Server, serve, settings_for
from tests.support.sinks import Received, sink
from tests.support.waiting import wait_until
from training.packaging.registration import TrainOptions
from training.pipeline import train
from training.recipes.linear import recipe
from training.statistics.pair import Pair

pytestmark = pytest.mark.loop

ROLLOUTS = int(os.environ.get("ROLLOUTS", "3"))  # more of them take long
ANSWERS = {"1.0": 12.0, "1.1": 11.52}  # to x = 6: the second version stopped while its offset was wrong
BROKEN, AILING = "1.2", "1.3"  # one cannot be loaded, the other is slow, and fails over x = 8
AILMENT = '''
import time

from handlers import engine
from handlers.formats.codec import Codec
from handlers.service import Service

run = engine.OnnxRuntimeEngine.run


def ail(self, tensors):
    time.sleep(0.1)
    if tensors["x"].max() > 8:
        raise RuntimeError("it ails")
    return run(self, tensors)


engine.OnnxRuntimeEngine.run = ail


class TabularService(Service):
    """Ails."""

    codec = Codec
'''
PROMOTE = """
import os, signal, sys, threading
from pathlib import Path
import httpx
from serving.hosts.torchserve.management import Management
from serving.registry import Registry
from serving.hosts.torchserve.rollout import TorchServeRollout

store, url, number, when, where = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(name, action):
    def run(*arguments):
        if name == where and when == "before":
            die()
        if name == where and when == "during":
            threading.Timer(0.3, die).start()
        result = action(*arguments)
        if name == where and when == "after":
            die()
        return result
    return run

registry, management = Registry(Path(store)), Management(url, httpx.Client(timeout=60))
for name in ("register", "set_default", "unregister"):
    setattr(management, name, dying(name, getattr(management, name)))
registry.promote = dying("promote", registry.promote)
TorchServeRollout(registry, management, dying("drain", lambda name, number: True)).promote("linear", number)
"""


class World(NamedTuple):
    """A TorchServe with versions of linear, what it captures, and its rollout."""

    server: Server
    registry: Registry
    captured: Received
    rollout: TorchServeRollout

    @property
    def management(self) -> Management:
        return Management(self.server.settings.management_address, self.server.client)

    @property
    def served(self) -> list[str]:
        return self.management.versions()["linear"]

    @property
    def champion(self) -> str:
        (number,) = [number for number, version in self.versions.items() if version.state == "champion"]
        return number

    @property
    def versions(self) -> dict[str, Version]:
        return self.registry.models()["linear"]

    @property
    def other(self) -> str:
        """The one of the two good versions that is not champion."""
        return "1.1" if self.champion == "1.0" else "1.0"

    def contract(self, number: str) -> ModelContract:
        return self.registry.contract(self.versions[number])

    def answer(self, number: str = "") -> float:
        response = self.server.client.post(f"{self.server.url}/predictions/linear/{number}".rstrip("/"), json={"x": 6})
        assert response.status_code == 200, response.text
        return float(response.json()["prediction"])

    def start_promotion(self, number: str, when: str = "", where: str = "") -> subprocess.Popen[bytes]:
        arguments = [str(self.registry.store), self.server.settings.management_address, number, when, where]
        return subprocess.Popen([sys.executable, "-c", PROMOTE, *arguments], cwd=ROOT)

    def check(self, champion: str) -> None:
        """One version is served, it is the registry's only champion, and its archive is whole."""
        assert (self.champion, self.served) == (champion, [champion])
        assert self.answer() == pytest.approx(ANSWERS[champion], abs=0.01)
        self.registry.verify(self.versions[champion])


def repack(registry: Registry, number: str, changes: dict[str, bytes]) -> None:
    """Register 1.1 under another number, with other files."""
    path = registry.store / f"linear-{number}.mar"
    with zipfile.ZipFile(registry.store / "linear-1.1.mar") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name in ("contract.json", "MAR-INF/MANIFEST.json"):
                content = re.sub(rb'(ersion": ?)"1\.1"', rb'\1"' + number.encode() + b'"', content)
            target.writestr(name, changes.get(name, content))
    with registry.change() as models:
        version = Version(path.name, file_sha256(path), "challenger", models["linear"]["1.1"].created)
        models["linear"][number] = version


@pytest.fixture(scope="module")
def world(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("rollout")
    registry = Registry(folder / "store")
    registry.store.mkdir()
    shutil.copy(store / "linear-1.0.mar", registry.store)
    with registry.change() as models:
        models["linear"] = {"1.0": Registry(store).models()["linear"]["1.0"]}
    train(recipe, registry, Folders(folder, folder / "runs"), TrainOptions(preset="tutorial", promote="never"))
    repack(registry, BROKEN, {"model.onnx": b"no graph"})
    repack(registry, AILING, {"tabular.py": AILMENT.encode()})
    with sink() as captured, tempfile.TemporaryDirectory() as run_dir, pytest.MonkeyPatch.context() as environment:
        environment.setenv(CAPTURE_URL, captured.url)
        with serve(settings_for(registry.store, Path(run_dir))) as server, httpx.Client(timeout=60) as client:
            management = Management(server.settings.management_address, client)
            yield World(
                server,
                registry,
                captured,
                rollout.connect(registry, management, server.url, client, metrics_url=server.settings.metrics_url),
            )


def kill_torchserve(world: World) -> None:
    process = background.find(world.server.settings)
    assert process is not None
    process.kill()
    psutil.wait_procs([process], timeout=10)


def test_a_promotion_under_load_fails_no_request_and_afterwards_only_the_new_version_answers(world: World) -> None:
    stop, answers = threading.Event(), list[tuple[float, int, Any]]()
    assert world.champion == "1.0"

    def client() -> None:
        with httpx.Client(timeout=60) as own:
            while not stop.is_set():
                asked = time.monotonic()
                response = own.post(f"{world.server.url}/predictions/linear", json={"x": 6})
                answers.append((asked, response.status_code, response.json().get("prediction")))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 100)
        world.rollout.beside("linear", "1.1")
        beside = len(answers)
        wait_until(lambda: len(answers) > beside + 100)
        assert world.rollout.promote("linear", "1.1") == "1.0"
        promoted, after = time.monotonic(), len(answers)
        wait_until(lambda: len(answers) > after + 100)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {code for _, code, _ in answers} == {200}
    assert {round(value, 1) for _, _, value in answers[:beside]} == {12.0}
    assert {round(value, 1) for _, _, value in answers} == {12.0, 11.5}
    assert {round(value, 1) for asked, _, value in answers if asked > promoted} == {11.5}
    world.check("1.1")


@pytest.mark.parametrize("when", ["altered", "missing", "broken"])
def test_a_version_that_cannot_be_served_is_not_promoted_and_the_champion_answers_on(world: World, when: str) -> None:
    champion, number = world.champion, BROKEN if when == "broken" else world.other
    path = world.registry.store / world.versions[number].archive
    whole, states = path.read_bytes(), [version.state for version in world.versions.values()]
    try:
        if when == "altered":
            path.write_bytes(whole + b" ")
        if when == "missing":
            path.unlink()
        reason = {"altered": "has SHA-256", "missing": "is not there", "broken": "its workers do not start"}[when]
        with pytest.raises(LaunchError if when == "broken" else ArchiveError, match=reason):
            world.rollout.promote("linear", number)
    finally:
        path.write_bytes(whole)
    assert [version.state for version in world.versions.values()] == states
    world.check(champion)


@pytest.mark.parametrize(
    ("when", "where", "promoted"),
    [
        ("before", "register", False),
        ("during", "register", False),
        ("after", "register", False),
        ("after", "promote", True),
        ("after", "set_default", True),
        ("after", "drain", True),
        ("after", "unregister", True),
    ],
)
def test_whoever_promotes_can_be_killed_at_any_step(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str, where: str, promoted: bool
) -> None:
    monkeypatch.setattr(rollout, "DRAIN_PAUSE", 0.0)  # nobody asks anything
    champion, number = world.champion, world.other
    assert world.start_promotion(number, when, where).wait(timeout=60) == -signal.SIGKILL
    expected = number if promoted else champion
    assert world.champion == expected
    world.rollout.converge()
    world.check(expected)


def test_clients_that_name_a_version_are_answered_whatever_is_rolled_out(world: World) -> None:
    stop, codes, lost = threading.Event(), list[int](), list[str]()
    named = world.champion

    def client() -> None:
        with httpx.Client(timeout=20) as own:
            while not stop.is_set():
                try:
                    codes.append(own.post(f"{world.server.url}/predictions/linear/{named}", json={"x": 6}).status_code)
                except httpx.HTTPError as error:
                    lost.append(repr(error))

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROLLOUTS):
            before = len(codes)
            wait_until(lambda before=before: len(codes) > before + 100)  # type: ignore[misc]
            world.rollout.promote("linear", world.other)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert lost == []
    assert set(codes) == {200}
    world.rollout.converge()
    world.check(world.champion)


@pytest.mark.parametrize("step", ["loading", "draining"])
def test_torchserve_can_be_killed_at_any_step_and_is_started_with_the_champion(world: World, step: str) -> None:
    champion, number, management = world.champion, world.other, world.management
    killing = threading.Timer(0.3, kill_torchserve, [world])
    register = management.register

    def registering(archive: str, name: str, number: str) -> None:
        if step == "loading":
            killing.start()
        register(archive, name, number)

    def drain(name: str, number: str) -> bool:
        kill_torchserve(world)
        return True

    management.register = registering  # type: ignore[assignment, method-assign]
    own = TorchServeRollout(world.registry, management, drain)
    with pytest.raises(LaunchError, match=f"linear {number} cannot be promoted"):
        own.promote("linear", number)
    if step == "loading":
        killing.join()
    background.start(world.server.settings)
    world.check(champion if step == "loading" else number)


def test_a_promotion_goes_on_where_another_was_killed_while_torchserve_was_loading(world: World) -> None:
    number = world.other
    assert world.start_promotion(number, "during", "register").wait(timeout=60) == -signal.SIGKILL
    world.rollout.promote("linear", number)
    world.check(number)


def test_processes_that_promote_at_once_take_turns(world: World) -> None:
    promotions = [world.start_promotion(number) for number in ("1.0", "1.1")]
    assert [one.wait(timeout=60) for one in promotions] == [0, 0]
    world.check(world.champion)


def captured_rows(values: Sequence[float], model: str = "linear") -> list[Prediction]:
    """Predictions that came one after another."""
    moments = [datetime.fromtimestamp(i, UTC) for i in range(len(values))]
    return [Prediction(f"r{i}", 0, model, "1.0", moments[i], {"x": x}, 2 * x) for i, x in enumerate(values)]


def shadowed(world: World, challenger: str, values: Sequence[float], latency: float = 2) -> Shadowed:
    world.rollout.beside("linear", challenger)
    contracts = Pair(world.contract(world.champion), world.contract(challenger))
    return shadow(world.server.client, world.server.url, contracts, captured_rows(values), JudgePolicy(latency=latency))


def test_a_challenger_is_shadowed_beside_the_champion_and_its_answers_are_not_captured(world: World) -> None:
    world.rollout.promote("linear", "1.1")
    found = shadowed(world, "1.0", [1, 2, 3] * 10 + [9] * 10, latency=10)  # 1.1 errs by more than usual far from 0
    assert (found.requests, found.rows, found.errors, found.passed) == (40, 40, 0, True)
    assert found.agreement == 0.75
    assert found.champion_ms
    assert found.champion_p95_ms
    assert 0 < found.champion_ms <= found.champion_p95_ms
    for number in ("1.0", "1.1"):
        headers = {"X-Request-Id": f"client-{number}"}
        world.server.client.post(f"{world.server.url}/predictions/linear/{number}", json={"x": 6}, headers=headers)
    told = {"client-1.0", "client-1.1"}
    wait_until(lambda: told <= {one["data"]["request_id"] for one in world.captured.events})
    events = [one["data"] for one in world.captured.events]
    last = {number: [one["request_id"] for one in events if one["version"] == number][-1] for number in ANSWERS}
    assert last == {"1.0": "client-1.0", "1.1": "client-1.1"}
    assert not [one for one in events if one["features"]["x"] == 9]
    world.rollout.withdraw("linear", "1.0")
    world.check("1.1")


def test_a_challenger_that_is_slow_or_fails_or_is_not_there_is_not_passed(world: World) -> None:
    slow = shadowed(world, AILING, [1.0] * 10)
    assert (slow.passed, slow.errors, slow.rows) == (False, 0, 10)
    assert slow.reason.startswith("too slow: ")
    failing = shadowed(world, AILING, [1, 9] * 5)
    assert (failing.passed, failing.errors, failing.rows) == (False, 5, 5)
    assert failing.reason.startswith("5 of 10 requests failed that the champion answers, the first: 500: ")
    contracts = Pair(world.contract(world.champion), world.contract(AILING))
    world.rollout.withdraw("linear", AILING)
    rows = captured_rows([1.0] * 3)
    gone = shadow(world.server.client, world.server.url, contracts, rows, JudgePolicy())
    assert (gone.passed, gone.errors, gone.rows) == (False, 3, 0)
    assert "the first: 404: " in gone.reason
