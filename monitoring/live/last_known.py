"""A value that is asked for in a thread of its own, so that whoever shows it never waits long for who knows it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # s


class LastKnown(Generic[T]):
    """Asks again each time; what was known last is given where the answer does not come in time.

    Args:
        ask: what is asked; it may raise.
        patience: s that a caller waits.
    """

    def __init__(self, ask: Callable[[], T], patience: float = PATIENCE) -> None:
        self._ask, self._patience = ask, patience
        self._known: T | None = None
        self._fault: Exception | None = None
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def __call__(self) -> T | None:
        """The value, else what was known last; None where nothing ever was.

        Raises:
            Exception: what the last asking raised.
        """
        with self._lock:
            asking = self._asking
            if asking is None or not asking.is_alive():
                asking = self._asking = threading.Thread(target=self._run, daemon=True)
                asking.start()
        asking.join(self._patience)
        if self._fault is not None:
            raise self._fault
        return self._known

    def _run(self) -> None:
        try:
            self._known, self._fault = self._ask(), None
        except Exception as error:
            self._fault = error
