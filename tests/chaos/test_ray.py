"""Replicas, nodes and the head of a cluster of Ray are killed or frozen, while clients ask that know the answers."""

import contextlib
import importlib.util
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence

import psutil
import pytest

from serving.hosts.ray import background
from serving.hosts.ray.settings import Place
from serving.processes import kill
from tests.chaos.conftest import LINEAR
from tests.chaos.load import FAILED, REFUSED, RIGHT, WRONG, Outcomes, clients
from tests.chaos.ray_cluster import NODES, Cluster
from tests.conftest import Figures
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ray
CLIENTS = 4  # requests in flight
BACK = 60.0  # s: promised until all replicas run again
FROZEN = 20.0  # s


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
