"""Which backend decides, and how the decision moves without giving anything out twice.

Postgres names the decider in one row, the epoch. A replica decides by Redis only

- on a connection to the very server process that the epoch names, holding the epoch's mark;
- within `LEASE_S` of having read the epoch (longer only while Postgres does not answer at all).

Whoever misses Redis, once, makes Postgres the decider for all. Every replica that hears of it ends
its call in flight, hands over what Postgres does not know, and only then acknowledges; Postgres
decides when all live ones have, or when their leases have run out. Redis decides again in a new
generation, whose keys are new, when every live replica sees the same Redis.

Decisions come one batch at a time, so that a batch belongs to one backend.
"""

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from chassis.kernel.values import value
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra, ports
from ratelimit_service.core.ledger import Ledger, Owed
from ratelimit_service.core.local import Local

LEASE_S = 0.9
# After a miss Redis must answer so many heartbeats in a row before it is trusted again.
STEADY_BEATS = 3
SETTLE_POLL_S = 0.01
# How long an answer may wait until Postgres knows of what it gave out.
CONFIRM_S = 0.05
# A batch gives up on Postgres's turn after the settling time: local decides rather than nobody.
TURNS = 150
UNKNOWN = ports.Epoch(seq=0, gen=0, backend=Backend.POSTGRES)


@value
class Ruling:
    """A verdict and who spoke it. `stored`: of a LOCAL one the keys that a store has decided
    nevertheless."""

    verdict: gcra.Verdict
    backend: Backend
    stored: frozenset[str] = frozenset()


