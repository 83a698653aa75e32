"""Run by Alembic inside `migrate`, on the connection that it was handed."""

from alembic import context

from common.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
