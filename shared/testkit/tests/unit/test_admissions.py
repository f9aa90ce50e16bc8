"""The judge of a limiter finds every excess, and none that there may not have been."""

import math
import random

import pytest

from testkit.admissions import Admission, excess


def at(*moments: float) -> list[Admission]:
    return [Admission(moment, moment) for moment in moments]


def test_a_burst_and_its_refill_are_no_excess() -> None:
    given = at(*[0.0] * 10, *(n / 5 for n in range(1, 50)))
    assert excess(given, burst=10, per_s=5) == pytest.approx(0)


def test_a_second_burst_is_found_wherever_it_is() -> None:
    quiet = at(*(float(n) for n in range(100)))
    assert excess(quiet, burst=10, per_s=5) < 0
    assert excess([*quiet, *at(*[50.5] * 17)], burst=10, per_s=5) == pytest.approx(7)


def test_of_an_admission_that_took_long_the_moment_that_excuses_is_believed() -> None:
    slow = [Admission(0.0, 2.0) for _ in range(10)]
    assert excess([*at(*[0.0] * 10), *slow], burst=10, per_s=5) == pytest.approx(0)
    assert excess([*at(*[1.9] * 10), *slow], burst=10, per_s=5) == pytest.approx(0)
    assert excess([*at(*[0.0] * 10), *slow], burst=10, per_s=4) == pytest.approx(2)


def test_nothing_is_no_excess() -> None:
    assert excess([], burst=1, per_s=1) == -math.inf


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_looking_at_every_interval_finds(seed: int) -> None:
    luck = random.Random(seed)
    given = []
    for _ in range(60):
        asked = luck.uniform(0, 10)
        given.append(Admission(asked, asked + luck.expovariate(2), luck.randint(1, 5)))
    per_s = luck.choice((0.0, 1.0, 20.0))
    slowly = max(
        sum(e.cost for e in given if begin <= e.asked_at and e.answered_at <= end)
        - per_s * (end - begin)
        for begin in (e.asked_at for e in given)
        for end in (e.answered_at for e in given)
        if begin <= end
    )
    assert excess(given, burst=3, per_s=per_s) == pytest.approx(slowly - 3)
