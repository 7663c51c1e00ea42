"""The task that keeps the store at its size, without emptying it when the clock jumps."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from monitoring.periodic import repeat
from monitoring.store.leases import POLL, Lease, if_held
from monitoring.store.predictions import Store
from monitoring.store.retention import PruneRefusedError

logger = logging.getLogger(__name__)
JUMP = 3600.0  # s that the clock may gain or lose between two rounds; summer time does not change UTC
SHARE = 0.05  # greatest share of the time


class Pruner:
    """Prunes the store at an interval.

    Args:
        clock: the time, in UTC.
        lease: needed to prune; None where there is no other monitor.
        tick: monotonic clock, in seconds.

    Attributes:
        refused: why the last round removed nothing for its age; empty if it removed all that it should.
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
        """Prune once; return how many predictions went.

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

    def holds(self) -> bool:
        """Return whether nothing may go for its age now, since the clock may have jumped.

        Raises:
            SQLAlchemyError: the store does not answer.
        """
        if self._lease is None or self._lease.held:
            return bool(self.refused)
        retention = self._store.retention  # another monitor prunes
        return self._store.expired(self._clock()).refusal(retention.share) is not None

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Prune every ``interval`` seconds until ``stop`` is set; failures are logged, and tried again.

        Of many rows the pauses are longer: counting takes a twentieth of the time at most.
        """
        led = False

        def look() -> None:
            nonlocal led
            led = self._lease is None or self._lease.held
            self._round()

        pause = lambda took: max(interval, took / SHARE) if led else min(POLL, interval)  # noqa: E731
        repeat(pause, look, stop, fault="cannot prune the store")

    def _round(self) -> None:
        actions = {"make partitions": lambda: self._store.make_partitions(self._clock()), "prune the store": self.run}
        for what, action in actions.items():
            try:
                if_held(self._lease, action)
            except SQLAlchemyError as error:
                logger.warning("cannot %s: %s", what, getattr(error, "orig", None) or error)

    def _goes_steadily(self) -> bool:
        """Return whether the clock went as fast as ``tick`` since the last round; False at the first one."""
        now, tick = self._clock(), self._tick()
        last, self._last = self._last, (now, tick)
        if last is None:
            return False
        return abs((now - last[0]).total_seconds() - (tick - last[1])) < JUMP
