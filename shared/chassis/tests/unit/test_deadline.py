"""What a request has left bounds everything it asks for."""

import asyncio

import pytest

from chassis.kernel import deadline, errors


def test_the_smaller_of_budget_and_rest() -> None:
    ten = deadline.Deadline.after(10)
    assert ten.within(3) == 3
    assert 9 < ten.within(60) <= 10


def test_too_little_left_is_late() -> None:
    with pytest.raises(errors.Late):
        deadline.Deadline.after(deadline.LEAST_USEFUL_S / 2).within(1)
    with pytest.raises(errors.Late):
        deadline.Deadline.after(-5).within(1)


async def test_bound_for_the_task_and_what_it_starts_but_not_for_others() -> None:
    other_may_look = asyncio.Event()

    async def other() -> float:
        await other_may_look.wait()
        return deadline.budget_s(60)

    async def request() -> tuple[float, float]:
        deadline.bind(deadline.Deadline.after(1))
        inner = asyncio.create_task(asyncio.sleep(0, deadline.budget_s(60)))
        other_may_look.set()
        return deadline.budget_s(60), await inner

    stranger = asyncio.create_task(other())
    own, started = await asyncio.create_task(request())
    assert own <= 1
    assert started <= 1
    assert await stranger == 60
    assert deadline.current() is None


async def test_unbound_means_the_limit() -> None:
    deadline.bind(deadline.Deadline.after(1))
    deadline.bind(None)
    assert deadline.budget_s(7) == 7
