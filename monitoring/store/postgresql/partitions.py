"""Predictions in partitions by time: what is too old goes with its partition, at once, and leaves no dead rows behind.

A partition is as long as a twelfth of the time that predictions are kept, in whole days of UTC: so some fourteen of
them are searched for a key. They are made before their time comes. What has no partition of its own, such as a replay
of the past, is in the default one; what was there before there were partitions is in one without a beginning. From
those two, old rows are deleted.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from monitoring.store.database import Database

PARTS = 12  # of the time that predictions are kept
AHEAD = 2  # partitions, the present one among them
DAY = timedelta(days=1)
LONGEST = 366 * DAY
_KEY = 'PRIMARY KEY (request_id, "row", model)'
_BOUNDS = re.compile(r"FOR VALUES FROM \((?:'(.+?)'|MINVALUE)\) TO \('(.+?)'\)")
_LIST = text(
    "SELECT relname, pg_get_expr(relpartbound, pg_class.oid) AS bounds FROM pg_class JOIN pg_inherits "
    "ON inhrelid = pg_class.oid WHERE inhparent = 'predictions'::regclass"
)


@dataclass(frozen=True)
class Partition:
    """A partition of some time.

    Attributes:
        since: included; None for one without a beginning.
        until: excluded.
    """

    name: str
    since: datetime | None
    until: datetime


class Partitions:
    """The partitions of the predictions of one database.

    Args:
        age: how long predictions are kept.
    """

    def __init__(self, database: Database, age: timedelta) -> None:
        self._database = database
        self._length = min(math.ceil(age / PARTS / DAY) * DAY, LONGEST)

    def existing(self) -> list[Partition]:
        """Return the partitions but for the default one, in order of time."""
        with self._database.engine.connect() as connection:
            return _partitions(connection)

    def make(self, now: datetime) -> int:
        """Make the partitions of the present and of the time after it that are missing; return how many were.

        Rows of that time that are in the default partition are moved.
        """
        if not [*self._missing(self.existing(), now)]:
            return 0
        with self._database.writing() as connection:
            missing = [*self._missing(_partitions(connection), now)]  # another monitor may have made them meanwhile
            for since, until in missing:
                _make(connection, since, until)
        return len(missing)

    def cutoff(self, bound: datetime) -> datetime:
        """Return the time before which predictions go where those before a bound are too old.

        It is earlier where the bound lies within a partition, which goes as a whole later.
        """
        for partition in self.existing():
            if partition.since is not None and partition.since <= bound < partition.until:
                return partition.since
        return bound

    def drop(self, before: datetime) -> int:
        """Drop the partitions that end by a time; return how many predictions went."""
        gone = 0
        for partition in self.existing():
            if partition.until <= before:
                with self._database.engine.connect() as connection:
                    rows: int = connection.execute(text(f'SELECT count(*) FROM "{partition.name}"')).scalar_one()
                with self._database.writing() as connection:
                    connection.execute(text(f'DROP TABLE IF EXISTS "{partition.name}"'))
                gone += rows
        return gone

    def _missing(self, partitions: Sequence[Partition], now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield begin and end of the partitions that are to be made, from the day that it is on."""
        at = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        end = at + AHEAD * self._length
        for partition in partitions:
            if partition.until <= at:
                continue
            begin = partition.since or at
            while at < min(begin, end):
                until = min(at + self._length, begin)
                yield at, until
                at = until
            at = max(at, partition.until)
        while at < end:
            yield at, at + self._length
            at += self._length


def _make(connection: Connection, since: datetime, until: datetime) -> None:
    name, bounds = f"predictions_{since:%Y%m%d}", {"since": since, "until": until}
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE predictions INCLUDING STORAGE, {_KEY})")
    moved = "DELETE FROM predictions_default WHERE time >= :since AND time < :until RETURNING *"
    connection.execute(text(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved"), bounds)
    values = f"FROM ('{since.isoformat()}') TO ('{until.isoformat()}')"
    connection.exec_driver_sql(f"ALTER TABLE predictions ATTACH PARTITION {name} FOR VALUES {values}")


def _partitions(connection: Connection) -> list[Partition]:
    partitions = []
    for name, bounds in connection.execute(_LIST):
        if match := _BOUNDS.fullmatch(bounds):  # the default one has none
            since, until = match.groups()
            partitions.append(Partition(name, _time(since) if since else None, _time(until)))
    return sorted(partitions, key=lambda partition: partition.until)


def _time(bound: str) -> datetime:
    return datetime.fromisoformat(bound).astimezone(UTC)
