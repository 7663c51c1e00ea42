"""A rollout of the chart's pods in a real engine, one after another as a Deployment does it, under clients that know
the answers."""

import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serving.ports import free_ports
from serving.registry import file_sha256
from serving.security.keys import KeyFile
from tests.chaos.load import RIGHT, Outcomes, Question, clients
from tests.integration.hosts.kubernetes.balancer import balancing, log_of
from tests.integration.hosts.kubernetes.deployment import Deployment, versions
from tests.integration.hosts.kubernetes.pod import Pod
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
logger = logging.getLogger(__name__)
READY = "/v2/health/ready"  # what a balancer asks; Kubernetes takes a pod out of a Service as soon as it is to end
PATH, ROWS = "/v1/models/linear:predict", {"instances": [{"x": 6}]}
QUESTION = Question(PATH, ROWS, {"predictions": [11.999998]})
ENOUGH = 200  # right answers, so that every client has met the pods that are there now
Make = Callable[..., Pod]


@pytest.fixture
def pod(deployment: Deployment) -> Make:
    """Make a pod that serves an archive at a port, with changes of the chart's values and files of Secrets."""

    def make(path: Path, port: int, *changes: str, **secrets: dict[str, str]) -> Pod:
        archive = "groups.linear.archives[0]"
        values = (
            "groups.linear.models={linear}",
            f"{archive}.url={path}",
            f"{archive}.sha256={file_sha256(path)}",
            *changes,
        )
        return deployment.pod("one-model.yaml", "linear", port, *values, secrets=secrets, beside=(path.parent,))

    return make


def go_on(outcomes: Outcomes) -> None:
    """Wait until the clients had enough further answers."""
    before = outcomes.counts[RIGHT]
    wait_until(lambda: outcomes.counts[RIGHT] > before + ENOUGH)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_no_request_fails_while_every_pod_is_replaced(
    mode: str, pod: Make, archives: dict[str, Path], tmp_path: Path
) -> None:
    old, new, _ = archives.values()
    ports = free_ports(3)
    running = [pod(old, port) for port in ports[:2]]
    for former in running:
        former.start()
    spare = ports[2]
    with balancing(mode, READY, ports, tmp_path) as url, clients(url, QUESTION) as outcomes:
        go_on(outcomes)
        for former in tuple(running):  # one more is ready, then one ends: maxSurge 1, maxUnavailable 0
            running.append(pod(new, spare))
            running[-1].start()
            go_on(outcomes)
            assert former.end() == 0, former.log()
            running.remove(former)
            spare = former.port
        go_on(outcomes)
    logger.warning("%s: %s", mode, outcomes)
    said = log_of(mode, tmp_path).read_text()
    assert set(outcomes.counts) == {RIGHT}, f"{outcomes}: {outcomes.examples}\n{said}"
    assert [versions(one, "linear") for one in running] == [["7.7"], ["7.7"]]


def test_a_pod_with_a_broken_archive_is_never_ready_and_the_others_serve_on(
    pod: Make, archives: dict[str, Path], tmp_path: Path
) -> None:
    old, _, broken = archives.values()
    ports = free_ports(2)
    good, bad = pod(old, ports[0]), pod(broken, ports[1])
    good.start()
    with balancing("http", READY, ports, tmp_path) as url, clients(url, QUESTION) as outcomes:
        bad.run()
        wait_until(lambda: "is not served" in bad.log())
        go_on(outcomes)
        assert not bad.answers("startupProbe")
        assert good.answers("readinessProbe")
    assert set(outcomes.counts) == {RIGHT}, f"{outcomes}: {outcomes.examples}"


def test_keys_of_a_secret_are_asked_for_and_probes_need_none(
    pod: Make, archives: dict[str, Path], tmp_path: Path
) -> None:
    key = KeyFile(tmp_path).add("app")
    files = {"keys.json": KeyFile(tmp_path).path.read_text()}
    path = next(iter(archives.values()))
    one = pod(path, free_ports(1)[0], "open=false", "apiKeys.secret=models", models=files)
    one.start()
    assert one.answers("readinessProbe")
    answers = [
        httpx.post(f"{one.url}{PATH}", json=ROWS, headers=headers, trust_env=False).status_code
        for headers in ({}, {"X-API-Key": "another"}, {"X-API-Key": key})
    ]
    assert answers == [401, 401, 200]
