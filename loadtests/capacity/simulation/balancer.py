"""Balancers: which replica gets a request.

Two choices is "the power of two choices": of two random replicas the one with fewer requests
(`M. Mitzenmacher <https://doi.org/10.1109/71.963420>`_).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Literal, Protocol

Policy = Literal["round-robin", "random", "two-choices", "least-connections"]


class Loaded(Protocol):
    """A replica as a balancer sees it."""

    @property
    def in_flight(self) -> int:
        """Number of requests that it was given and has not answered."""


Balancer = Callable[[Sequence[Loaded]], int]  # returns the position of the chosen one; there is one at least


def make_balancer(policy: Policy, chance: random.Random) -> Balancer:
    """Return a new balancer of a policy."""
    return _POLICIES[policy](chance)


def _round_robin(chance: random.Random) -> Balancer:
    numbers = count()
    return lambda replicas: next(numbers) % len(replicas)


def _random(chance: random.Random) -> Balancer:
    return lambda replicas: int(chance.random() * len(replicas))


def _two_choices(chance: random.Random) -> Balancer:
    def choose(replicas: Sequence[Loaded]) -> int:
        if len(replicas) == 1:
            return 0
        first = int(chance.random() * len(replicas))
        second = int(chance.random() * (len(replicas) - 1))
        second += second >= first  # another one
        return second if replicas[second].in_flight < replicas[first].in_flight else first

    return choose


def _least_connections(chance: random.Random) -> Balancer:
    """Take turns among those with the fewest, as HAProxy's ``leastconn`` does."""
    numbers = count()

    def choose(replicas: Sequence[Loaded]) -> int:
        size = len(replicas)
        best = next(numbers) % size
        for i in range(best + 1, best + size):
            if not replicas[best].in_flight:
                break
            if replicas[i % size].in_flight < replicas[best].in_flight:
                best = i % size
        return best

    return choose


_POLICIES: Mapping[Policy, Callable[[random.Random], Balancer]] = {
    "round-robin": _round_robin,
    "random": _random,
    "two-choices": _two_choices,
    "least-connections": _least_connections,
}
