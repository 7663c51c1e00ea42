"""A lease in the store: of several monitors on one database, one leads, and does what must be done once.

The leader renews it; after a kill another monitor takes it once it has run out. A leader that slept meanwhile finds
another fencing number, and writes nothing more (Kleppmann, "How to do distributed locking", 2016).

A row that expires, and no advisory lock of a session: PostgreSQL keeps a session's lock as long as the kernel holds the
connection, so a frozen leader would keep it for ever, and one whose network is cut for hours. A restart of the database
would drop it while the leader still believes that it leads.
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
from typing import Any

from sqlalchemy import Connection, Row, Select, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from monitoring.periodic import repeat
from monitoring.store import tables
from monitoring.store.database import Database
from monitoring.store.rows import insert_new

logger = logging.getLogger(__name__)
LASTS = timedelta(seconds=10)
RENEWALS = 4  # in that time
POLL = 1.0  # s between two looks of a monitor that waits for the lease, at most
JOBS = "jobs"  # name of the lease for all that is done by itself, again and again
NEVER = datetime.fromtimestamp(0, UTC)
_LEASES = tables.leases.c


class LeaseLostError(SQLAlchemyError):
    """This monitor does not lead by now, so it may neither write nor act."""


def since_boot() -> float:
    """Return the seconds since the machine started, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One monitor's claim.

    Args:
        name: identifies the work that the lease is for.
        owner: default: a name of this process.
        lasts: how long after a renewal nobody else may have it.
        tick: clock that never goes back, in seconds.

    Attributes:
        holder: owner at the last renewal; empty before it.
        rival: whether another monitor was seen to renew it; one that was killed is none.
    """

    def __init__(
        self,
        database: Database,
        name: str = JOBS,
        owner: str = "",
        lasts: timedelta = LASTS,
        tick: Callable[[], float] = since_boot,
    ) -> None:
        self._database, self._name, self._lasts, self._tick = database, name, lasts, tick
        self.owner = owner or f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
        self.holder, self.rival = "", False
        self._expires = NEVER  # of the holder, when it was last seen
        self._fence = 0
        self._until = float("-inf")
        self._fenced = threading.local()

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
        with self._database.locking_rows() as connection:
            nobody = {"name": self._name, "owner": "", "expires": NEVER, "fence": 0}
            insert_new(connection, tables.leases, [nobody])
            row = connection.execute(self._row().with_for_update()).one()
            now = _now(connection)  # after the wait for the row
            if row.owner not in ("", self.owner) and now < row.expires <= now + 2 * self._lasts:
                self._follow(row)
                return False
            fence = row.fence if row.owner == self.owner else row.fence + 1
            values = {"owner": self.owner, "expires": now + self._lasts, "fence": fence}
            connection.execute(update(tables.leases).where(_LEASES.name == self._name).values(values))
        if self.holder != self.owner:
            logger.warning("this monitor, %s, leads from now on", self.owner)
        self.holder, self.rival, self._fence = self.owner, False, fence
        self._until = began + self._lasts.total_seconds()
        return True

    def release(self) -> None:
        """Give the lease back, so that another monitor need not wait."""
        if not self.held:
            return
        self._until = float("-inf")
        with self._database.locking_rows() as connection:
            own = (_LEASES.name == self._name) & (_LEASES.owner == self.owner)
            connection.execute(update(tables.leases).where(own).values(expires=_now(connection)))

    def keep_forever(self, stop: threading.Event) -> None:
        """Renew the lease, or wait for it, until ``stop`` is set."""
        pause = self._lasts.total_seconds() / RENEWALS
        fault = f"cannot renew the lease {self._name!r}"
        repeat(lambda _: pause if self.held else min(POLL, pause), self._round, stop, fault=fault)

    def _round(self) -> None:
        try:
            self.renew()
        except SQLAlchemyError as error:
            logger.warning("cannot renew the lease %r: %s", self._name, getattr(error, "orig", None) or error)

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """Let this thread write and act only as long as nobody else has taken the lease.

        Raises:
            LeaseLostError: in the first transaction, or at the first ``confirm``, after that.
        """
        self._fenced.on = True
        try:
            with self._database.guarded(self._check):
                yield
        finally:
            self._fenced.on = False

    def confirm(self) -> None:
        """Raise unless this monitor leads now, before an act that no transaction covers, such as a promotion.

        A thread that is not ``fenced``, such as one that does what a person asked for, may always act.

        Raises:
            LeaseLostError: it does not.
        """
        if not getattr(self._fenced, "on", False):
            return
        with self._database.engine.connect() as connection:
            self._check(connection)
        if not self.held:
            raise LeaseLostError(f"the lease {self._name!r} of {self.owner} has run out")

    def _check(self, connection: Connection) -> None:
        """Raise unless the lease is this monitor's; nobody takes it until the transaction ends."""
        row = connection.execute(self._row().with_for_update(read=True)).one_or_none()
        if row is None or (row.owner, row.fence) != (self.owner, self._fence):
            raise LeaseLostError(f"{row.owner if row else 'nobody'} has the lease {self._name!r}, not {self.owner}")

    def _follow(self, row: Row[Any]) -> None:
        renewed = self.rival or row.expires > self._expires
        self.rival = renewed and row.owner == self.holder
        self.holder, self._expires, self._until = row.owner, row.expires, float("-inf")

    def _row(self) -> Select[Any]:
        return select(tables.leases).where(_LEASES.name == self._name)


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
