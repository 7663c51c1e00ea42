"""Predictions in partitions by time, on PostgreSQL; a file of SQLite has none.

No row is copied: the table becomes a partition without a beginning, until the next day. For that PostgreSQL reads it
once, while nobody else uses it. It is one transaction: a step that is killed has done nothing, and begins again at the
next start.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_KEY = 'PRIMARY KEY (request_id, "row", model)'


def upgrade() -> None:
    """Make the former table a partition, and one for what no other is for."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    op.rename_table("predictions", "predictions_before")
    op.execute("ALTER INDEX predictions_by_time RENAME TO predictions_before_by_time")
    op.execute("CREATE TABLE predictions (LIKE predictions_before INCLUDING STORAGE) PARTITION BY RANGE (time)")
    op.create_index("predictions_by_time", "predictions", ["model", "time"])
    op.execute(f"CREATE TABLE predictions_default (LIKE predictions INCLUDING STORAGE, {_KEY})")
    day = "date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    until: datetime = connection.execute(sa.text(f"SELECT {day} + interval '1 day'")).scalar_one()
    if connection.execute(sa.text("SELECT EXISTS (SELECT FROM predictions_before)")).scalar_one():
        # From a clock that went wrong.
        later = f"DELETE FROM predictions_before WHERE time >= '{until.isoformat()}' RETURNING *"
        op.execute(f"WITH later AS ({later}) INSERT INTO predictions_default SELECT * FROM later")
        bounds = f"FROM (MINVALUE) TO ('{until.isoformat()}')"
        op.execute(f"ALTER TABLE predictions ATTACH PARTITION predictions_before FOR VALUES {bounds}")
    else:
        op.drop_table("predictions_before")
    op.execute("ALTER TABLE predictions ATTACH PARTITION predictions_default DEFAULT")


def downgrade() -> None:
    """Make one table of all partitions, whose rows are copied."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute(f"CREATE TABLE predictions_new (LIKE predictions INCLUDING STORAGE, {_KEY})")
    op.execute("INSERT INTO predictions_new SELECT * FROM predictions")
    op.drop_table("predictions")
    op.rename_table("predictions_new", "predictions")
    op.create_index("predictions_by_time", "predictions", ["model", "time"])
