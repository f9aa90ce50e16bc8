"""How idle workers and parked callers hear of jobs: over LISTEN, over Redis behind a pooler of
transactions, and with a Redis that dies, forgets, freezes and lies. Nobody polls within these tests
unless it is said."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
import redis.asyncio
from aiohttp import web
from redis.exceptions import ResponseError

from chassis import crypto
from chassis import redis as accelerators
from chassis.kernel import ids
from localstack.servers.pgbouncer import PgBouncerServer
from localstack.servers.redis import RedisServer
from mainstay import handler
from queue_service import worker
from queue_service.app import PARKING, SWITCH
from queue_service.cache import offers as cache
from queue_service.cache.offers import RedisAnnouncer, RedisOffers, offers_key, waiting_key
from queue_service.core import parking
from queue_service.core.dispatch import Missed, Offer
from queue_service.settings import WorkerSettings
from testkit.faults import TcpProxy
from testkit.signals import eventually

NEVER_S = 60.0


@dataclass
class Runs:
    """A handler that writes down what it ran, and who ran at the same time."""

    takes_s: float = 0.0
    ran: Counter[str] = field(default_factory=Counter)
    inside: set[str] = field(default_factory=set)
    twice_at_once: set[str] = field(default_factory=set)

    async def __call__(self, args: Any, ctx: handler.Context) -> None:
        job = str(ctx.job.id)
        self.ran[job] += 1
        if job in self.inside:
            self.twice_at_once.add(job)
        self.inside.add(job)
        await asyncio.sleep(self.takes_s)
        self.inside.discard(job)

    def has_run(self, job: str) -> bool:
        return self.ran[job] == 1


@dataclass
class House:
    """An api and workers of one way, which can be told apart by nothing but their settings."""

    settings: dict[str, Any]
    service: Any
    replica: Callable[[], Awaitable[Any]]
    begin: Callable[..., Awaitable[web.Application]]

    async def put(self, count: int, **said: Any) -> list[str]:
        """New jobs, each by a call of its own, all at once."""
        body = {"kind": "k", **said}
        answers = await asyncio.gather(*(self.service.post("/v1/jobs", body) for _ in range(count)))
        assert {answer.status for answer in answers} == {201}
        return [answer.body["id"] for answer in answers]

    async def states(self) -> dict[str, int]:
        rows = await self.service.fetch("select state, count(*) as n from any_job group by state")
        return {row["state"]: row["n"] for row in rows}


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is not a Redis that is away."""
    call = accelerators.Accelerator.call
    monkeypatch.setattr(accelerators.Accelerator, "call", partialmethod(call, budget_s=5.0))


@pytest.fixture
def pooled(dsn: str, private_pgbouncer: PgBouncerServer) -> dict[str, Any]:
    """Behind a pooler nobody hears a NOTIFY."""
    return {
        "database_url": private_pgbouncer.database_url(dsn),
        "postgres_pooler": "transaction",
    }


