"""The task that keeps the store at its size, and does not let a clock that jumped empty it."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from monitoring.periodic import repeat
from monitoring.store.leases import Lease, if_held
from monitoring.store.predictions import Store
from monitoring.store.retention import PruneRefusedError

logger = logging.getLogger(__name__)
JUMP = 3600.0  # s that the clock may gain or lose between two rounds; a summer time changes no time in UTC


class Pruner:
    """Prunes again and again.

    Args:
        store: that is pruned.
        clock: the time, in UTC.
        registry: that the instruments belong to.
        lease: without which it does nothing; None where there is no other monitor.
        tick: seconds that only go forward.

    Attributes:
        refused: why the last round removed nothing for its age; empty if it did what there was to do.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        registry: CollectorRegistry,
        lease: Lease | None = None,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock, self._lease, self._tick = store, clock, lease, tick
        self._last: tuple[datetime, float] | None = None
        self.refused = ""
        self._gone = Counter("monitor_pruned_rows", "Predictions that were removed", registry=registry)
        self._holds = Gauge("monitor_prune_refused", "Whether too much would go at once", registry=registry)

    def run(self) -> int:
        """Prune once; returns how many predictions went.

        Raises:
            SQLAlchemyError: the store does not answer.
        """
        now, steady = self._clock(), self._goes_steadily()
        try:
            gone = self._store.prune(now, bounded=bool(self.refused) or not steady)
        except PruneRefusedError as error:
            if not self.refused:
                logger.error("the time is %s: %s", now.isoformat(timespec="seconds"), error)
            self.refused = str(error)
            gone = 0
        else:
            self.refused = ""
        self._holds.set(bool(self.refused))
        self._gone.inc(gone)
        return gone

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Prune every ``interval`` seconds until told to stop; what goes wrong is logged, and tried again."""
        repeat(interval, self._round, stop, fault="cannot prune the store")

    def _round(self) -> None:
        try:
            if_held(self._lease, self.run)
        except SQLAlchemyError as error:
            logger.warning("cannot prune the store: %s", getattr(error, "orig", None) or error)

    def _goes_steadily(self) -> bool:
        """Whether the clock went as fast as time since the last round; at the first one nobody knows."""
        now, tick = self._clock(), self._tick()
        last, self._last = self._last, (now, tick)
        if last is None:
            return False
        return abs((now - last[0]).total_seconds() - (tick - last[1])) < JUMP
