"""Alembic's entry: runs the migrations on the connection that `migrate.upgrade` hands over, in its
transaction."""

from alembic import context

from framegrid_store import rollup_tables  # noqa: F401 (adds its tables to the metadata)
from framegrid_store.names import SCHEMA
from framegrid_store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=False,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
