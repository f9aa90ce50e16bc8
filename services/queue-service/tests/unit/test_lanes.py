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


def test_a_lane_that_gave_much_has_a_cursor_until_it_runs_dry() -> None:
    memory = LaneMemory()
    memory.look(want=100, limit=MAX_LANES, now=0.0)
    deep(memory, 0.1, first=1)
    assert memory.look(want=100, limit=MAX_LANES, now=0.2).head_lanes == []
    deep(memory, 0.3, first=101, want=HEAD_AFTER)
    look = memory.look(want=100, limit=MAX_LANES, now=0.4)
    assert (look.head_lanes, look.heads) == ([1], [0, 0, 0, 0, 0, 100 + HEAD_AFTER, 0, 0, 0, 0])
    memory.learn(look, want=100, heads=[], dry=[1])
    assert memory.look(want=100, limit=MAX_LANES, now=0.5).head_lanes == []


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


def test_now_and_then_a_claim_begins_at_the_beginning() -> None:
    memory = LaneMemory()
    deep(memory, 0.0, want=300)
    assert memory.look(want=100, limit=MAX_LANES, now=0.05).heads == []
    assert memory.look(want=100, limit=MAX_LANES, now=0.1).heads != []
    assert memory.look(want=100, limit=MAX_LANES, now=RESET_EVERY_S + 0.1).heads == []


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
