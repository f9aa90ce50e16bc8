"""`sms.send` against the sandbox over real HTTP: nobody gets a message twice, whatever happens."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from localstack.sandbox.record import Record
from localstack.sandbox.server import Sandbox
from mainstay.handler import (
    Cancel,
    Completed,
    Discard,
    Outcome,
    Reservation,
    Retry,
    Snooze,
    Unavailable,
)
from mainstay.testing import Failed, FakeContext, Reserved, run_job
from marketing import provider, sms
from marketing.settings import Settings, read
from testkit.faults import TcpProxy

SID, TOKEN = "AC0123456789abcdef0123456789abcdef", "hunter2hunter2"
TO = "+306912345678"
ARGS = {"to": "+30 691 234 5678", "body": "Γεια {{ name }}!", "name": "Ελένη"}


class Provider:
    """The sandbox in this process, and what it has been told."""

    def __init__(self, server: TestServer, record: Record) -> None:
        self.url = str(server.make_url("/")).rstrip("/")
        self.record = record

    def environ(self, **more: str) -> dict[str, str]:
        return {"SMS_PROVIDER": "sandbox", "TWILIO_BASE_URL": self.url, "TWILIO_ACCOUNT_SID": SID,
                "TWILIO_AUTH_TOKEN": TOKEN, "SMS_FROM": "+12125550100", **more}  # fmt: skip

    def settings(self, **more: str) -> Settings:
        return read(self.environ(**more))

    def context(self, *reservations: Reservation | Unavailable, **more: str) -> FakeContext:
        return FakeContext(environ=self.environ(**more), reservations=reservations)

    async def misbehaves(self, **fault: Any) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.put(f"{self.url}/sandbox/faults", json=fault) as answer,
        ):
            assert answer.status == 200, await answer.text()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.record.messages


@pytest_asyncio.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Provider]:
    record = Record(tmp_path / "messages.ndjson")
    async with TestServer(Sandbox(sid=SID, token=TOKEN, record=record).app()) as server:
        yield Provider(server, record)
    record.close()


async def send(ctx: FakeContext, **args: Any) -> Outcome | Failed:
    return await run_job(sms.send, {**ARGS, **args}, ctx)


def message(text: str = "hello") -> provider.Message:
    return provider.Message(uuid.uuid4(), TO, "+12125550100", text)


async def deliver(settings: Settings, *, timeout_s: float = 5) -> provider.Verdict:
    async with aiohttp.ClientSession() as http:
        return await provider.send(http, settings, message(), timeout_s=timeout_s)


async def test_one_message_as_it_was_meant(sandbox: Provider) -> None:
    ctx = sandbox.context()
    ended = await send(ctx)
    (sent,) = sandbox.messages
    assert (sent["to"], sent["from"], sent["body"]) == (TO, "+12125550100", "Γεια Ελένη!")
    assert ended == Completed(
        {"sid": sent["sid"], "status": "queued", "to": TO, "segments": 1, "provider": "sandbox"}
    )
    assert ctx.reserved == [Reserved("sms-sender", "+12125550100", None, 1, sms.MAX_WAIT_MS)]
    assert ctx.marks == {"send": 1}


async def test_the_sender_of_the_job_comes_before_that_of_the_worker(sandbox: Provider) -> None:
    await send(sandbox.context(), **{"from": "Flowers"})
    await send(sandbox.context(), sender=" ", template="Hi", body="")
    assert [one["from"] for one in sandbox.messages] == ["Flowers", "+12125550100"]
    assert sandbox.messages[1]["body"] == "Hi"


async def test_a_long_text_waits_for_its_segments(sandbox: Provider) -> None:
    ctx = sandbox.context()
    ended = await send(ctx, body="ά" * 71)
    assert isinstance(ended, Completed)
    assert ended.result["segments"] == 2
    assert ctx.reserved[0].cost == 2


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"to": "6912345678"}, "country code"),
        ({"to": None}, "/to"),
        ({"body": "{{ name"}, "Liquid"),
        ({"body": ""}, "/body"),
        ({"template": "x"}, "not both"),
        ({"from": "Ο ανθοπώλης"}, "no sender"),
    ],
)
async def test_wrong_args_are_refused_before_anything(
    sandbox: Provider, args: dict[str, Any], why: str
) -> None:
    ctx = sandbox.context()
    ended = await send(ctx, **args)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("invalid_args", False)
    assert why in ended.message
    assert (sandbox.messages, ctx.reserved, ctx.marks) == ([], [], {})


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"body": "{{ name | divided_by: 0 }}"}, "template failed"),
        ({"body": " {{ nothing }} "}, "empty"),
        ({"body": "a" * 1531}, "11 segments"),
    ],
)
async def test_a_text_that_cannot_be_sent_is_discarded(
    sandbox: Provider, args: dict[str, Any], why: str
) -> None:
    ctx = sandbox.context()
    ended = await send(ctx, **args)
    assert isinstance(ended, Discard)
    assert why in ended.reason
    assert (sandbox.messages, ctx.marks) == ([], {})


async def test_who_must_wait_long_comes_back_and_spends_nothing(sandbox: Provider) -> None:
    ctx = sandbox.context(Reservation(allowed=False, wait_ms=90_000))
    assert await send(ctx) == Snooze(90.0)
    assert (sandbox.messages, ctx.marks, ctx.job.attempt) == ([], {}, 0)
    assert isinstance(await send(ctx), Completed)


async def test_while_no_limiter_answers_nothing_is_sent(sandbox: Provider) -> None:
    ctx = sandbox.context(Unavailable("no limiter"))
    assert await send(ctx) == Snooze(1.0)
    assert sandbox.messages == []


async def test_a_cost_beyond_the_limit_is_told(sandbox: Provider) -> None:
    ctx = sandbox.context(Reservation(allowed=False, unsatisfiable=True))
    assert isinstance(await send(ctx), Discard)


async def test_a_short_wait_is_waited(sandbox: Provider) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await send(sandbox.context(Reservation(allowed=True, wait_ms=50)))
    assert loop.time() - started >= 0.05
    assert len(sandbox.messages) == 1


async def test_a_job_cancelled_while_it_waits_is_not_sent(sandbox: Provider) -> None:
    ctx = sandbox.context(Reservation(allowed=True, wait_ms=5_000))
    ctx.cancelled.set()
    assert isinstance(await send(ctx), Cancel)
    assert (sandbox.messages, ctx.marks) == ([], {})


async def test_a_slot_that_no_message_used_is_given_back(sandbox: Provider) -> None:
    waits = Reservation(allowed=True, wait_ms=5_000)
    ctx = sandbox.context(waits)
    ctx.cancelled.set()
    await send(ctx, body="ά" * 71)
    assert ctx.refunded == [2]
    ctx = sandbox.context(TWILIO_AUTH_TOKEN="wrong")
    assert isinstance(await send(ctx), Discard)
    assert ctx.refunded == [1]
    async with TcpProxy.before(sandbox.url) as proxy:
        await proxy.refuses()
        ctx = sandbox.context(TWILIO_BASE_URL=proxy.url(sandbox.url))
        assert isinstance(await send(ctx), Retry)
    assert ctx.refunded == [1]


@pytest.mark.parametrize("fault", [{"mode": "throttle"}, {"mode": "fail", "status": 500}])
async def test_what_was_or_may_have_been_sent_is_not_given_back(
    sandbox: Provider, fault: dict[str, Any]
) -> None:
    ctx = sandbox.context()
    await send(ctx)
    await sandbox.misbehaves(count=1, **fault)
    await send(sandbox.context())
    assert ctx.refunded == []


async def test_a_mark_of_before_gives_the_slot_back(sandbox: Provider) -> None:
    await sandbox.misbehaves(mode="drop", before_record=False, count=1)
    ctx = sandbox.context()
    for _ in range(2):
        await send(ctx)
    assert (len(ctx.reserved), ctx.refunded) == (2, [1])


async def test_fewer_segments_than_were_reserved_give_the_rest_back(sandbox: Provider) -> None:
    async def reply(_request: web.Request) -> web.Response:
        return web.json_response({"sid": "SM1", "num_segments": "1"}, status=201)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", reply)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        ctx = sandbox.context(TWILIO_BASE_URL=url)
        assert isinstance(await send(ctx, body="ά" * 135), Completed)
    assert (ctx.reserved[0].cost, ctx.refunded) == (3, [2])


async def test_brand_and_campaign_are_asked_in_the_same_breath(sandbox: Provider) -> None:
    ctx = sandbox.context(SMS_LIMITS="sms-brand, sms-campaign", SMS_CAMPAIGN="C123")
    await send(ctx)
    (asked,) = ctx.reserved
    assert (asked.policy, asked.user) == (("sms-sender", "sms-brand", "sms-campaign"), "C123")


async def test_an_attempt_that_ended_between_provider_and_commit_is_not_repeated(
    sandbox: Provider,
) -> None:
    await sandbox.misbehaves(mode="drop", before_record=False, count=1)
    ctx = sandbox.context()
    for _ in range(2):
        ended = await send(ctx)
        assert isinstance(ended, Failed)
        assert (ended.type, ended.retryable) == ("ambiguous", False)
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_an_answer_that_says_nothing_ends_ambiguous(sandbox: Provider, status: int) -> None:
    await sandbox.misbehaves(mode="fail", status=status, count=1)
    ended = await send(sandbox.context())
    assert isinstance(ended, Failed)
    assert ended.type == "ambiguous"


async def test_a_throttled_message_comes_back_when_the_provider_says_so(
    sandbox: Provider,
) -> None:
    await sandbox.misbehaves(mode="throttle", count=1)
    ctx = sandbox.context()
    assert await send(ctx) == Snooze(1.0)
    assert ctx.marks == {}
    assert isinstance(await send(ctx), Completed)
    assert len(sandbox.messages) == 1


async def test_a_busy_provider_is_tried_again_and_the_attempt_is_spent(sandbox: Provider) -> None:
    await sandbox.misbehaves(mode="fail", status=503, count=1)
    ctx = sandbox.context()
    assert await send(ctx) == Retry(error="the provider answered 503")
    assert isinstance(await send(ctx), Completed)
    assert ctx.job.attempt == 2


async def test_a_refusal_is_for_good_and_tells_why(sandbox: Provider) -> None:
    ended = await send(sandbox.context(TWILIO_AUTH_TOKEN="wrong"))
    assert ended == Discard("the provider refused it (401, code 20003): Authenticate")


async def test_no_provider_at_all_is_tried_again(sandbox: Provider) -> None:
    async with TcpProxy.before(sandbox.url) as proxy:
        await proxy.refuses()
        ctx = sandbox.context(TWILIO_BASE_URL=proxy.url(sandbox.url))
        ended = await send(ctx)
        assert isinstance(ended, Retry)
        assert ctx.marks == {}
        await proxy.passes()
        assert isinstance(await send(ctx), Completed)
    assert len(sandbox.messages) == 1


async def test_the_worker_without_settings_fails_visibly(sandbox: Provider) -> None:
    ended = await run_job(sms.send, ARGS, FakeContext(environ={"SMS_PROVIDER": "twilio"}))
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("wrong_settings", True)
    assert sandbox.messages == []


async def test_no_time_left_means_not_now(sandbox: Provider) -> None:
    class Late(FakeContext):
        def remaining_s(self) -> float:
            return 2.5

    ctx = Late(environ=sandbox.environ())
    assert await send(ctx) == Snooze(1.0)
    assert (sandbox.messages, ctx.marks) == ([], {})


async def test_an_answer_lost_on_the_way_is_unknown(sandbox: Provider) -> None:
    async with TcpProxy.before(sandbox.url) as proxy:
        settings = sandbox.settings(TWILIO_BASE_URL=proxy.url(sandbox.url))
        proxy.truncates(after_bytes=10)
        assert isinstance(await deliver(settings), provider.Unknown)
        proxy.hangs()
        assert isinstance(await deliver(settings, timeout_s=0.3), provider.Unknown)


async def test_a_body_lost_after_its_status_loses_nothing(sandbox: Provider) -> None:
    async with TcpProxy.before(sandbox.url) as proxy:
        proxy.truncates(after_bytes=200)
        settings = sandbox.settings(TWILIO_BASE_URL=proxy.url(sandbox.url))
        assert await deliver(settings) == provider.Sent(None, None)


Answer = tuple[int, dict[str, str], bytes]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ((201, {}, b'{"sid":"SM1","status":"queued"}'), provider.Sent("SM1", "queued")),
        ((201, {}, b"<html>"), provider.Sent(None, None)),
        ((200, {}, b'{"sid":"SM1"}'), provider.Sent("SM1", None)),
        ((200, {}, b"{}"), provider.Unknown("the provider answered 200")),
        ((202, {}, b"[]"), provider.Unknown("the provider answered 202")),
        ((429, {"Retry-After": "7"}, b""), provider.Busy(429, 7.0)),
        ((429, {"Retry-After": "soon"}, b""), provider.Busy(429, None)),
        ((201, {}, b'{"num_segments":"3"}'), provider.Sent(None, None, 3)),
        ((201, {}, b'{"num_segments":"0"}'), provider.Sent(None, None)),
        ((201, {}, b'{"num_segments":"-1"}'), provider.Sent(None, None)),
        ((503, {}, b""), provider.Busy(503, None)),
        ((302, {"Location": "/elsewhere"}, b""), provider.Refused("the provider refused it (302)")),
        ((404, {}, b"{}"), provider.Refused("the provider refused it (404)")),
        ((408, {}, b""),
         provider.NotSent("the provider did not get the whole request in time")),
        ((500, {}, b'{"sid":"SM1"}'), provider.Unknown("the provider answered 500")),
        ((201, {}, b'{"sid":"' + b"x" * 100_000 + b'"}'), provider.Sent(None, None)),
    ],
)  # fmt: skip
async def test_verdicts(sandbox: Provider, answer: Answer, verdict: provider.Verdict) -> None:
    status, headers, document = answer

    async def reply(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=document)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", reply)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        assert await deliver(sandbox.settings(TWILIO_BASE_URL=url)) == verdict


async def test_a_detail_never_holds_the_token(sandbox: Provider) -> None:
    async def reply(_request: web.Request) -> web.Response:
        return web.json_response({"message": f"bad token {TOKEN}", "code": 1}, status=400)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", reply)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        verdict = await deliver(sandbox.settings(TWILIO_BASE_URL=url))
    assert isinstance(verdict, provider.Refused)
    assert TOKEN not in verdict.detail


async def test_every_attempt_carries_the_same_key_and_asks_for_reports(
    sandbox: Provider,
) -> None:
    seen: list[tuple[str, str]] = []

    async def reply(request: web.Request) -> web.Response:
        form = await request.post()
        seen.append((request.headers["Idempotency-Key"], str(form["StatusCallback"])))
        return web.json_response({}, status=503)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", reply)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/")
        ctx = sandbox.context(TWILIO_BASE_URL=url, SMS_STATUS_CALLBACK_URL="https://shop.example/")
        await send(ctx)
        await send(ctx)
    callback = f"https://shop.example/webhooks/sms/twilio/{ctx.job.id}"
    assert seen == [(str(ctx.job.id), callback)] * 2
