"""Which queues a job is judged by."""

import asyncio
from collections.abc import Collection

import pytest

from chassis.kernel import errors
from gateway.core.queues import Queues


class Snapshot:
    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.written = 0

    async def replace(self, names: Collection[str]) -> None:
        self.names = set(names)
        self.written += 1

    async def read(self) -> list[str]:
        return sorted(self.names)


class Owner:
    """Says what it knew when it was asked, once it is let go."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.go = asyncio.Event()
        self.go.set()
        self.is_away = False

    async def __call__(self) -> frozenset[str]:
        known = frozenset(self.names)
        await self.go.wait()
        if self.is_away:
            raise errors.Unavailable("away")
        return known


async def test_only_a_change_is_written_down() -> None:
    snapshot, owner = Snapshot(), Owner("a")
    queues = Queues(snapshot=snapshot, ask=owner)
    for _ in range(3):
        await queues.refresh()
    assert (snapshot.names, snapshot.written) == ({"a"}, 1)
    await queues.require("a")
    with pytest.raises(errors.Invalid) as refused:
        await queues.require("b")
    assert refused.value.code == "unknown_queue"


async def test_a_queue_that_another_replica_wrote_down_is_known() -> None:
    snapshot, owner = Snapshot(), Owner("a")
    queues = Queues(snapshot=snapshot, ask=owner)
    await queues.refresh()
    snapshot.names.add("b")
    await queues.require("b")


async def test_the_snapshot_speaks_for_an_owner_who_never_answered() -> None:
    owner = Owner()
    owner.is_away = True
    queues = Queues(snapshot=Snapshot("a"), ask=owner)
    with pytest.raises(errors.Unavailable):
        await queues.refresh()
    await queues.require("a")
    with pytest.raises(errors.Invalid):
        await queues.require("b")


async def test_without_owner_and_snapshot_nobody_can_judge() -> None:
    with pytest.raises(errors.Unavailable):
        await Queues(snapshot=Snapshot(), ask=Owner("a")).require("a")


async def test_an_old_answer_never_comes_down_on_a_new_one() -> None:
    snapshot, owner = Snapshot(), Owner("a")
    queues = Queues(snapshot=snapshot, ask=owner)
    owner.go.clear()
    before = asyncio.create_task(queues.refresh())
    await asyncio.sleep(0)
    owner.names.add("b")
    after = asyncio.create_task(queues.refresh())
    await asyncio.sleep(0)
    owner.go.set()
    await asyncio.gather(after, before)
    await queues.require("b")
    assert snapshot.names == {"a", "b"}