@pytest_asyncio.fixture
async def open_house(
    private_pgbouncer: PgBouncerServer, start: Any, tmp_path: Path, dsn: str
) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Workers run in this process and never poll, unless they are told."""
    private, _ = crypto.new_service_key()
    async with AsyncExitStack() as stack:

        async def begin(run: Runs, **settings: Any) -> web.Application:
            given = {
                "database_url": dsn,
                "service_key": private,
                "service_keys_dir": tmp_path,
                "ratelimit_service_url": "http://127.0.0.1:9",
                "queue_poll_interval_s": NEVER_S,
                "drain_timeout_s": 2.0,
                **settings,
            }
            handlers = handler.registry([handler.handler("k")(run)])
            app = worker.create_app(WorkerSettings.model_validate(given), handlers=handlers)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await eventually(lambda: app[worker.ROSTER].rooms().get("default"), 10.0)
            return app

        async def make(settings: dict[str, Any]) -> House:
            async def replica() -> Any:
                return await start(**settings)

            return House(settings, await replica(), replica, partial(begin, **settings))

        yield make


@pytest_asyncio.fixture(params=["listen", "redis behind a pooler"])
async def house(
    request: pytest.FixtureRequest,
    open_house: Callable[..., Awaitable[House]],
    pooled: dict[str, Any],
    redis_url: str,
    patience: None,
) -> House:
    """Both ways of telling, which must differ in nothing that is seen."""
    if request.param == "listen":
        return await open_house({})
    made = await open_house({**pooled, "redis_url": redis_url})
    await eventually(lambda: made.service.app[SWITCH].backend == "redis", 20.0)
    return made


async def waiting(url: str, queue: str = "default") -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        await eventually(lambda: client.exists(waiting_key(queue)), 20.0)


async def heard(house: House, queue: str = "default") -> None:
    """Those who wait can be told. (Whoever begins to LISTEN looks at once, so that what came before
    is found as well.)"""
    if url := house.settings.get("redis_url"):
        await waiting(url, queue)


async def test_a_job_for_an_idle_worker_needs_no_poll(house: House) -> None:
    run = Runs()
    await house.begin(run)
    await heard(house)
    for _ in range(5):
        [job] = await house.put(1)
        await eventually(partial(run.has_run, job))


async def test_many_jobs_at_once_run_once_each(house: House) -> None:
    run = Runs(takes_s=0.001)
    await house.begin(run)
    await house.begin(run)
    await heard(house)
    wanted = [job for _ in range(4) for job in await house.put(100, shop=f"s{_}.example")]

    async def all_done() -> bool:
        return await house.states() == {"completed": 400}

    await eventually(all_done, 20.0)
    assert run.ran == Counter(wanted)
    assert not run.twice_at_once


async def test_what_is_not_to_run_does_not_run(house: House) -> None:
    """Neither before its time, nor while its queue is paused, nor over its shop's limit."""
    run = Runs(takes_s=0.3)
    await house.begin(run)
    await heard(house)
    await house.service.call("PATCH", "/v1/queues/default", {"per_shop_limit": 1})
    later = await house.put(1, delay_s=3600)
    capped = await house.put(3, shop="capped.example")
    await eventually(lambda: sum(run.ran.values()) == 1)
    assert len(run.inside) == 1
    await eventually(lambda: sum(run.ran.values()) == 3)
    await house.service.post("/v1/queues/default:pause")
    paused = await house.put(2)
    [done] = [await house.service.fetch("select count(*) from any_job where state = 'ready'")]
    assert done[0][0] == len(paused)
    assert set(run.ran) == set(capped)
    assert not set(run.ran) & {*later, *paused}


async def test_a_long_poll_is_woken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "LOOK_EVERY_S", NEVER_S)
    other = await house.replica()
    await house.service.call("PUT", "/v1/queues/pulled", {"served_by": "pull"})
    poll = asyncio.create_task(
        other.post("/v1/queues/pulled:lease", {"max": 5, "wait_ms": 20000, "lease_s": 30})
    )
    await eventually(lambda: other.app[PARKING].queues() == {"pulled"})
    await heard(house, "pulled")
    [job] = await house.put(1, queue="pulled")
    leased = (await asyncio.wait_for(poll, 5)).body["jobs"]
    assert [one["id"] for one in leased] == [job]


# --- Redis itself: what lies in it, and what it does ---


@dataclass
class Lists:
    """Both sides of the lists, on a Redis of nobody else."""

    client: redis.asyncio.Redis
    announcer: RedisAnnouncer
    offers: RedisOffers
    accelerator: accelerators.Accelerator

    async def announce(self, *job_ids: UUID, queue: str = "q") -> None:
        self.announcer.announce(queue, job_ids)
        await self.announcer.run_once()

    async def take(self, room: int = 10, *, wait_s: float = 0.05) -> list[UUID]:
        offer = await self.offers.take({"q": room}, wait_s=wait_s)
        return [] if offer is None else list(offer.job_ids)


@pytest_asyncio.fixture
async def lists(redis_url: str, patience: None) -> AsyncIterator[Lists]:
    accelerator = accelerators.Accelerator(accelerators.connect(redis_url))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        offers = RedisOffers(
            accelerator, partial(accelerators.connect, redis_url, max_connections=1)
        )
        yield Lists(client, RedisAnnouncer(accelerator), offers, accelerator)
        await offers.close()
        await accelerator.close()


async def test_each_id_is_offered_to_one_and_no_more_than_there_is_room(lists: Lists) -> None:
    assert await lists.take() == []
    wanted = [ids.new_id() for _ in range(5)]
    await lists.announce(*wanted)
    assert await lists.take(2) == wanted[:2]
    await lists.offers.give_back(Offer("q", wanted[:2]))
    assert await lists.take(4) == wanted[:4]
    assert await lists.take() == wanted[4:]
    assert await lists.take() == []


