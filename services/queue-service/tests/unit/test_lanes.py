"""What a claimer remembers of lanes: cheaper claims, nothing hidden for long."""

import itertools

from queue_service.core.lanes import (
    HEAD_AFTER,
    MANY_LANES,
    MAX_LANES,
    MIN_LANES,
    MOST_DEBTS,
    RESET_EVERY_S,
    LaneMemory,
)


def deep(memory: LaneMemory, now: float, *, lane: int = 1, first: int = 1, want: int = 100) -> None:
    look = memory.look(want=want, limit=MAX_LANES, now=now)
    heads = [(lane, 5, seq) for seq in range(first, first + want)]
    memory.learn(look, want=want, heads=heads, dry=[])


def turns_are_over(memory: LaneMemory) -> float:
    """A time at which every lane has had its turn, and floors are old enough to hold."""
    now = 0.0
    for second in range(1, 40):
        now = float(second)
        look = memory.look(want=100, limit=MAX_LANES, now=now)
        memory.learn(
            look, want=100, heads=[(n, 5, 300 + second * 10 + n) for n in (1, 2, 3)], dry=[]
        )
    return now


def lanes(memory: LaneMemory, now: float = 0.5) -> int:
    return memory.look(want=500, limit=MAX_LANES, now=now).lanes


def test_few_lanes_are_asked_while_they_are_deep_and_many_once_they_are_not() -> None:
    memory = LaneMemory()
    for n in range(8):
        deep(memory, n / 100)
    assert lanes(memory) == MIN_LANES
    look = memory.look(want=500, limit=MAX_LANES, now=0.1)
    memory.learn(look, want=500, heads=[(n, 5, n) for n in range(4)], dry=[0, 1, 2, 3])
    assert lanes(memory) == MAX_LANES


def test_a_lane_that_gave_much_has_a_cursor() -> None:
    memory = LaneMemory()
    memory.look(want=100, limit=MAX_LANES, now=0.0)
    deep(memory, 0.1, first=1)
    assert memory.look(want=100, limit=MAX_LANES, now=0.2).head_lanes == []
    deep(memory, 0.3, first=101, want=HEAD_AFTER)
    look = memory.look(want=100, limit=MAX_LANES, now=0.4)
    assert (look.head_lanes, look.heads) == ([1], [0, 0, 0, 0, 0, 100 + HEAD_AFTER, 0, 0, 0, 0])


def test_a_lane_that_seems_short_is_looked_at_from_where_its_cursor_was_three_seconds_ago() -> None:
    memory = LaneMemory()
    for tenth in range(60):
        now = tenth / 10
        look = memory.look(want=100, limit=MAX_LANES, now=now)
        memory.learn(look, want=100, heads=[(1, 5, tenth * 100 + n) for n in range(100)], dry=[])
        if look.floors:
            assert look.floors[5] <= max(0, tenth - 30) * 100
    assert look.floors[5] >= (59 - 42) * 100
    assert memory.floors([1, 2]) == {1: look.floors}


def test_a_lane_that_is_woken_and_gives_nothing_twice_is_looked_through_next() -> None:
    memory = LaneMemory()
    for lane in (1, 2, 3):
        deep(memory, 0.0, lane=lane, want=300)
    now = turns_are_over(memory)
    look = memory.look(want=100, limit=MAX_LANES, now=now)
    for _ in range(2):
        memory.learn(look, want=100, heads=[], dry=[2])
    look = memory.look(want=100, limit=MAX_LANES, now=now + RESET_EVERY_S)
    assert 2 not in look.head_lanes and {1, 3} <= set(look.head_lanes)


def test_once_a_second_a_claim_begins_where_the_cursor_was_three_seconds_ago() -> None:
    memory, told = LaneMemory(), {}
    for tenth in range(60):
        now = tenth / 10
        look = memory.look(want=100, limit=MAX_LANES, now=now)
        told[tenth] = look.heads[5] if look.heads else 0
        heads = [(1, 5, 1 + tenth * 100 + n) for n in range(100)]
        memory.learn(look, want=100, heads=heads, dry=[])
    back = [tenth for tenth in range(10, 60) if told[tenth] < told[tenth - 1]]
    assert all(3 <= later - earlier <= 11 for earlier, later in itertools.pairwise(back))
    assert len(back) >= 4
    late = back[-1]
    assert told[late - 1] - told[late] >= 2900


def test_every_lane_in_its_turn_is_looked_through_from_the_beginning() -> None:
    memory, seen = LaneMemory(), set()
    for lane in (1, 2, 3):
        deep(memory, 0.0, lane=lane, want=300)
    for tenth in range(40, int(RESET_EVERY_S * 10) + 60):
        look = memory.look(want=100, limit=MAX_LANES, now=tenth / 10)
        without = {1, 2, 3} - set(look.head_lanes)
        assert len(without) <= 1 or len(without) == 3
        if len(without) == 1:
            seen |= without
        memory.learn(look, want=100, heads=[(n, 5, tenth * 100 + n) for n in (1, 2, 3)], dry=[])
        memory.took(0.01, now=tenth / 10)
    assert seen == {1, 2, 3}


def test_a_dear_look_is_not_taken_again_for_thirty_times_as_long() -> None:
    memory = LaneMemory()
    deep(memory, 0.0, want=300)
    turns = []
    for tenth in range(40, 4000):
        now = tenth / 10
        look = memory.look(want=100, limit=MAX_LANES, now=now)
        memory.learn(look, want=100, heads=[(1, 5, 300 + tenth)], dry=[])
        memory.took(3.0 if look.head_lanes == [] else 0.01, now=now)
        if look.head_lanes == [] and tenth > 100:
            turns.append(now)
    assert len(turns) >= 2
    assert all(later - earlier >= 90 for earlier, later in itertools.pairwise(turns))


def test_of_many_lanes_each_has_one_turn_until_they_are_looked_at_again() -> None:
    memory = LaneMemory()
    assert not memory.is_to_look(0.0)
    deep(memory, 0.0, lane=9)
    assert memory.is_to_look(0.1)
    memory.looked(list(range(MANY_LANES)), began=0.1, now=0.12)
    assert not memory.is_to_look(0.2)
    first = memory.look(want=100, limit=4, now=0.2)
    assert first.near == list(range(16))
    memory.learn(first, want=100, heads=[(n, 5, n) for n in range(4)] * 25, dry=[])
    assert memory.look(want=100, limit=4, now=0.2).near == list(range(4, 20))
    assert memory.is_to_look(0.3)


def test_few_lanes_are_not_told_to_claims() -> None:
    memory = LaneMemory()
    deep(memory, 0.0)
    memory.looked([1, 2, 3], began=0.1, now=0.1)
    assert memory.look(want=100, limit=4, now=0.2).near is None
    assert not memory.is_to_look(1.0)
    assert memory.is_to_look(1.2)


def test_debts_are_told_until_they_are_paid() -> None:
    memory = LaneMemory()
    memory.owe(7, 30)
    memory.owe(7, 20)
    look = memory.look(want=10, limit=4, now=0.0)
    assert (look.debt_lanes, look.debts) == ([7], [50])
    memory.paid(7)
    assert memory.look(want=10, limit=4, now=0.0).debts == []


def test_old_debts_are_forgiven_before_they_are_many() -> None:
    memory = LaneMemory()
    for lane in range(MOST_DEBTS + 10):
        memory.owe(lane, 1)
    memory.owe(10, 1)
    look = memory.look(want=1, limit=1, now=0.0)
    assert len(look.debts) == MOST_DEBTS
    assert (look.debt_lanes[-1], look.debts[-1]) == (10, 2)
