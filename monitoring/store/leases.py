"""A lease in the store: of several monitors on one database, one does what must be done once.

The holder renews it; after a kill the others wait until it has run out. Whoever was asleep meanwhile finds another
fencing number, and writes nothing more (Kleppmann, "How to do distributed locking", 2016).
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
JOBS = "jobs"  # its name: retrainings, promotions by themselves, the schedule, pruning, backups
_LEASES = tables.leases.c


class LeaseLostError(SQLAlchemyError):
    """Another monitor holds the lease by now: what this one was about to write is no longer its to write."""


class Lease:
    """One monitor's claim.

    Args:
        database: that it is kept in.
        name: of what it is about.
        owner: of this claim; default: of this process.
        lasts: how long after a renewal nobody else may have it.
        tick: seconds that only go forward.
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
        self.holder = ""  # as it was last seen
        self._fence = 0
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether it is this monitor's; after a pause of the process it is not before it was renewed."""
        return self._tick() < self._until

    def renew(self) -> bool:
        """Take it if nobody has it, or keep it.

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
        """Give it back, so that another one need not wait."""
        if not self.held:
            return
        self._until = float("-inf")
        with self._database.writing() as connection:
            own = (_LEASES.name == self._name) & (_LEASES.owner == self.owner)
            connection.execute(update(tables.leases).where(own).values(expires=_now(connection)))

    def keep_forever(self, stop: threading.Event) -> None:
        """Renew it, or wait for it, until told to stop."""
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
            LeaseLostError: in the transaction that would have been too late.
        """
        with self._database.guarded(self._check):
            yield

    def _check(self, connection: Connection) -> None:
        row = connection.execute(select(tables.leases).where(_LEASES.name == self._name)).one_or_none()
        if row is None or (row.owner, row.fence) != (self.owner, self._fence):
            raise LeaseLostError(f"{row.owner if row else 'nobody'} has the lease {self._name!r}, not {self.owner}")


def if_held(lease: Lease | None, do: Callable[[], object]) -> None:
    """Do something, fenced, if it is this monitor's to do; without a lease there is no other monitor.

    Raises:
        LeaseLostError: another monitor took the lease meanwhile.
    """
    if lease is None:
        do()
    elif lease.held:
        with lease.fenced():
            do()


def _now(connection: Connection) -> datetime:
    """The time of the database, which is one for all monitors; of a file it is this machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now
