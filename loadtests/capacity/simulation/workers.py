"""Workers in simulated time: a process that answers requests, with the direct host's batches or from a plain queue."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import simpy

from handlers.message import Request
from loadtests.capacity.simulation.loop import SimulatedLoop, call_after
from loadtests.capacity.simulation.service import Service
from serving.hosts.direct.batches import Batches, Overloaded

Done = Callable[[bool], object]  # told whether the request was answered, or else refused
Discipline = Literal["batches", "queue"]
PATIENCE = 10.0  # s that a request waits for its turn, as where its archive says nothing else


class Worker(Protocol):
    """A process that answers requests."""

    @property
    def busy_seconds(self) -> float:
        """Seconds of work that has begun."""

    def take(self, done: Done) -> None:
        """Take a request, and tell once whether it was answered."""


class BatchingWorker:
    """A worker of the direct host: it runs the host's own ``Batches``.

    Args:
        size: bytes of a request's body.
    """

    def __init__(self, environment: simpy.Environment, service: Service, chance: random.Random, size: int = 0) -> None:
        self._loop = SimulatedLoop(environment, lambda requests: service.seconds(requests, chance))
        self._request = Request(bytes(size), {})
        loop = cast(asyncio.AbstractEventLoop, self._loop)
        # Never inline: there the timer stands still. What comes meanwhile waits either way.
        self._batches = Batches(_unused, loop, self._loop.time, inline=False)

    @property
    def busy_seconds(self) -> float:
        """See ``Worker``."""
        return self._loop.busy_seconds

    def take(self, done: Done) -> None:
        """See ``Worker``: refused is who would wait for too long."""
        try:
            self._batches.admit(len(self._request.body), PATIENCE)
        except Overloaded:
            done(False)
            return
        future = self._batches.submit(self._request, PATIENCE)
        future.add_done_callback(lambda finished: done(not finished.cancelled() and finished.exception() is None))


class QueueWorker:
    """One queue without a bound, whose requests are answered one by one by several processes, first come, first served.

    Args:
        servers: number of processes.
    """

    def __init__(
        self, environment: simpy.Environment, service: Service, chance: random.Random, servers: int = 1
    ) -> None:
        self._environment, self._service, self._chance = environment, service, chance
        self._idle = self._servers = servers
        self._waiting: deque[Done] = deque()
        self.busy_seconds = 0.0

    def take(self, done: Done) -> None:
        """See ``Worker``: nobody is refused."""
        if not self._idle:
            self._waiting.append(done)
            return
        self._idle -= 1
        self._begin(done)

    def _begin(self, done: Done) -> None:
        seconds = self._service.seconds(1, self._chance)
        self.busy_seconds += seconds / self._servers
        call_after(self._environment, seconds, lambda: self._end(done))

    def _end(self, done: Done) -> None:
        done(True)
        if self._waiting:
            self._begin(self._waiting.popleft())
        else:
            self._idle += 1


def make_workers(
    environment: simpy.Environment,
    discipline: Discipline,
    service: Service,
    chance: random.Random,
    count: int,
    size: int,
) -> list[Worker]:
    """Return the workers of a replica: one with a queue for each core, or one queue that all cores share."""
    if discipline == "queue":
        return [QueueWorker(environment, service, chance, count)]
    return [BatchingWorker(environment, service, chance, size) for _ in range(count)]


def _unused(*_: Any) -> Any:
    """Stand for the handler, whose time the loop simulates."""
    raise AssertionError("a simulated batch has no handler")
