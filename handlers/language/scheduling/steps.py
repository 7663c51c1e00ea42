"""The steps of an engine in a thread of its own, made ahead while answers are sent and requests are parsed."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from typing import Any

from handlers.language.scheduling.batching import ContinuousBatching, Event

NEWS = 0.02  # s: a short prompt waits half of it on average, and a turn of the frontend takes some ms of processor time


class Steps:
    """Makes one step at a time. While one is made, nothing may be asked of the engine but what that allows.

    Args:
        engine: whose steps they are.
        executor: of one thread: an engine may have helper threads for its caller's. None for a step only when ``take``
            is called.
        news: seconds after which ``take`` returns from a step that only reads; None to wait for its end.
    """

    def __init__(self, engine: ContinuousBatching, executor: Executor | None, news: float | None = NEWS) -> None:
        self._engine, self._news = engine, news
        self._ahead = executor is not None
        self._executor = executor or _Inline()
        self._step: Future[list[Event]] | None = None

    def begin(self) -> None:
        """Let the engine make its next step, unless it makes one."""
        self._step = self._step or self._executor.submit(self._engine.step)

    def begin_ahead(self) -> None:
        """Do the same where that keeps nobody waiting."""
        if self._ahead:
            self.begin()

    def make_way(self, prompts: Sequence[Sequence[int]], adapter: str) -> None:
        """Interrupt a step that only reads a prompt, if one of these may be read beside it."""
        if self._step:
            self._engine.make_way(min(prompts, key=len), adapter)

    def take(self) -> list[Event] | None:
        """Return what the step gave that was begun, nothing without one; None if it goes on, since it only reads.

        Raises:
            Exception: what the step raised.
        """
        if self._step is None:
            return []
        while not wait([self._step], self._news).done:
            if self._engine.is_reading:
                return None
        step, self._step = self._step, None
        return step.result()

    def settle(self) -> None:
        """Wait for the end of a step that was begun."""
        if self._step:
            wait([self._step])


class _Inline(Executor):
    """Calls a function at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
