"""Jobs that a job makes: their ids, and what cannot be stored."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import handler
from mainstay.children import NewJob, args_flaw, child_id, require_names
from mainstay.handler import Completed, Context, Handler
from mainstay.testing import Failed, FakeContext, run_job

PARENT = uuid.UUID("018f3b5a-7c00-7000-8000-000000000001")
NOW = datetime(2026, 11, 24, 9, 30, 0, 123456, tzinfo=UTC)


def test_an_id_is_that_of_its_name_for_ever() -> None:
    assert str(child_id(PARENT, NOW, "receipt")) == "01a20ce4-063b-7148-8630-f2db77aed6f3"


@given(st.uuids(), st.text(max_size=20), st.text(max_size=20), st.datetimes())
def test_ids_are_v7_of_the_parents_time_and_differ_by_name(
    parent: uuid.UUID, name: str, other: str, at: datetime
) -> None:
    at = at.replace(tzinfo=UTC, year=2000 + at.year % 100 if at.day != 29 else 2024)
    made = child_id(parent, at, name)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == int(at.timestamp() * 1000)
    assert (made == child_id(parent, at, other)) is (name == other)
    assert made != child_id(uuid.uuid4(), at, name)


def test_ten_thousand_rows_are_ten_thousand_jobs() -> None:
    assert len({child_id(PARENT, NOW, f"row:{n}") for n in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "names", [["a", "a"], [""], ["x" * 201], [str(n) for n in range(1001)], ["taken"]]
)
def test_names_that_are_none(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        require_names([NewJob(name=name, kind="k") for name in names], {"taken"})


@pytest.mark.parametrize(
    "args",
    [
        {"a": float("inf")},
        {"a": {1, 2}},
        {"a": "\ud800"},
        {"a": ["\x00"]},
        {"a\x00": 1},
        {"a": 2**64},
        {"a": -(2**63) - 1},
        {"a": "x" * 262_144},
    ],
)
def test_args_that_cannot_be_stored(args: dict[str, Any]) -> None:
    told = args_flaw(args)
    assert told is not None
    assert told.startswith("args: ")


@pytest.mark.parametrize(
    "args",
    [{}, {"a": "\\u0000"}, {"a": 2**64 - 1}, {"a": -(2**63)}, {"n": 12345678901234567890 // 2}],
)
def test_args_that_only_look_so(args: dict[str, Any]) -> None:
    assert args_flaw(args) is None


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return {"a": value}


def test_args_have_their_depth() -> None:
    assert args_flaw(nested(60)) is None
    assert args_flaw(nested(70)) is not None


def makes(name: str) -> Handler[dict[str, Any]]:
    @handler.handler("parent")
    async def run(args: dict[str, Any], ctx: Context) -> Any:
        left = await ctx.checkpoint()
        made = await ctx.enqueue("child", {"left": left}, name=name, delay_s=5)
        await ctx.progress({"made": str(made)})
        return {"at": ctx.now().isoformat(), "in_time": ctx.deadline > 0}

    return run


async def test_without_a_server_what_was_made_and_left_can_be_looked_at() -> None:
    ctx = FakeContext(shop="a.x", now=NOW)
    assert await run_job(makes("one"), {}, ctx) == Completed(
        {"at": NOW.isoformat(), "in_time": True}
    )
    ctx.advance(60)
    await run_job(makes("one"), {}, ctx)
    ((identifier, job),) = ctx.enqueued.items()
    assert (job.kind, job.shop, job.delay_s, job.args) == ("child", "a.x", 5, {"left": None})
    assert ctx.progressed == [{"made": str(identifier)}] * 2
    await run_job(makes("two"), {}, ctx)
    assert [one.args for one in ctx.enqueued.values()][1] == {"left": {"made": str(identifier)}}
    assert isinstance(await run_job(makes(""), {}, ctx), Failed)


async def test_a_new_job_that_no_queue_takes_is_refused_with_its_place() -> None:
    @handler.handler("parent")
    async def run(args: dict[str, Any], ctx: Context) -> None:
        bad = NewJob(name="b", kind="k", args={"a": "\x00"})
        await ctx.enqueue_many([NewJob(name="a", kind="k"), bad])

    ctx = FakeContext()
    ended = await run_job(run, {}, ctx)
    assert isinstance(ended, Failed)
    assert (ended.type, ended.retryable) == ("refused", False)
    assert "new job 1: args: " in ended.message
    assert not ctx.enqueued
