"""An event loop in simulated time: what ``Batches`` of the direct host asks of asyncio, on simpy's clock.

So a simulated replica runs the host's own code of batching and admission, not a copy of its rules.
"""

from collections.abc import Callable, Sequence
from typing import Any

import simpy

from handlers.message import Request, Response

ANSWER = Response(200, b"")


class SimulatedFuture:
    """A future that calls whoever waits for it at once, in place of asyncio's."""

    __slots__ = ("_callback", "_cancelled", "_done", "_error", "_result")

    def __init__(self) -> None:
        self._done = self._cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._callback: Callable[[Any], object] | None = None

    def done(self) -> bool:
        """Tell whether it has a result or an error, or was cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self._cancelled

    def result(self) -> Any:
        """Return the result."""
        return self._result

    def exception(self) -> BaseException | None:
        """Return the error; None where there is none."""
        return self._error

    def set_result(self, result: Any) -> None:
        """Resolve it."""
        self._result = result
        self._finish()

    def set_exception(self, error: BaseException) -> None:
        """Fail it."""
        self._error = error
        self._finish()

    def cancel(self) -> None:
        """Cancel it, unless it is done."""
        if not self._done:
            self._cancelled = True
            self._finish()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Have a function called with this future once it is done; there is one such function."""
        self._callback = callback

    def _finish(self) -> None:
        self._done = True
        if self._callback is not None:
            self._callback(self)


class SimulatedLoop:
    """The loop of one worker.

    Args:
        duration: draws the seconds that a batch of so many requests takes.
    """

    def __init__(self, environment: simpy.Environment, duration: Callable[[int], float]) -> None:
        self._environment, self._duration = environment, duration
        self.busy_seconds = 0.0  # of all batches that have begun

    def time(self) -> float:
        """Return the simulated time in s."""
        return float(self._environment.now)

    def create_future(self) -> SimulatedFuture:
        """Return a new future."""
        return SimulatedFuture()

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call a function at this time, after what is under way."""
        call_after(self._environment, 0.0, lambda: callback(*arguments))

    def run_in_executor(
        self, executor: object, function: object, requests: Sequence[Request], waited: Sequence[float]
    ) -> SimulatedFuture:
        """Return a future of the batch's responses and seconds, as the host's thread would give them."""
        seconds = self._duration(len(requests))
        self.busy_seconds += seconds
        future = SimulatedFuture()
        outcome = [ANSWER] * len(requests), seconds
        call_after(self._environment, seconds, lambda: future.set_result(outcome))
        return future


def call_after(environment: simpy.Environment, seconds: float, callback: Callable[[], object]) -> None:
    """Call a function after so many simulated seconds."""
    environment.timeout(seconds).callbacks.append(lambda _: _ignore(callback()))


def _ignore(_: object) -> None:
    """Return nothing, as simpy asks of a callback."""
