"""A value that a thread of its own fetches, so that a page that shows it never waits long."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # s


class LastKnown(Generic[T]):
    """Fetches the value at each call, and returns the last one where it does not come in time.

    Args:
        fetch: may raise.
        patience: s that a caller waits.
    """

    def __init__(self, fetch: Callable[[], T], patience: float = PATIENCE) -> None:
        self._fetch, self._patience = fetch, patience
        self._value: T | None = None
        self._fault: Exception | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self) -> T | None:
        """Return the value, else the last one; None if there was none so far.

        Raises:
            Exception: raised by the last ``fetch``.
        """
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_alive():
                thread = self._thread = threading.Thread(target=self._run, daemon=True)
                thread.start()
        thread.join(self._patience)
        if self._fault is not None:
            raise self._fault
        return self._value

    def _run(self) -> None:
        try:
            self._value, self._fault = self._fetch(), None
        except Exception as error:
            self._fault = error
