"""Turns: in every round each contender is started, measured and stopped, so that none disturbs another.

A contender that fails is left out with the reason.
"""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from loadtests.bench.environments import InstallError
from loadtests.bench.results import Run
from serving.processes import StartError

# Faults for which a contender is left out, and the others go on.
FAULTS = (StartError, subprocess.TimeoutExpired, OSError, ValueError, KeyError)


class Contender(Protocol):
    """A contender of a bench.

    Attributes:
        name: its key in results and tables.
        what: a description in a few words.
        prepare: makes its environment; raises when that is not to be had.
        packages: lists the packages of its environment.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def what(self) -> str: ...  # noqa: D102
    @property
    def prepare(self) -> Callable[[Callable[[str], None]], None]: ...  # noqa: D102
    @property
    def packages(self) -> Callable[[], list[str]]: ...  # noqa: D102


C = TypeVar("C", bound=Contender)


def chosen(contenders: Sequence[C], only: Collection[str]) -> list[C]:
    """Return the contenders with the names ``only``; without names, all.

    Raises:
        ValueError: a name is no contender's.
    """
    names = [contender.name for contender in contenders]
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(f"no contender is called {', '.join(unknown)}; there are {', '.join(names)}")
    return [contender for contender in contenders if not only or contender.name in only]


class Turns:
    """The turns of one run.

    Args:
        results: receives who is left out, and why.
        seconds: longest duration of a turn.
        faults: faults for which a contender is left out, beside ``FAULTS``.
    """

    def __init__(
        self, results: Run, say: Callable[[str], None], seconds: float, faults: tuple[type[Exception], ...]
    ) -> None:
        self._results, self._say, self._seconds = results, say, seconds
        self._faults: tuple[type[Exception], ...] = (*FAULTS, *faults)

    def prepared(self, contenders: Sequence[C], named: Collection[str] = ()) -> list[C]:
        """Prepare contenders and record their packages, the named ones or all; return those that can be installed."""
        for contender in contenders:
            try:
                contender.prepare(self._say)
                packages = [line for line in contender.packages() if not named or line.partition("==")[0] in named]
                self._results.versions[contender.name] = packages
            except InstallError as error:
                self._results.absent[contender.name] = f"cannot be installed: {error}"
                self._say(f"{contender.name} cannot be installed: {error}")
        return [contender for contender in contenders if contender.name not in self._results.absent]

    def attempt(self, contender: Contender, place: str, turn: Callable[[], None]) -> None:
        """Let a contender have its turn; ``place`` names the turn in the reason for leaving it out."""
        try:
            with limited(self._seconds):
                turn()
        except self._faults as error:
            self._results.absent[contender.name] = f"{place}: {error}"
            self._say(f"{contender.name} is left out: {error}")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt a block that takes too long, wherever it hangs; in the main thread only.

    Raises:
        TimeoutError: the block was not done in time.
    """

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
