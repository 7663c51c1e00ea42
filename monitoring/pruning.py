"""The task that keeps the store at its size."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from monitoring.store import Store

logger = logging.getLogger(__name__)


def prune_forever(store: Store, clock: Callable[[], datetime], interval: float, stop: threading.Event) -> None:
    """Prune every ``interval`` seconds until told to stop; what goes wrong is logged, and tried again."""
    while not stop.is_set():
        try:
            store.prune(clock())
        except SQLAlchemyError:
            logger.exception("cannot prune the store")
        stop.wait(interval)
