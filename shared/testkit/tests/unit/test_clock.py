"""The clock moved by hand is a Clock."""

from datetime import timedelta

import pytest

from chassis.kernel.clock import Clock
from testkit.clock import FakeClock


def test_stands_still_then_moves_both() -> None:
    clock = FakeClock()
    as_clock: Clock = clock
    wall, steady = as_clock.now(), as_clock.monotonic()
    assert (as_clock.now(), as_clock.monotonic()) == (wall, steady)
    clock.advance(1.5)
    assert clock.now() - wall == timedelta(seconds=1.5)
    assert clock.monotonic() - steady == 1.5


def test_the_wall_clock_alone_may_jump() -> None:
    clock = FakeClock()
    wall, steady = clock.now(), clock.monotonic()
    clock.jump(-3600)
    assert clock.now() - wall == timedelta(hours=-1)
    assert clock.monotonic() == steady


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)
