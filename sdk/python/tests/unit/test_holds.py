"""New jobs of a pulled job, over the wire: each call has a body that a deployment takes."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import aiohttp
import pytest

from mainstay import errors
from mainstay.answers import EnqueueResult, EnqueueResults, Lease, LeasedJob
from mainstay.children import NewJob, child_id
from mainstay.client import Client
from mainstay.handler import Context, Reservation, handler
from mainstay.holds import Hold, PulledContext

MIB = 1024 * 1024


@handler("parent")
async def parent(_args: dict[str, Any], _ctx: Context) -> None:
    """Makes nothing by itself."""


class Deployment:
    """Keeps what it was sent, a call at a time."""

    def __init__(self) -> None:
        self.calls: list[list[dict[str, Any]]] = []

    async def enqueue_batch(self, jobs: Iterable[Mapping[str, Any]]) -> EnqueueResults:
        self.calls.append([dict(job) for job in jobs])
        made = [EnqueueResult(id=job["id"], status="created") for job in self.calls[-1]]
        return EnqueueResults(results=made)


def context(deployment: Deployment) -> PulledContext:
    lease = Lease(token="t", until=datetime.now(UTC) + timedelta(minutes=1))
    job = LeasedJob(
        id=uuid4(), state="running", kind="parent", created_at=datetime.now(UTC), lease=lease
    )
    return PulledContext(
        Hold(job, 60.0),
        parent,
        client=cast(Client, deployment),
        http=cast(aiohttp.ClientSession, None),
        environ={},
        clock=lambda: 0.0,
    )


@pytest.mark.parametrize("size", [100, 80_000, 178_000, 223_000, 262_100])
async def test_many_large_jobs_go_in_bodies_of_less_than_a_mib(size: int) -> None:
    deployment = Deployment()
    ctx = context(deployment)
    jobs = [NewJob(name=str(n), kind="k", args={"a": "x" * size}) for n in range(40)]
    made = await ctx.enqueue_many(jobs)
    assert made == [child_id(ctx.job.id, ctx.job.created_at, job.name) for job in jobs]
    sent = [UUID(str(job["id"])) for call in deployment.calls for job in call]
    assert sent == made
    sizes = [len(json.dumps({"jobs": call}, default=str)) for call in deployment.calls]
    assert max(sizes) < MIB
    assert len(sizes) <= 1 + 40 * (size + 1000) // (900_000 - size)


class Limits:
    """Answers as the limits do, or not at all."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.is_away = False

    async def refund(self, token: str, cost: int | None = None) -> int:
        self._answer("refund", token, cost)
        return cost or 7

    async def observe(self, policy: str, *, shop: str, **told: Any) -> None:
        self._answer("observe", policy, shop, told)

    def _answer(self, *said: Any) -> None:
        if self.is_away:
            raise errors.Unavailable("away")
        self.told.append(said)


async def test_what_is_told_of_a_slot_fails_no_job() -> None:
    limits = Limits()
    ctx = context(cast(Any, limits))
    slot = Reservation(allowed=True, token="t")
    assert (await ctx.refund(slot, 3), await ctx.refund(slot)) == (3, 7)
    await ctx.observe("shopify-gql", shop="a.myshopify.com", available=5)
    with pytest.raises(ValueError, match="shop"):
        await ctx.observe("shopify-gql", available=5)
    limits.is_away = True
    assert await ctx.refund(slot) == await ctx.refund(Reservation(allowed=True)) == 0
    await ctx.observe("shopify-gql", shop="a.myshopify.com", available=5)
    assert limits.told == [
        ("refund", "t", 3), ("refund", "t", None),
        ("observe", "shopify-gql", "a.myshopify.com", {"available": 5}),
    ]  # fmt: skip
