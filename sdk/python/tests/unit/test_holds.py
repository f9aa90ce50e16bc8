"""New jobs of a pulled job, over the wire: each call has a body that a deployment takes."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import aiohttp
import pytest

from mainstay.answers import EnqueueResult, EnqueueResults, Lease, LeasedJob
from mainstay.children import NewJob, child_id
from mainstay.client import Client
from mainstay.handler import Context, handler
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
