"""A lease in the store: of several monitors on one database, one does what must be done once.

The holder renews it; after a kill the others wait until it has run out. A holder that was asleep meanwhile finds
another fencing number, and writes nothing more (Kleppmann, "How to do distributed locking", 2016).
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from monitoring.periodic import repeat
from monitoring.store import tables
from monitoring.store.database import Database

logger = logging.getLogger(__name__)
LASTS = timedelta(seconds=15)
JOBS = "jobs"  # name of the lease for retrainings, automatic promotions, the schedule, pruning and backups
_LEASES = tables.leases.c


class LeaseLostError(SQLAlchemyError):
    """Another monitor holds the lease by now, so this one may not write."""


class Lease:
    """One monitor's claim.

    Args:
        name: identifies the work that the lease is for.
        owner: default: a name of this process.
        lasts: how long after a renewal nobody else may have it.
        tick: monotonic clock, in seconds.

    Attributes:
        holder: owner at the last renewal; empty before it.
    """

    def __init__(
        self,
        database: Database,
        name: str = JOBS,
        owner: str = "",
        lasts: timedelta = LASTS,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._name, self._lasts, self._tick = database, name, lasts, tick
        self.owner = owner or f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
        self.holder = ""
        self._fence = 0
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Return whether the lease is this monitor's; after a pause of the process it must be renewed first."""
        return self._tick() < self._until

    def renew(self) -> bool:
        """Take the lease if nobody has it, or keep it; return whether this monitor has it.

        Raises:
            SQLAlchemyError: the store does not answer.
        """
        began = self._tick()
        with self._database.writing() as connection:
            now = _now(connection)
            row = connection.execute(select(tables.leases).where(_LEASES.name == self._name)).one_or_none()
            if row is not None and row.owner != self.owner and now < row.expires <= now + 2 * self._lasts:
                self.holder, self._until = row.owner, float("-inf")
                return False
            same = row is not None and row.owner == self.owner
            self._fence = row.fence if row is not None and same else (row.fence if row is not None else 0) + 1
            values = {"owner": self.owner, "expires": now + self._lasts, "fence": self._fence}
            if row is None:
                connection.execute(insert(tables.leases).values(name=self._name, **values))
            else:
                connection.execute(update(tables.leases).where(_LEASES.name == self._name).values(values))
        if self.holder != self.owner:
            logger.warning("this monitor, %s, does the jobs from now on", self.owner)
        self.holder, self._until = self.owner, began + self._lasts.total_seconds()
        return True

    def release(self) -> None:
        """Give the lease back, so that another monitor need not wait."""
        if not self.held:
            return
        self._until = float("-inf")
        with self._database.writing() as connection:
            own = (_LEASES.name == self._name) & (_LEASES.owner == self.owner)
            connection.execute(update(tables.leases).where(own).values(expires=_now(connection)))

    def keep_forever(self, stop: threading.Event) -> None:
        """Renew the lease, or wait for it, until ``stop`` is set."""
        repeat(self._lasts.total_seconds() / 3, self._round, stop, fault=f"cannot renew the lease {self._name!r}")

    def _round(self) -> None:
        try:
            self.renew()
        except SQLAlchemyError as error:
            logger.warning("cannot renew the lease %r: %s", self._name, getattr(error, "orig", None) or error)

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """Let this thread write only as long as nobody else has taken the lease.

        Raises:
            LeaseLostError: in the first transaction after that.
        """
        with self._database.guarded(self._check):
            yield

    def _check(self, connection: Connection) -> None:
        row = connection.execute(select(tables.leases).where(_LEASES.name == self._name)).one_or_none()
        if row is None or (row.owner, row.fence) != (self.owner, self._fence):
            raise LeaseLostError(f"{row.owner if row else 'nobody'} has the lease {self._name!r}, not {self.owner}")


def if_held(lease: Lease | None, do: Callable[[], object]) -> None:
    """Call a function, fenced, if this monitor holds the lease; without a lease there is no other monitor.

    Raises:
        LeaseLostError: another monitor took the lease meanwhile.
    """
    if lease is None:
        do()
    elif lease.held:
        with lease.fenced():
            do()


def _now(connection: Connection) -> datetime:
    """Return the time of the database server, the same for all monitors; of a file it is this machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now
