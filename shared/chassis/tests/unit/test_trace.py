"""The caller's trace goes on; what is no trace is not passed on."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.web import trace

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_given_trace_goes_on_under_a_span_of_our_own() -> None:
    begun = trace.begin(f"00-{ID}-{SPAN}-01")
    assert begun.trace_id == ID
    assert begun.span_id != SPAN
    assert begun.traceparent() == f"00-{ID}-{begun.span_id}-01"
    assert trace.current() == begun


@pytest.mark.parametrize(
    "given_parent",
    [
        None,
        "",
        "nonsense",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01\n",
        f"00-{ID[:-1]}-{SPAN}-01",
    ],
)
def test_what_is_no_trace_begins_a_new_one(given_parent: str | None) -> None:
    begun = trace.begin(given_parent)
    assert begun.trace_id != ID
    assert trace.begin(begun.traceparent()).trace_id == begun.trace_id, "ours is valid"


@given(st.text())
def test_no_text_of_a_caller_breaks_it(text: str) -> None:
    assert len(trace.begin(text).trace_id) == 32


async def test_each_task_has_its_own() -> None:
    async def one() -> str:
        trace.begin()
        await asyncio.sleep(0)
        return trace.current().trace_id

    first, second = await asyncio.gather(asyncio.create_task(one()), asyncio.create_task(one()))
    assert first != second
