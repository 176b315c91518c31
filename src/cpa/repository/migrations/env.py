"""Alembic's entry: the program hands in an open connection, the command line a file by `-x store=FILE`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from cpa.repository.tables import metadata


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given: sa.Connection | None = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    from cpa.repository.database import developer_engine

    with developer_engine(context.get_x_argument(as_dictionary=True)["store"]).begin() as connection:
        _migrate(connection)


_run()
