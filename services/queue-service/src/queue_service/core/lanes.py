"""What a claimer remembers of a queue's lanes from one claim to the next.

All of it makes claims cheaper and none of it is believed: a claim looks for itself before it calls
a lane empty, and what is wrong here heals within the times below.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf

MIN_LANES, FIRST_LANES, MAX_LANES = 4, 64, 500
PRIORITIES = 10

# Lanes worth remembering, least served first, are looked for this often, and told to claims only
# where there are so many that looking for them costs.
LOOK_EVERY_S = 1.0
MANY_LANES = 1_000
MOST_NEAR = 5_000
FRESH_S = 0.1
# Looking takes at most this part of the time.
LOOKING_SHARE = 0.2

# A lane gets a cursor once it has given so many jobs: as many index entries may lie dead before it.
HEAD_AFTER = 200
MOST_HEADS = 512
MOST_DEBTS = 512
# A job whose place was drawn early and committed late lies before the cursor: one claim a second
# begins where the cursor was so long ago, its floor, and so does a second look at a lane that seems
# short. Every lane in its turn is looked through from the beginning, in half a minute all of them;
# where that is dear, since an old snapshot keeps alive what lies dead there, less often.
REWIND_EVERY_S = 1.0
REWIND_BY_S = 3.0
RESET_EVERY_S = 30.0
RESETTING_SHARE = 0.03

Head = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """What a claim is told. `lanes`: of at most so many; `near`: of these alone; `heads`: ten
    places for each of `head_lanes`, one a priority, behind which to look, and behind `floors` in a
    lane that seems short; `debts`: jobs of `debt_lanes` still to be paid for."""

    lanes: int
    near: Sequence[int] | None
    head_lanes: Sequence[int]
    heads: Sequence[int]
    floors: Sequence[int]
    debt_lanes: Sequence[int]
    debts: Sequence[int]


class LaneMemory:
    """Of one queue. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._lanes = FIRST_LANES
        self._near: list[int] | None = None
        self._look_at = 0.0
        self._is_busy = False
        self._heads: dict[int, list[int]] = {}
        self._counts: dict[int, int] = {}
        self._past: list[tuple[float, dict[int, list[int]]]] = []
        self._turns: list[int] = []
        self._turn: int | None = None
        self._turned_at = self._no_turn_before = -inf
        self._had_turn = False
        self._floors: dict[int, list[int]] = {}
        self._usual_s = inf
        self._were_dry: set[int] = set()
        self._debts: dict[int, int] = {}

    def look(self, *, want: int, limit: int, now: float) -> Look:
        lanes = max(1, min(self._lanes, limit))
        heads = self._cursors(now) if want > 0 else {}
        floors = self.floors(heads)
        return Look(
            lanes=lanes,
            near=None if self._near is None else self._near[: 2 * lanes + 8],
            head_lanes=list(heads),
            heads=[seq for places in heads.values() for seq in places],
            floors=[seq for places in floors.values() for seq in places],
            debt_lanes=list(self._debts),
            debts=list(self._debts.values()),
        )

    def learn(self, look: Look, *, want: int, heads: Sequence[Head], dry: Sequence[int]) -> None:
        """`heads`: lane, priority and place of each job that came; `dry`: lanes that were found
        empty."""
        self._is_busy = bool(heads)
        counts, places = self._counts, self._heads
        for lane, priority, seq in heads:
            if (of_lane := places.get(lane)) is None:
                places[lane] = of_lane = [0] * PRIORITIES
                counts[lane] = 0
            if seq > of_lane[priority]:
                of_lane[priority] = seq
            counts[lane] += 1
        served = {lane for lane, _, _ in heads}
        self._were_dry -= served
        for lane in dry:
            self._found_dry(lane)
        if self._turn in served:
            self._end_turn()
        if len(places) > 2 * MOST_HEADS:
            for lane in list(places)[:-MOST_HEADS]:
                self._forget(lane)
        self._adapt(look, want=want, got=len(heads), dry=len(dry))
        if not heads:
            # Others have served what was remembered: there may be more behind it.
            self._near = None
        elif self._near is not None:
            self._pass_over(served.union(dry), len(look.near or ()))

    def took(self, seconds: float, *, now: float) -> None:
        """How long the claim took: what it took longer than usual, looking through a lane did."""
        if not self._had_turn:
            self._usual_s = min(seconds, self._usual_s * 1.01)
            return
        self._had_turn = False
        dear_s = max(0.0, seconds - self._usual_s)
        self._no_turn_before = now + dear_s * (1 / RESETTING_SHARE - 1)

    def floors(self, lanes: Iterable[int]) -> dict[int, list[int]]:
        """For those of the lanes that have a cursor: where it was a while ago."""
        nowhere = [0] * PRIORITIES
        return {lane: self._floors.get(lane, nowhere) for lane in lanes if lane in self._heads}

    def owe(self, lane: int, jobs: int) -> None:
        """The newest debts are kept: each makes claims dearer, and who owes them may never serve
        their lanes again."""
        self._debts[lane] = self._debts.pop(lane, 0) + jobs
        if len(self._debts) > MOST_DEBTS:
            del self._debts[next(iter(self._debts))]

    def paid(self, lane: int) -> None:
        self._debts.pop(lane, None)

    def is_to_look(self, now: float) -> bool:
        return self._is_busy and now >= self._look_at

    def looked(self, near: list[int], *, began: float, now: float) -> None:
        """Which lanes are served least, as of a time between the two."""
        if len(near) < MANY_LANES:
            self._near, self._look_at = None, now + LOOK_EVERY_S
        else:
            self._near = near
            self._look_at = now + max(FRESH_S, (now - began) * (1 / LOOKING_SHARE - 1))

    def _adapt(self, look: Look, *, want: int, got: int, dry: int) -> None:
        """So many lanes that they give what is wanted, and no more: each costs."""
        if got < want:
            # Lanes that gave nothing are asleep now: they say nothing of the others.
            enough = ceil(look.lanes * want / got) if got else 0
            self._lanes = min(MAX_LANES, max(2 * look.lanes, enough))
        elif 2 * dry <= look.lanes:
            self._lanes = max(MIN_LANES, look.lanes // 2)

    def _pass_over(self, served: Iterable[int], shown: int) -> None:
        """A lane has one turn until the others are looked at anew."""
        near, gone = self._near or [], frozenset(served)
        self._near = [lane for lane in near[:shown] if lane not in gone] + near[shown:]
        if len(self._near) < self._lanes:
            self._near, self._look_at = None, 0.0

    def _found_dry(self, lane: int) -> None:
        """A lane that is woken and gives nothing, again, may hide a job before its cursor."""
        if lane == self._turn:
            self._end_turn()
        elif lane in self._were_dry:
            self._were_dry.discard(lane)
            self._turns.append(lane)
        else:
            self._were_dry.add(lane)

    def _forget(self, lane: int) -> None:
        self._heads.pop(lane, None)
        self._counts.pop(lane, None)
        self._were_dry.discard(lane)

    def _cursors(self, now: float) -> dict[int, list[int]]:
        heads = self._worth_it(self._rewound(now))
        self._begin_turn(now)
        if self._turn is not None:
            heads.pop(self._turn, None)
        return heads

    def _begin_turn(self, now: float) -> None:
        """One lane after the other is without its cursor until it has been looked through."""
        every_s = RESET_EVERY_S / max(1, len(self._heads))
        if now < max(self._turned_at + every_s, self._no_turn_before):
            return
        if not self._turns:
            self._turns = list(self._heads)
        self._turn = self._turns.pop() if self._turns else None
        self._turned_at = now

    def _end_turn(self) -> None:
        self._turn, self._had_turn = None, True

    def _rewound(self, now: float) -> dict[int, list[int]]:
        past = self._past
        if past and now < past[-1][0] + REWIND_EVERY_S:
            return self._heads
        past.append((now, {lane: list(places) for lane, places in self._heads.items()}))
        while len(past) > 1 and past[1][0] <= now - REWIND_BY_S:
            del past[0]
        when, heads = past[0]
        self._floors = heads if when <= now - REWIND_BY_S else {}
        return self._floors

    def _worth_it(self, heads: dict[int, list[int]]) -> dict[int, list[int]]:
        counts = self._counts
        chosen = [lane for lane in heads if counts.get(lane, 0) >= HEAD_AFTER]
        return {lane: heads[lane] for lane in chosen[-MOST_HEADS:]}
