"""Two machines with the direct host serve one store on S3: they follow it, and go on without it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from serving.hosts.direct import background
from serving.readiness import ask_all
from serving.registry import Registry, Version
from serving.settings import ROOT, Settings
from serving.store.opening import open_copy, open_registry
from serving.store.shared.mirror import synchronise
from serving.supervision import companion
from tests.chaos.load import RIGHT, clients
from tests.integration.conftest import Server, environment, put, serve, settings_for
from tests.integration.hosts.test_direct import LINEAR
from tests.support.serving.s3 import S3Server, s3_server
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as variables:
        for name, value in server.environment.items():
            variables.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def url(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store on S3 with two versions of a model, which another machine registered."""
    folder, url = tmp_path_factory.mktemp("trainer"), s3.bucket("fleet")
    trained = Registry(put(folder / "trained", "linear"))
    number, version = trained.champion("linear")
    shared = open_registry(machine(url, folder / "run"))
    with shared.change() as models:
        for name, state in ((number, "champion"), ("9.9", "challenger")):
            path = shared.store / f"linear-{name}.mar"
            shutil.copy(trained.verify(version), path)
            entry = Version(path.name, version.sha256, version.state, version.created)
            entry.state = "champion" if state == "champion" else "challenger"
            models.setdefault("linear", {})[name] = entry
    return url


def machine(url: str, run_dir: Path) -> Settings:
    """The settings of a machine with the direct host, whose folder is a copy of the store."""
    return replace(settings_for(run_dir / "model_store", run_dir, host="direct"), store_url=url)


@pytest.fixture(scope="module")
def fleet(url: str) -> Iterator[list[Server]]:
    """Two machines that serve it."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        settings = [machine(url, Path(folder)) for folder in (one, other)]
        for own in settings:
            synchronise(open_registry(own))
        with serve(settings[0]) as first, serve(settings[1]) as second:
            yield [first, second]


def default(server: Server) -> str:
    versions = httpx.get(f"{server.url}/v2/models/linear", timeout=5, trust_env=False).json()["versions"]
    return str(versions[0])


def test_a_promotion_anywhere_reaches_every_machine_without_a_failed_request(fleet: list[Server], url: str) -> None:
    with clients(fleet[0].url, LINEAR, 2) as one, clients(fleet[1].url, LINEAR, 2) as other:
        wait_until(lambda: min(one.counts[RIGHT], other.counts[RIGHT]) > 20)
        with tempfile.TemporaryDirectory() as elsewhere:
            command = [sys.executable, "-m", "serving", "promote", "linear", "9.9"]
            variables = environment(machine(url, Path(elsewhere)))
            done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: [default(server) for server in fleet] == ["9.9", "9.9"])
        background.rollout(fleet[0].settings).promote("linear", "1.0")
        wait_until(lambda: [default(server) for server in fleet] == ["1.0", "1.0"])
        count = min(one.counts[RIGHT], other.counts[RIGHT])
        wait_until(lambda: min(one.counts[RIGHT], other.counts[RIGHT]) > count + 20)
    assert set(one.counts) == set(other.counts) == {RIGHT}, (one.examples, other.examples)


def test_a_killed_mirror_comes_back(fleet: list[Server]) -> None:
    settings = fleet[0].settings
    process = companion.mirror(settings).find(settings)
    assert process is not None
    process.kill()
    wait_until(lambda: companion.mirror(settings).find(settings) not in (None, process))


def test_a_host_that_starts_while_the_store_is_away_serves_what_it_saw_last(fleet: list[Server], s3: S3Server) -> None:
    settings = fleet[1].settings
    background.stop(settings)
    s3.stop()
    synchronise(open_registry(settings))
    background.start(settings)
    assert [model.detail for model in ask_all(open_copy(settings), settings.inference_url)] == [""]
