"""Refuse new requests while the host is about to end, so that each gets an answer instead of a lost connection.

TorchServe closes every connection when it ends, also those that wait for an answer. So its workers are signalled first.
A worker answers the requests that it has, and refuses later ones: 503 with ``Retry-After``, after which TorchServe
closes that connection.
"""

import math
import signal
import threading
import time
from collections.abc import Callable

SIGNAL = signal.SIGURG  # without a handler, as in a worker of an older archive, it is ignored
LASTS = 60.0  # s; after a stop that was broken off workers answer again
RETRY_AFTER = {"Retry-After": "5"}  # s, about what a start takes
MESSAGE = "the service is being stopped; it was not tried"


class Drain:
    """Tells whether requests are to be refused; ``clock`` is monotonic, in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = -math.inf
        self._turns = 0

    def begin(self) -> None:
        """Refuse requests from now on."""
        self._until, self._turns = self._clock() + LASTS, 0

    def begin_on_signal(self) -> None:
        """Begin when this process gets ``SIGNAL``; a host that loads models in other threads stops them by itself."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(SIGNAL, lambda number, frame: self.begin())

    def refuses(self) -> bool:
        """Return whether a batch is to be refused; call it once a batch. The first one has waited since before."""
        if self._clock() >= self._until:
            return False
        self._turns += 1
        return self._turns > 1
