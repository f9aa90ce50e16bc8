"""Migrations run in order, once, alone, whole or not at all."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from chassis import migrate
from localstack.servers.pgbouncer import PgBouncerServer
from testkit.databases import Databases


@pytest_asyncio.fixture
async def dsn(make_database: Databases) -> str:
    return await make_database()


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.removeprefix('_')}.sql").write_text(text)
    return folder


async def tables(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    finally:
        await connection.close(timeout=5)
    return {row["tablename"] for row in rows} - {"schema_migration"}


async def test_each_once_and_in_order(dsn: str, tmp_path: Path) -> None:
    write(tmp_path, _0002_b="alter table a add b int", _0001_a="create table a (id int)")
    (tmp_path / "notes.sql").write_text("not a migration")
    assert await migrate.migrate(dsn, tmp_path) == ["0001_a", "0002_b"]
    assert await migrate.migrate(dsn, tmp_path) == []
    write(tmp_path, _0003_c="create table c (id int)")
    assert await migrate.migrate(dsn, tmp_path) == ["0003_c"]


async def test_one_that_fails_leaves_nothing_and_the_next_run_goes_on(
    dsn: str, tmp_path: Path
) -> None:
    write(tmp_path, _0001_a="create table a (id int)",
          _0002_b="create table b (id int); select 1 / 0")  # fmt: skip
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(dsn, tmp_path)
    assert await tables(dsn) == {"a"}
    write(tmp_path, _0002_b="create table b (id int)")
    assert await migrate.migrate(dsn, tmp_path) == ["0002_b"]


async def test_several_at_once_apply_each_file_once(dsn: str, tmp_path: Path) -> None:
    write(tmp_path, _0001_a="create table a (id int); select pg_sleep(0.1)",
          _0002_b="insert into a values (1)")  # fmt: skip
    applied = await asyncio.gather(*(migrate.migrate(dsn, tmp_path) for _ in range(4)))
    assert sorted(version for one in applied for version in one) == ["0001_a", "0002_b"]


async def test_an_edited_file_is_refused_before_anything_runs(dsn: str, tmp_path: Path) -> None:
    write(tmp_path, _0001_a="create table a (id int)")
    await migrate.migrate(dsn, tmp_path)
    write(tmp_path, _0001_a="create table a (id bigint)", _0002_b="create table b (id int)")
    with pytest.raises(migrate.MigrationError, match="0001_a"):
        await migrate.migrate(dsn, tmp_path)
    assert await tables(dsn) == {"a"}


async def test_post_waits_until_it_is_asked_for(dsn: str, tmp_path: Path) -> None:
    write(tmp_path, _0001_a="create table a (id int)", _0002_b="-- post\ndrop table a",
          _0003_c="-- postgres keeps this order\ncreate table c (id int)")  # fmt: skip
    assert await migrate.migrate(dsn, tmp_path) == ["0001_a", "0003_c"]
    assert await migrate.migrate(dsn, tmp_path, post=True) == ["0002_b"]
    assert await tables(dsn) == {"c"}


async def test_a_table_in_use_is_not_waited_for_longer_than_told(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "50ms")
    write(tmp_path, _0001_a="create table a (id int)")
    await migrate.migrate(dsn, tmp_path)
    write(tmp_path, _0002_b="alter table a add b int")
    holder = await asyncpg.connect(dsn, timeout=10)
    try:
        async with holder.transaction():
            await holder.execute("lock table a in access share mode")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrate.migrate(dsn, tmp_path)
    finally:
        await holder.close(timeout=5)
    assert await migrate.migrate(dsn, tmp_path) == ["0002_b"]


async def test_many_at_once_behind_a_pooler_apply_each_once(
    dsn: str, private_pgbouncer: PgBouncerServer, tmp_path: Path
) -> None:
    """Which gives every transaction another session, so that no lock of a session would hold."""
    write(tmp_path, **{f"_000{n}_a": f"create table a{n} (id int)" for n in range(1, 7)})
    pooled = private_pgbouncer.database_url(dsn)
    applied = await asyncio.gather(*(migrate.migrate(pooled, tmp_path) for _ in range(4)))
    assert sorted(one for each in applied for one in each) == [f"000{n}_a" for n in range(1, 7)]
    assert await tables(dsn) == {f"a{n}" for n in range(1, 7)}
