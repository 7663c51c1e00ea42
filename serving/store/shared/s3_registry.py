"""A registry on S3: changed by compare-and-swap, under a lock that outlives no holder.

The lock is an object with a holder's name, taken and renewed by conditional writes. A waiter judges by its own
monotonic clock: where the object stays the same for ``LASTS`` seconds, its holder is gone, and the lock is taken over.
So no two machines' clocks are compared. The lock is for order alone. What keeps a late holder from overwriting a change
is the condition of the write itself (Kleppmann, "How to do distributed locking", 2016).
"""

import contextlib
import json
import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator

from serving.store.faults import ArchiveError
from serving.store.shared.interface import Snapshot
from serving.store.shared.s3_objects import Changed, Objects

logger = logging.getLogger(__name__)
FILE, LOCK = "registry.json", "registry.lock"
LASTS = 15.0  # s after the last renewal until a lock is taken over
PATIENCE = 300.0  # s that a writer waits for others
POLL = 0.2  # s
FREE = b"{}"


class S3Registry:
    """The registry below a URL of S3.

    Args:
        lasts: s without a renewal after which a lock is taken over.
        tick: a monotonic clock in s.
    """

    def __init__(self, objects: Objects, lasts: float = LASTS, tick: Callable[[], float] = time.monotonic) -> None:
        self._objects, self._lasts, self._tick = objects, lasts, tick

    def read(self, known: str = "") -> Snapshot | None:
        """See ``SharedRegistry``."""
        return self._objects.read(FILE, known)

    @contextlib.contextmanager
    def changing(self) -> Iterator["S3Change"]:
        """See ``SharedRegistry``: after a holder's death others go on after ``lasts`` seconds."""
        lock = S3Lock(self._objects, self._lasts, self._tick)
        lock.acquire()
        with lock.renewed():
            self._objects.check_conditions(LOCK)
            yield S3Change(self._objects, self._objects.read(FILE) or Snapshot(None, ""))


class S3Change:
    """See ``Change``: written on the condition that the object is the one that was read."""

    def __init__(self, objects: Objects, snapshot: Snapshot) -> None:
        self._objects, self._tag, self.content = objects, snapshot.tag, snapshot.content

    def write(self, content: bytes) -> None:
        """See ``Change``."""
        try:
            self._tag = self._objects.write(FILE, content, self._tag)
        except Changed:
            raise ArchiveError(
                f"{self._objects.url}/{FILE} is not changed: another process, which took this one for dead, changed it "
                "meanwhile; run the command again"
            ) from None


class S3Lock:
    """A lock for one use."""

    def __init__(self, objects: Objects, lasts: float, tick: Callable[[], float]) -> None:
        self._objects, self._lasts, self._tick = objects, lasts, tick
        self._holder = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(8)}"
        self._beats, self._tag = 0, ""

    def acquire(self) -> None:
        """Wait for the lock, and take it.

        Raises:
            ArchiveError: others held it for too long, or the store does not answer.
        """
        begun, seen, since = self._tick(), "", self._tick()
        while True:
            snapshot = self._objects.read(LOCK) or Snapshot(None, "")
            if snapshot.tag != seen:
                seen, since = snapshot.tag, self._tick()
            is_free = snapshot.content in (None, FREE)
            if is_free or self._tick() - since > self._lasts:
                with contextlib.suppress(Changed):
                    self._write(snapshot.tag)
                    if not is_free:
                        logger.warning("took over the lock of %s, whose holder went silent", self._objects.url)
                    return
            if self._tick() - begun > PATIENCE:
                raise ArchiveError(f"{self._objects.url}/{LOCK} was held by others for {PATIENCE:.0f} s: try again")
            time.sleep(POLL * (0.5 + random.random()))  # waiters do not ask in step

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lock within the block, and leave it afterwards."""
        stop = threading.Event()
        thread = threading.Thread(target=self._renew, args=(stop,), name="registry lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(Changed, ArchiveError):  # it is another's by now, or runs out by itself
                self._objects.write(LOCK, FREE, self._tag)

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(self._lasts / 3):
            try:
                self._write(self._tag)
            except Changed:
                return
            except ArchiveError as error:
                logger.warning("the lock is not renewed: %s", error)

    def _write(self, tag: str) -> None:
        self._beats += 1
        content = json.dumps({"holder": self._holder, "beat": self._beats}).encode()
        self._tag = self._objects.write(LOCK, content, tag)
