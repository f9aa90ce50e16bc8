"""Many jobs through the front door, and workers that pull them with bad manners: all recorded."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mainstay import errors
from mainstay.answers import Job, LeasedJob
from mainstay.client import Client, new_id
from testkit.history import Answer, Ending, Found, History

QUEUE = "chaos"
BULK = 200
KEYED = 20
LEASE_S = 8.0
RETRY = {"base_s": 0.2, "factor": 1.5, "max_s": 2.0, "jitter": 0.5}
SHOPS = 40
PAUSE_S = 0.2
AWAY = (errors.Unavailable, errors.Limited)


class Producer:
    """`run()` makes `count` jobs, `per_s` a second: most in bulk under ids of their own, some one
    by one under keys that are sent twice at the same time."""

    def __init__(
        self, client: Client, history: History, *, count: int, per_s: float, seed: int
    ) -> None:
        self.made = 0
        self._client = client
        self._history = history
        self._count = count
        self._per_s = per_s
        self._random = random.Random(seed)

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while self.made < self._count:
            is_keyed = self._random.random() < 0.3
            size = min(KEYED if is_keyed else BULK, self._count - self.made)
            if is_keyed:
                await self._keyed(size)
            else:
                await self._bulk([self._job() for _ in range(size)])
            self.made += size
            await asyncio.sleep(max(0.0, began + self.made / self._per_s - clock()))

    def _job(self) -> dict[str, Any]:
        shop = f"shop-{self._random.randrange(SHOPS)}.myshopify.com"
        priority = self._random.choice((0, 5, 5, 5, 9))
        return {"kind": "test", "queue": QUEUE, "shop": shop, "priority": priority,
                "id": str(new_id()), "max_attempts": 100}  # fmt: skip

    async def _bulk(self, jobs: list[dict[str, Any]]) -> None:
        """The same again until it is answered; one in twenty gives up instead."""
        while True:
            try:
                told = await self._client.enqueue_batch(jobs)
            except AWAY:
                for job in jobs:
                    self._history.enqueued(job["id"], Answer.UNKNOWN)
                if self._random.random() < 0.05:
                    return
                await asyncio.sleep(PAUSE_S)
                continue
            for job, one in zip(jobs, told.results, strict=True):
                answer = _answer(one.status, one.problem)
                self._history.enqueued(job["id"], answer)
            return

    async def _keyed(self, count: int) -> None:
        shops = [self._job()["shop"] for _ in range(count)]
        await asyncio.gather(*(self._twice(f"key-{new_id()}", shop) for shop in shops))

    async def _twice(self, key: str, shop: str) -> None:
        await asyncio.gather(self._once(key, shop), self._once(key, shop))

    async def _once(self, key: str, shop: str) -> None:
        """Without an id of ours: the key alone makes it one."""
        try:
            told = await self._client.enqueue(
                "test", {"key": key}, queue=QUEUE, shop=shop, max_attempts=100, idempotency_key=key
            )
        except AWAY:
            self._history.unanswered(key)
        else:
            self._history.enqueued(str(told.id), Answer.OK, key=key)


def _answer(status: str, problem: dict[str, Any] | None) -> Answer:
    if status != "rejected":
        return Answer.OK
    return Answer.UNKNOWN if (problem or {}).get("retryable") else Answer.REFUSED


class Puller:
    """`run()` until cancelled. Most jobs are completed; others fail, are put off, given back or
    forgotten, endings are told twice or too late."""

    def __init__(self, client: Client, history: History, *, seed: int) -> None:
        self._client = client
        self._history = history
        self._random = random.Random(seed)

    async def run(self) -> None:
        while True:
            try:
                leased = await self._client.lease(QUEUE, max=BULK, wait_s=2.0, lease_s=LEASE_S)
            except AWAY:
                await asyncio.sleep(PAUSE_S)
                continue
            now = time.time()
            for job in leased.jobs:
                until = job.lease.until.timestamp()
                self._history.leased(str(job.id), job.lease.token, known_at=now, until=until)
            await self._work(leased.jobs)

    async def _work(self, jobs: Sequence[LeasedJob]) -> None:
        if self._random.random() < 0.02:
            return  # died with all of them
        if self._random.random() < 0.05:
            await asyncio.sleep(self._random.uniform(0, 1.5 * LEASE_S))  # frozen
        said = [one for job in jobs if (one := self._outcome(job)) is not None]
        if said:
            await self._tell(said)
            if self._random.random() < 0.1:
                await self._tell(said)

    def _outcome(self, job: LeasedJob) -> dict[str, Any] | None:
        luck = self._random.random()
        if luck < 0.90:
            return job.completed({"lease": job.lease.token})
        if luck < 0.94:
            return job.failed("boom", "it broke")
        if luck < 0.96:
            return job.snooze(self._random.uniform(0, 1))
        if luck < 0.97:
            return job.discard("vain", "no")
        if luck < 0.98:
            return job.cancel("unwanted")
        return None

    async def _tell(self, said: Sequence[dict[str, Any]]) -> None:
        endings = [self._ending(one) for one in said]
        for _ in range(5):
            try:
                told = await self._client.settle(said)
            except AWAY:
                await asyncio.sleep(PAUSE_S)
                continue
            for ending, one in zip(endings, told.results, strict=True):
                ending.answer = one.status
            return

    def _ending(self, one: dict[str, Any]) -> Ending:
        return self._history.ending(
            str(one["id"]), one["token"], one["outcome"], told_at=time.time()
        )


async def found(client: Client) -> AsyncIterator[Found]:
    """Every job of the queue as it is now."""
    cursor: str | None = None
    while True:
        page = await client.list_jobs(queue=QUEUE, limit=200, cursor=cursor)
        for job in page.items:
            yield _found(job)
        cursor = page.next_cursor
        if cursor is None:
            return


def _found(job: Job) -> Found:
    return Found(str(job.id), job.state, key=job.args.get("key"), result=job.result)
