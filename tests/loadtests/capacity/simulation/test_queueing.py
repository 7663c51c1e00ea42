"""The simulation beside queueing theory, where a closed form is known."""

import math
from typing import Any

import pytest

from loadtests.capacity.simulation.balancer import Policy
from loadtests.capacity.simulation.fleet import simulate
from loadtests.capacity.simulation.results import Run
from loadtests.capacity.simulation.service import Service
from tests.loadtests.capacity.simulation.fleets import fleet

REQUESTS = 40_000


def steady(rate: float, **others: Any) -> Run:
    seconds = REQUESTS / rate
    return simulate(fleet(rate, seconds, warm_up=seconds / 10, interval=seconds / 10, **others), seed=1)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_by_one_with_constant_times_the_wait_is_that_of_pollaczek_and_khinchine(load: float) -> None:
    run = steady(load / 0.01, service=Service(0, 0.01), discipline="queue")
    assert run.mean == pytest.approx(0.01 + load * 0.01 / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("servers", [1, 4])
def test_several_servers_of_one_queue_wait_as_erlangs_formula_says(servers: int) -> None:
    load = 0.7
    run = steady(load * servers, service=Service(0, 1.0, 1.0), discipline="queue", workers=servers)
    offered = load * servers
    full = offered**servers / math.factorial(servers) / (1 - load)
    waits = full / (sum(offered**n / math.factorial(n) for n in range(servers)) + full)  # Erlang C
    assert run.mean == pytest.approx(1 + waits / (servers * (1 - load)), rel=0.05)


@pytest.mark.parametrize("arriving", [0.5, 2.0, 10.0])
def test_where_a_batch_takes_the_same_whatever_its_size_a_request_waits_for_half_of_one(arriving: float) -> None:
    """Of the time between two moments of idleness, batches take ``a`` each and idleness ``exp(-a·rate) / rate``."""
    run = steady(arriving / 0.01, service=Service(0.01, 0.0))
    busy = arriving / (arriving + math.exp(-arriving))
    assert run.mean == pytest.approx(0.01 * (1 + busy / 2), rel=0.01)
    assert run.refused == 0


def test_a_batch_of_the_direct_host_holds_one_request_that_takes_a_second() -> None:
    run = steady(0.5, service=Service(0, 1.0))
    assert run.refused < 0.005 * run.requests  # the tail that waits for five others
    assert run.mean == pytest.approx(1.5, rel=0.05)  # M/D/1


@pytest.mark.parametrize(("policy", "mean"), [("random", 5.0), ("two-choices", 1.947)])
def test_balancers_wait_as_the_limit_of_many_replicas_says(policy: Policy, mean: float) -> None:
    """Random: 1 / (1 - load). Two choices: the sum of ``load^(2^i - 2)`` over i (Mitzenmacher, theorem 4)."""
    run = steady(80.0, replicas=100, service=Service(0, 1.0, 1.0), discipline="queue", policy=policy)
    assert run.mean == pytest.approx(mean, rel=0.05)


def test_the_less_a_balancer_knows_the_longer_the_slowest_wait() -> None:
    policies: tuple[Policy, ...] = ("least-connections", "two-choices", "round-robin", "random")
    slowest = [
        steady(7.0, replicas=10, service=Service(0, 1.0, 1.0), discipline="queue", policy=policy).p99
        for policy in policies
    ]
    assert slowest == sorted(slowest)