class Switch:
    def __init__(
        self,
        *,
        redis: ports.RedisBuckets | None,
        postgres: ports.PostgresBuckets,
        pinned: ports.PostgresBuckets | None = None,
        durable: ports.PostgresBuckets | None = None,
        epochs: ports.Epochs,
        ledger: Ledger,
        monotonic: Callable[[], float],
        clock: Clock | None = None,
        on_switch: Callable[[Backend, Backend], None] = lambda _old, _new: None,
        on_due: Callable[[], None] = lambda: None,
        on_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._pinned = pinned or postgres
        self._durable = durable or postgres
        self._epochs = epochs
        self._ledger = ledger
        self._local = Local(ledger, clock)
        self._monotonic = monotonic
        self._on_switch = on_switch
        self._on_due = on_due
        self._on_away = on_away
        self._in_redis = asyncio.Lock()
        self._following = asyncio.Lock()
        self._handing_over = asyncio.Lock()
        self._epoch = UNKNOWN
        self._followed = UNKNOWN.seq
        self._confirmed_at = -math.inf
        self._opened_at = 0.0
        self._steady = STEADY_BEATS
        self._left: int | None = None
        self._stale_mark: str | None = None
        self._progress = asyncio.Event()
        self._owes_postgres = False
        self._away_since: float | None = None
        self._last_road = Backend.POSTGRES
        self.replicas = 1

    @property
    def road(self) -> Backend:
        """Who would decide now, as far as this replica knows."""
        if self._is_redis_turn and self._steady:
            return Backend.REDIS
        return Backend.POSTGRES if self._away_since is None else Backend.LOCAL

    @property
    def era(self) -> int:
        """Another one with every change of the decider."""
        return self._epoch.seq

    @property
    def _is_redis_turn(self) -> bool:
        """An epoch that we have left stays left: what we gave out since is unknown to its Redis."""
        return self._epoch.backend is Backend.REDIS and self._epoch.seq != self._left

    @property
    def degraded(self) -> str | None:
        """What is missing and what that means; None also where Redis is not configured."""
        is_away = self._away_since is not None
        if self._steady and self._is_redis_turn:
            return "postgres;what redis decides is not recorded" if is_away else None
        if is_away:
            return "postgres;each replica decides its share"
        return None if self._redis is None else "redis;postgres decides"

    @property
    def postgres_away_s(self) -> float:
        """For how long the record has not answered; 0 while it does."""
        return 0.0 if self._away_since is None else self._monotonic() - self._away_since

    async def decide(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        """A ruling for each ask, in order. Never fails for want of a store."""
        batch = gcra.Batch(asks)
        for _ in range(TURNS):
            try:
                return await self._by_turn(batch)
            except ports.Moved:
                await self.beat()
            except ports.Unsettled:
                await self.beat()
                await asyncio.sleep(SETTLE_POLL_S)
            except errors.Unavailable:
                self._postgres_failed()
                break
        return [self._rule_alone(ask) for ask in asks]

    async def decide_pinned(self, asks: Sequence[gcra.Ask], *, is_strict: bool) -> list[Ruling]:
        """What Postgres decides whoever's turn it is. While it is away, strict raises Unavailable,
        the rest is decided alone."""
        buckets = self._durable if is_strict else self._pinned
        try:
            await self._settle_up()
            verdicts = await buckets.decide(gcra.Batch(asks), is_pinned=True)
        except errors.Unavailable as error:
            self._postgres_failed()
            if is_strict:
                raise errors.Unavailable(
                    "a strict limit is not decided without the database", code="limits_unavailable"
                ) from error
            return [self._rule_alone(ask) for ask in asks]
        for ask, verdict in zip(asks, verdicts, strict=True):
            self._ledger.note(ask, verdict, synced=True)
        return [Ruling(verdict, Backend.POSTGRES) for verdict in verdicts]

    def doubt_postgres(self) -> None:
        """It may have crashed and forgotten its last moments: before it speaks it is told again."""
        self._ledger.doubt()
        self._owes_postgres = True

    async def beat(self) -> None:
        """Tell what we see, learn who decides and follow it, open Redis when it is time. A database
        that does not answer leaves things as they are."""
        async with self._following:
            run_id = await self._redis_seen()
            try:
                standing = await self._learn(run_id)
                epoch = standing.epoch
                is_left = run_id != epoch.run_id or epoch.seq == self._left
                if epoch.backend is Backend.REDIS and is_left:
                    await self._epochs.depart(epoch)
                    await self._learn(run_id)
                elif standing.may_open and run_id is not None:
                    await self._open(epoch, run_id)
            except errors.Unavailable:
                self._postgres_failed()
            except ports.Missed:
                self._steady = 0
            self._tell()

    async def hand_over(self, *, everything: bool = False) -> None:
        """Tell Postgres what it does not know. Raises Unavailable; nothing is lost by that."""
        async with self._handing_over:
            while piece := self._ledger.take(everything=everything):
                try:
                    await self._tell_postgres(piece)
                except BaseException:
                    self._ledger.keep(piece)
                    raise
                self._ledger.confirm(piece)
                self._progress.set()

    async def _tell_postgres(self, piece: Mapping[str, Owed]) -> None:
        debts = {key: owed.level for key, owed in piece.items() if not owed.is_reset}
        resets = {key: owed.level for key, owed in piece.items() if owed.is_reset}
        if debts:
            await self._postgres.merge(debts)
        if resets:
            await self._postgres.put(resets)

    async def _by_turn(self, batch: gcra.Batch) -> list[Ruling]:
        epoch = self._epoch
        if self._redis is not None and self._is_redis_turn:
            if not self._lease_holds():
                await self.beat()
            try:
                return await self._by_redis(self._redis, batch)
            except ports.Missed:
                self._left, self._stale_mark = epoch.seq, epoch.mark
        if epoch.seq == self._left:
            await self._depart(epoch)
        return await self._by_postgres(batch)

    async def _by_redis(self, redis: ports.RedisBuckets, batch: gcra.Batch) -> list[Ruling]:
        async with self._in_redis:
            epoch = self._epoch
            found = await self._ask_redis(redis, epoch, batch, self._uncertain(batch))
            rulings = [self._ruled(ask, each) for ask, each in zip(batch.asks, found, strict=True)]
            await self._fill_in(redis, epoch, batch.asks, rulings)
        if self._ledger.is_due:
            self._on_due()
        await self._confirmed(batch.keys)
        self._tell()
        return [each for each in rulings if each is not None]

    async def _confirmed(self, keys: Sequence[str]) -> None:
        """What is spent in a rush is answered when Postgres knows of it, or will not say for a
        while: should we die together with Redis, little is given out again."""
        if not self._ledger.is_late(keys):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_S):
                while self._away_since is None and self._ledger.is_late(keys):
                    self._progress.clear()
                    await self._progress.wait()

    async def _ask_redis(
        self,
        redis: ports.RedisBuckets,
        epoch: ports.Epoch,
        batch: gcra.Batch,
        debts: Mapping[str, gcra.Level | None],
    ) -> Sequence[ports.Found]:
        """The lease is looked at before and after: a process that was stopped in between must not
        believe what it was told before."""
        if epoch.backend is not Backend.REDIS or not self._lease_holds():
            raise ports.Moved
        found = await redis.decide(epoch, batch, debts, patient=self._away_since is not None)
        if not self._lease_holds():
            raise ports.Moved
        return found

    async def _fill_in(
        self,
        redis: ports.RedisBuckets,
        epoch: ports.Epoch,
        asks: Sequence[gcra.Ask],
        rulings: list[Ruling | None],
    ) -> None:
        """Ask again, with Postgres's debts, where Redis is too new to know; alone without them."""
        places = [place for place, ruling in enumerate(rulings) if ruling is None]
        if not places:
            return
        batch = gcra.Batch([asks[place] for place in places])
        try:
            await self._settle_up()
            debts = await self._postgres.debts(batch.paces, batch.windows)
        except errors.Unavailable:
            self._postgres_failed()
            for place, ask in zip(places, batch.asks, strict=True):
                rulings[place] = self._rule_alone(ask)
            return
        found = await self._ask_redis(redis, epoch, batch, debts)
        for place, ask, each in zip(places, batch.asks, found, strict=True):
            rulings[place] = self._ruled(ask, each)

    def _ruled(self, ask: gcra.Ask, found: ports.Found) -> Ruling | None:
        if found.answer is ports.Answered.UNKNOWN:
            return None
        verdict = gcra.Verdict(found.answer is ports.Answered.PASSED, found.levels)
        self._ledger.note(ask, verdict, synced=False)
        return Ruling(verdict, Backend.REDIS)

    def _uncertain(self, batch: gcra.Batch) -> dict[str, gcra.Level | None]:
        """Keys that may be absent because the generation is new. One that owed the most there is
        when it opened owes nothing once its bucket could have filled."""
        age_us = int((self._monotonic() - self._opened_at) * 1_000_000)
        windows = batch.windows
        return {
            key: None
            for key, pace in batch.paces.items()
            if age_us
            < (2 * windows[key].length_us if key in windows else pace.tau_us) + gcra.MAX_WAIT_US
        }

    async def _by_postgres(self, batch: gcra.Batch) -> list[Ruling]:
        await self._settle_up()
        verdicts = await self._postgres.decide(batch)
        for ask, verdict in zip(batch.asks, verdicts, strict=True):
            self._ledger.note(ask, verdict, synced=True)
        self._tell()
        return [Ruling(verdict, Backend.POSTGRES) for verdict in verdicts]

    async def _settle_up(self) -> None:
        """Before Postgres speaks again, tell it what was given out without it. Raises Unavailable
        at once while it is away: the heartbeat finds out when it is back, no caller waits."""
        self._require_postgres()
        if self._owes_postgres:
            await self.hand_over(everything=True)
            self._owes_postgres = False

    def _rule_alone(self, ask: gcra.Ask) -> Ruling:
        self._owes_postgres = True
        verdict = self._local.decide(ask, replicas=self.replicas, away_s=self.postgres_away_s)
        self._tell()
        return Ruling(verdict, Backend.LOCAL)

    async def _depart(self, epoch: ports.Epoch) -> None:
        self._steady = 0
        self._require_postgres()
        async with self._following:
            if self._epoch.seq == epoch.seq:
                await self._epochs.depart(epoch)
                await self._learn(None)

    async def _open(self, epoch: ports.Epoch, run_id: str) -> None:
        """The mark is in Redis before the epoch names it, and nobody else's is ever right."""
        assert self._redis is not None
        mark = uuid.uuid4().hex
        await self._redis.plant(mark)
        if await self._epochs.open(epoch, run_id=run_id, mark=mark):
            await self._learn(run_id)

    async def _learn(self, run_id: str | None) -> ports.Standing:
        """Beat, follow what is new, and beat again to say so."""
        standing = await self._confirm(run_id)
        if standing.epoch.seq != self._followed:
            await self._follow(standing)
            standing = await self._confirm(run_id)
        return standing

    async def _confirm(self, run_id: str | None) -> ports.Standing:
        asked_at = self._monotonic()
        standing = await self._epochs.beat(run_id=run_id, seq=self._followed)
        if standing.epoch.seq == self._epoch.seq:
            self._confirmed_at = asked_at
        self._away_since = None
        self.replicas = standing.replicas
        return standing

    async def _follow(self, standing: ports.Standing) -> None:
        asked_at = self._monotonic()
        self._stale_mark = self._epoch.mark or self._stale_mark
        self._epoch = standing.epoch
        if standing.epoch.backend is Backend.REDIS:
            self._opened_at = asked_at - standing.age_us / 1_000_000
        else:
            async with self._in_redis:  # the call in flight ends, and is in the ledger
                pass
            await self.hand_over(everything=True)
        self._followed = standing.epoch.seq

    async def _redis_seen(self) -> str | None:
        """The server that Redis is, once it has been steady."""
        if self._redis is None:
            return None
        try:
            run_id = await self._redis.run_id()
            if self._stale_mark is not None:
                # So that nobody decides by an epoch that was left who cannot read of its end.
                await self._redis.unplant(self._stale_mark)
                self._stale_mark = None
        except ports.Missed:
            self._steady = 0
            return None
        self._steady += 1
        return run_id if self._steady >= STEADY_BEATS else None

    def _lease_holds(self) -> bool:
        return self._away_since is not None or self._monotonic() - self._confirmed_at <= LEASE_S

    def _require_postgres(self) -> None:
        if self._away_since is not None:
            raise errors.Unavailable("the database does not answer", code="database_unavailable")

    def _postgres_failed(self) -> None:
        if self._away_since is None:
            self._away_since = self._monotonic()
            self.doubt_postgres()
            self._on_away()

    def _tell(self) -> None:
        old, self._last_road = self._last_road, self.road
        if old is not self._last_road:
            self._on_switch(old, self._last_road)