async def test_a_waiter_is_told_at_once_and_can_be_stirred(lists: Lists) -> None:
    told = asyncio.create_task(lists.take(wait_s=30))
    await eventually(lambda: lists.client.exists(waiting_key("q")))
    [job] = [ids.new_id()]
    await lists.announce(job)
    assert await asyncio.wait_for(told, 5) == [job]
    stirred = asyncio.create_task(lists.take(wait_s=30))
    await lists.offers.stir()
    assert await asyncio.wait_for(stirred, 5) == []


async def test_nothing_is_left_where_nobody_waits_and_little_where_nobody_comes(
    lists: Lists,
) -> None:
    await lists.announce(ids.new_id())
    assert await lists.client.keys("*") == []
    await lists.take()
    for _ in range(20):
        await lists.announce(*(ids.new_id() for _ in range(500)))
    assert await lists.client.llen(offers_key("q")) == cache.MAX_OFFERED
    for key in await lists.client.keys("*"):
        assert 0 < await lists.client.pttl(key) <= 4000


@pytest.mark.parametrize("kind", ["string", "hash", "set", "zset", "stream"])
async def test_things_of_other_kinds_at_our_keys_are_cleared_away(lists: Lists, kind: str) -> None:
    put: dict[str, Callable[[bytes], Any]] = {
        "string": lambda key: lists.client.set(key, b"x"),
        "hash": lambda key: lists.client.hset(key, "a", "b"),
        "set": lambda key: lists.client.sadd(key, "a"),
        "zset": lambda key: lists.client.zadd(key, {"a": 1}),
        "stream": lambda key: lists.client.xadd(key, {"a": "b"}),
    }
    job = ids.new_id()
    for key in (waiting_key("q"), offers_key("q")):
        await put[kind](key)
    with pytest.raises(Missed):
        await lists.take()
    assert await lists.take() == []
    for key in (waiting_key("q"), offers_key("q")):
        await lists.client.delete(key)
        await put[kind](key)
    await lists.announce(job)
    assert await lists.take() == [job]
    assert lists.accelerator.presence() is accelerators.Presence.UP


@pytest.mark.parametrize("entry", [b"", b"x", b"0" * 15, b"0" * 17, b"\xff" * 70_000])
async def test_what_is_no_id_is_thrown_away_with_all_that_lies_there(
    lists: Lists, entry: bytes
) -> None:
    for _ in range(3):
        await lists.client.rpush(offers_key("q"), *[entry] * 30)
    assert await lists.take() == []
    assert await lists.client.exists(offers_key("q")) == 0


async def test_a_redis_that_refuses_us_is_given_up(lists: Lists, redis_url: str) -> None:
    """Not by us alone: the circuit is open, so that nobody says that Redis tells."""
    await lists.client.acl_setuser(
        "lame", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-blpop"]
    )
    lame = redis_url.replace("redis://", "redis://lame:x@")
    offers = RedisOffers(lists.accelerator, partial(accelerators.connect, lame, max_connections=1))
    for _ in range(2):
        with pytest.raises(Missed):
            await offers.take({"q": 1}, wait_s=0.05)
    await offers.close()
    assert lists.accelerator.presence() is accelerators.Presence.DOWN
    await lists.client.acl_deluser("lame")


@asynccontextmanager
async def traffic(house: House, run: Runs, **others: int) -> AsyncIterator[list[str]]:
    """Jobs all the time, while what is inside happens; in the end each of them has run. `others`:
    state → jobs that are there besides."""
    wanted: list[str] = []
    is_over = asyncio.Event()

    async def send() -> None:
        while not is_over.is_set():
            wanted.extend(await house.put(random.choice([1, 1, 1, 20])))
            await asyncio.sleep(0.005)

    sending = asyncio.create_task(send())
    yield wanted
    is_over.set()
    await sending

    async def all_done() -> bool:
        return await house.states() == {"completed": len(wanted), **others}

    await eventually(all_done, 20.0)
    assert run.ran == Counter(wanted)
    assert not run.twice_at_once


def backends(house: House, app: web.Application) -> set[str]:
    return {str(house.service.app[SWITCH].backend), str(app[worker.SWITCH].backend)}


Trouble = Callable[[RedisServer, TcpProxy], Awaitable[None]]


async def killed(server: RedisServer, _: TcpProxy) -> None:
    server.kill()


async def frozen(server: RedisServer, _: TcpProxy) -> None:
    server.pause()


