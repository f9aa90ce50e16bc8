"""What every other test stands on: servers are real, shared, and empty for each test."""

import asyncio
import subprocess
import sys
from pathlib import Path

import aio_pika
import asyncpg
import pytest
import redis.asyncio

from localstack.servers import process
from localstack.servers.pgbouncer import PgBouncerServer
from localstack.servers.postgres import PostgresServer
from localstack.servers.rabbit import RabbitServer
from localstack.servers.redis import RedisServer
from testkit.databases import Databases
from testkit.signals import eventually


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "0001_thing.sql").write_text("create table thing (id int primary key)")
    return tmp_path


async def fetch(dsn: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(sql, timeout=10)
        return rows
    finally:
        await connection.close(timeout=5)


async def test_each_database_is_migrated_and_its_own(
    make_database: Databases, migrations: Path
) -> None:
    first = await make_database(migrations)
    second = await make_database(migrations)
    await fetch(first, "insert into thing values (1)")
    assert len(await fetch(first, "select * from thing")) == 1
    assert await fetch(second, "select * from thing") == []


async def test_a_template_may_come_from_a_function(make_database: Databases) -> None:
    dsn = await make_database(_make_other)
    assert await fetch(dsn, "select * from other") == []


async def _make_other(dsn: str) -> None:
    await fetch(dsn, "create table other (id int)")


async def test_databases_are_gone_after_the_test(
    make_database: Databases, postgres_admin_dsn: str
) -> None:
    dsn = await make_database()
    name = dsn.rpartition("/")[2]
    await make_database.drop_all()
    listed = await fetch(postgres_admin_dsn, "select datname from pg_database")
    assert name not in {row["datname"] for row in listed}


@pytest.mark.parametrize("_turn", [1, 2])
async def test_redis_is_empty_for_each_test(redis_url: str, _turn: int) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, socket_timeout=5) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


@pytest.mark.parametrize("_turn", [1, 2])
async def test_rabbit_is_empty_for_each_test(amqp_url: str, _turn: int) -> None:
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.declare_queue("left", passive=True)
        channel = await connection.channel()
        await channel.declare_queue("left", durable=True)


async def test_a_private_postgres_can_be_killed(private_postgres: PostgresServer) -> None:
    await fetch(private_postgres.url, "create table kept (id int)")
    private_postgres.kill()
    with pytest.raises(OSError):
        await fetch(private_postgres.url, "select 1")
    private_postgres.start()
    assert await fetch(private_postgres.url, "select * from kept") == []


async def test_a_private_redis_can_be_frozen(private_redis: RedisServer) -> None:
    async with redis.asyncio.Redis.from_url(private_redis.url, socket_timeout=0.2) as client:
        await client.set("kept", "1")
        private_redis.pause()
        with pytest.raises(redis.exceptions.TimeoutError):
            await client.get("kept")
        private_redis.resume()
        await eventually(private_redis.answers)
        assert await client.get("kept") == b"1"


async def test_a_private_rabbit_keeps_confirmed_messages_over_a_kill(
    private_rabbit: RabbitServer,
) -> None:
    connection = await aio_pika.connect(private_rabbit.url, timeout=10)
    channel = await connection.channel(publisher_confirms=True)
    await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
    private_rabbit.settle_declarations()
    await channel.default_exchange.publish(
        aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "q", timeout=10
    )
    private_rabbit.kill()
    await connection.close()
    private_rabbit.start()
    connection = await aio_pika.connect(private_rabbit.url, timeout=10)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue("q")
        async with asyncio.timeout(30), queue.iterator() as messages:
            message = await anext(messages)
            await message.ack()
        assert message.body == b"kept"


INNER_TEST = """
import os, signal
from pathlib import Path

def test_inner(redis_server):
    Path("pids").write_text(str(redis_server._exchange(b"INFO server\\r\\n", size=4096).decode()))
    if Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["ends", "is killed"])
async def test_shared_servers_end_with_the_run(tmp_path: Path, how: str) -> None:
    (tmp_path / "test_inner.py").write_text(INNER_TEST)
    if how == "is killed":
        (tmp_path / "die").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "testkit.plugin", "-q", "test_inner.py"],
        cwd=tmp_path, check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    said = (tmp_path / "pids").read_text()
    pid = int(said.split("process_id:")[1].split()[0])
    assert done.returncode == (0 if how == "ends" else -9), done.stdout
    await eventually(lambda: not process.is_alive(pid), within_s=10)


async def test_behind_the_pooler_transactions_change_sessions(
    make_database: Databases, private_pgbouncer: PgBouncerServer
) -> None:
    dsn = private_pgbouncer.database_url(await make_database())
    connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
    others = [await asyncpg.connect(dsn, timeout=10, statement_cache_size=0) for _ in range(3)]
    try:
        held = [other.transaction() for other in others]
        for transaction in held:
            await transaction.start()
        first = await connection.fetchval("select pg_backend_pid()")
        for transaction in held:
            await transaction.rollback()
        seen = {await connection.fetchval("select pg_backend_pid()") for _ in range(8)}
        assert len(seen | {first}) > 1
    finally:
        for each in (connection, *others):
            await each.close(timeout=5)
