"""A database that is away, slow, frozen or full is Unavailable in time; LISTEN heals itself."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from chassis import postgres
from chassis.kernel import deadline, errors
from localstack.servers.postgres import PostgresServer
from testkit.databases import Databases
from testkit.faults import TcpProxy
from testkit.signals import eventually


@pytest_asyncio.fixture
async def dsn(make_database: Databases) -> str:
    return await make_database()


@pytest_asyncio.fixture
async def proxy(dsn: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(dsn) as made:
        yield made


@pytest_asyncio.fixture
async def database(dsn: str, proxy: TcpProxy) -> AsyncIterator[postgres.Database]:
    """Through the proxy, two connections at most."""
    made = await postgres.open_database(proxy.url(dsn), size=2, application="test")
    yield made
    await made.close()


def within(seconds: float) -> None:
    deadline.bind(deadline.Deadline.after(seconds))


async def took_s(coroutine: object) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(errors.Unavailable) as caught:
        await coroutine  # type: ignore[misc]
    assert caught.value.code == "database_unavailable"
    assert caught.value.__cause__ is not None
    return loop.time() - started


async def test_json_goes_in_and_out_as_values(database: postgres.Database) -> None:
    document = {"name": "Ελένη 🌷", "list": [1, 2.5, None, True]}
    assert await database.fetchval("select $1::jsonb", document) == document
    assert await database.fetchval("select $1::jsonb[]", [document, 7]) == [document, 7]
    assert await database.fetchval("select $1::json", None) is None


async def test_a_transaction_is_whole_or_nothing(database: postgres.Database) -> None:
    await database.execute("create table t (id int)")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.execute("insert into t values (1)")
            raise ZeroDivisionError
    assert await database.fetch("select * from t") == []
    await database.executemany("insert into t values ($1)", [(1,), (2,)])
    assert await database.fetchval("select count(*) from t") == 2
    row = await database.fetchrow("select * from t where id = 9")
    assert row is None


async def test_a_cancelled_transaction_leaves_a_clean_connection(
    database: postgres.Database,
) -> None:
    await database.execute("create table t (id int)")
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into t values (1)")
            inside.set()
            await connection.execute("select pg_sleep(30)")

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.connection() as one, database.connection() as other:
        for connection in (one, other):
            assert not connection.is_in_transaction()
            assert await connection.fetch("select * from t") == []


async def test_a_dead_database_stops_no_start_and_is_found_again(
    database: postgres.Database, proxy: TcpProxy
) -> None:
    await proxy.refuses()
    assert await took_s(database.fetchval("select 1")) < 1
    assert not await database.answers()
    await proxy.passes()
    assert await database.answers()


async def test_a_connection_that_breaks_in_the_middle_is_unavailable(
    database: postgres.Database, proxy: TcpProxy
) -> None:
    await database.fetchval("select 1")
    asked = asyncio.create_task(took_s(database.execute("select pg_sleep(30)")))
    await eventually(lambda: proxy.open_connections > 0)
    proxy.cut()
    assert await asked < 5
    assert await database.fetchval("select 1") == 1


async def test_a_silent_database_is_given_up_when_the_deadline_says(
    database: postgres.Database, proxy: TcpProxy
) -> None:
    await database.fetchval("select 1")
    proxy.hangs()
    within(0.3)
    assert await took_s(database.fetchval("select 1")) < 2
    within(0.3)
    assert await took_s(database.fetchval("select 1")) < 2
    deadline.bind(None)
    assert not await database.answers(within_s=0.2)
    await proxy.passes()
    await eventually(database.answers)


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval", "execute", "executemany"])
async def test_every_statement_is_bounded_by_the_deadline(
    database: postgres.Database, method: str
) -> None:
    within(0.1)
    rows = [[()]] if method == "executemany" else []
    assert await took_s(getattr(database, method)("select pg_sleep(30)", *rows)) < 2


async def test_too_little_time_left_asks_nothing(
    database: postgres.Database, proxy: TcpProxy
) -> None:
    within(0.001)
    with pytest.raises(errors.Late):
        await database.fetchval("select 1")
    deadline.bind(None)
    assert proxy.accepted == 0


async def test_a_slow_statement_is_ended_and_the_connection_stays_good(
    database: postgres.Database,
) -> None:
    within(0.2)
    assert await took_s(database.execute("select pg_sleep(30)")) < 2
    deadline.bind(None)
    assert await database.fetchval("select 1") == 1


async def test_no_free_connection_is_unavailable_and_not_an_endless_wait(
    database: postgres.Database,
) -> None:
    async with database.connection(), database.connection():
        within(0.1)
        assert await took_s(database.fetchval("select 1")) < 1
    deadline.bind(None)
    assert await database.fetchval("select 1") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_terminate_backend(pg_backend_pid())",
        "do $$ begin raise exception using errcode = '53100'; end $$",  # disk full
        "do $$ begin raise exception using errcode = '57P03'; end $$",  # starting up
        "do $$ begin raise exception using errcode = '58030'; end $$",  # I/O error
        "do $$ begin raise exception using errcode = '25006'; end $$",  # read only
        "do $$ begin raise exception using errcode = '40P01'; end $$",  # deadlock, undone
        "do $$ begin raise exception using errcode = '55P03'; end $$",  # a lock was not had
    ],
)
async def test_what_is_the_databases_fault_is_unavailable(
    database: postgres.Database, sql: str
) -> None:
    await took_s(database.execute(sql))


@pytest.mark.parametrize(
    ("sql", "args"),
    [("select 1 / 0", ()), ("select $1::int", ("x",)), ("select $1::int", (2**40,)),
     ("select $1::text", ("\x00",)), ("select * from nothing", ()), ("selekt", ())],
)  # fmt: skip
async def test_what_is_the_requests_fault_is_not(
    database: postgres.Database, sql: str, args: tuple[object, ...]
) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await database.fetch(sql, *args)


async def test_a_wrong_password_or_a_missing_database_is_unavailable(dsn: str) -> None:
    head, _, name = dsn.rpartition("/")
    user, _, address = head.rpartition("@")
    for wrong in (f"{user}x@{address}/{name}", f"{head}/nothing"):
        database = await postgres.open_database(wrong, size=1, application="test")
        await took_s(database.fetchval("select 1"))
        assert not await database.answers()
        await database.close()


async def test_closing_does_not_wait_for_what_hangs(dsn: str) -> None:
    database = await postgres.open_database(dsn, size=1, application="test")
    running = asyncio.create_task(took_s(database.execute("select pg_sleep(30)")))
    await eventually(lambda: database.pool.get_idle_size() == 0 and database.pool.get_size() == 1)
    await asyncio.wait_for(database.close(timeout_s=0.1), 2)
    assert await running < 5


class Heard:
    """A listener on two channels, and what it passed on."""

    def __init__(self, dsn: str) -> None:
        self.jobs: list[str] = []
        self.policies: list[str] = []
        self.listener = postgres.Listener(
            dsn,
            channels={"jobs": self.jobs.append, "policies": self.policies.append},
            application="test",
        )


@pytest_asyncio.fixture
async def heard(dsn: str, proxy: TcpProxy) -> AsyncIterator[Heard]:
    made = Heard(proxy.url(dsn))
    task = asyncio.create_task(made.listener.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_hints_arrive_on_their_channel_and_an_empty_one_at_each_connect(
    heard: Heard, dsn: str
) -> None:
    await eventually(heard.listener.connected.is_set)
    assert (heard.jobs, heard.policies) == ([""], [""])
    other = await postgres.open_database(dsn, size=1, application="test")
    await other.execute("select pg_notify('jobs', 'sms')")
    await eventually(lambda: heard.jobs == ["", "sms"])
    assert heard.policies == [""]
    await other.close()


async def test_after_a_lost_connection_it_listens_again_and_says_so(
    heard: Heard, proxy: TcpProxy, dsn: str
) -> None:
    await eventually(heard.listener.connected.is_set)
    await proxy.refuses()
    await eventually(lambda: not heard.listener.connected.is_set())
    await proxy.passes()
    await eventually(lambda: heard.jobs == ["", ""])
    await eventually(heard.listener.connected.is_set)
    other = await postgres.open_database(dsn, size=1, application="test")
    await other.execute("notify policies")
    await eventually(lambda: heard.policies == ["", "", ""])
    await other.close()


async def test_it_outlives_a_database_that_is_away_at_its_start(dsn: str) -> None:
    head, _, _name = dsn.rpartition("/")
    heard = Heard(f"{head}/nothing_yet")
    task = asyncio.create_task(heard.listener.run())
    done, _ = await asyncio.wait([task], timeout=0.5)
    assert not done
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_through_a_kill_of_the_server(private_postgres: PostgresServer) -> None:
    database = await postgres.open_database(private_postgres.url, size=2, application="test")
    heard = Heard(private_postgres.url)
    task = asyncio.create_task(heard.listener.run())
    await eventually(heard.listener.connected.is_set)
    await database.execute("create table kept (id int)")
    private_postgres.kill()
    await took_s(database.fetchval("select 1"))
    await eventually(lambda: not heard.listener.connected.is_set())
    private_postgres.start()
    assert await database.fetch("select * from kept") == []
    await eventually(lambda: heard.jobs == ["", ""], within_s=10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await database.close()
