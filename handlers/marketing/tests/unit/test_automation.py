"""`automation.run`: what it does at which time, and that a crash repeats nothing."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mainstay.handler import Cancel, Completed, Discard, Outcome, Snooze
from mainstay.testing import Failed, FakeContext, run_job
from marketing import automation

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
DAY = 86400.0
DATA = {"to": "+306912345678", "name": "Ελένη", "cart": {"total": 80}}
IS_LARGE = {"field": "cart.total", "op": "gte", "value": 50}


def send(body: str, **more: Any) -> dict[str, Any]:
    return {"do": "send", "args": {"body": body}, **more}


def wait(for_s: float) -> dict[str, Any]:
    return {"do": "wait", "for_s": for_s}


def decide(then: list[Any], otherwise: list[Any] | None = None) -> dict[str, Any]:
    return {"do": "condition", "if": IS_LARGE, "then": then, "else": otherwise or []}


STEPS = [send("a"), wait(DAY), decide([send("b"), wait(60), send("c")], [send("d")]), send("e")]


def context(**options: Any) -> FakeContext:
    return FakeContext(now=NOW, shop="a.myshopify.com", **options)


async def run(ctx: FakeContext, steps: Any = STEPS, **data: Any) -> Outcome | Failed:
    return await run_job(automation.run, {"steps": steps, "data": {**DATA, **data}}, ctx)


def bodies(ctx: FakeContext) -> list[str]:
    return [job.args["body"] for job in ctx.enqueued.values()]


async def through(ctx: FakeContext, **data: Any) -> Outcome | Failed:
    """To the end, as if time passed."""
    for _ in range(10):
        if not isinstance(ended := await run(ctx, **data), Snooze):
            return ended
        ctx.advance(ended.delay_s)
    raise AssertionError("it waits for ever")


async def test_each_step_in_its_time() -> None:
    ctx = context()
    assert await run(ctx) == Snooze(DAY)
    assert bodies(ctx) == ["a"]
    ctx.advance(DAY - 1)
    assert await run(ctx) == Snooze(1.0)
    ctx.advance(1)
    assert await run(ctx) == Snooze(60.0)
    assert bodies(ctx) == ["a", "b"]
    ctx.advance(3600)
    ended = await run(ctx)
    assert bodies(ctx) == ["a", "b", "c", "e"]
    assert ended == Completed({"sent": [str(one) for one in ctx.enqueued]})
    assert ctx.job.attempt == 1, "waiting spends no attempt"


async def test_the_other_branch() -> None:
    ctx = context()
    await through(ctx, cart={"total": 5})
    assert bodies(ctx) == ["a", "d", "e"]


async def test_what_it_sends_are_jobs_of_the_shop_with_the_data_as_variables() -> None:
    ctx = context()
    await run(ctx, [send("Hi {{ name }}"), send("x", kind="mail.send", queue="mail")])
    first, second = ctx.enqueued.values()
    assert (first.kind, first.queue, first.shop) == ("sms.send", "sms", "a.myshopify.com")
    assert first.args == {**DATA, "body": "Hi {{ name }}"}
    assert first.tags == [f"automation:{ctx.job.id}"]
    assert (second.kind, second.queue) == ("mail.send", "mail")


class Mortal(FakeContext):
    """Dies after so many things that last were done."""

    left = -1

    def _live(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise asyncio.CancelledError

    async def enqueue(self, kind: str, *args: Any, **options: Any) -> UUID:
        made = await super().enqueue(kind, *args, **options)
        self._live()
        return made

    async def progress(self, value: Mapping[str, Any]) -> None:
        await super().progress(value)
        self._live()


@pytest.mark.parametrize("left", range(1, 7))
async def test_killed_at_any_step_it_goes_on_and_sends_nothing_twice(left: int) -> None:
    ctx = Mortal(now=NOW)
    ctx.left = left
    with pytest.raises(asyncio.CancelledError):
        await through(ctx)
    assert isinstance(await through(ctx), Completed)
    assert bodies(ctx) == ["a", "b", "c", "e"]
    assert ctx.now() == NOW + timedelta(seconds=DAY + 60), "no wait begins anew"


async def test_a_time_that_is_past_is_not_waited_for() -> None:
    ctx = context()
    past = {"do": "wait", "until": "2026-11-24T10:59:00+02:00"}
    later = {"do": "wait", "until": "2026-11-24T11:01:00+02:00"}
    assert await run(ctx, [past, send("a"), later, send("b")]) == Snooze(60.0)
    assert bodies(ctx) == ["a"]


async def test_a_cancelled_one_sends_no_more() -> None:
    ctx = context()
    await run(ctx)
    ctx.advance(DAY)
    ctx.cancelled.set()
    assert isinstance(await run(ctx), Cancel)
    assert bodies(ctx) == ["a"]


async def test_steps_that_changed_meanwhile_are_named() -> None:
    ctx = context()
    await run(ctx)
    ended = await run(ctx, [send("other"), *STEPS])
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("steps_changed", False)
    assert not isinstance(ended, Discard)


async def test_no_job_is_put_off_for_more_than_a_year_at_once() -> None:
    until = datetime.now(UTC) + timedelta(days=3650)
    ctx = FakeContext(now=datetime.now(UTC))
    steps = [{"do": "wait", "until": until.isoformat()}, send("at last")]
    for _ in range(9):
        assert await run(ctx, steps) == Snooze(automation.YEAR_S)
        ctx.advance(automation.YEAR_S)
    ended = await run(ctx, steps)
    assert isinstance(ended, Snooze)
    ctx.advance(ended.delay_s)
    assert isinstance(await run(ctx, steps), Completed)
    assert bodies(ctx) == ["at last"]


def test_what_steps_may_say_one_day_does_not_change_those_that_wait() -> None:
    """The digest knows what was said, and no defaults."""
    said = [{"do": "send"}, {"do": "wait", "for_s": 60.0}, {"do": "condition", "if": IS_LARGE}]
    args = automation.AutomationArgs.model_validate({"steps": said})
    said[2] = {"do": "condition", "when": IS_LARGE}
    text = json.dumps({"steps": said}, sort_keys=True).encode()
    assert args.digest() == hashlib.blake2b(text, digest_size=8).hexdigest()


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"do": "dance"}],
        [{"do": "wait"}],
        [{"do": "wait", "for_s": 1, "until": "2026-11-24T00:00:00Z"}],
        [{"do": "wait", "until": "2026-11-24T00:00:00"}],
        [{"do": "wait", "until": "9999-12-31T23:59:59Z"}],
        [{"do": "wait", "until": (datetime.now(UTC) + timedelta(days=3661)).isoformat()}],
        [{"do": "wait", "for_s": -1}],
        [{"do": "wait", "for_s": 1e10}],
        [{"do": "send", "argz": {}}],
        [{"do": "condition", "if": {"field": "a", "op": "?"}}],
        [send("x")] * 201,
    ],
)
async def test_no_automation(steps: Any) -> None:
    ended = await run(context(), steps)
    assert isinstance(ended, Failed)
    assert ended.type == "invalid_args"
