"""A replica in simulated time: the workers behind one address, what they are asked, and its loss."""

import random
from collections.abc import Callable, Sequence
from typing import Literal

from loadtests.capacity.simulation.autoscaler import Metric
from loadtests.capacity.simulation.workers import Worker

Outcome = Literal["answered", "refused", "failed"]
Clock = Callable[[], float]  # the simulated time in s


class Replica:
    """A replica.

    Args:
        chance: by which the system hands connections to its workers.
        clock: the simulated time in s.
        connections: number that the balancer keeps open; 0 for one a request.

    Attributes:
        node: number of its machine.
        generation: number of the deploy that started it.
        lost: whether its machine is gone.
        connecting: requests that wait for an answer of its lost machine.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        chance: random.Random,
        clock: Clock,
        node: int = 0,
        generation: int = 0,
        connections: int = 0,
    ) -> None:
        self._workers, self._chance, self._clock = workers, chance, clock
        # The worker of each connection; with one a request, any of them.
        self._connections = [chance.choice(workers) for _ in range(connections)] or list(workers)
        self.node, self.generation = node, generation
        self.lost = False
        self.connecting = 0
        self._pending: dict[int, Callable[[Outcome], object]] = {}
        self._number = 0
        self._changed = self._read = clock()
        self._area = self._busy_before = 0.0

    @property
    def in_flight(self) -> int:
        """Number of requests that it was given and has not answered."""
        return len(self._pending) + self.connecting

    def take(self, done: Callable[[Outcome], object]) -> None:
        """Take a request, and tell its outcome once."""
        self._advance()
        self._number += 1
        number, workers = self._number, self._connections
        self._pending[number] = done
        worker = workers[int(self._chance.random() * len(workers)) if len(workers) > 1 else 0]
        worker.take(lambda answered: self._finish(number, "answered" if answered else "refused"))

    def lose(self) -> None:
        """Lose the machine: what is in flight fails, and nothing is answered any more."""
        self.lost = True
        pending, self._pending = self._pending, {}
        for done in pending.values():
            done("failed")

    def reading(self, metric: Metric) -> float:
        """Return the metric's mean since the last reading: the busy share of a core, or the requests in flight."""
        self._advance()
        seconds = self._changed - self._read
        busy = sum(worker.busy_seconds for worker in self._workers)
        value = self._area if metric == "in-flight" else (busy - self._busy_before) / len(self._workers)
        self._read, self._area, self._busy_before = self._changed, 0.0, busy
        return value / seconds if seconds else 0.0

    def _finish(self, number: int, outcome: Outcome) -> None:
        if self.lost:
            return
        self._advance()
        self._pending.pop(number)(outcome)

    def _advance(self) -> None:
        now = self._clock()
        self._area += len(self._pending) * (now - self._changed)
        self._changed = now
