"""Requests of one model, answered together: those that came while the last batch ran are the next one.

There is no delay and no size to tune. A quick model runs in the event loop itself. A slower one runs in a thread of
its own, so that the loop goes on reading requests and answering for the other models.

The queue is bounded by time. Every request has a deadline. One that would have its turn later is refused at once,
with the seconds after which it may be sent again. A short crowd may wait for a second. Under lasting overload waiting
helps nobody, so a request then waits only for a few others
(`B. Maurer, Fail at Scale <https://queue.acm.org/detail.cfm?id=2839461>`_). Clients that wait for an answer before
they send again are no overload as long as all of them together are answered soon. Refused, they would send at once,
and the refusals would go on by themselves
(`N. Bronson and others, Metastable failures in distributed systems <https://doi.org/10.1145/3458336.3465286>`_).
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a replica of Ray Serve imports this before it knows whose handlers it will run
    from handlers.message import Request, Response

INLINE = 0.004  # s that a batch may take in the event loop: no other model answers meanwhile
MOST = 64  # requests of a batch: more would make the first ones wait for the last ones
PIECE = 0.25  # s of estimated work that a batch may hold: with more, its first requests wait in vain
SHARE = 0.2  # weight of a new measurement in the estimated cost of a request
LONG = 1.0  # s that a request may wait
BRIEF = 0.015  # s that it may wait under overload
TURNS = 5  # other requests that it may wait for at any time
WINDOW = 0.1  # s over which arriving work is compared with capacity
EXCESS = 1.25  # times the capacity is overload,
SOON = 0.25  # where the queue takes longer, s
OVERHEAD = 1024  # bytes of a body that cost about as much as a request does without any
# Takes requests, and the seconds that each has waited.
Handle = Callable[[Sequence["Request"], Sequence[float]], "list[Response]"]


class Overloaded(Exception):  # noqa: N818 - no fault of the caller's
    """A request would have its turn too late.

    Attributes:
        seconds: after which it may be sent again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Waiting(NamedTuple):
    """A request in the queue.

    Attributes:
        weight: its estimated cost, in bytes.
        since: s, on the timer, when it joined the queue.
        patience: s that it may wait.
    """

    request: "Request"
    weight: float
    since: float
    patience: float
    future: "asyncio.Future[Response]"


