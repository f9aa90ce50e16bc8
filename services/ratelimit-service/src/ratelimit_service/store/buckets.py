"""Buckets in Postgres: decides while it is Postgres's turn, remembers while it is Redis's."""

from collections.abc import Iterator, Mapping, Sequence

from chassis import sql
from ratelimit_service.core import gcra, ports
from ratelimit_service.store import epoch
from ratelimit_service.store.lane import Lane

QUERIES = sql.queries(__file__)


class PostgresBuckets:
    """`decisions` and `bookkeeping` are lanes of their own: handing over debts delays no check."""

    def __init__(self, *, decisions: Lane, bookkeeping: Lane) -> None:
        self._decisions = decisions
        self._bookkeeping = bookkeeping

    async def decide(self, batch: gcra.Batch) -> Sequence[gcra.Verdict]:
        limits = [limit for ask in batch.asks for limit in ask.limits]
        paces = batch.paces.values()
        [row] = await self._decisions.fetch(
            QUERIES.decide,
            batch.keys,
            [pace.t_us for pace in paces],
            [pace.tau_us for pace in paces],
            [pace.version for pace in paces],
            [key in batch.written for key in batch.keys],
            [len(ask.limits) for ask in batch.asks],
            [ask.peek for ask in batch.asks],
            [batch.index[limit.key] + 1 for limit in limits],
            [limit.cost for limit in limits],
            [limit.wait_us for limit in limits],
            [limit.shadow for limit in limits],
            gcra.MAX_WAIT_US,
            epoch.LOCK,
            epoch.LIVE_FOR,
            epoch.SETTLE_WITHIN,
        )
        match row["state"]:
            case "moved":
                raise ports.Moved
            case "unsettled":
                raise ports.Unsettled
        levels = _levels(row["levels"])
        return [
            gcra.Verdict(passed, tuple(next(levels) for _ in ask.limits))
            for passed, ask in zip(row["passed"], batch.asks, strict=True)
        ]

    async def debts(self, paces: Mapping[str, gcra.Pace]) -> Mapping[str, gcra.Level]:
        """For every key asked about: what it owes, in the newer of the two paces."""
        rows = await self._bookkeeping.fetch(QUERIES.debts, list(paces))
        known = {
            row["key"]: gcra.RateLimitRecord(
                row["debt"], gcra.Pace(row["t_us"], row["tau_us"], row["version"])
            )
            for row in rows
        }
        return {key: gcra.level(known.get(key), pace, 0) for key, pace in paces.items()}

    async def merge(self, debts: Mapping[str, gcra.Level]) -> None:
        levels = debts.values()
        await self._bookkeeping.fetch(
            QUERIES.merge,
            list(debts),
            [level.debt_us for level in levels],
            [level.pace.t_us for level in levels],
            [level.pace.tau_us for level in levels],
            [level.pace.version for level in levels],
        )

    async def sweep(self) -> None:
        await self._bookkeeping.fetch(QUERIES.sweep)


def _levels(numbers: Sequence[int]) -> Iterator[gcra.Level]:
    each = iter(numbers)
    for debt, t, tau, version in zip(each, each, each, each, strict=True):
        yield gcra.Level(debt, gcra.Pace(t, tau, version))
