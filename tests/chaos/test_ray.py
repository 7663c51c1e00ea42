"""Replicas, nodes and the head of a cluster of Ray are killed or frozen, while clients ask that know the answers.

Three nodes run on this machine, each with an address, ports and folders of its own; the head is that of
`make up HOST=ray`.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from serving.hosts.ray import background
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.launch import MARK, mark_of
from serving.hosts.ray.settings import Place
from serving.processes import Tree, kill, marked, running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.settings import Settings, free_ports
from tests.chaos.conftest import LINEAR
from tests.chaos.load import FAILED, REFUSED, RIGHT, WRONG, Outcomes, clients
from tests.conftest import Figures
from tests.integration.conftest import put, settings_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ray
CLIENTS = 8  # requests in flight
BACK = 60.0  # s: promised until all replicas run again
FROZEN = 20.0  # s
REPLICAS = 3


class Cluster:
    """A head with a front, and two more nodes.

    Args:
        folder: of all.
        stack: ends the nodes.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        head = settings_for(put(folder / "store", "linear"), folder / "run", host="ray")
        self.head = replace(head, private_address="127.0.0.2")
        self.nodes = [
            replace(head, run_dir=folder / f"node{i}", ray_port=free_ports(1)[0], private_address=f"127.0.0.{i}")
            for i in (3, 4)
        ]
        self._stack = stack
        self._trees: dict[int, Tree] = {}

    @property
    def proxies(self) -> str:
        """Addresses of the proxies of all nodes."""
        return ",".join(Place(settings).proxy for settings in (self.head, *self.nodes))

    def up(self) -> None:
        """Start the head with its front, and the nodes that do not run; wait until each has a replica."""
        background.start(self.head)
        for i, node in enumerate(self.nodes):
            if i not in self._trees or not self._trees[i].processes():
                self._start(i, node)
        wait_until(lambda: self.running() == REPLICAS, timeout=180, poll=0.5)

    def running(self) -> int:
        """The replicas that Serve says run."""
        place = Place(self.head)
        with contextlib.suppress(Exception):
            apps = ServeApi(place.dashboard, place.token).applications()
            return sum(len(app.replicas) for app in apps.values())
        return 0

    def processes(self, node: int, title: str = "") -> list[psutil.Process]:
        """The processes of a node with a title; those of all nodes for -1."""
        chosen = self.nodes[node : node + 1] if node >= 0 else [self.head, *self.nodes]
        members = [process for settings in chosen for process in marked(MARK, mark_of(Place(settings)))]
        return [process for process in members if title in " ".join(line_of(process))]

    def served(self) -> bool:
        """Whether the champion answers its example."""
        return all(model.ready for model in ask_all(Registry(self.head.model_store), self.head.inference_url))

    def _start(self, i: int, node: Settings) -> None:
        node.run_dir.mkdir(exist_ok=True)
        shutil.rmtree(node.temporary, ignore_errors=True)
        command = [sys.executable, "-m", "serving", "ray-node", Place(self.head).head]
        environment = os.environ | node.to_environment()
        tree = self._stack.enter_context(running(command, environment, node.run_dir / "node.log"))
        self._trees[i] = tree


def line_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with a replica each."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray, of the extra ray, is not installed")
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        cluster = Cluster(tmp_path_factory.mktemp("ray"), stack)
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        environment.setenv("MARLOOP_RAY_REPLICAS", str(REPLICAS))
        environment.setenv("MARLOOP_RAY_PROXIES", cluster.proxies)
        stack.callback(background.stop, cluster.head)
        cluster.up()
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster, whole: what an earlier fault left is mended first."""
    running_cluster.up()
    wait_until(running_cluster.served)
    return running_cluster


def told(outcomes: Outcomes) -> int:
    """Requests that were not answered."""
    return outcomes.counts[REFUSED] + outcomes.counts[FAILED]


def needs_replica(cluster: Cluster, node: int) -> None:
    """Skip where Ray Serve put all replicas on other nodes: the end of this one would show nothing."""
    if not cluster.processes(node, background.REPLICA):
        pytest.skip("Ray Serve put no replica on this node")


@contextlib.contextmanager
def asked(cluster: Cluster, figures: Figures, seconds: float = 5.0, timeout: float = 30) -> Iterator[Outcomes]:
    """Clients that ask before a fault, meanwhile, and until some seconds after it."""
    with clients(cluster.head.inference_url, LINEAR, CLIENTS, timeout) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 200)
        yield outcomes
        time.sleep(seconds)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 200)
    figures(outcomes)
    assert outcomes.counts[WRONG] == 0, outcomes.examples


def seconds_until_whole(cluster: Cluster, limit: float = 240) -> float:
    """Wait until a replica is missing, then until all run again; return how long the latter took."""
    started = time.monotonic()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: cluster.running() < REPLICAS, timeout=30)
    wait_until(lambda: cluster.running() >= REPLICAS and cluster.served(), timeout=limit, poll=0.5)
    return time.monotonic() - started


def test_a_killed_replica_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    with asked(cluster, figures) as outcomes:
        cluster.processes(-1, background.REPLICA)[0].kill()
        figures.took("all replicas", seconds_until_whole(cluster), BACK)
    assert told(outcomes) <= CLIENTS


def test_a_killed_raylet_costs_at_most_what_its_node_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    needs_replica(cluster, 0)
    with asked(cluster, figures) as outcomes:
        kill([process for process in cluster.processes(0) if process.name() == "raylet"])
        figures.took("all replicas", seconds_until_whole(cluster), BACK)
    assert told(outcomes) <= CLIENTS


def test_a_killed_node_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    needs_replica(cluster, 1)
    with asked(cluster, figures) as outcomes:
        kill(cluster.processes(1))
        figures.took("all replicas", seconds_until_whole(cluster), BACK)
    assert told(outcomes) <= 2 * CLIENTS  # its proxy's, and those that others sent it until they noticed


def test_a_frozen_node_is_avoided(cluster: Cluster, figures: Figures) -> None:
    needs_replica(cluster, 0)
    members = cluster.processes(0)
    with asked(cluster, figures, timeout=10) as outcomes:
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            count, until = outcomes.counts[RIGHT], time.monotonic() + FROZEN
            time.sleep(max(0.0, until - time.monotonic()))
            assert outcomes.counts[RIGHT] > count + 100
        finally:
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
    assert told(outcomes) <= 3 * CLIENTS


def test_a_killed_head_comes_back_and_serves_the_same(cluster: Cluster, figures: Figures) -> None:
    head = background.find(cluster.head)
    assert head is not None
    with asked(cluster, figures) as outcomes:
        head.kill()
        began = time.monotonic()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: told(outcomes) > 0, timeout=30)
        wait_until(cluster.served, timeout=240, poll=0.5)
        figures.took("answers again", time.monotonic() - began, BACK)
