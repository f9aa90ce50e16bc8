"""A database per test, copied from a template that was migrated once per run."""

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from chassis import migrate
from localstack.servers.postgres import PostgresServer
from testkit import shared_servers

Migrations = Path | Callable[[str], Awaitable[Any]]


class Databases:
    """What one test made, to be dropped after it."""

    def __init__(self, run: shared_servers.Run, server: PostgresServer) -> None:
        self._run = run
        self._server = server
        self._made: list[str] = []

    async def __call__(self, migrations: Migrations | None = None) -> str:
        """The DSN of a fresh database: empty, or as `migrations` leave it. They are a directory of
        numbered files, or a function of a DSN whose work is the same each time."""
        name = f"test_{uuid.uuid4().hex}"
        template = await self._template(migrations) if migrations else "template1"
        await self._admin(f'create database "{name}" template "{template}"')
        self._made.append(name)
        return self._server.database_url(name)

    async def drop_all(self) -> None:
        for name in self._made:
            await self._admin(f'drop database if exists "{name}" with (force)')
        self._made.clear()

    async def _template(self, migrations: Migrations) -> str:
        name = f"template_{_fingerprint(migrations)}"
        done = self._run.folder / f"{name}.done"
        with shared_servers.locked(self._run.folder / f"{name}.lock"):
            if not done.exists():
                await self._admin(f'drop database if exists "{name}" with (force)')
                await self._admin(f'create database "{name}"')
                await _apply(migrations, self._server.database_url(name))
                done.touch()
        return name

    async def _admin(self, sql: str) -> None:
        connection = await asyncpg.connect(self._server.url, timeout=10)
        try:
            await connection.execute(sql, timeout=60)
        finally:
            await connection.close(timeout=5)


async def _apply(migrations: Migrations, dsn: str) -> None:
    if isinstance(migrations, Path):
        await migrate.migrate(dsn, migrations)
    else:
        await migrations(dsn)


def _fingerprint(migrations: Migrations) -> str:
    """Of the files' content: two services with equal names of files do not share a template."""
    digest = hashlib.sha256()
    if isinstance(migrations, Path):
        for item in migrate.read(migrations):
            digest.update(f"{item.version} {item.checksum}\n".encode())
    else:
        digest.update(f"{migrations.__module__}.{migrations.__qualname__}".encode())
    return digest.hexdigest()[:16]
