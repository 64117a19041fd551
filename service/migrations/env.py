"""Alembic runs this file for each command; the connection comes from `service.migrations`."""

from __future__ import annotations

from alembic import context

from service.models import Base

if context.is_offline_mode():
    context.configure(url=context.config.attributes["url"], target_metadata=Base.metadata, literal_binds=True)
else:
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)

with context.begin_transaction():
    context.run_migrations()
