"""eventually(): the first truthy answer, or a failure that says what was last seen."""

import asyncio

import pytest

from testkit.signals import eventually


async def test_answers_with_the_first_truthy_answer() -> None:
    answers = iter([None, 0, "here"])
    assert await eventually(lambda: next(answers)) == "here"


async def test_takes_async_predicates_that_assert() -> None:
    seen: list[int] = []

    async def third_time() -> bool:
        seen.append(1)
        assert len(seen) == 3
        return True

    assert await eventually(third_time)


async def test_says_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match="last: 0"):
        await eventually(lambda: 0, within_s=0.02)


async def test_ends_even_if_the_predicate_does_not() -> None:
    with pytest.raises(AssertionError, match="took too long"):
        await eventually(lambda: asyncio.Event().wait(), within_s=0.02)


async def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 / 0)
