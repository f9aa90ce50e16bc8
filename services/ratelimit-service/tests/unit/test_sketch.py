"""Bounded memory that keeps the heavy hitters."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_service.core.sketch import Sketch


@dataclass
class Row:
    count: int = 0
    handicap: int = 0


def fed(stream: list[str], capacity: int) -> tuple[Sketch[str, Row], list[Row]]:
    lost: list[Row] = []
    sketch: Sketch[str, Row] = Sketch(capacity, pushed_out=lost.append)
    for key in stream:
        row = sketch.find(key)
        if row is None:
            row = Row()
            sketch.put(key, row)
        row.count += 1
    return sketch, lost


def test_while_there_is_room_everything_is_counted() -> None:
    sketch, lost = fed(["a", "b", "a"], 2)
    assert sorted(row.count for row in sketch) == [1, 2]
    assert lost == []


@given(st.lists(st.sampled_from("abcdefghij"), max_size=200), st.integers(1, 6))
def test_heavy_hitters_stay_and_nothing_is_counted_twice(stream: list[str], capacity: int) -> None:
    sketch, lost = fed(stream, capacity)
    truth = Counter(stream)
    assert len(sketch) <= capacity
    assert sum(row.count for row in sketch) + sum(row.count for row in lost) == len(stream)
    for key, count in truth.items():
        row = sketch.find(key)
        if count > len(stream) / capacity:
            assert row is not None
        if row is not None:
            assert row.count <= count <= row.count + row.handicap
