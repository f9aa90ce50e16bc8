"""PostgreSQL: pools with tight time-outs, driver errors by our names, LISTEN that heals itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import orjson

from chassis import logs
from chassis.kernel import backoff, deadline, errors

log = logs.get(__name__)

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
ACQUIRE_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0

# What says that the database, not the request, is at fault.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    ConnectionError,
    TimeoutError,
    OSError,
)


@contextmanager
def errors_mapped() -> Any:
    """Translate driver errors where the driver is touched: a lost database is Unavailable."""
    try:
        yield
    except LOST as error:
        raise errors.Unavailable(
            "the database does not answer", code="database_unavailable"
        ) from error


class _Pooled(asyncpg.Connection):
    """Nobody here changes a session's state for longer than a transaction, so giving a connection
    back needs no round trip to reset it."""

    def get_reset_query(self) -> str:
        return ""


async def create_pool(
    dsn: str,
    *,
    size: int,
    application: str,
    init: Callable[[Any], Any] | None = None,
    settings: dict[str, str] | None = None,
    min_size: int = 0,
    pooled: bool = False,
) -> asyncpg.Pool:
    """A pool that opens connections when they are needed, so a dead database stops no start.
    `pooled`: see `options`."""
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        max_inactive_connection_lifetime=300,
        init=init or use_json,
        connection_class=_Pooled,
        **options(
            application=application,
            settings={
                "statement_timeout": str(int(COMMAND_TIMEOUT_S * 1000)),
                "idle_in_transaction_session_timeout": "10000",
                "jit": "off",
                **(settings or {}),
            },
            pooled=pooled,
        ),
    )


def options(
    *, application: str, settings: dict[str, str] | None = None, pooled: bool = False
) -> dict[str, Any]:
    """How to connect. `pooled`: by way of a pooler of transactions, behind which every one of them
    may meet another session: nothing prepared is there again, and only what a pooler itself keeps
    for its clients may be set (the rest is for `alter role … set`)."""
    kept = {"application_name": application, "timezone": "UTC"}
    if pooled:
        return {"server_settings": kept, "statement_cache_size": 0}
    return {"server_settings": kept | (settings or {})}


async def use_json(connection: Any) -> None:
    """jsonb ↔ Python values on this connection."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=dumps, decoder=loads, schema="pg_catalog")


def dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def loads(text: str) -> Any:
    """A number that no double holds (1e400) is read by the slow reader."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


class Database:
    """A pool with our errors and our deadlines. One statement each, or `transaction()` for more."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        with errors_mapped():
            async with self.pool.acquire(
                timeout=deadline.budget_s(ACQUIRE_TIMEOUT_S)
            ) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args, timeout=_budget())
            return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args, timeout=_budget())

    async def fetchval(self, sql: str, *args: Any) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *args, timeout=_budget())

    async def execute(self, sql: str, *args: Any) -> str:
        async with self.connection() as connection:
            tag: str = await connection.execute(sql, *args, timeout=_budget())
            return tag

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        async with self.connection() as connection:
            await connection.executemany(sql, rows, timeout=_budget())

    async def answers(self, *, within_s: float = 1.0) -> bool:
        """Is it there? For health samples, never for a decision."""
        try:
            async with asyncio.timeout(within_s):
                await self.fetchval("select 1")
        except (errors.Unavailable, TimeoutError):
            return False
        return True

    async def close(self, *, timeout_s: float = 3.0) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()


def _budget() -> float:
    return deadline.budget_s(COMMAND_TIMEOUT_S)


async def open_database(dsn: str, *, size: int, application: str, **how: Any) -> Database:
    return Database(await create_pool(dsn, size=size, application=application, **how))


class Listener:
    """LISTEN on one connection of its own. Notifications are hints: after every (re)connect
    `on_hint` is called with an empty payload, because any number of them may have been missed.

    Run `run()` under a Supervisor. Works without: where a pooler does not carry LISTEN, polling
    remains.
    """

    def __init__(
        self, dsn: str, *, channels: dict[str, Callable[[str], None]], application: str
    ) -> None:
        self._dsn = dsn
        self._channels = channels
        self._application = application
        self.connected = asyncio.Event()

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen()
                failures = 0
            except LOST as error:
                failures += 1
                if failures == 1:
                    log.warning("listener_lost", error=type(error).__name__)
            self.connected.clear()
            await asyncio.sleep(backoff.delay_s(max(failures, 1), base_s=0.2, max_s=5.0))

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            **options(application=self._application),
        )
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            for channel, on_hint in self._channels.items():
                await connection.add_listener(channel, _passing_on(on_hint))
                on_hint("")
            self.connected.set()
            await self._watch(connection, lost)
        finally:
            connection.terminate()

    async def _watch(self, connection: asyncpg.Connection, lost: asyncio.Event) -> None:
        """A half-open connection sends nothing and fails nothing: ask it every few seconds."""
        while not lost.is_set():
            try:
                async with asyncio.timeout(5.0):
                    await lost.wait()
            except TimeoutError:
                await connection.fetchval("select 1", timeout=2.0)


def _passing_on(on_hint: Callable[[str], None]) -> Callable[[Any, int, str, object], None]:
    def heard(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        on_hint(str(payload))

    return heard
