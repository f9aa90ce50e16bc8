"""A hundred thousand jobs while everything is killed, frozen, emptied and restarted in turn.

`MAINSTAY_SEED` repeats a day, `MAINSTAY_CHAOS_JOBS` says how many jobs; both are printed.
"""

import asyncio
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

from localstack.servers.rabbit import RabbitServer
from localstack.servers.redis import RedisServer
from mainstay.client import Client
from testkit import load
from testkit.campaign import ChaosCampaign, patiently
from testkit.history import History
from testkit.shared_servers import Run
from testkit.signals import eventually
from testkit.stack import StackProcess

pytestmark = [pytest.mark.chaos, pytest.mark.long, pytest.mark.timeout(900)]

SEED = int(os.environ.get("MAINSTAY_SEED") or secrets.randbelow(10**6))
JOBS = int(os.environ.get("MAINSTAY_CHAOS_JOBS") or 104_000)
RECIPIENTS = 2000
PULLERS = 4
PRODUCERS = 3
# How long the day is, if nothing is slow.
DAY_S = 240.0
DRAINED_WITHIN_S = 240.0
BACK_WITHIN_S = 30.0
FROZEN_S = (1.0, 12.0)
PROCESSES = ("queue-worker", "queue-service", "gateway", "session-service", "ratelimit-service")

Fault = Callable[[], Awaitable[None]]


class Menu:
    """What can happen. Each fault ends with everything alive again."""

    def __init__(
        self, stack: StackProcess, cache: RedisServer, bus: RabbitServer, luck: random.Random
    ) -> None:
        self._stack = stack
        self._cache = cache
        self._bus = bus
        self._luck = luck

    def day(self) -> list[tuple[str, Fault]]:
        """Every fault once, those of the queue three times, in the order of the seed."""
        killed = [(f"kill {name}", partial(self.kill, name)) for name in PROCESSES]
        frozen = [(f"freeze {name}", partial(self.freeze, name)) for name in PROCESSES]
        others: list[tuple[str, Fault]] = [
            ("restart postgres", partial(self.signal, "postgres", signal.SIGINT)),
            ("crash postgres", partial(self.signal, "postgres", signal.SIGQUIT)),
            ("freeze redis", self.freeze_redis),
            ("empty redis", self.empty_redis),
            ("kill redis", self.kill_redis),
            ("kill rabbitmq", self.kill_rabbit),
        ]
        day = killed + frozen + others + 2 * (killed[:3] + frozen[:3])
        self._luck.shuffle(day)
        return day

    async def kill(self, name: str) -> None:
        await self.signal(name, signal.SIGKILL)

    async def signal(self, name: str, number: signal.Signals) -> None:
        pid = self._stack.pid(name)
        os.kill(pid, number)
        await eventually(partial(self._stack.is_back, name, pid), BACK_WITHIN_S)

    async def freeze(self, name: str) -> None:
        self._stack.freeze(name)
        try:
            await self._pass_time()
        finally:
            self._stack.thaw(name)

    async def freeze_redis(self) -> None:
        self._cache.pause()
        try:
            await self._pass_time()
        finally:
            self._cache.resume()

    async def empty_redis(self) -> None:
        async with redis.asyncio.Redis.from_url(self._cache.url, socket_timeout=5) as client:
            await client.flushall()

    async def kill_redis(self) -> None:
        self._cache.kill()
        await self._pass_time()
        await asyncio.to_thread(self._cache.start)

    async def kill_rabbit(self) -> None:
        await asyncio.to_thread(self._bus.kill)
        await self._pass_time()
        await asyncio.to_thread(self._bus.start)

    async def breathe(self) -> None:
        """Between two faults: time to get going, seldom to get well."""
        await asyncio.sleep(self._luck.uniform(1.0, 4.0))

    async def _pass_time(self) -> None:
        await asyncio.sleep(self._luck.uniform(*FROZEN_S))


@pytest.fixture
def stack(
    run: Run, private_redis: RedisServer, private_rabbit: RabbitServer
) -> Iterator[StackProcess]:
    environ = {"REDIS_URL": private_redis.url, "AMQP_URL": private_rabbit.url}
    with StackProcess(Path(run.folder) / "long-days", environ=environ) as serving:
        yield serving


async def test_every_job_of_a_long_day_is_accounted_for(
    stack: StackProcess, private_redis: RedisServer, private_rabbit: RabbitServer
) -> None:
    print(f"\nMAINSTAY_SEED={SEED} MAINSTAY_CHAOS_JOBS={JOBS}")
    began = time.monotonic()
    menu = Menu(stack, private_redis, private_rabbit, random.Random(SEED))
    history = History()
    async with stack.client(attempts=1, timeout_s=5) as client, stack.client() as calm:
        await calm.put_queue(load.QUEUE, retry=load.RETRY)
        campaign = ChaosCampaign(stack, calm, recipients=RECIPIENTS)
        await campaign.start(segments_per_s=100)
        producers = [
            load.Producer(client, history, count=JOBS // PRODUCERS + 1,
                          per_s=JOBS / PRODUCERS / DAY_S, seed=SEED + n)
            for n in range(PRODUCERS)
        ]  # fmt: skip
        pullers = [load.Puller(client, history, seed=SEED + n) for n in range(PULLERS)]
        producing = [asyncio.create_task(one.run()) for one in producers]
        pulling = [asyncio.create_task(one.run()) for one in pullers]
        for name, fault in menu.day():
            print(f"{time.monotonic() - began:6.1f} s {name}", flush=True)
            await fault()
            _require_alive(producing, pulling)
            await menu.breathe()
        await asyncio.gather(*producing)
        print(f"{time.monotonic() - began:6.1f} s all {sum(p.made for p in producers)} are sent")
        await eventually(partial(_drained, calm), DRAINED_WITHIN_S)
        for task in pulling:
            task.cancel()
        await asyncio.gather(*pulling, return_exceptions=True)
        print(f"{time.monotonic() - began:6.1f} s all have ended")
        (await campaign.finish()).check()
        there = [one async for one in load.found(calm)]
    told = Counter(answer.value for answer in history.jobs.values())
    leases = sum(len(each) for each in history.leases.values())
    states = Counter(one.state for one in there)
    print(f"{time.monotonic() - began:6.1f} s asked {dict(told)}, {len(history.keys)} keys, "
          f"{leases} leases, found {dict(states)}")  # fmt: skip
    violations = history.judge(there)
    assert not violations, f"{len(violations)}: " + "; ".join(map(str, violations[:20]))
    assert sum(states.values()) >= 0.9 * JOBS


def _require_alive(*tasks: list["asyncio.Task[None]"]) -> None:
    """A load that has broken would prove nothing."""
    for task in (one for some in tasks for one in some):
        if task.done():
            task.result()


async def _drained(client: Client) -> bool:
    queue = await patiently(lambda: client.get_queue(load.QUEUE))
    return not sum(queue.depth.values())
