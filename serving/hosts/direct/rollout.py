"""Changes of the versions that the direct host's workers serve: one more beside the champion, promoted, withdrawn.

The workers follow the registry by themselves. A change here writes the versions to serve, waits until every worker
reports them, and is taken back where one cannot serve them. So nothing is half done, whichever process is killed at
whatever moment: the registry names the champion, and the workers serve it.
"""

import time
from collections.abc import Callable, Collection
from functools import partial

from serving.hosts.direct.board import Beat, Board
from serving.hosts.direct.unpacked import check_served
from serving.hosts.host import TIMEOUT, LaunchError, alone, bring_up_to_date, champion_number
from serving.registry import Registry, Version, version_of
from serving.store.shared.mirror import synchronise

POLL = 0.1  # s


class DirectRollout:
    """Changes the versions that the workers of one run serve. One change at a time, on this machine: the others wait.

    Args:
        registry: names the champions; a lock in its folder orders the changes of all processes.
    """

    def __init__(self, registry: Registry, board: Board, say: Callable[[str], None] = lambda text: None) -> None:
        self._registry, self._board, self._say = registry, board, say

    def answers(self) -> bool:
        """Tell whether a worker lives."""
        return self._board.lives()

    def beside(self, name: str, number: str) -> None:
        """See ``Rollout``: the version is served when every worker reports it."""
        with alone(self._registry):
            check_served(self._registry.verify(version_of(self._registry.models(), name, number)))
            if name not in self._registry.champions():
                raise LaunchError(f"{name} is not served, so that {number} would be its default: promote it instead")
            self._load(name, number)

    def withdraw(self, name: str, number: str) -> None:
        """See ``Rollout``: the version is gone when no worker reports it."""
        with alone(self._registry):
            self._forget(name, number)
            if champion_number(self._registry, name) != number:
                self._wait_for(lambda beat: number not in beat.served.get(name, []), name, number, "is still served")

    def promote(self, name: str, number: str) -> str:
        """See ``Rollout``: every worker loads the version before the registry names it; else the former one stays."""
        with alone(self._registry):
            check_served(self._registry.verify(version_of(self._registry.models(), name, number)))
            former = champion_number(self._registry, name)
            self._load(name, number)
            self._registry.promote(name, number)
            synchronise(self._registry)  # else the workers would close the version, and then open it again
            self._forget(name, number)
            self._wait_for(partial(_serves, name, number), name, number, "is not the default yet")
            self._say(f"promoted {name} {number}")
            return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """See ``Rollout``: the workers follow the registry by themselves, and this waits for them."""

        def bring(name: str, number: str, version: Version) -> None:
            serves = partial(_serves, name, number)
            if not self._all(name, serves):
                check_served(self._registry.verify(version))
                self._wait_for(serves, name, number, "is not served")

        with alone(self._registry):
            synchronise(self._registry)
            self._board.ask_beside([version for version in self._board.beside() if version in keep])
            bring_up_to_date(self._registry, bring, self._say)

    def _load(self, name: str, number: str) -> None:
        synchronise(self._registry)
        self._board.ask_beside(sorted({*self._board.beside(), (name, number)}))
        try:
            self._wait_for(lambda beat: number in beat.served.get(name, []), name, number, "does not load")
        except LaunchError:
            self._forget(name, number)
            raise
        self._say(f"{name} {number} answers in every worker")

    def _forget(self, name: str, number: str) -> None:
        self._board.ask_beside([version for version in self._board.beside() if version != (name, number)])

    def _wait_for(self, condition: Callable[[Beat], bool], name: str, number: str, otherwise: str) -> None:
        """Wait until a condition holds of all workers of a version.

        Raises:
            LaunchError: a worker has tried since and reports that it cannot serve the version, or ``TIMEOUT`` passes.
        """
        begun = time.monotonic()
        while True:
            if self._all(name, condition):
                return
            faults = [beat.faults.get(name, "") for beat in self._board.workers() if beat.looked >= begun]
            if fault := next((fault for fault in faults if fault.startswith(f"{number}: ")), ""):
                raise LaunchError(f"{name} {fault}")
            if time.monotonic() > begun + TIMEOUT:
                raise LaunchError(f"{name} {number} {otherwise} after {TIMEOUT:.0f} s")
            time.sleep(POLL)

    def _all(self, name: str, condition: Callable[[Beat], bool]) -> bool:
        """Tell whether a model has workers, and a condition holds of all of them."""
        beats = [beat for beat in self._board.workers() if beat.says_of(name)]
        return bool(beats) and all(condition(beat) for beat in beats)


def _serves(name: str, number: str, beat: Beat) -> bool:
    """Tell whether a worker answers with this version where a request names none."""
    return beat.defaults.get(name) == number
