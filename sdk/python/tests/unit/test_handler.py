"""What a handler is, what it may return, and how an attempt ends."""

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from mainstay import handler as handlers
from mainstay.handler import (
    Ambiguous,
    Cancel,
    Completed,
    Context,
    Delivery,
    Discard,
    Handler,
    InvalidArgs,
    Permanent,
    Reservation,
    Retry,
    Snooze,
    Unavailable,
    WrongSettings,
    handler,
)
from mainstay.testing import Failed, FakeContext, Reserved, run_job


class Greeting(BaseModel):
    name: str
    times: int = 1


@handler("greeting.send", args=Greeting, queue="mail", timeout_s=10)
async def greet(args: Greeting, ctx: Context) -> dict[str, Any]:
    return {"greeted": args.name, "attempt": ctx.job.attempt}


def returns(value: Any) -> Handler[dict[str, Any]]:
    @handler("kind")
    async def run(_args: dict[str, Any], _ctx: Context) -> Any:
        return value

    return run


def raises(error: BaseException) -> Handler[dict[str, Any]]:
    @handler("kind")
    async def run(_args: dict[str, Any], _ctx: Context) -> None:
        raise error

    return run


async def test_gets_its_args_as_its_model() -> None:
    assert await run_job(greet, {"name": "Ελένη"}) == Completed({"greeted": "Ελένη", "attempt": 1})
    assert (greet.queue, greet.timeout_s, greet.delivery) == ("mail", 10, "at_least_once")


async def test_wrong_args_end_the_job_and_name_the_places_without_their_values() -> None:
    ended = await run_job(greet, {"times": "hunter2"})
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("invalid_args", False)
    assert "/name" in ended.message
    assert "/times" in ended.message
    assert "hunter2" not in ended.message


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, Completed(None)),
        ({"a": 1}, Completed({"a": 1})),
        (Greeting(name="x"), Completed({"name": "x", "times": 1})),
        (Completed("x"), Completed("x")),
        (Retry(3, "later"), Retry(3, "later")),
        (Snooze(2), Snooze(2)),
        (Cancel("no"), Cancel("no")),
        (Discard("no"), Discard("no")),
    ],
)
async def test_what_may_be_returned(value: Any, outcome: Any) -> None:
    assert await run_job(returns(value), {}) == outcome


@pytest.mark.parametrize("value", [1, "done", [1], True, object()])
async def test_anything_else_is_a_mistake_no_repeat_can_help(value: Any) -> None:
    ended = await run_job(returns(value), {})
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("permanent", False)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (RuntimeError("x"), "RuntimeError", True),
        (TimeoutError("theirs"), "TimeoutError", True),
        (Permanent("x"), "permanent", False),
        (Ambiguous("x"), "ambiguous", False),
        (Unavailable("x"), "unavailable", True),
        (WrongSettings(["A: missing", "B: wrong"]), "wrong_settings", True),
        (InvalidArgs([]), "invalid_args", False),
    ],
)
async def test_what_may_be_raised(error: Exception, kind: str, retryable: bool) -> None:
    ended = await run_job(raises(error), {})
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == (kind, retryable)


async def test_too_long_is_a_timeout() -> None:
    @handler("slow", timeout_s=0.02)
    async def slow(_args: dict[str, Any], _ctx: Context) -> None:
        await asyncio.Event().wait()

    ended = await run_job(slow, {})
    assert ended == Failed("timeout", "not done within 0.02 s", retryable=True)


async def test_plain_functions_run_beside_the_loop() -> None:
    @handler("plain")
    def plain(_args: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"thread": threading.get_ident(), "kind": ctx.job.kind}

    ended = await run_job(plain, {})
    assert isinstance(ended, Completed)
    assert ended.result["thread"] != threading.get_ident()
    assert ended.result["kind"] == "plain"


