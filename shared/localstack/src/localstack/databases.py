"""A database and a role of its own for each service, in a server that we administer.

Passwords are new at every start and live in the environment of the service alone.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from chassis import sql

_sql = sql.queries(__file__)

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 30.0
# The processes of a runner that was killed need up to this long to end.
IN_USE_WAIT_S = 12.0
IN_USE_POLL_S = 0.5


class DatabaseError(Exception):
    """The server refuses what we need; the text says what."""


def dsn_for(admin_dsn: str, *, name: str, password: str) -> str:
    """The admin's DSN with database, role and password exchanged; options stay."""
    parts = urlsplit(admin_dsn)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(name, safe='')}:{quote(password, safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{name}"))


def provision(admin_dsn: str, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The server's version, and name → DSN of what is there now."""
    try:
        return asyncio.run(_provision(admin_dsn, list(names)))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseError(f"PostgreSQL: {str(error) or type(error).__name__}") from error


async def _provision(admin_dsn: str, names: list[str]) -> tuple[str, dict[str, str]]:
    connection = await asyncpg.connect(
        admin_dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=STATEMENT_TIMEOUT_S
    )
    try:
        await _refuse_if_in_use(connection, names)
        made = {name: await _database(connection, admin_dsn, name) for name in names}
        return await connection.fetchval(_sql.server_version), made
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _refuse_if_in_use(connection: asyncpg.Connection, names: list[str]) -> None:
    """New passwords would shut out whoever works with the old ones."""
    deadline = time.monotonic() + IN_USE_WAIT_S
    while await connection.fetchval(_sql.in_use, names):
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"the databases {', '.join(names)} are in use by another stack on this server"
            )
        await asyncio.sleep(IN_USE_POLL_S)


async def _database(connection: asyncpg.Connection, admin_dsn: str, name: str) -> str:
    password = secrets.token_urlsafe(24)
    is_known = await connection.fetchval(_sql.role_exists, name)
    await _execute(connection, _sql.alter_role if is_known else _sql.create_role, name, password)
    if not await connection.fetchval(_sql.database_exists, name):
        if not await connection.fetchval(_sql.is_superuser):
            await _execute(connection, _sql.become_member, name)
        await _execute(connection, _sql.create_database, name)
        await _execute(connection, _sql.close_to_others, name)
    return dsn_for(admin_dsn, name=name, password=password)


async def _execute(connection: asyncpg.Connection, composed: str, *values: str) -> None:
    await connection.execute(await connection.fetchval(composed, *values))
