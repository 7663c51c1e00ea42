"""Which replica a balancer chooses."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from loadtests.capacity.simulation.balancer import Policy, make_balancer


@dataclass
class Busy:
    in_flight: int


def chosen(policy: Policy, *in_flight: int, times: int = 3000) -> Counter[int]:
    choose = make_balancer(policy, random.Random(0))
    replicas = [Busy(count) for count in in_flight]
    return Counter(choose(replicas) for _ in range(times))


@pytest.mark.parametrize("policy", ["round-robin", "random", "two-choices", "least-connections"])
def test_replicas_that_are_equally_busy_get_equally_many(policy: Policy) -> None:
    counts = chosen(policy, 2, 2, 2)
    assert counts.keys() == {0, 1, 2}
    assert max(counts.values()) < 1.1 * min(counts.values())


@pytest.mark.parametrize("policy", ["round-robin", "random", "two-choices", "least-connections"])
def test_a_single_replica_gets_all(policy: Policy) -> None:
    assert chosen(policy, 7, times=5) == {0: 5}


def test_least_connections_chooses_only_the_least_busy_in_turn() -> None:
    counts = chosen("least-connections", 3, 1, 5, 1)
    assert counts.keys() == {1, 3}
    assert chosen("least-connections", 4, 0, 4).keys() == {1}


def test_two_choices_never_chooses_the_busiest_of_three_and_mostly_the_least_busy() -> None:
    counts = chosen("two-choices", 9, 1, 5)
    assert 0 not in counts
    assert counts[1] == pytest.approx(2000, rel=0.1)
