"""A rollout of the chart's pods in a real engine, one after another as a Deployment does it, under clients that know
the answers. The target `compose-test` leaves it out until it has passed whole on a machine that is not overloaded."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving import archive
from serving.registry import Registry, file_sha256
from serving.security.keys import KeyFile
from serving.settings import free_ports
from tests.chaos.load import RIGHT, Outcomes, Question, clients
from tests.compose.docker import LONGEST_BUILD, Docker, NoDockerError, find_docker
from tests.integration.conftest import put
from tests.integration.hosts.kubernetes.balancer import balancing
from tests.integration.hosts.kubernetes.helm import named, rendered
from tests.integration.hosts.kubernetes.pod import Pod
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
logger = logging.getLogger(__name__)
NAME = "marloop-kubernetes-test"
TAG = "kubernetes-test-direct"
# As the tests of docker-compose.yml build it, so that its layers are there already.
BUILD = {
    "MARLOOP_IMAGE": "marloop:kubernetes-test",
    "MARLOOP_HOST": "direct",
    "EXTRAS": "otel",
    "COMPOSE_ENV_FILES": os.devnull,
}
READY = "/v2/health/ready"  # what a balancer asks; Kubernetes takes a pod out of a Service as soon as it is to end
PATH, ROWS = "/v1/models/linear:predict", {"instances": [{"x": 6}]}
QUESTION = Question(PATH, ROWS, {"predictions": [11.999998]})
ENOUGH = 200  # right answers, so that every client has met the pods that are there now


@pytest.fixture(scope="module")
def docker() -> Docker:
    """An engine with the direct host's image of this checkout."""
    environ = {**os.environ, **BUILD}
    try:
        docker = find_docker(environ)
        docker.require_engine()
        base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
        if not docker.has_image(base):
            raise NoDockerError(f"the base image {base} is not here and cannot be pulled")
    except NoDockerError as error:
        pytest.skip(str(error))
    docker.check("compose", "build", "torchserve", timeout=LONGEST_BUILD)
    return docker


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives of a model by version: two that answer alike, and one whose graph is broken."""
    store = put(tmp_path_factory.mktemp("rollout") / "store", "linear")
    number, version = Registry(store).champion("linear")
    first = store / version.archive
    contract = json.loads(archive.read_file(first, archive.CONTRACT))
    changed = {archive.CONTRACT: json.dumps(contract | {"version": "7.7"}).encode()}
    second, broken = store / "second.mar", store / "broken.mar"
    second.write_bytes(archive.rewritten(first.read_bytes(), changed))
    broken.write_bytes(archive.rewritten(second.read_bytes(), {archive.ONNX: b"no graph"}))
    for path in (first, second, broken):
        path.chmod(0o644)
    return {number: first, "7.7": second, "broken": broken}


class Deployment:
    """Pods of a group of the chart, each with one archive.

    Args:
        folder: of their volumes.
    """

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker, self._folder = docker, folder
        self.pods: list[Pod] = []

    def pod(self, path: Path, port: int, *changes: str, **secrets: dict[str, str]) -> Pod:
        """Make a pod that serves an archive.

        Args:
            changes: of the chart's values.
            secrets: files by the name of a Secret.
        """
        objects = rendered(
            "one-model.yaml",
            "groups.linear.models={linear}",
            f"groups.linear.archives[0].url={path}",
            f"groups.linear.archives[0].sha256={file_sha256(path)}",
            "image.repository=marloop",
            f"image.tag={TAG}",
            "drainSeconds=3",
            *changes,
        )
        spec = named(objects, "Deployment", "marloop-linear")["spec"]["template"]["spec"]
        number = len(self.pods) + 1
        name, folder = f"{NAME}-{os.getpid()}-{number}", self._folder / str(number)
        self.pods.append(Pod(self._docker, name, spec, folder, port, secrets, beside=(path.parent,)))
        return self.pods[-1]


@pytest.fixture
def deployment(docker: Docker, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(docker, tmp_path / "pods")
    yield made
    for pod in made.pods:
        logger.info("%s", pod.log())
        pod.remove()


def versions(pod: Pod) -> list[str]:
    found: list[str] = httpx.get(f"{pod.url}/v2/models/linear", trust_env=False).json()["versions"]
    return found


def go_on(outcomes: Outcomes) -> None:
    """Wait until the clients had enough further answers."""
    before = outcomes.counts[RIGHT]
    wait_until(lambda: outcomes.counts[RIGHT] > before + ENOUGH)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_no_request_fails_while_every_pod_is_replaced(
    mode: str, deployment: Deployment, archives: dict[str, Path], tmp_path: Path
) -> None:
    old, new, _ = archives.values()
    ports = free_ports(3)
    running = [deployment.pod(old, port) for port in ports[:2]]
    for pod in running:
        pod.start()
    spare = ports[2]
    with balancing(mode, READY, ports, tmp_path) as url, clients(url, QUESTION) as outcomes:
        go_on(outcomes)
        for former in tuple(running):  # one more is ready, then one ends: maxSurge 1, maxUnavailable 0
            running.append(deployment.pod(new, spare))
            running[-1].start()
            go_on(outcomes)
            assert former.end() == 0, former.log()
            running.remove(former)
            spare = former.port
        go_on(outcomes)
    logger.warning("%s: %s", mode, outcomes)
    assert set(outcomes.counts) == {RIGHT}, f"{outcomes}: {outcomes.examples}"
    assert [versions(pod) for pod in running] == [["7.7"], ["7.7"]]


def test_a_pod_with_a_broken_archive_is_never_ready_and_the_others_serve_on(
    deployment: Deployment, archives: dict[str, Path], tmp_path: Path
) -> None:
    old, _, broken = archives.values()
    ports = free_ports(2)
    good, bad = deployment.pod(old, ports[0]), deployment.pod(broken, ports[1])
    good.start()
    with balancing("http", READY, ports, tmp_path) as url, clients(url, QUESTION) as outcomes:
        bad.run()
        wait_until(lambda: "is not served" in bad.log())
        go_on(outcomes)
        assert not bad.answers("startupProbe")
        assert good.answers("readinessProbe")
    assert set(outcomes.counts) == {RIGHT}, str(outcomes)


def test_keys_of_a_secret_are_asked_for_and_probes_need_none(
    deployment: Deployment, archives: dict[str, Path], tmp_path: Path
) -> None:
    key = KeyFile(tmp_path).add("app")
    files = {"keys.json": KeyFile(tmp_path).path.read_text()}
    path = next(iter(archives.values()))
    pod = deployment.pod(path, free_ports(1)[0], "open=false", "apiKeys.secret=models", models=files)
    pod.start()
    assert pod.answers("readinessProbe")
    answers = [
        httpx.post(f"{pod.url}{PATH}", json=ROWS, headers=headers, trust_env=False).status_code
        for headers in ({}, {"X-API-Key": "another"}, {"X-API-Key": key})
    ]
    assert answers == [401, 401, 200]
