"""The heaviest keys of a stream, in bounded memory: a space-saving sketch.

While there is room every key has its row. Then a new key takes the place of the lightest, and ranks
as if it had counted as much: a key with more than 1/capacity of all that was counted cannot be
pushed out for good. What a row counts is its own alone, so it may be too little and never too much.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Ranked(Protocol):
    handicap: int
    """What the key whose place it took ranked as."""

    @property
    def count(self) -> int: ...


K = TypeVar("K")
R = TypeVar("R", bound=Ranked)


class Sketch(Generic[K, R]):
    def __init__(self, capacity: int, *, pushed_out: Callable[[R], None]) -> None:
        self._capacity = capacity
        self._pushed_out = pushed_out
        self._rows: dict[K, R] = {}
        # Ranks as they once were: they only grow, so the true lightest is found from the top.
        self._heap: list[tuple[int, int, K]] = []
        self._made = 0

    def find(self, key: K) -> R | None:
        return self._rows.get(key)

    def put(self, key: K, row: R) -> None:
        """A row for a key that has none."""
        if len(self._rows) >= self._capacity:
            row.handicap = self._push_out()
        self._rows[key] = row
        self._made += 1
        heapq.heappush(self._heap, (row.handicap, self._made, key))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self._rows.values())

    def _push_out(self) -> int:
        while True:
            rank, made, key = self._heap[0]
            row = self._rows[key]
            now = row.handicap + row.count
            if now == rank:
                break
            heapq.heapreplace(self._heap, (now, made, key))
        heapq.heappop(self._heap)
        del self._rows[key]
        self._pushed_out(row)
        return rank
