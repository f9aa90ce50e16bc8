"""`campaign.send` from a list over real HTTP: killed anywhere, no row is lost, none is doubled."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from mainstay import handler
from mainstay.children import NewJob
from mainstay.handler import Cancel, Completed, Delivery, Outcome, Retry, Snooze, Unavailable
from mainstay.testing import Failed, FakeContext, run_job
from marketing import campaign, recipients

MESSAGE = {"body": "Γεια {{ name }}!", "from": "Flowers"}
HEADER = b"to,name\n"


def person(n: int) -> bytes:
    return b"+3069%08d,N%d\n" % (12345678 + n, n)


def people(count: int) -> bytes:
    return HEADER + b"".join(map(person, range(count)))


class Source:
    """Somebody's server with a list, as RFC 9110 has it. `requests` has the Range of each request;
    `tells_size`: a 416 says how long the list is."""

    def __init__(self) -> None:
        self.list = people(20)
        self.etag: str | None = '"1"'
        self.takes_ranges = self.tells_size = True
        self.breaks_after: int | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[str | None] = []
        self.url = ""

    async def get(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.requests.append(wanted)
        headers = dict(self.headers)
        if self.etag is not None:
            headers["ETag"] = self.etag
        if self.status != 200:
            return web.Response(status=self.status, headers=headers)
        at, status = 0, 200
        if wanted and self.takes_ranges and request.headers.get("If-Range") == self.etag:
            at, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if at >= len(self.list):
                size = {"Content-Range": f"bytes */{len(self.list)}"} if self.tells_size else {}
                return web.Response(status=416, headers={**headers, **size}, text="no such range")
            headers["Content-Range"] = f"bytes {at}-{len(self.list) - 1}/{len(self.list)}"
        body = self.list[at:]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        if self.breaks_after is not None:
            await response.write(body[: self.breaks_after])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response


@pytest_asyncio.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    app = web.Application()

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/list.csv")

    app.router.add_get("/list{suffix:.*}", source.get)
    app.router.add_get("/moved", elsewhere)
    async with TestServer(app) as server:
        source.url = str(server.make_url("/")).rstrip("/")
        yield source


class Killed(asyncio.CancelledError):
    """The worker is gone: nothing that follows happens."""


class Mortal(FakeContext):
    """Dies at its next `dies_at`th chunk, before or after its jobs are stored. `forgets`: progress
    is held back, as the throttle may do until the end."""

    dies_at = -1
    is_stored = False
    forgets = False

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        self.dies_at -= 1
        if self.dies_at == 0 and not self.is_stored:
            raise Killed
        made = await super().enqueue_many(jobs)
        if self.dies_at == 0:
            raise Killed
        return made

    async def progress(self, value: Any) -> None:
        if not self.forgets:
            await super().progress(value)

    def names(self) -> list[str]:
        return [job.name for job in self.enqueued.values()]


async def send(ctx: FakeContext, source: Source, path: str = "/list.csv", **more: Any) -> Any:
    args = {"url": f"{source.url}{path}", "message": MESSAGE, **more}
    return await run_job(campaign.send, args, ctx)


def rows(count: int) -> list[str]:
    return [f"row:{n}" for n in range(count)]


def test_a_worker_finds_the_handlers() -> None:
    found = handler.installed()
    assert found["sms.send"].queue == "sms"
    assert found["sms.send"].delivery is Delivery.AT_MOST_ONCE
    assert found["campaign.send"].queue == "campaign"
    assert found["automation.run"].queue == "automation"
    assert found["campaign.report"].queue == "default"


async def test_the_report_keeps_what_it_was_given() -> None:
    args = {"batch": {"completed": 3}}
    assert await run_job(campaign.report, args) == Completed(args)


async def test_each_row_becomes_a_message_with_the_columns_as_its_variables(source: Source) -> None:
    ctx = Mortal(shop="a.myshopify.com")
    ended = await send(ctx, source, priority=3)
    assert ended == Completed({"rows": 20, "enqueued": 20, "rejected": 0, "rejections": []})
    first = next(iter(ctx.enqueued.values()))
    assert (first.kind, first.queue, first.priority) == ("sms.send", "sms", 3)
    assert first.shop == "a.myshopify.com"
    assert first.args == {**MESSAGE, "to": "+306912345678", "name": "N0"}
    assert first.tags == [f"campaign:{ctx.job.id}"]
    assert ctx.names() == rows(20)


async def test_ndjson_is_a_line_for_each(source: Source) -> None:
    source.list = b"".join(
        json.dumps({"to": f"+3069{12345678 + n}", "cart": {"items": n}}).encode() + b"\n"
        for n in range(3)
    )
    ctx = Mortal()
    assert (await send(ctx, source, "/list.ndjson")).result["enqueued"] == 3
    assert [job.args["cart"] for job in ctx.enqueued.values()] == [{"items": n} for n in range(3)]


async def test_bad_rows_are_told_by_line_and_stop_nobody(source: Source) -> None:
    source.list = (
        HEADER + b'call me,"two\nlines"\n' + person(1) + b"+306912345678\n\xff,x\n" + person(2)
    )
    ctx = Mortal()
    ended = await send(ctx, source)
    assert (ended.result["enqueued"], ended.result["rejected"]) == (2, 3)
    told = {bad["line"]: bad["detail"] for bad in ended.result["rejections"]}
    assert set(told) == {2, 5, 6}
    assert "/to" in told[2]
    assert "columns" in told[5]
    assert "UTF-8" in told[6]
    assert ctx.names() == ["row:1", "row:4"]


async def test_what_is_told_at_one_time_is_not_changed_later(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 1)
    source.list = HEADER + b"call me,A\ncall me,B\n"
    ctx = Mortal()
    await send(ctx, source)
    assert [len(told["rejections"]) for told in ctx.progressed] == [1, 2]


async def test_what_no_queue_takes_is_told_by_line_too(source: Source) -> None:
    source.list = b'{"to": "+306912345678", "n": 1%s}\n{"to": "+306912345679"}\n' % (b"0" * 30)
    ctx = Mortal()
    ended = await send(ctx, source, "/list.jsonl")
    assert (ended.result["enqueued"], ended.result["rejections"][0]["line"]) == (1, 1)
    assert ctx.names() == ["row:1"]


@pytest.mark.parametrize("etag", ['"1"', None])
@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("forgets", [False, True])
async def test_killed_at_every_row_none_is_lost_and_none_doubled(
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    etag: str | None,
    is_stored: bool,
    forgets: bool,
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 1)
    source.list, source.etag = people(9), etag
    for dies_at in range(1, 10):
        ctx = Mortal()
        ctx.dies_at, ctx.is_stored, ctx.forgets = dies_at, is_stored, forgets
        with pytest.raises(asyncio.CancelledError):
            await send(ctx, source)
        assert len(ctx.enqueued) == dies_at - (not is_stored)
        ended = await send(ctx, source)
        assert ctx.names() == rows(9)
        assert ended.result["rows"] == 9


async def test_killed_over_and_over_it_gets_to_the_end(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 1)
    ctx = Mortal()
    for _ in range(19):
        ctx.dies_at = 2
        with pytest.raises(asyncio.CancelledError):
            await send(ctx, source)
    assert (await send(ctx, source)).result["enqueued"] == 20
    assert ctx.names() == rows(20)


async def test_with_an_etag_the_rest_alone_is_asked_for(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 5)
    ctx = Mortal()
    ctx.dies_at = 3
    with pytest.raises(asyncio.CancelledError):
        await send(ctx, source)
    await send(ctx, source)
    behind_ten = len(HEADER) + sum(len(person(n)) for n in range(10))
    assert source.requests == [None, f"bytes={behind_ten}-"]
    assert ctx.names() == rows(20)


async def taken_to_the_last_row(source: Source, monkeypatch: pytest.MonkeyPatch) -> Mortal:
    """Put off behind the last row, before it was seen that it was the last."""
    with monkeypatch.context() as patched:
        patched.setattr(campaign, "MARGIN_S", 1e9)
        ctx = Mortal()
        assert await send(ctx, source) == Snooze(0.0)
    assert ctx.names() == rows(20)
    return ctx


@pytest.mark.parametrize("tells_size", [True, False])
async def test_behind_the_last_row_there_is_no_range_and_it_is_done(
    source: Source, monkeypatch: pytest.MonkeyPatch, tells_size: bool
) -> None:
    source.tells_size = tells_size
    ctx = await taken_to_the_last_row(source, monkeypatch)
    assert (await send(ctx, source)).result["rows"] == 20
    rest = f"bytes={len(source.list)}-"
    assert source.requests == [None, rest] if tells_size else [None, rest, None]
    assert ctx.names() == rows(20)


@pytest.mark.parametrize("other", [people(19), people(20)[:-3] + b"X1\n"])
async def test_a_range_that_is_refused_hides_no_other_list(
    source: Source, monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    """A wrong server: the same ETag for another list."""
    ctx = await taken_to_the_last_row(source, monkeypatch)
    source.list, source.tells_size = other, len(other) < len(source.list)
    ended = await send(ctx, source)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("source_changed", False)


async def test_a_source_that_answers_nothing_but_416_is_refused(source: Source) -> None:
    source.status = 416
    ended = await send(Mortal(), source)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.message) == ("source_refused", "the source answered 416")


async def test_a_queue_that_is_away_costs_an_attempt_only_when_nothing_was_made(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 5)

    class Away(Mortal):
        left = 0

        async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("the database is away")
            return await super().enqueue_many(jobs)

    ctx = Away()
    assert await send(ctx, source) == Retry(error="the database is away")
    ctx.left = 2
    assert await send(ctx, source) == Snooze(campaign.BROKEN_S)
    assert (ctx.job.attempt, ctx.names()) == (1, rows(10))
    ctx.left = 100
    assert (await send(ctx, source)).result["enqueued"] == 20
    assert ctx.names() == rows(20)


@pytest.mark.parametrize("etag", ['"1"', None])
async def test_a_source_that_breaks_off_costs_an_attempt_only_when_nothing_came(
    source: Source, etag: str | None
) -> None:
    source.etag, source.breaks_after = etag, len(HEADER) + 100
    ctx = Mortal()
    assert isinstance(await send(ctx, source), Snooze)
    some = len(ctx.enqueued)
    assert 0 < some < 20
    source.breaks_after = 3
    assert isinstance(await send(ctx, source), Retry)
    source.breaks_after = None
    assert (await send(ctx, source)).result["enqueued"] == 20
    assert ctx.names() == rows(20)


@pytest.mark.parametrize("etag", ['"1"', None])
async def test_a_list_that_changed_meanwhile_is_named(source: Source, etag: str | None) -> None:
    source.etag, source.breaks_after = etag, len(HEADER) + 100
    ctx = Mortal()
    assert isinstance(await send(ctx, source), Snooze)
    made = len(ctx.enqueued)
    source.list, source.breaks_after = HEADER + person(7) + people(30)[len(HEADER) :], None
    source.etag = etag and '"2"'
    ended = await send(ctx, source)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("source_changed", False)
    assert len(ctx.enqueued) == made


@pytest.mark.parametrize("takes_ranges", [False, True])
async def test_a_list_that_grew_is_another_by_its_etag(source: Source, takes_ranges: bool) -> None:
    source.breaks_after, source.takes_ranges = len(HEADER) + 100, takes_ranges
    ctx = Mortal()
    assert isinstance(await send(ctx, source), Snooze)
    source.list, source.etag, source.breaks_after = people(30), '"2"', None
    ended = await send(ctx, source)
    assert isinstance(ended, Failed)
    assert ended.type == "source_changed"


async def test_a_list_that_became_shorter_is_named(source: Source) -> None:
    source.etag, source.breaks_after = None, len(HEADER) + 100
    ctx = Mortal()
    await send(ctx, source)
    source.list, source.breaks_after = people(2), None
    ended = await send(ctx, source)
    assert isinstance(ended, Failed)
    assert ended.type == "source_changed"


async def test_while_enough_messages_wait_it_waits_too(source: Source) -> None:
    ctx = Mortal(ready={"sms": 10})
    assert await send(ctx, source, max_waiting=10) == Snooze(campaign.ENOUGH_S)
    assert source.requests == []
    assert ctx.job.attempt == 0


async def test_it_stops_in_the_middle_when_the_lane_fills(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lane(Mortal):
        async def waiting(self, queue: str, *, shop: Any = None, limit: int = 0) -> int:
            return min(limit, len(self.enqueued) - self.ran)

        ran = 0

    monkeypatch.setattr(campaign, "CHUNK_ROWS", 4)
    ctx = Lane()
    ends: list[Outcome | Failed] = []
    for _ in range(6):
        ends.append(await send(ctx, source, max_waiting=8))
        assert len(ctx.enqueued) - ctx.ran < 8 + campaign.CHUNK_ROWS
        ctx.ran = len(ctx.enqueued) - 1
        if isinstance(ends[-1], Completed):
            break
    assert [type(end) for end in ends] == [Snooze, Snooze, Completed]
    assert ctx.names() == rows(20)


async def test_a_redirect_is_followed_and_a_refusal_is_final(source: Source) -> None:
    assert (await send(Mortal(), source, "/moved", format="csv")).result["enqueued"] == 20
    for status in (403, 404, 410):
        source.status = status
        ended = await send(Mortal(), source)
        assert isinstance(ended, Failed)
        assert (ended.type, ended.retryable) == ("source_refused", False)
    source.status, source.headers = 503, {"Retry-After": "7"}
    assert await send(Mortal(), source) == Retry(7.0, "the source answered 503")


async def test_what_cannot_be_read_is_named(source: Source) -> None:
    for headers, body in [({"Content-Encoding": "gzip"}, gzip.compress(people(1))), ({}, b""),
                          ({}, b"to,to\n1,2\n"), ({}, b"\xff\n")]:  # fmt: skip
        source.headers, source.list = headers, body
        ended = await send(Mortal(), source)
        assert isinstance(ended, Failed), body
        assert ended.type == "source_refused", ended


async def test_a_cancelled_campaign_stops(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 5)

    class Stopped(Mortal):
        async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
            self.cancelled.set()
            return await super().enqueue_many(jobs)

    ctx = Stopped()
    assert await send(ctx, source) == Cancel("cancelled after 5 rows")
    assert ctx.names() == rows(5)


async def test_another_attempt_goes_on_when_time_runs_out(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 5)
    monkeypatch.setattr(campaign, "MARGIN_S", 1e9)
    ctx = Mortal()
    for _ in range(4):
        assert await send(ctx, source) == Snooze(0.0)
    assert (await send(ctx, source)).result["enqueued"] == 20
    assert ctx.names() == rows(20)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/a",
        "https://u:p@x.example/a",
        "https://x.example/a#b",
        "/a",
        "https://ü.de/",
        "https://h.example:99999/",
        "https://h.example:0/",
        "https://h.example:x/",
        "https://[::1/",
        "https://h.example/a b",
        "https://h.example/a\n",
        "https://h.example/a\x00",
        "https://h.example/a\x7f",
    ],
)
async def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    ended = await run_job(campaign.send, {"url": url, "message": MESSAGE})
    assert isinstance(ended, Failed)
    assert ended.type == "invalid_args"


class Counting(FakeContext):
    """Keeps only what is needed to see that none is doubled."""

    made = 0

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        assert jobs[0].name == f"row:{self.made}"
        self.made += len(jobs)
        return [self.job.id] * len(jobs)

    async def progress(self, value: Any) -> None:
        self.progressed = [dict(value)]


async def test_a_long_list_is_never_held_in_memory(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment are more rows alive than came in one piece."""
    source.list = people(50_000)
    alive = most = 0

    def flaw(args: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, alive)

    class Watched(recipients.Row):
        def __init__(self, *args: Any) -> None:
            nonlocal alive
            alive += 1
            super().__init__(*args)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(campaign, "_flaw", flaw)
    monkeypatch.setattr(recipients, "Row", Watched)
    ctx = Counting()
    assert (await send(ctx, source)).result["enqueued"] == ctx.made == 50_000
    assert most < 20_000