async def cut_off(_: RedisServer, proxy: TcpProxy) -> None:
    await proxy.refuses()


async def half_open(_: RedisServer, proxy: TcpProxy) -> None:
    proxy.hangs()


@pytest.mark.parametrize(
    "trouble",
    [
        killed,
        pytest.param(frozen, marks=pytest.mark.long),
        pytest.param(cut_off, marks=pytest.mark.long),
        pytest.param(half_open, marks=pytest.mark.long),
    ],
)
async def test_redis_goes_and_comes_back_under_load(
    open_house: Callable[..., Awaitable[House]],
    pooled: dict[str, Any],
    private_redis: RedisServer,
    trouble: Trouble,
) -> None:
    async with TcpProxy.before(private_redis.url) as proxy:
        house = await open_house({**pooled, "redis_url": proxy.url(private_redis.url)})
        run = Runs(takes_s=0.002)
        app = await house.begin(run, queue_poll_interval_s=0.5)
        await eventually(lambda: backends(house, app) == {"redis"}, 20.0)
        async with traffic(house, run) as wanted:
            await eventually(lambda: sum(run.ran.values()) > 50)
            await trouble(private_redis, proxy)
            await eventually(lambda: backends(house, app) == {"postgres"}, 10.0)
            done, sent = sum(run.ran.values()), len(wanted)
            await eventually(lambda: sum(run.ran.values()) > max(done, sent), 10.0)
            if trouble is killed:
                private_redis.start()
            private_redis.resume()
            await proxy.passes()
            await eventually(lambda: backends(house, app) == {"redis"}, 40.0)
            await eventually(lambda: len(wanted) > sent + 20)


async def test_an_emptied_and_a_lying_redis_change_nothing(
    open_house: Callable[..., Awaitable[House]],
    pooled: dict[str, Any],
    private_redis: RedisServer,
) -> None:
    """It is emptied again and again, and offers ids that are running, settled, of other queues, of
    nobody, each many times, and things that are no ids."""
    house = await open_house({**pooled, "redis_url": private_redis.url})
    run = Runs(takes_s=0.01)
    await house.begin(run, queue_poll_interval_s=0.2)
    await house.begin(run, queue_poll_interval_s=0.2)
    await house.service.call("PUT", "/v1/queues/pulled", {"served_by": "pull"})
    pulled = await house.put(3, queue="pulled")
    is_over = asyncio.Event()

    async def lie(client: redis.asyncio.Redis, known: list[str]) -> None:
        while not is_over.is_set():
            some = [*random.choices(known or pulled, k=50), *pulled, str(ids.new_id())]
            with suppress(ResponseError):  # what we put there ourselves
                await client.rpush(offers_key("default"), *(UUID(one).bytes for one in some))
                if random.random() < 0.2:
                    await client.rpush(offers_key("default"), b"nonsense", b"")
                if random.random() < 0.1:
                    await client.set(offers_key("default"), b"nonsense")
                if random.random() < 0.1:
                    await client.flushall()
            await asyncio.sleep(0.002)

    async with redis.asyncio.Redis.from_url(private_redis.url) as client:
        lying: asyncio.Task[None] | None = None
        try:
            async with traffic(house, run, ready=len(pulled)) as wanted:
                lying = asyncio.create_task(lie(client, wanted))
                await eventually(lambda: sum(run.ran.values()) > 300, 20.0)
        finally:
            is_over.set()
            if lying is not None:
                await lying
    assert not set(run.ran) & set(pulled)


async def test_a_mountain_of_stale_offers_is_left_behind(
    open_house: Callable[..., Awaitable[House]],
    pooled: dict[str, Any],
    redis_url: str,
    patience: None,
) -> None:
    house = await open_house({**pooled, "redis_url": redis_url})
    run = Runs()
    await house.begin(run, queue_poll_interval_s=0.5)
    await waiting(redis_url)
    fill = "for i = 1, 100 do redis.call('RPUSH', KEYS[1], unpack(ARGV)) end"
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        for _ in range(10):
            stale = [ids.new_id().bytes for _ in range(1000)]
            await client.eval(fill, 1, offers_key("default"), *stale)
        await eventually(lambda: _is_empty(client), 10.0)
    [job] = await house.put(1)
    await eventually(lambda: run.ran[job] == 1)


async def _is_empty(client: redis.asyncio.Redis) -> bool:
    return int(await client.llen(offers_key("default"))) == 0
