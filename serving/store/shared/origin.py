"""A model store that several machines share, as one process sees it: the registry there, and the archives."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from serving.store.faults import ArchiveError
from serving.store.shared.archives import SharedArchives
from serving.store.shared.interface import Change, SharedRegistry

logger = logging.getLogger(__name__)
FRESH = 1.0  # s that a registry which was read counts as new
HOLD_OFF = 15.0  # s after a failure in which the last known registry is given at once


class Origin:
    """A shared model store.

    Args:
        registry: where its versions are registered.
        last_known: returns what the registry held when this machine last saw it; None where it never did.
        tick: a monotonic clock in s.
    """

    def __init__(
        self,
        archives: SharedArchives,
        registry: SharedRegistry,
        last_known: Callable[[], bytes | None] = lambda: None,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self.archives, self._registry, self._last_known, self._tick = archives, registry, last_known, tick
        self._turn, self._asked = threading.Lock(), float("-inf")
        self._content: bytes | None = None
        self._tag, self._is_known, self._is_away = "", False, False

    @property
    def url(self) -> str:
        """URL of the store."""
        return self.archives.url

    @property
    def answers(self) -> bool:
        """Whether the store answered when it was last asked."""
        return not self._is_away

    def content(self) -> bytes | None:
        """Return the registry's content, at most ``FRESH`` s old; None where nothing was registered yet.

        While the store does not answer, the last known one is returned, with a warning.

        Raises:
            ArchiveError: the store does not answer, and nothing is known.
        """
        with self._turn:
            if self._tick() - self._asked > (HOLD_OFF if self._is_away else FRESH):
                self._read()
            return self._content

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """Keep others from changing the registry within the block, in which ``content`` is what they left.

        Raises:
            ArchiveError: the store does not answer, or another process took this one for dead; nothing has changed.
        """
        try:
            with self._registry.changing() as change:
                with self._turn:
                    self._content, self._asked, self._is_known = change.content, float("inf"), False
                yield change
        finally:
            with self._turn:
                self._asked = float("-inf")  # what was written is read again

    def _read(self) -> None:
        try:
            snapshot = self._registry.read(self._tag if self._is_known else "")
        except ArchiveError as error:
            if not self._is_known and not self._is_away:
                self._content = self._last_known()
                if self._content is None:
                    raise
            if not self._is_away:
                logger.warning("%s; what was last registered there counts until it answers", error)
            self._asked, self._is_away = self._tick(), True
            return
        if snapshot is not None:
            self._content, self._tag = snapshot
        if self._is_away:
            logger.warning("%s answers again", self.url)
        self._asked, self._is_known, self._is_away = self._tick(), True, False
