"""Replicas, nodes and the head of a cluster of Ray are killed or frozen, while clients ask that know the answers.

Three nodes run on this machine, each with an address, ports and folders of its own; the head is that of
`make up HOST=ray`. A node that ends is started again, as systemd does it.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from serving.hosts.ray import background
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.config import serve_config
from serving.hosts.ray.launch import MARK, mark_of
from serving.hosts.ray.settings import Offset, Place
from serving.processes import kill, marked, running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.settings import free_ports
from tests.chaos.conftest import LINEAR
from tests.chaos.load import FAILED, REFUSED, RIGHT, WRONG, Outcomes, clients
from tests.conftest import Figures
from tests.integration.conftest import put, settings_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ray
CLIENTS = 4  # requests in flight
BACK = 60.0  # s: promised until all replicas run again
FROZEN = 20.0  # s
NODES = 3
AGAIN = 'while true; do "$@"; sleep 1; done'  # as Restart=always of deploy/ray/marloop-ray-node.service
TRIES = 4  # deployments


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
            self.head,
            *(
                replace(head, run_dir=folder / f"node{i}", ray_port=free_ports(1)[0], private_address=f"127.0.0.{i}")
                for i in (3, 4)
            ),
        ]
        self._stack = stack
        self._place = Place(self.head)

    @property
    def proxies(self) -> str:
        """Addresses of the proxies of all nodes."""
        return ",".join(Place(settings).proxy for settings in self.nodes)

    def up(self) -> None:
        """Start the head, which deploys once the nodes are there, and the nodes."""
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(background.start, self.head)
            wait_until(lambda: self.joined() == 1 or started.done(), timeout=180, poll=0.5)
            for node in self.nodes[1:]:
                node.run_dir.mkdir(exist_ok=True)
                shutil.rmtree(node.temporary, ignore_errors=True)
                command = ["sh", "-c", AGAIN, "sh", sys.executable, "-m", "serving", "ray-node", self._place.head]
                environment = os.environ | node.to_environment()
                self._stack.enter_context(running(command, environment, node.run_dir / "node.log"))
            started.result()

    def mend(self) -> None:
        """Wait until all nodes are there, and all replicas answer."""
        wait_until(lambda: self.joined() == NODES and self.running() == NODES and self.served(), timeout=240, poll=0.5)

    def with_replica(self, *nodes: int) -> int:
        """Return one of some nodes with a replica, beside which other nodes have one too.

        Ray spreads replicas when it starts them, and moves none later: where there is no such node, all are taken out,
        and the keeper deploys them anew.
        """
        for _ in range(TRIES):
            having = [node for node in range(NODES) if self.processes(node, background.REPLICA)]
            if len(having) > 1 and (found := [node for node in nodes if node in having]):
                return found[0]
            self.api.deploy(serve_config([], self._place.served_at, self._place.port(Offset.PROXY)))
            wait_until(lambda: self.running() == 0, timeout=120, poll=0.2)
            self.mend()
        pytest.fail(f"after {TRIES} deployments none of these nodes has a replica")

    @property
    def api(self) -> ServeApi:
        """Ray Serve's."""
        return ServeApi(self._place.dashboard, self._place.token)

    def joined(self) -> int:
        """The nodes that the head knows."""
        with contextlib.suppress(Exception):
            return self.api.count_nodes()
        return 0

    def running(self) -> int:
        """The replicas that Serve says run."""
        with contextlib.suppress(Exception):
            return sum(len(app.replicas) for app in self.api.applications().values())
        return 0

    def processes(self, node: int, title: str = "") -> list[psutil.Process]:
        """The processes of a node with a title; the head is node 0."""
        members = marked(MARK, mark_of(Place(self.nodes[node])))
        return [process for process in members if title in " ".join(line_of(process))]

    def served(self) -> bool:
        """Whether the champion answers its example."""
        return all(model.ready for model in ask_all(Registry(self.head.model_store), self.head.inference_url))


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
        environment.setenv("MARLOOP_RAY_REPLICAS", str(NODES))
        environment.setenv("MARLOOP_RAY_NODES", str(NODES))
        environment.setenv("MARLOOP_RAY_PROXIES", cluster.proxies)
        stack.callback(background.stop, cluster.head)
        cluster.up()
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster, whole: what an earlier fault left is mended first."""
    running_cluster.mend()
    return running_cluster


def told(outcomes: Outcomes) -> int:
    """Requests that were not answered."""
    return outcomes.counts[REFUSED] + outcomes.counts[FAILED]


@contextlib.contextmanager
def asked(cluster: Cluster, figures: Figures, seconds: float = 5.0, timeout: float = 30) -> Iterator[Outcomes]:
    """Clients that ask before a fault, meanwhile, and until some seconds after it; none gets a wrong answer."""
    with clients(cluster.head.inference_url, LINEAR, CLIENTS, timeout) as outcomes:
        wait_until(lambda: outcomes.counts[RIGHT] > 200)
        yield outcomes
        time.sleep(seconds)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 200, timeout=120)
    figures(outcomes)
    assert outcomes.counts[WRONG] == 0, outcomes.examples


def lose(cluster: Cluster, figures: Figures, processes: Sequence[psutil.Process]) -> Outcomes:
    """Kill processes under clients, and wait until all replicas run again."""
    assert processes
    with asked(cluster, figures) as outcomes:
        kill(processes)
        began = time.monotonic()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: cluster.running() < NODES, timeout=30)
        wait_until(lambda: cluster.running() >= NODES and cluster.served(), timeout=240, poll=0.5)
        figures.took("all replicas", time.monotonic() - began, BACK)
    return outcomes


def test_a_killed_replica_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    outcomes = lose(cluster, figures, cluster.processes(cluster.with_replica(1, 2), background.REPLICA)[:1])
    assert told(outcomes) <= CLIENTS


def test_a_killed_raylet_costs_at_most_what_its_node_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    members = cluster.processes(cluster.with_replica(1, 2))
    outcomes = lose(cluster, figures, [process for process in members if process.name() == "raylet"])
    assert told(outcomes) <= CLIENTS


def test_a_killed_node_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    outcomes = lose(cluster, figures, cluster.processes(cluster.with_replica(1, 2)))
    assert told(outcomes) <= CLIENTS


def test_a_frozen_node_is_avoided(cluster: Cluster, figures: Figures) -> None:
    members = cluster.processes(cluster.with_replica(1, 2))
    with asked(cluster, figures, timeout=10) as outcomes:
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            count = outcomes.counts[RIGHT]
            time.sleep(FROZEN)
            assert outcomes.counts[RIGHT] > count + 100
        finally:
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
    assert told(outcomes) <= 2 * CLIENTS


def test_killed_tables_cost_at_most_what_the_head_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    members = cluster.processes(cluster.with_replica(0))
    outcomes = lose(cluster, figures, [process for process in members if process.name() == "gcs_server"])
    assert told(outcomes) <= CLIENTS


def test_a_killed_head_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    cluster.with_replica(0)
    head = background.find(cluster.head)
    assert head is not None
    assert told(lose(cluster, figures, [head])) <= CLIENTS


def test_a_head_whose_machine_ends_costs_at_most_what_it_had_in_hand(cluster: Cluster, figures: Figures) -> None:
    outcomes = lose(cluster, figures, cluster.processes(cluster.with_replica(0)))
    assert told(outcomes) <= CLIENTS


def test_a_head_that_lost_its_tables_serves_the_same_again(cluster: Cluster, figures: Figures) -> None:
    """The other nodes leave, since it does not know them, and join anew."""
    head = background.find(cluster.head)
    assert head is not None
    with asked(cluster, figures) as outcomes:
        shutil.rmtree(Place(cluster.head).tables)
        head.kill()
        began = time.monotonic()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: told(outcomes) > 0, timeout=60)
        wait_until(lambda: cluster.joined() == NODES and cluster.served(), timeout=240, poll=0.5)
        figures.took("answers again", time.monotonic() - began, 2 * BACK)