@pytest.mark.parametrize("kind", ["", "two words", "x" * 129, "tab\t"])
def test_a_kind_is_one_word(kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        handler(kind)


@pytest.mark.parametrize("timeout_s", [0, -1, 86401])
def test_a_timeout_lies_within_a_day(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        handler("kind", timeout_s=timeout_s)


def test_no_two_handlers_for_one_kind() -> None:
    assert handlers.registry([greet, returns(None)]).keys() == {"greeting.send", "kind"}
    with pytest.raises(ValueError, match="two handlers for kind 'greeting"):
        handlers.registry([greet, greet])


def once_then(ending: Any, delivery: Delivery) -> Handler[dict[str, Any]]:
    """Marks, then ends as told in its first attempt and well afterwards."""
    endings = [ending]

    @handler("guarded", delivery=delivery)
    async def run(_args: dict[str, Any], ctx: Context) -> Any:
        fresh = await ctx.once("effect")
        told = endings.pop() if endings else {"fresh": fresh}
        if isinstance(told, Exception):
            raise told
        return told

    return run


@pytest.mark.parametrize("ending", [Retry(), Snooze(1)])
@pytest.mark.parametrize("delivery", list(Delivery))
async def test_retry_and_snooze_say_that_it_did_not_happen(ending: Any, delivery: Delivery) -> None:
    ctx, guarded = FakeContext(), once_then(ending, delivery)
    assert await run_job(guarded, {}, ctx) == ending
    assert await run_job(guarded, {}, ctx) == Completed({"fresh": True})


async def test_an_exception_says_nothing_so_at_most_once_ends_ambiguous() -> None:
    ctx, guarded = FakeContext(), once_then(RuntimeError("x"), Delivery.AT_MOST_ONCE)
    await run_job(guarded, {}, ctx)
    ended = await run_job(guarded, {}, ctx)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("ambiguous", False)


async def test_and_at_least_once_is_told_and_decides() -> None:
    ctx, guarded = FakeContext(), once_then(RuntimeError("x"), Delivery.AT_LEAST_ONCE)
    await run_job(guarded, {}, ctx)
    assert await run_job(guarded, {}, ctx) == Completed({"fresh": False})


async def test_one_name_per_effect() -> None:
    @handler("twice")
    async def twice(_args: dict[str, Any], ctx: Context) -> None:
        await ctx.once("a")
        await ctx.once("a")

    ended = await run_job(twice, {})
    assert isinstance(ended, Failed)
    assert "give each effect its name" in ended.message


async def test_attempts_are_counted_and_a_snooze_gives_its_own_back() -> None:
    ctx = FakeContext()
    for outcome, attempt in [(Retry(), 1), (Snooze(1), 1), (Retry(), 2), (None, 3)]:
        await run_job(returns(outcome), {}, ctx)
        assert ctx.job.attempt == attempt


async def test_reservations_are_answered_in_order_and_remembered() -> None:
    @handler("paced")
    async def paced(_args: dict[str, Any], ctx: Context) -> Any:
        slot = await ctx.reserve("sms-sender", sender="s", shop="a", cost=2, max_wait_ms=9)
        await ctx.progress({"wait_ms": slot.wait_ms})
        return None

    ctx = FakeContext(reservations=[Reservation(allowed=True, wait_ms=5), Unavailable("away")])
    assert await run_job(paced, {}, ctx) == Completed(None)
    ended = await run_job(paced, {}, ctx)
    assert isinstance(ended, Failed)
    assert ended.type == "unavailable"
    assert await run_job(paced, {}, ctx) == Completed(None)
    assert ctx.reserved == [Reserved("sms-sender", "s", "a", 2, 9)] * 3
    assert ctx.progressed == [{"wait_ms": 5}, {"wait_ms": 0}]


async def test_http_is_there_while_the_job_runs_and_only_then() -> None:
    @handler("asks")
    async def asks(_args: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"closed": ctx.http.closed, "time": ctx.remaining_s() > 25}

    ctx = FakeContext()
    assert await run_job(asks, {}, ctx) == Completed({"closed": False, "time": True})
    with pytest.raises(RuntimeError):
        _ = ctx.http
