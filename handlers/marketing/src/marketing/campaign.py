"""`campaign.send`: a list of recipients behind a URL becomes one `sms.send` job for each row.

Every row's job has an id that comes from this job and the row's number, so that a row is one
message however often it is read. How far the list was read is the job's progress: what was killed
goes on from there. While enough messages wait already it waits too, as a row in a table.

`campaign.report` is a kind for a batch's `on_complete`: it completes with what it was given, so the
counters stay readable as its result.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mainstay.children import NewJob
from mainstay.handler import (
    Cancel,
    Completed,
    Context,
    InvalidArgs,
    Outcome,
    Refused,
    Retry,
    Snooze,
    Unavailable,
    handler,
)
from marketing import recipients, sms, templates

CHUNK_ROWS = 500
MAX_LISTED = 100
MAX_DETAIL = 200
ENOUGH_S = 5.0
BROKEN_S = 5.0
# What is left of the time when another attempt had better go on.
MARGIN_S = 20.0
# Without ETag what was read is read again: do that for a tenth of the time at most.
SKIP_SHARE = 10.0
MAX_SNOOZE_S = 600.0


def _url(url: str) -> str:
    if any(not "!" <= one <= "~" for one in url):
        raise ValueError("must be ASCII without spaces: escape them")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError("must be an https URL")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("must hold neither credentials nor a fragment")
    return url


def _delimiter(one: str) -> str:
    if not one.isascii() or one in '"\r\n\x00':
        raise ValueError("give one ASCII character")
    return one


def _message(message: dict[str, Any]) -> dict[str, Any]:
    body = message.get("body", message.get("template"))
    if isinstance(body, str):
        templates.check(body)
    return message


class CampaignArgs(BaseModel):
    """`message` holds what is the same in all messages, the template above all; a row's columns are
    laid over it. No more are made while `max_waiting` messages of the shop wait in `queue`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=2048), AfterValidator(_url)]
    message: Annotated[dict[str, Any], AfterValidator(_message)] = Field(default_factory=dict)
    format: Literal["csv", "ndjson"] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_delimiter)] = ","
    queue: str = "sms"
    priority: int = Field(5, ge=0, le=9)
    max_waiting: int = Field(5_000, ge=1, le=1_000_000)


@handler("campaign.send", args=CampaignArgs, queue="campaign", timeout_s=300)
async def send(args: CampaignArgs, ctx: Context) -> Outcome:
    sending = _Sending.resumed(args, ctx, await ctx.checkpoint())
    try:
        return await sending.run()
    except recipients.Unreachable as error:
        if sending.is_further:
            return Snooze(min(MAX_SNOOZE_S, error.retry_after_s or BROKEN_S))
        return Retry(error.retry_after_s, str(error))
    except Unavailable as error:
        return Snooze(BROKEN_S) if sending.is_further else Retry(error=str(error))


@dataclass(slots=True)
class _Sending:
    """`is_further`: this attempt has taken rows, so another need not count against the job."""

    args: CampaignArgs
    ctx: Context
    mark: recipients.Mark = field(default_factory=recipients.Mark)
    enqueued: int = 0
    rejected: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    is_further: bool = False

    @classmethod
    def resumed(
        cls, args: CampaignArgs, ctx: Context, left: Mapping[str, Any] | None
    ) -> "_Sending":
        if left is None:
            return cls(args, ctx)
        mark = recipients.Mark.of(left["source"])
        return cls(args, ctx, mark, left["enqueued"], left["rejected"], list(left["rejections"]))

    async def run(self) -> Outcome:
        args = self.args
        chunk = min(CHUNK_ROWS, args.max_waiting)
        if await self._is_enough():
            return Snooze(ENOUGH_S)
        reading = recipients.Reading(self.ctx.outside, args.url, args.format, args.delimiter)
        async with aclosing(reading.rows(self.mark)) as arriving:
            async for some in arriving:
                for at in range(0, len(some), chunk):
                    if self.ctx.cancelled.is_set():
                        return Cancel(f"cancelled after {self.mark.rows} rows")
                    await self._take(some[at : at + chunk])
                    if await self._is_enough():
                        return Snooze(self._patience_s(reading))
                    if self.ctx.remaining_s() < MARGIN_S:
                        return Snooze(0.0)
        return Completed(self._told())

    async def _take(self, some: Sequence[recipients.Row]) -> None:
        """One chunk: its jobs first, then the mark behind it."""
        jobs: list[NewJob] = []
        places: list[recipients.Row] = []
        for row in some:
            made = {**self.args.message, **row.args}
            if (flaw := row.flaw or _flaw(made)) is not None:
                self._reject(row, flaw)
            else:
                jobs.append(self._job(row, made))
                places.append(row)
        self.enqueued += await self._enqueue(jobs, places)
        self.mark, self.is_further = some[-1].mark, True
        await self.ctx.progress({**self._told(), "source": self.mark.document()})

    async def _enqueue(self, jobs: list[NewJob], places: list[recipients.Row]) -> int:
        try:
            return len(await self.ctx.enqueue_many(jobs)) if jobs else 0
        except Refused as refused:
            for place, why in refused.jobs.items():
                self._reject(places[place], why)
            good = [job for place, job in enumerate(jobs) if place not in refused.jobs]
            return len(await self.ctx.enqueue_many(good)) if good else 0

    def _job(self, row: recipients.Row, args: dict[str, Any]) -> NewJob:
        return NewJob(
            name=f"row:{row.number}",
            kind=sms.send.kind,
            queue=self.args.queue,
            priority=self.args.priority,
            args=args,
            tags=[tag_of(self.ctx)],
        )

    def _reject(self, row: recipients.Row, why: str) -> None:
        self.rejected += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append({"line": row.line, "detail": why[:MAX_DETAIL]})

    async def _is_enough(self) -> bool:
        most = self.args.max_waiting
        return await self.ctx.waiting(self.args.queue, limit=most) >= most

    def _patience_s(self, reading: recipients.Reading) -> float:
        again_s = 0.0 if self.mark.etag else SKIP_SHARE * reading.skipped_s
        return min(MAX_SNOOZE_S, max(ENOUGH_S, again_s))

    def _told(self) -> dict[str, Any]:
        return {
            "rows": self.mark.rows,
            "enqueued": self.enqueued,
            "rejected": self.rejected,
            "rejections": list(self.bad),
        }


def tag_of(ctx: Context) -> str:
    """Finds the messages of a campaign: list them by it, or cancel them."""
    return f"campaign:{ctx.job.id}"


def _flaw(args: dict[str, Any]) -> str | None:
    try:
        sms.send.parse(args)
    except InvalidArgs as error:
        return str(error)
    return None


@handler("campaign.report", queue="default", timeout_s=10)
async def report(args: dict[str, Any], ctx: Context) -> Completed:
    return Completed(args)
