"""A campaign of any size on a stack that is being mistreated, and what became of it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, Unpack
from uuid import UUID

import aiohttp

from mainstay import errors
from mainstay.answers import Batch, Job
from mainstay.client import Client, new_id
from mainstay.operations import JobFilter
from testkit.signals import eventually
from testkit.stack import StackProcess

T = TypeVar("T")

SHOP = "chaos-garden.myshopify.com"
SENDER = "+12125550100"
PATIENCE_S = 0.1


def number(n: int) -> str:
    """A mobile number that is valid and nobody's twice."""
    return f"+3069{n:08d}"


def rows(count: int) -> bytes:
    lines = ["to,name", *(f"{number(n)},Recipient {n}" for n in range(count))]
    return "\n".join(lines).encode() + b"\n"


async def patiently(call: Callable[[], Awaitable[T]], *, within_s: float = 90.0) -> T:
    """Again and again while somebody pulls plugs: every call is idempotent."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await call()
            except (errors.Unavailable, errors.Limited):
                await asyncio.sleep(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Result:
    batch: Batch
    messages: Counter[str]
    failed: list[Job]
    expected: frozenset[str]

    def check(self) -> None:
        """Every recipient has exactly one message, or a visible failure that says ambiguous."""
        doubled = {to: n for to, n in self.messages.items() if n > 1}
        assert not doubled, f"more than one message: {doubled}"
        assert not set(self.messages) - self.expected
        types = Counter(job.errors[-1].type for job in self.failed)
        assert set(types) <= {"ambiguous"}, types
        told = {job.args["to"] for job in self.failed}
        missing = self.expected - set(self.messages) - told
        assert not missing, f"{len(missing)} recipients have neither message nor failure"
        assert self.batch.state == "finished"
        assert self.batch.completed + self.batch.failed == self.batch.total == len(self.expected)
        assert self.batch.failed == len(self.failed)


class ChaosCampaign:
    """`start()`, then break things, then `finish()`."""

    def __init__(self, stack: StackProcess, client: Client, *, recipients: int) -> None:
        self._stack = stack
        self._client = client
        self._recipients = recipients
        self.batch_id: UUID = new_id()

    async def start(self, *, segments_per_s: int) -> None:
        await set_pace(self._stack, segments_per_s)
        await patiently(
            lambda: self._client.create_batch(
                "chaos",
                "sms.send",
                id=self.batch_id,
                queue="sms",
                shop=SHOP,
                defaults={"args": {"body": "Hello {{ name }}", "from": SENDER}},
                on_complete={
                    "kind": "campaign.report",
                    "shop": SHOP,
                    "tags": [str(self.batch_id)],
                },
            )
        )
        uploaded = await patiently(
            lambda: self._client.upload_items(self.batch_id, rows(self._recipients))
        )
        assert uploaded.accepted + uploaded.duplicates == self._recipients
        await patiently(lambda: self._client.close_batch(self.batch_id))

    async def done(self) -> int:
        batch = await patiently(lambda: self._client.get_batch(self.batch_id))
        return batch.completed + batch.failed

    async def reach(self, done: int, *, within_s: float = 90.0) -> None:
        async def reached() -> bool:
            return await self.done() >= done

        await eventually(reached, within_s)

    async def finish(self, *, within_s: float = 120.0) -> Result:
        async def finished() -> Batch | None:
            batch = await patiently(lambda: self._client.get_batch(self.batch_id))
            return batch if batch.state == "finished" else None

        batch = await eventually(finished, within_s)
        assert batch is not None
        await eventually(partial(self._reported_once, batch), 30.0)
        return Result(
            batch=batch,
            messages=Counter(message["to"] for message in await messages(self._stack)),
            failed=await self._failed(),
            expected=frozenset(number(n) for n in range(self._recipients)),
        )

    async def _reported_once(self, batch: Batch) -> bool:
        assert batch.finished_at is not None
        reports = await self._all(
            kind="campaign.report",
            tag=str(self.batch_id),
            since=batch.finished_at - timedelta(seconds=10),
        )
        assert len(reports) <= 1, "on_complete ran twice"
        return [job.state for job in reports] == ["completed"]

    async def _failed(self) -> list[Job]:
        return await self._all(batch_id=self.batch_id, state="failed")

    async def _all(self, **wanted: Unpack[JobFilter]) -> list[Job]:
        jobs: list[Job] = []
        cursor: str | None = None
        while True:
            page = await patiently(
                partial(self._client.list_jobs, limit=200, cursor=cursor, **wanted)
            )
            jobs += page.items
            cursor = page.next_cursor
            if cursor is None:
                return jobs


async def set_pace(stack: StackProcess, segments_per_s: int) -> None:
    """How fast the sender may go, live."""
    policy: dict[str, Any] = {
        "key": "sender",
        "algorithm": "gcra",
        "rate": f"{segments_per_s}/s",
        "burst": segments_per_s,
    }
    async with (
        stack.session() as session,
        session.put("/v1/ratelimits/policies/sms-sender", json=policy) as answer,
    ):
        assert answer.status in (200, 201), await answer.text()


async def messages(stack: StackProcess) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stack.sandbox_url}/sandbox/messages") as answer,
    ):
        found: list[dict[str, Any]] = (await answer.json())["messages"]
        return found
