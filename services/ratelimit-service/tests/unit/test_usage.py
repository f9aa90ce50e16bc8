"""What is counted of shops, and how it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from chassis.kernel import errors, ids
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.usage import Flush, Row, Usage

PACE = gcra.Pace(1000, 10_000, 1)


@dataclass
class Named:
    id: str


@dataclass
class Judged:
    policy: Any
    limit: gcra.Limit
    violated: bool = False


@dataclass
class Store:
    """Keeps what it is sent; `answers` false is an answer that was lost on its way."""

    flushes: list[Flush] = field(default_factory=list)
    answers: bool = True

    async def add(self, _replica: UUID, flush: Flush) -> None:
        self.flushes.append(flush)
        if not self.answers:
            raise errors.Unavailable("lost")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Bench:
    def __init__(self, **how: Any) -> None:
        self.store = Store()
        self.now_s = 600.0
        self.usage = Usage(store=self.store, replica=ids.new_id(), now=lambda: self.now_s, **how)

    def note(self, key: str, *, violated: bool = False, shadow: bool = False) -> None:
        limit = gcra.Limit(key, PACE, 3, shadow=shadow)
        self.usage.note([Judged(Named("api"), limit, violated)], Backend.REDIS)

    def rows(self) -> Sequence[Row]:
        return self.store.flushes[-1].rows


async def test_counts_are_by_shop_policy_and_minute() -> None:
    bench = Bench()
    bench.note("{s:a}:api")
    bench.note("{s:a}:api", violated=True)
    bench.note("{s:a}:api", violated=True, shadow=True)
    bench.now_s += 60
    bench.note("{s:a}:api")
    await bench.usage.flush()
    assert [
        (r.minute, r.shop, r.allowed, r.denied, r.shadow_denied, r.cost) for r in bench.rows()
    ] == [(10, "a", 1, 1, 1, 9), (11, "a", 1, 0, 0, 3)]


async def test_nobody_but_a_shop_is_counted() -> None:
    bench = Bench()
    for key in ("{i:10.0.0.1}:api", "{u:x}:api", "{n:y}:api"):
        bench.note(key)
    await bench.usage.flush()
    assert bench.store.flushes == []


async def test_a_flush_whose_answer_was_lost_is_sent_again_as_it_was() -> None:
    bench = Bench()
    bench.note("{s:a}:api")
    bench.store.answers = False
    with pytest.raises(errors.Unavailable):
        await bench.usage.flush()
    bench.note("{s:a}:api")
    bench.store.answers = True
    await bench.usage.flush()
    first, again, rest = bench.store.flushes
    assert first is again
    assert (again.number, rest.number) == (1, 2)
    assert [[row.allowed for row in each.rows] for each in (again, rest)] == [[1], [1]]


async def test_memory_is_bounded_and_what_made_room_is_told() -> None:
    lost: list[int] = []
    bench = Bench(capacity=10, on_lost=lost.append)
    for number in range(1000):
        bench.note("{s:heavy}:api")
        bench.note(f"{{s:{number}}}:api")
    assert bench.usage.waiting == 10
    await bench.usage.flush()
    assert {row.shop: row.allowed for row in bench.rows()}["heavy"] == 1000
    assert sum(row.count for row in bench.rows()) + sum(lost) == 2000


async def test_denials_are_sampled_once_a_second_for_a_shop() -> None:
    bench = Bench()
    for _ in range(5):
        bench.note("{s:a}:api", violated=True)
        bench.note("{s:b}:api", violated=True)
        bench.note("{s:b}:api", violated=True, shadow=True)
    bench.now_s += 1
    bench.note("{s:a}:api", violated=True)
    await bench.usage.flush()
    denials = bench.store.flushes[0].denials
    assert [(each.shop, each.second) for each in denials] == [("a", 600), ("b", 600), ("a", 601)]
    assert len({each.event().id for each in denials}) == 3
    assert denials[0].event().id == denials[0].event().id
