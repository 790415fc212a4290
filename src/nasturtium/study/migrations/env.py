"""Run the migrations on the connection that `study.database` hands over (inside its transaction)."""

from __future__ import annotations

from alembic import context

from nasturtium.study.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
