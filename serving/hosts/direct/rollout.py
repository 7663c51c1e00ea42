"""Which versions the direct host's workers serve: beside the champion, promoted, withdrawn, or as the registry says.

The workers follow the registry by themselves. A change here writes what is wanted, waits until every worker says that
it serves it, and takes the wish back where one cannot. So whoever is killed at whatever moment, nothing is half done:
the registry names the champion, and the workers serve it.
"""

import time
from collections.abc import Callable, Collection
from functools import partial

from serving.hosts.direct.board import Beat, Board
from serving.hosts.torchserve.launch import LaunchError
from serving.registry import Registry, version_of
from serving.rollout import TIMEOUT, alone, champion_number

POLL = 0.1  # s


class DirectRollout:
    """Changes what the workers of one run serve. One change at a time, on this machine: the others wait.

    Args:
        registry: names the champions; a lock in its folder orders the changes of all processes.
        board: of the run.
        say: is told what happens.
    """

    def __init__(self, registry: Registry, board: Board, say: Callable[[str], None] = lambda text: None) -> None:
        self._registry, self._board, self._say = registry, board, say

    def beside(self, name: str, number: str) -> None:
        """Serve a version beside the champion, which goes on to answer whoever names no version.

        Raises:
            ArchiveError: its archive is not as registered.
            KeyError: no such model or version.
            LaunchError: a worker cannot serve it, or its model is not served, so that it would be the default.
        """
        with alone(self._registry):
            self._registry.verify(version_of(self._registry.models(), name, number))
            if name not in self._registry.champions():
                raise LaunchError(f"{name} is not served, so that {number} would be its default: promote it instead")
            self._load(name, number)

    def withdraw(self, name: str, number: str) -> None:
        """Serve a version no longer, unless the registry says that it is champion.

        Raises:
            LaunchError: a worker goes on to serve it.
        """
        with alone(self._registry):
            self._forget(name, number)
            if champion_number(self._registry, name) != number:
                self._wait(lambda beat: number not in beat.served.get(name, []), name, f"{number} is still served")

    def promote(self, name: str, number: str) -> str:
        """Make a version champion: every worker has loaded it first, and the former one answers what it was asked.

        Returns:
            The former champion's number; of the champion its own; empty if there was none.

        Raises:
            ArchiveError: its archive is not as registered; nothing has changed.
            KeyError: no such model or version.
            LaunchError: a worker cannot serve it; the former champion is champion still.
        """
        with alone(self._registry):
            self._registry.verify(version_of(self._registry.models(), name, number))
            former = champion_number(self._registry, name)
            self._load(name, number)
            self._registry.promote(name, number)
            self._forget(name, number)
            self._wait(partial(_serves, name, number), name, f"{number} is not the default yet")
            self._say(f"promoted {name} {number}")
            return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Serve the registry's champions, and nothing else beside them but what may stay.

        Args:
            keep: models and versions that may stay.

        Raises:
            LaunchError: a worker cannot serve a champion; the other models are up to date.
        """
        with alone(self._registry):
            self._board.ask_beside([version for version in self._board.beside() if version in keep])
            for name, (number, _) in self._registry.champions().items():
                self._wait(partial(_serves, name, number), name, f"{number} is not served")

    def _load(self, name: str, number: str) -> None:
        self._board.ask_beside(sorted({*self._board.beside(), (name, number)}))
        try:
            self._wait(lambda beat: number in beat.served.get(name, []), name, f"{number} does not load")
        except LaunchError:
            self._forget(name, number)
            raise
        self._say(f"{name} {number} answers in every worker")

    def _forget(self, name: str, number: str) -> None:
        self._board.ask_beside([version for version in self._board.beside() if version != (name, number)])

    def _wait(self, done: Callable[[Beat], bool], name: str, otherwise: str) -> None:
        """Wait until all workers are as they should be.

        Raises:
            LaunchError: one says that it cannot, or none of them says anything for too long.
        """
        end = time.monotonic() + TIMEOUT
        while True:
            beats = self._board.workers()
            if beats and all(done(beat) for beat in beats):
                return
            told = [beat.faults[name] for beat in beats if name in beat.faults]
            if told:
                raise LaunchError(f"{name}: {told[0]}")
            if time.monotonic() > end:
                raise LaunchError(f"{name} {otherwise} after {TIMEOUT:.0f} s")
            time.sleep(POLL)


def _serves(name: str, number: str, beat: Beat) -> bool:
    """Whether a worker answers with a version where none is named."""
    return beat.defaults.get(name) == number
