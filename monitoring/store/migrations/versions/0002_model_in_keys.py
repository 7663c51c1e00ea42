"""The model is part of the key: one id may be sent to several. Tables are made anew: SQLite cannot change a key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)
_OWN_MODEL = (
    "coalesce((SELECT predictions.model FROM predictions WHERE predictions.request_id = feedback.request_id "
    'AND predictions."row" = feedback."row"), \'\')'
)


def upgrade() -> None:
    """Put the model into both keys; a label gets the model that answered its row."""
    _create("feedback", True, _text("label"), _time())
    op.execute(
        'INSERT INTO feedback_new (request_id, "row", model, label, time) '
        f'SELECT request_id, "row", {_OWN_MODEL}, label, time FROM feedback'
    )
    _create("predictions", True, _version(), _time(), _text("features"), _text("output"))
    _copy("predictions", 'request_id, "row", model, version, time, features, output')
    _rename_tables()


def downgrade() -> None:
    """Take the model out of the keys; fails where two models have the same row."""
    _create("feedback", False, _text("label"), _time())
    _copy("feedback", 'request_id, "row", label, time')
    _create("predictions", False, _model(), _version(), _time(), _text("features"), _text("output"))
    _copy("predictions", 'request_id, "row", model, version, time, features, output')
    _rename_tables()


def _create(table: str, by_model: bool, *columns: sa.Column[object]) -> None:
    key = ("request_id", "row", *(["model"] if by_model else []))
    op.create_table(
        f"{table}_new",
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("row", sa.Integer, nullable=False, autoincrement=False),
        *([_model()] if by_model else []),
        *columns,
        sa.PrimaryKeyConstraint(*key, name=f"{table}_by_{'_'.join(key)}"),
    )


def _copy(table: str, columns: str) -> None:
    op.execute(f"INSERT INTO {table}_new ({columns}) SELECT {columns} FROM {table}")


def _rename_tables() -> None:
    for table in ("predictions", "feedback"):
        op.drop_table(table)
        op.rename_table(f"{table}_new", table)
    op.create_index("predictions_by_time", "predictions", ["model", "time"])


def _model() -> sa.Column[object]:
    return sa.Column("model", sa.String(100), nullable=False)


def _version() -> sa.Column[object]:
    return sa.Column("version", sa.String(100), nullable=False)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def _time() -> sa.Column[object]:
    return sa.Column("time", _TIME, nullable=False)
