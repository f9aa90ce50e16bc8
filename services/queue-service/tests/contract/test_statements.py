"""Every statement of the stores is one that the migrated schema takes."""

import pkgutil
from importlib import import_module

import pytest

import queue_service.store
from chassis import postgres, sql

MODULES = [
    module.name
    for module in pkgutil.iter_modules(queue_service.store.__path__)
    if hasattr(import_module(f"queue_service.store.{module.name}"), "SQL")
]


@pytest.mark.parametrize("name", MODULES)
async def test_every_statement_can_be_prepared(database: postgres.Database, name: str) -> None:
    queries: sql.Queries = import_module(f"queue_service.store.{name}").SQL
    async with database.connection() as connection:
        for block in queries.names():
            await connection.prepare(getattr(queries, block))
