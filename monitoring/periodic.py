"""What the monitor does again and again, in threads of their own."""

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
    """Run a task again and again until told to stop; what goes wrong is logged, and tried again.

    Args:
        seconds: from the end of a round to the next one, or what tells them from the seconds that the round took.
        task: what one round does.
        stop: also ends a pause at once.
        fault: what is logged with an error.
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
