"""What can happen to two replicas of a limiter and their stores. Each fault ends by itself, and
what it has broken is mended, so that all is well again soon after."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import redis.asyncio

from testkit import limiters
from testkit.limiters import Limiters

APART_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`dead`: replicas that die with their store. `loses_postgres`: for a while, for one at least.
    `is_apart`: replicas may decide by different stores. `restarts`: a replica is not ready at once,
    and says so."""

    name: str
    act: Callable[[Limiters], Awaitable[None]]
    prepare: Callable[[Limiters], Awaitable[None]] | None = None
    """Before anybody asks."""
    dead: int = 0
    loses_postgres: bool = False
    is_apart: bool = False
    restarts: bool = False
    without: frozenset[str] = frozenset()
    """Policies that are not asked for: a commit that waits for the disk takes others with it."""
    least: float = 0.6
    """The share of the ideal, or of what was asked, that is given out all the same."""
    slowest_s: float = 3.0
    is_quick: bool = False


async def nothing(_limiters: Limiters) -> None:
    await asyncio.sleep(1.0)


async def redis_killed(field: Limiters) -> None:
    await limiters.crash(field.redis)
    await asyncio.sleep(0.3)
    await limiters.start(field.redis)


async def redis_frozen(field: Limiters) -> None:
    field.redis.pause()
    await asyncio.sleep(1.0)
    field.redis.resume()


async def redis_emptied(field: Limiters) -> None:
    client = redis.asyncio.Redis.from_url(field.redis.url)
    await client.flushall()
    await client.aclose()


async def redis_restarted_empty(field: Limiters) -> None:
    await limiters.crash(field.redis)
    for each in field.redis.home.glob("appendonly*"):
        shutil.rmtree(each)
    await limiters.start(field.redis)


async def redis_rewound(field: Limiters) -> None:
    """It comes back with what it knew half a second before."""
    kept, now = field.redis.home / "kept", field.redis.home / "appendonlydir"
    shutil.copytree(now, kept)
    await asyncio.sleep(0.5)
    await limiters.crash(field.redis)
    shutil.rmtree(now)
    kept.rename(now)
    await limiters.start(field.redis)


async def redis_flaps(field: Limiters) -> None:
    for _ in range(3):
        field.redis.pause()
        await asyncio.sleep(0.2)
        field.redis.resume()
        await field.steady()
    await redis_emptied(field)


async def replica_without_redis(field: Limiters) -> None:
    await field.to_redis.refuses()
    await asyncio.sleep(1.5)
    await field.to_redis.passes()


async def replica_with_silent_redis(field: Limiters) -> None:
    field.to_redis.hangs()
    await asyncio.sleep(1.5)
    await field.to_redis.passes()


async def replica_without_postgres(field: Limiters) -> None:
    await field.to_postgres.refuses()
    await asyncio.sleep(2.0)
    await field.to_postgres.passes()


async def postgres_killed(field: Limiters) -> None:
    await limiters.crash(field.postgres)
    await asyncio.sleep(0.3)
    await limiters.start(field.postgres)


async def postgres_frozen(field: Limiters) -> None:
    field.postgres.pause()
    await asyncio.sleep(1.5)
    field.postgres.resume()


async def without_redis(field: Limiters) -> None:
    await limiters.crash(field.redis)
    await field.steady("postgres")


async def postgres_killed_while_it_decides(field: Limiters) -> None:
    await postgres_killed(field)
    await field.steady("postgres")
    await limiters.start(field.redis)


async def both_killed(field: Limiters) -> None:
    await asyncio.gather(limiters.crash(field.postgres), limiters.crash(field.redis))
    await asyncio.sleep(1.0)
    await limiters.start(field.postgres)
    await limiters.start(field.redis)


async def replica_killed_with_redis(field: Limiters) -> None:
    victim, _ = field.replicas
    victim.kill()
    await limiters.crash(field.redis)
    victim.start()
    await limiters.start(field.redis)


async def replica_killed(field: Limiters) -> None:
    victim, _ = field.replicas
    victim.kill()
    victim.start()


async def replica_frozen_at_a_switch(field: Limiters) -> None:
    victim, _ = field.replicas
    victim.freeze()
    await limiters.crash(field.redis)
    await asyncio.sleep(3.2)
    victim.thaw()
    await limiters.start(field.redis)


async def replicas_on_different_stores(field: Limiters) -> None:
    """One sees only Postgres and one only Redis."""
    await asyncio.gather(field.to_redis.refuses(), field.to_postgres.refuses())
    await asyncio.sleep(APART_S)
    await asyncio.gather(field.to_redis.passes(), field.to_postgres.passes())


FAULTS: Sequence[Fault] = (
    Fault(name="nothing", act=nothing),
    Fault(name="Redis killed, back with its data", act=redis_killed),
    Fault(name="Redis killed, back with older data", act=redis_rewound, is_quick=True),
    Fault(name="Redis killed, back empty", act=redis_restarted_empty),
    Fault(name="Redis emptied (FLUSHALL)", act=redis_emptied),
    Fault(name="Redis frozen for 1 s", act=redis_frozen, is_quick=True),
    Fault(name="Redis frozen three times, then emptied", act=redis_flaps),
    Fault(name="one replica refused by Redis", act=replica_without_redis),
    Fault(name="Redis silent for one replica", act=replica_with_silent_redis),
    Fault(
        name="one replica refused by Postgres", act=replica_without_postgres, loses_postgres=True
    ),
    Fault(name="Postgres killed", act=postgres_killed, loses_postgres=True, is_quick=True),
    Fault(name="Postgres frozen for 1.5 s", act=postgres_frozen, loses_postgres=True),
    Fault(
        name="Postgres killed while it decides", act=postgres_killed_while_it_decides,
        prepare=without_redis, without=frozenset({"strict"}), loses_postgres=True, least=0.3,
    ),
    Fault(name="both killed", act=both_killed, loses_postgres=True, least=0.3, is_quick=True),
    Fault(name="one replica killed", act=replica_killed, restarts=True),
    Fault(
        name="one replica killed with Redis", act=replica_killed_with_redis, dead=1,
        restarts=True, is_quick=True,
    ),
    Fault(
        name="one replica frozen for 3 s, Redis killed", act=replica_frozen_at_a_switch, dead=1,
        slowest_s=8.0,
    ),
    Fault(
        name="replicas on different stores", act=replicas_on_different_stores,
        loses_postgres=True, is_apart=True, least=0.3,
    ),
)  # fmt: skip
