"""Runs the migrations on the connection that `opening` hands over; `alembic` itself calls this file."""

from alembic import context

from predictive_scoring.keeping.store.tables import REVISION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=REVISION_TABLE,
)
context.run_migrations()
