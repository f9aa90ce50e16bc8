"""Who reads at the same time reads together, and is answered alone."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chassis.crypto import SealBroken
from chassis.kernel import deadline, errors, ids
from queue_service.core.ports import Job
from queue_service.core.reading import Jobs

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(shop: str | None = None) -> Job:
    return Job(
        id=ids.new_id(), queue="q", kind="k", shop=shop, state="ready", priority=5, attempt=0,
        max_attempts=1, args={}, run_at=NOW, created_at=NOW,
    )  # fmt: skip


class Store:
    """Jobs in memory, some of which cannot be opened. Hangs until `go`."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.broken: set[UUID] = set()
        self.error: Exception = SealBroken()
        self.asked: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def many(self, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
        self.asked.append(len(job_ids))
        await self.go.wait()
        if self.broken & set(job_ids):
            raise self.error
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}


def reading(store: Any) -> Jobs:
    return Jobs(store, opened=store)


async def test_many_readers_are_few_statements() -> None:
    jobs = [a_job() for _ in range(40)]
    store = Store(*jobs)
    read = reading(store)
    found = await asyncio.gather(*(read.get(job.id, shop=None) for job in [*jobs, jobs[0]]))
    assert found == [*jobs, jobs[0]]
    assert len(store.asked) <= 2


async def test_each_is_shown_its_own_shops_job_or_none() -> None:
    job = a_job(shop="a")
    read = reading(Store(job))
    asked = [read.get(job.id, shop=shop) for shop in ("a", "b", None)]
    asked.append(read.get(ids.new_id(), shop="a"))
    mine, others, anybody, missing = await asyncio.gather(*asked, return_exceptions=True)
    assert (mine, anybody) == (job, job)
    assert isinstance(others, errors.NotFound)
    assert isinstance(missing, errors.NotFound)


async def test_what_cannot_be_opened_harms_its_own_reader_alone() -> None:
    good, bad = a_job(), a_job()
    store = Store(good, bad)
    store.broken = {bad.id}
    read = reading(store)
    asked = (read.get(job.id, shop=None) for job in (bad, good))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], SealBroken)
    assert found[1] == good


async def test_a_store_that_hangs_is_unavailable_within_the_readers_time() -> None:
    store = Store()
    store.go.clear()
    deadline.bind(deadline.Deadline.after(0.05))
    with pytest.raises(errors.Unavailable) as raised:
        await reading(store).get(ids.new_id(), shop=None)
    assert raised.value.code == "database_unavailable"
    store.go.set()


async def test_a_row_that_nothing_can_read_harms_its_own_reader_alone() -> None:
    good, bad = a_job(), a_job()
    store = Store(good, bad)
    store.broken, store.error = {bad.id}, OverflowError("year 10000")
    jobs = reading(store)
    told = await asyncio.gather(
        jobs.get(good.id, shop=None), jobs.get(bad.id, shop=None), return_exceptions=True
    )
    assert told[0] == good
    assert isinstance(told[1], Exception)
