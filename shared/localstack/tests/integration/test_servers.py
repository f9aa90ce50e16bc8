"""Private servers and what is made in them."""

import asyncio
import signal
from pathlib import Path

import asyncpg
import pytest
import redis

from localstack import databases
from localstack.servers import process
from localstack.servers.errors import ServerError
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer


def test_what_redis_answered_survives_a_kill(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        pid = server.start().pid
        assert server.pid == pid, "a second start is none"
        with redis.Redis.from_url(server.url, socket_timeout=5) as client:
            client.set("kept", "1")
        server.kill()
        assert not process.is_alive(pid)
        server.start()
        with redis.Redis.from_url(server.url, socket_timeout=5) as client:
            assert client.get("kept") == b"1"
    assert not server.is_running
    server.stop()


def test_a_frozen_server_can_be_stopped(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not process.is_alive(pid)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as one:
        with pytest.raises(ServerError, match=f"port {one.port} on 127.0.0.1 is taken"):
            RedisServer(tmp_path / "two", port=one.port).start()
        with pytest.raises(ServerError, match="not running"):
            _ = RedisServer(tmp_path / "three").pid


def test_a_server_that_ends_at_once_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstack.servers.redis.DATABASES", -1)
    with pytest.raises(ServerError, match="ended at once"):
        RedisServer(tmp_path).start()


def test_each_service_has_a_database_of_its_own_and_new_passwords_each_time(
    private_postgres: PostgresServer,
) -> None:
    names = ["mainstay_queue", "mainstay_session"]
    version, first = databases.provision(private_postgres.url, names)
    assert version.split(".")[0].isdigit()
    _, second = databases.provision(private_postgres.url, names)
    assert set(first) == set(second) == set(names)
    assert first != second
    with pytest.raises(databases.DatabaseError, match="PostgreSQL: "):
        databases.provision(first["mainstay_queue"], names)


async def test_a_service_owns_its_database_and_may_not_enter_anothers(
    private_postgres: PostgresServer,
) -> None:
    _, made = await asyncio.to_thread(
        databases.provision, private_postgres.url, ["mainstay_a", "mainstay_b"]
    )
    own = await asyncpg.connect(made["mainstay_a"], timeout=10)
    await own.execute("create table mine (id int)")
    await own.close(timeout=5)
    other = f"{made['mainstay_a'].rpartition('/')[0]}/mainstay_b"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(other, timeout=10)


async def test_databases_in_use_keep_their_passwords(
    private_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "IN_USE_WAIT_S", 0.0)
    monkeypatch.setattr(databases, "IN_USE_POLL_S", 0.01)
    _, made = await asyncio.to_thread(databases.provision, private_postgres.url, ["mainstay_a"])
    user = await asyncpg.connect(made["mainstay_a"], timeout=10)
    with pytest.raises(databases.DatabaseError, match="in use by another stack"):
        await asyncio.to_thread(databases.provision, private_postgres.url, ["mainstay_a"])
    await user.close(timeout=5)
    again = await asyncpg.connect(made["mainstay_a"], timeout=10)
    await again.close(timeout=5)


def test_an_end_in_order_before_one_by_force(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    stubborn = process.spawn(["/bin/sh", "-c", script], log=log)
    assert process.wait_until(lambda: "deaf" in log.read_text(), within_s=5)
    process.end(stubborn.pid, (signal.SIGTERM, 0.2))
    assert stubborn.wait(5) == -9
