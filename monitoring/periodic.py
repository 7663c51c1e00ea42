"""The repetition of the monitor's tasks, each in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


def repeat(
    seconds: float | Callable[[float], float],
    task: Callable[[], object],
    stop: threading.Event,
    *,
    fault: str = "one of the monitor's tasks",
    delay: float = 0.0,
) -> None:
    """Run a task again and again until ``stop`` is set; failures are logged, and tried again.

    Args:
        seconds: pause from the end of a round to the next one, or a function of the seconds that the round took.
        stop: also ends a pause at once.
        fault: message that is logged with an error.
        delay: seconds before the first round.
    """
    pause = delay
    while not stop.wait(pause):
        began = time.monotonic()
        try:
            task()
        except Exception:
            logger.exception("%s", fault)
        pause = seconds(time.monotonic() - began) if callable(seconds) else seconds
