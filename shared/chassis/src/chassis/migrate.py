"""Numbered, forward-only migrations: `0001_jobs.sql`, each in one transaction, each run once.

Two runs at the same time are harmless (a lock in each transaction, which a pooler of transactions
carries too); an edited file that has already run is
refused by its checksum. A file whose first line is `-- post` must wait until the new code is
everywhere and is skipped unless asked for.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis import postgres

LOCK = 0x6D61696E  # "main"
LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "60s"

_TABLE = """
create table if not exists schema_migration (
    version text primary key, checksum text not null, applied_at timestamptz not null default now())
"""


class MigrationError(Exception):
    """The directory and the database disagree; the text says where."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def is_post(self) -> bool:
        return self.sql.partition("\n")[0].rstrip() == "-- post"


def read(directory: Path) -> list[Migration]:
    return [Migration(path.stem, path.read_text()) for path in sorted(directory.glob("[0-9]*.sql"))]


async def migrate(dsn: str, directory: Path, *, post: bool = False) -> list[str]:
    """Apply what is missing; returns the versions applied now."""
    connection = await asyncpg.connect(
        dsn, timeout=10, **postgres.options(application="migrate", pooled=True)
    )
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
            await connection.execute(_TABLE)
        wanted = [item for item in read(directory) if post or not item.is_post]
        _refuse_edited(wanted, await _done(connection))
        return [item.version for item in wanted if await _applied_now(connection, item)]
    finally:
        await connection.close(timeout=5)


async def _done(connection: asyncpg.Connection) -> dict[str, str]:
    rows = await connection.fetch("select version, checksum from schema_migration")
    return {row["version"]: row["checksum"] for row in rows}


def _refuse_edited(wanted: list[Migration], done: dict[str, str]) -> None:
    edited = [
        item.version for item in wanted if done.get(item.version, item.checksum) != item.checksum
    ]
    if edited:
        raise MigrationError(
            f"already applied, but the file has changed since: {', '.join(edited)}"
        )


async def _applied_now(connection: asyncpg.Connection, item: Migration) -> bool:
    """False: it had been applied before, perhaps by another run while we waited."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        if item.version in await _done(connection):
            return False
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute(f"set local statement_timeout = '{STATEMENT_TIMEOUT}'")
        await connection.execute(item.sql)
        await connection.execute(
            "insert into schema_migration (version, checksum) values ($1, $2)",
            item.version,
            item.checksum,
        )
    return True
