"""The script that Alembic runs: it makes the steps, on the connection of ``upgrade``."""

from alembic import context

from monitoring.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
