"""Refuse new requests while the host is about to end, so that each gets an answer instead of a lost connection.

TorchServe closes every connection when it ends, also those that wait for an answer. So whoever stops it signals its
workers first. A worker goes on with what it has, and refuses what comes later: 503 with ``Retry-After``, after which
TorchServe closes that connection.
"""

import math
import signal
import threading
import time
from collections.abc import Callable

SIGNAL = signal.SIGURG  # which harms no worker of an older archive: without a handler it is ignored
LASTS = 60.0  # s; a stop that was broken off leaves no worker that refuses for ever
RETRY_AFTER = {"Retry-After": "5"}  # s, about what a start takes
MESSAGE = "the service is being stopped; it was not tried"


class Drain:
    """Tells whether requests are to be refused.

    Args:
        clock: seconds, never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = -math.inf
        self._turns = 0

    def begin(self) -> None:
        """Refuse what comes from now on."""
        self._until, self._turns = self._clock() + LASTS, 0

    def begin_on_signal(self) -> None:
        """Begin when this process gets ``SIGNAL``; a host that loads models in other threads stops them by itself."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(SIGNAL, lambda number, frame: self.begin())

    def refuses(self) -> bool:
        """Return whether the requests that were handed over just now are new; ask once for each batch.

        The first batch after the beginning is what waited for its turn meanwhile.
        """
        if self._clock() >= self._until:
            return False
        self._turns += 1
        return self._turns > 1
