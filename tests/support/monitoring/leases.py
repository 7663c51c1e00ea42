"""When a lease runs out, and how to let it."""

from datetime import UTC, datetime

from sqlalchemy import select, update

from monitoring.store import tables
from monitoring.store.predictions import Store


def expires(store: Store) -> datetime:
    """When another monitor may take the only lease of a store."""
    with store.database.engine.connect() as connection:
        value: datetime = connection.execute(select(tables.leases.c.expires)).scalar_one()
        return value


def let_expire(store: Store) -> None:
    """Let it run out now."""
    with store.database.engine.begin() as connection:
        connection.execute(update(tables.leases).values(expires=datetime.now(UTC)))