class Batches:
    """Answers the requests of one model, in batches.

    Args:
        handle: answers a batch in order, and never raises.
        inline: whether a quick batch may run in the event loop.
        timer: a monotonic clock in s.
    """

    def __init__(
        self,
        handle: Handle,
        loop: asyncio.AbstractEventLoop,
        timer: Callable[[], float] = time.perf_counter,
        inline: bool = True,
    ) -> None:
        self._handle, self._loop, self._timer, self._inline = handle, loop, timer, inline
        self._waiting: deque[Waiting] = deque()
        self._weight = 0.0  # of all waiting requests
        self._running = 0.0  # weight of the batch that runs
        self._busy = False  # a batch runs, or is about to
        self._pace = 0.0  # s that a unit of weight takes
        self._last = 0.0  # s that the last batch took
        self._each = 0.0  # s that one of its requests took
        self._arrived = 0.0  # weight of the requests since ``_since``
        self._since = timer()
        self._overloaded = False
        self._threads: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        """Whether every request was answered."""
        return not self._busy and not self._waiting

    @property
    def seconds_waiting(self) -> float:
        """The estimated wait of a request that comes now."""
        return (self._weight + self._running) * self._pace

    def admit(self, size: int, patience: float) -> None:
        """Check before its body is read that a request would have its turn in time.

        Args:
            size: bytes of its body.
            patience: s that it may wait for its turn.

        Raises:
            Overloaded: it would wait for longer.
        """
        self.count_arrival(size)
        if not self.has_room(patience):
            raise Overloaded(self.seconds_waiting)

    def count_arrival(self, size: int) -> None:
        """Count a request of so many bytes, by which overload is told."""
        now = self._timer()
        self._arrived += OVERHEAD + size
        if now - self._since > WINDOW:
            more = self._arrived * self._pace > EXCESS * (now - self._since)
            self._overloaded = more and (self._overloaded or self.seconds_waiting > SOON)
            self._arrived, self._since = 0.0, now

    def has_room(self, patience: float) -> bool:
        """Tell whether a request that may wait so many seconds would have its turn in time."""
        return self.seconds_waiting <= min(patience, self._limit)

    def submit(self, request: "Request", patience: float) -> "asyncio.Future[Response]":
        """Queue a request that was admitted.

        Args:
            patience: s that it may wait for its turn; then its future raises ``Overloaded``.
        """
        future = self._loop.create_future()
        weight = OVERHEAD + len(request.body)
        self._waiting.append(Waiting(request, weight, self._timer(), patience, future))
        self._weight += weight
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._turn)
        return future

    @property
    def _limit(self) -> float:
        """The seconds that a request may wait, whatever its patience."""
        return max(BRIEF if self._overloaded else LONG, TURNS * self._each)

    def close(self) -> None:
        """Give the thread back, and cancel the requests that still wait.

        A later request is answered all the same: its model may have been looked up just before it was replaced.
        """
        while self._waiting:
            self._waiting.popleft().future.cancel()
        self._weight = 0.0
        if self._threads:
            self._threads.shutdown(wait=False)
            self._threads = None

    def _turn(self) -> None:
        requests, waited, futures, weight = self._gather()
        if not requests:
            self._busy = False
            return
        if self._inline and self._last <= INLINE and weight * self._pace <= INLINE:
            start = self._timer()
            responses = self._handle(requests, waited)
            self._resolve(futures, responses, weight, self._timer() - start)
            return
        self._running = weight
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="batches")
        work = self._loop.run_in_executor(self._threads, self._timed, requests, waited)
        work.add_done_callback(lambda finished: self._returned(finished, futures, weight))

    def _gather(self) -> "tuple[list[Request], list[float], list[asyncio.Future[Response]], float]":
        """Take the requests of the next batch, without those whose clients are gone or whose time is over."""
        requests: list[Request] = []
        waited: list[float] = []
        futures: list[asyncio.Future[Response]] = []
        total = 0.0
        most = PIECE / self._pace if self._pace else math.inf
        now, limit = self._timer(), self._limit
        while self._waiting and len(requests) < MOST and (total < most or not requests):
            request, weight, since, patience, future = self._waiting.popleft()
            self._weight -= weight
            if future.done():
                continue
            if now - since > min(patience, limit):
                future.set_exception(Overloaded(self.seconds_waiting))
                continue
            requests.append(request)
            waited.append(now - since)
            futures.append(future)
            total += weight
        return requests, waited, futures, total

    def _timed(self, requests: "Sequence[Request]", waited: Sequence[float]) -> "tuple[list[Response], float]":
        start = self._timer()
        return self._handle(requests, waited), self._timer() - start

    def _returned(
        self,
        work: "asyncio.Future[tuple[list[Response], float]]",
        futures: "Sequence[asyncio.Future[Response]]",
        weight: float,
    ) -> None:
        self._running = 0.0
        if work.cancelled() or work.exception():
            for future in futures:
                future.cancel()
            self._busy = False
            return
        responses, seconds = work.result()
        self._resolve(futures, responses, weight, seconds)

    def _resolve(
        self,
        futures: "Sequence[asyncio.Future[Response]]",
        responses: "Sequence[Response]",
        weight: float,
        seconds: float,
    ) -> None:
        for future, response in zip(futures, responses, strict=True):
            if not future.done():
                future.set_result(response)
        pace = seconds / weight
        self._pace = pace if not self._pace else self._pace + SHARE * (pace - self._pace)
        self._last, self._each = seconds, seconds / len(futures)
        if self._waiting:
            self._loop.call_soon(self._turn)
        else:
            self._busy = False
