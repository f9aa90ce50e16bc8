"""One batch at a time; what arrives meanwhile is the next."""

import asyncio
from collections.abc import Sequence

import pytest

from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.batcher import MAX_LIMITS, Batcher
from ratelimit_service.core.switch import Ruling

PACE = gcra.Pace(1000, 10_000, 1)


def ask(key: str) -> gcra.Ask:
    return gcra.Ask((gcra.Limit(key, PACE, 1),))


class Slow:
    """Decides when told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[list[str]] = []

    async def __call__(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        self.batches.append([each.limits[0].key for each in asks])
        await self.go.wait()
        return [Ruling(gcra.judge(each, _levels(each)), Backend.LOCAL) for each in asks]


def _levels(asked: gcra.Ask) -> dict[str, gcra.Level]:
    """The debt tells whose ruling it is."""
    key = asked.limits[0].key
    return {key: gcra.Level(int(key), PACE)}


async def test_what_arrives_during_a_batch_is_the_next_one() -> None:
    slow = Slow()
    batcher = Batcher(slow)
    first = asyncio.create_task(batcher([ask("1")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(batcher([ask(str(n)), ask(str(n + 1))])) for n in (2, 4)]
    await asyncio.sleep(0)
    slow.go.set()
    assert [each.verdict.levels[0].debt_us for each in await first] == [1]
    assert [[r.verdict.levels[0].debt_us for r in await each] for each in others] == [
        [2, 3], [4, 5],
    ]  # fmt: skip
    assert slow.batches == [["1"], ["2", "3", "4", "5"]]


async def test_a_batch_is_bounded_but_never_splits_what_came_together() -> None:
    slow = Slow()
    slow.go.set()
    batcher = Batcher(slow)
    many = [ask("7")] * (MAX_LIMITS + 1)
    tasks = [asyncio.create_task(batcher(each)) for each in (many, [ask("8")], [ask("9")])]
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in slow.batches] == [MAX_LIMITS + 1, 2]


async def test_a_failure_is_told_to_all_and_the_next_batch_goes_on() -> None:
    outcomes = iter([ValueError("broken"), None])

    async def decide(asks: Sequence[gcra.Ask]) -> list[Ruling]:
        error = next(outcomes)
        if error:
            raise error
        return [Ruling(gcra.judge(each, _levels(each)), Backend.LOCAL) for each in asks]

    batcher = Batcher(decide)
    with pytest.raises(ValueError, match="broken"):
        await batcher([ask("1")])
    assert len(await batcher([ask("2")])) == 1


async def test_a_caller_that_left_harms_nobody() -> None:
    slow = Slow()
    batcher = Batcher(slow)
    left, stays = (asyncio.create_task(batcher([ask(key)])) for key in ("1", "2"))
    await asyncio.sleep(0)
    left.cancel()
    slow.go.set()
    assert len(await stays) == 1
