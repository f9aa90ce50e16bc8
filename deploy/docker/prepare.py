"""What a deployment needs before its first start, made once; a second run changes nothing.

    prepare.py keys DIRECTORY [--postgres HOST:PORT]   secrets as files, a folder per service
    prepare.py databases DIRECTORY                     roles and databases with those passwords

`DIRECTORY` holds `<service>/{service.pem,database_url}`, `gateway/admin.key`,
`session-service/session.keys`, `queue-service/queue.keys` and `public/<service>.pub`; the folders
of services each for its service alone. `databases` reads the superuser's DSN from
ADMIN_DATABASE_URL.
"""

# ruff: noqa: INP001, T201 - a script, and what it prints is its answer

import argparse
import asyncio
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from chassis import crypto

SERVICES = ("gateway", "queue-service", "session-service", "ratelimit-service")
DATABASE_PREFIX = "mainstay_"
CONNECT_TIMEOUT_S = 10.0


def database_of(service: str) -> str:
    return DATABASE_PREFIX + service.removesuffix("-service")


def keys(directory: Path, *, postgres: str) -> None:
    """Everything that is missing, and nothing that is there: keys outlive releases."""
    for service in SERVICES:
        own = directory / service
        own.mkdir(parents=True, exist_ok=True)
        _ensure_service_key(own / "service.pem", directory / "public" / f"{service}.pub")
        name, password = database_of(service), secrets.token_urlsafe(24)
        _ensure(own / "database_url", f"postgresql://{name}:{password}@{postgres}/{name}")
    _ensure(directory / "gateway" / "admin.key", secrets.token_hex(32))
    _ensure(directory / "session-service" / "session.keys", f"k1:{crypto.new_key()}")
    _ensure(directory / "queue-service" / "queue.keys", f"k1:{crypto.new_key()}")


def _ensure_service_key(private: Path, public: Path) -> None:
    if private.exists() and public.exists():
        return
    private_pem, public_pem = crypto.new_service_key()
    private.unlink(missing_ok=True)
    _ensure(private, private_pem)
    public.parent.mkdir(parents=True, exist_ok=True)
    public.write_text(public_pem)


def _ensure(path: Path, text: str) -> None:
    """Readable for its owner alone from its first moment on, and never half-written."""
    if path.exists():
        return
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text.rstrip("\n") + "\n")
    scratch.replace(path)


async def databases(directory: Path, *, admin_dsn: str) -> list[str]:
    """A role and a database of its own per service; returns the names."""
    connection = await asyncpg.connect(admin_dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        return [
            await _database(connection, (directory / service / "database_url").read_text())
            for service in SERVICES
        ]
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _database(connection: asyncpg.Connection, dsn: str) -> str:
    parts = urlsplit(dsn.strip())
    role, password = unquote(parts.username or ""), unquote(parts.password or "")
    name = parts.path.removeprefix("/")
    known = await connection.fetchval(
        "select exists (select from pg_roles where rolname = $1)", role
    )
    verb = "alter" if known else "create"
    await _run(connection, f"{verb} role %I login password %L", role, password)
    if not await connection.fetchval(
        "select exists (select from pg_database where datname = $1)", name
    ):
        await _run(connection, "create database %I owner %I", name, role)
        await _run(connection, "revoke all on database %I from public", name)
    return name


async def _run(connection: asyncpg.Connection, template: str, *values: str) -> None:
    """Names and passwords cannot be parameters: the server itself quotes them."""
    await connection.execute(
        await connection.fetchval("select format($1, variadic $2::text[])", template, list(values))
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="prepare.py")
    parser.add_argument("verb", choices=["keys", "databases"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--postgres", default="postgres:5432", help="where services find it")
    asked = parser.parse_args()
    if asked.verb == "keys":
        keys(asked.directory, postgres=asked.postgres)
        print(f"keys and passwords are in {asked.directory}")
        return 0
    admin_dsn = os.environ.get("ADMIN_DATABASE_URL")
    if not admin_dsn:
        print("prepare.py: set ADMIN_DATABASE_URL to the superuser's DSN", file=sys.stderr)
        return 2
    made = asyncio.run(databases(asked.directory, admin_dsn=admin_dsn))
    print(f"databases: {', '.join(made)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
