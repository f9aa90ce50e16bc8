"""The sample campaign: `examples/spring-sale.csv` through the public API, and what became of it.

Works like any app: the SDK, the gateway, a key. What it claims about messages it has read in the
sandbox's record, not in our own counters.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import aiohttp

from localstack import audience
from localstack.home import ROOT
from mainstay import errors
from mainstay.answers import Batch, Job, Uploaded
from mainstay.client import Client, new_id

T = TypeVar("T")

SAMPLE = ROOT / "examples" / "spring-sale.csv"
TEMPLATE = ROOT / "examples" / "spring-sale.liquid"
SHOP = "spring-garden.myshopify.com"
SENDER = "+12125550100"
# With nothing in the way it takes ten seconds; this is for who pulls plugs in the middle.
WITHIN_S = 240.0
LOOK_S = 0.2
SANDBOX_TIMEOUT_S = 10.0

Progress = Callable[[Batch], None]


class CampaignError(Exception):
    """The campaign could not be carried through; the text says at which step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened. `messages`: number → how many the sandbox took for it in this run."""

    batch: Batch
    uploaded: Uploaded
    on_complete: list[Job]
    """What the batch started at its end: one job, if all is well."""
    expected: frozenset[str]
    messages: Mapping[str, int]
    system: Mapping[str, Any]
    upload_s: float
    sending_s: float
    failed: list[Job] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Messages to recipients of the campaign."""
        return sum(self.messages.get(number, 0) for number in self.expected)

    @property
    def faults(self) -> list[str]:
        """Why this is not "every recipient exactly one message, and on_complete once"."""
        missing = [number for number in self.expected if number not in self.messages]
        doubled = [number for number in self.expected if self.messages.get(number, 0) > 1]
        strangers = set(self.messages) - self.expected
        endings = [job.state for job in self.on_complete]
        found = {
            f"{len(missing)} recipients without a message": missing,
            f"{len(doubled)} recipients with more than one message": doubled,
            f"{len(strangers)} messages to numbers that are no recipients": strangers,
            f"on_complete is {', '.join(endings) or 'missing'}": endings != ["completed"],
            f"the batch is {self.batch.state}": self.batch.state != "finished",
        }
        return [text for text, is_so in found.items() if is_so]


class Campaign:
    """One run of it. `progress` is called with the batch's counters while it goes on."""

    def __init__(
        self, client: Client, *, sandbox_url: str, progress: Progress, sample: Path = SAMPLE
    ) -> None:
        self._client = client
        self._sandbox_url = sandbox_url
        self._progress = progress
        self._sample = sample
        self._deadline = 0.0

    async def run(self) -> Outcome:
        self._deadline = time.monotonic() + WITHIN_S
        expected = await asyncio.to_thread(audience.read, self._sample)
        before = len(await self._messages())
        batch_id = new_id()
        await self._create(batch_id)
        began = time.monotonic()
        uploaded = await self._patiently(
            "upload", lambda: self._client.upload_items(batch_id, self._sample, source="sample")
        )
        upload_s = time.monotonic() - began
        await self._patiently("close", lambda: self._client.close_batch(batch_id))
        batch = await self._finish(batch_id)
        sending_s = time.monotonic() - began
        on_complete = await self._on_complete(batch_id)
        return Outcome(
            batch=batch,
            uploaded=uploaded,
            on_complete=on_complete,
            expected=expected.recipients,
            messages=Counter(each["to"] for each in (await self._messages())[before:]),
            system=await self._patiently("system", self._client.system),
            upload_s=upload_s,
            sending_s=sending_s,
            failed=await self._failed(batch),
        )

    async def _create(self, batch_id: UUID) -> None:
        body = await asyncio.to_thread(TEMPLATE.read_text)
        report = {"kind": "campaign.report", "shop": SHOP, "tags": [str(batch_id)]}
        await self._patiently(
            "create",
            lambda: self._client.create_batch(
                f"spring sale {time.strftime('%Y-%m-%d %H:%M:%S')}",
                "sms.send",
                id=batch_id,
                queue="sms",
                shop=SHOP,
                defaults={"args": {"body": body, "from": SENDER}},
                on_complete={**report, "args": {"campaign": "spring sale"}},
            ),
        )

    async def _finish(self, batch_id: UUID) -> Batch:
        """The batch when it has finished, or when time is up."""
        while True:
            batch = await self._patiently("progress", lambda: self._client.get_batch(batch_id))
            self._progress(batch)
            if batch.state == "finished" or time.monotonic() > self._deadline:
                return batch
            await asyncio.sleep(LOOK_S)

    async def _on_complete(self, batch_id: UUID) -> list[Job]:
        """Found by its tag, so that a second one would be seen."""
        while True:
            page = await self._patiently(
                "on_complete", lambda: self._client.list_jobs(tag=str(batch_id))
            )
            is_over = bool(page.items) and all(job.finished_at for job in page.items)
            if is_over or time.monotonic() > self._deadline:
                return page.items
            await asyncio.sleep(LOOK_S)

    async def _failed(self, batch: Batch) -> list[Job]:
        if not batch.failed:
            return []
        page = await self._patiently(
            "failed jobs", lambda: self._client.list_jobs(batch_id=batch.id, state="failed")
        )
        return page.items

    async def _messages(self) -> list[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=SANDBOX_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{self._sandbox_url}/sandbox/messages") as answer,
        ):
            found: list[dict[str, Any]] = (await answer.json())["messages"]
            return found

    async def _patiently(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        """Every step may be repeated, and is while there is time: somebody may be pulling plugs."""
        while True:
            try:
                return await call()
            except (errors.Unavailable, errors.Limited) as error:
                if time.monotonic() > self._deadline:
                    raise CampaignError(f"{step}: {error}") from error
            except errors.ApiError as error:
                raise CampaignError(f"{step}: {error}") from error
            await asyncio.sleep(LOOK_S)
