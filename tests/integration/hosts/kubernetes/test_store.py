"""Pods of the chart that serve a store on S3, in a real engine: promotions reach all of them, and nothing is served
that nobody signed. The server is moto's, on the engine's own bridge."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from serving.hosts.fleet import FleetRollout
from serving.ports import free_ports
from serving.registry import State, Version, file_sha256
from serving.settings import ROOT, Settings
from serving.store.opening import open_registry
from serving.store.trust import Trust
from tests.chaos.load import RIGHT, Outcomes, clients
from tests.compose.docker import Docker
from tests.integration.conftest import environment, settings_for
from tests.integration.hosts.kubernetes.balancer import balancing, log_of
from tests.integration.hosts.kubernetes.deployment import Deployment, versions
from tests.integration.hosts.kubernetes.pod import Pod
from tests.integration.hosts.kubernetes.test_rollout import QUESTION, go_on
from tests.serving.store.conftest import forget_clients
from tests.support.serving.s3 import S3Server, s3_server
from tests.support.serving.signing import new_key
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
pytest.importorskip("model_signing", reason="the extra signing is not installed")
SECRET = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def s3(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that containers reach, and no other machine does."""
    gateway = docker.check("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    with s3_server(tmp_path, gateway) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield server


@pytest.fixture
def keys(tmp_path: Path) -> Trust:
    return new_key(tmp_path, "signing")


@pytest.fixture
def settings(s3: S3Server, keys: Trust, tmp_path: Path) -> Settings:
    """Of a machine where models are trained and promoted, with a copy of the store."""
    run_dir = tmp_path / "trainer"
    own = settings_for(run_dir / "model_store", run_dir, host="direct")
    return replace(own, store_url=s3.bucket("fleet"), public_key=keys.public_key)


def add(settings: Settings, number: str, path: Path, state: State, signing_key: Path | None) -> None:
    """Register an archive in the store, signed with a key or with none."""
    registry = open_registry(replace(settings, signing_key=signing_key, public_key=None))
    with registry.change() as models:
        name = f"linear-{number}.mar"
        shutil.copy(path, registry.store / name)
        entry = Version(name, file_sha256(path), state, "2026-01-01T00:00:00+00:00")
        models.setdefault("linear", {})[number] = entry


@pytest.fixture
def pods(deployment: Deployment, s3: S3Server, settings: Settings, archives: dict[str, Path], keys: Trust) -> list[Pod]:
    """Two pods that serve the first version; the second one waits. Both are signed."""
    assert keys.public_key
    (first, path), (second, other), _ = archives.items()
    add(settings, first, path, "champion", keys.signing_key)
    add(settings, second, other, "challenger", keys.signing_key)
    changes = (
        "groups.all.models={linear}",
        f"groups.all.store.url={settings.store_url}",
        f"storeSettings.AWS_ENDPOINT_URL={s3.endpoint}",
        "storeSettings.AWS_DEFAULT_REGION=us-east-1",
        f"publicKey={keys.public_key.read_text()}",
        "apiKeys.secret=",
        "open=true",
    )
    pods = [
        deployment.pod("store.yaml", "all", port, *changes, secrets={"marloop-store": SECRET}) for port in free_ports(2)
    ]
    for pod in pods:
        pod.start()
    return pods


@contextlib.contextmanager
def asked(pods: list[Pod], folder: Path) -> Iterator[tuple[str, Outcomes]]:
    """The URL of a balancer before the pods, and what its clients meet until the block ends: right answers alone."""
    path = pods[0].host["readinessProbe"]["httpGet"]["path"]
    with balancing("http", path, [pod.port for pod in pods], folder) as url, clients(url, QUESTION) as outcomes:
        go_on(outcomes)
        yield url, outcomes
        go_on(outcomes)
    assert set(outcomes.counts) == {RIGHT}, f"{outcomes}: {outcomes.examples}\n{log_of('http', folder).read_text()}"


def marloop(settings: Settings, *arguments: str) -> str:
    """What a command prints on the machine where models are trained."""
    command = [sys.executable, "-m", "serving", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_promotion_reaches_every_pod_without_a_failed_request(
    pods: list[Pod], settings: Settings, archives: dict[str, Path], tmp_path: Path
) -> None:
    first, second, _ = archives
    assert [versions(pod, "linear") for pod in pods] == [[first], [first]]
    with asked(pods, tmp_path) as (url, _), httpx.Client(trust_env=False) as client:
        monitor = FleetRollout(open_registry(settings), client, url)  # as the chart's monitor promotes
        assert monitor.answers()
        assert monitor.promote("linear", second) == first
        assert [versions(pod, "linear") for pod in pods] == [[second], [second]]
        assert f"linear {first} is champion" in marloop(settings, "promote", "linear", first)
        wait_until(lambda: [versions(pod, "linear") for pod in pods] == [[first], [first]])


def test_a_champion_that_nobody_signed_is_served_by_no_pod_until_it_is(
    pods: list[Pod], settings: Settings, archives: dict[str, Path], keys: Trust, tmp_path: Path
) -> None:
    first, second, _ = archives
    with asked(pods, tmp_path):
        unsigned = open_registry(replace(settings, public_key=None))  # of somebody who may write the store
        add(settings, "9.9", archives[second], "challenger", None)
        unsigned.promote("linear", "9.9")
        for pod in pods:
            wait_until(lambda pod=pod: "is not signed" in health(pod))  # type: ignore[misc]
            assert pod.answers("readinessProbe")
            assert versions(pod, "linear") == [first]
        assert keys.signing_key
        marloop(replace(settings, signing_key=keys.signing_key), "sign", "linear", "9.9")
        wait_until(lambda: [versions(pod, "linear") for pod in pods] == [["9.9"], ["9.9"]])


def health(pod: Pod) -> str:
    """What a pod says of its readiness."""
    return httpx.get(f"{pod.url}/v2/health/ready", timeout=5, trust_env=False).text


def test_pods_serve_on_while_the_store_does_not_answer(pods: list[Pod], s3: S3Server, tmp_path: Path) -> None:
    with asked(pods, tmp_path) as (_, outcomes):
        s3.stop()
        go_on(outcomes)
