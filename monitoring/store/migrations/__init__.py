"""The steps that make the store's tables, run by Alembic whenever the store is opened."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

LOCK = 20131231  # PostgreSQL's advisory lock while one process changes the tables


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the tables up to date, or up to a step, in one transaction and one process at a time."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
