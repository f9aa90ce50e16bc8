"""A connection to Postgres with a budget: whose fault a time-out was."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chassis.kernel import errors
from ratelimit_service.store.lane import Lane
from testkit.databases import Databases

BUDGET_S = 0.2


@pytest_asyncio.fixture
async def lane(make_database: Databases) -> AsyncIterator[Lane]:
    made = Lane(await make_database(), budget_s=BUDGET_S)
    await made.fetch("select 1")
    yield made
    made.close()


async def test_whoever_stood_still_asks_again_before_it_takes_postgres_for_dead(
    lane: Lane,
) -> None:
    asking = asyncio.create_task(lane.fetch("select 7 as answer"))
    await asyncio.sleep(0)  # it has been sent
    time.sleep(3 * BUDGET_S)  # as a process that was stopped
    [row] = await asking
    assert row["answer"] == 7


async def test_a_slow_postgres_is_asked_once(lane: Lane) -> None:
    started = time.monotonic()
    with pytest.raises(errors.Unavailable):
        await lane.fetch("select pg_sleep(5)")
    assert time.monotonic() - started < 1.5 * BUDGET_S
