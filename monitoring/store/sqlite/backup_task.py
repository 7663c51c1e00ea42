"""The task that checks the database's file and copies it."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from prometheus_client import CollectorRegistry, Gauge

from handlers.observe.settings import MOST, EnvironmentSettings, says
from monitoring.periodic import repeat
from monitoring.store.leases import Lease
from monitoring.store.sqlite.sqlite_file import Backups, FileFault, WatchedFile

logger = logging.getLogger(__name__)
PAUSE = 60.0  # s between two checks
SHARE = 0.01  # greatest share of the time for checks


class BackupPolicy(EnvironmentSettings, frozen=True):
    """Interval and number of the copies of a SQLite database."""

    backup_hours: Annotated[
        float,
        says("Hours between two backups of a SQLite database, into backups beside it; 0: none.", ge=0, le=24 * 366),
    ] = 6
    backups: Annotated[int, says("How many backups are kept.", ge=1, le=MOST)] = 4

    @property
    def every(self) -> timedelta:
        """Return the time between two copies; zero for none."""
        return timedelta(hours=self.backup_hours)


class BackupTask:
    """Checks the file of the database, and copies it.

    Args:
        clock: wall-clock time in UTC.
        lease: needed for a copy; None where there is no other monitor.

    Attributes:
        fault: why a copy that was due is missing; empty if all is well.
    """

    def __init__(
        self,
        watched: WatchedFile,
        policy: BackupPolicy,
        registry: CollectorRegistry,
        clock: Callable[[], datetime],
        lease: Lease | None = None,
    ) -> None:
        self._watched, self._policy, self._clock, self._lease = watched, policy, clock, lease
        self.backups = Backups(watched.file, policy.backups)
        self.fault = ""
        self._damaged = Gauge("monitor_database_damaged", "Whether the database's file is", registry=registry)
        self._time = Gauge("monitor_backup_timestamp_seconds", "When it was last copied", registry=registry)

    def run(self) -> None:
        """Check the file once, and copy it if it is time."""
        damaged, former = self._watched.look(), self.fault
        self._damaged.set(bool(damaged))
        self.fault = f"the database {self._watched.file} is damaged: {damaged}" if damaged else self._copy()
        if self.fault and self.fault != former:
            logger.error("%s", self.fault)

    def run_forever(self, stop: threading.Event) -> None:
        """Check and copy until ``stop`` is set; a large file is checked less often."""
        fault = "cannot look after the database's file"
        repeat(lambda took: max(PAUSE, took / SHARE), self.run, stop, fault=fault)

    def _copy(self) -> str:
        """Copy the file if it is time; return why that failed, empty if it did not."""
        if not self._policy.every or (self._lease is not None and not self._lease.held):
            return ""
        newest, now = next(iter(self.backups.list()), None), self._clock()
        if newest is not None:
            self._time.set(newest.time.timestamp())
            if timedelta(0) <= now - newest.time < self._policy.every:
                return ""
        try:
            self._time.set(self.backups.make(now).time.timestamp())
        except (FileFault, OSError) as error:
            return str(error)
        return ""
