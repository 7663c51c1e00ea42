"""A profile as Locust's load shape. Importing Locust replaces Python's sockets by gevent's."""

from collections.abc import Callable
from typing import ClassVar

from locust import LoadTestShape

from loadtests.profiles import Profile, Stage


class ProfileShape(LoadTestShape):
    """A load shape that follows a profile to its end.

    Attributes:
        on_stage: called with each stage when it begins.
        finished: whether the end was reached; false after an interrupt.
    """

    abstract = True
    profile: ClassVar[Profile]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_stage: Callable[[Stage], None] = lambda stage: None
        self.finished = False
        self._index: int | None = None
        self._target = (0, 1.0)

    def reset_time(self) -> None:
        """Begin anew; Locust's master does so more than once."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self.finished = False

    def tick(self) -> tuple[int, float] | None:
        """Return the current number of users and its rate of change; None ends the test."""
        index = self.profile.stage_at(self.get_run_time())  # type: ignore[no-untyped-call]
        if index is None:
            self.finished = True
            return None
        if index != self._index:
            self._index, self._target = index, self.profile.target(index, now=self._target[0])
            self.on_stage(self.profile.stages[index])
        return self._target
