"""Buckets in Postgres: decides while it is Postgres's turn, remembers while it is Redis's."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType

from chassis import sql
from ratelimit_service.core import gcra, ports
from ratelimit_service.store import epoch
from ratelimit_service.store.lane import Lane

QUERIES = sql.queries(__file__)
# Of a quota that is not kept: a window that no asker is in.
NEVER = gcra.Span(0, 0, 0, 0, 0)


class PostgresBuckets:
    """`decisions` and `bookkeeping` are lanes of their own: handing over debts delays no check.
    `counted` is told how long each deciding call took, and of how many limits."""

    def __init__(
        self,
        *,
        decisions: Lane,
        bookkeeping: Lane,
        counted: Callable[[float, int], None] = lambda _s, _limits: None,
    ) -> None:
        self._decisions = decisions
        self._bookkeeping = bookkeeping
        self._counted = counted

    async def decide(self, batch: gcra.Batch, *, is_pinned: bool = False) -> Sequence[gcra.Verdict]:
        """Pinned keys are decided here whatever the epoch says."""
        began = perf_counter()
        try:
            return await self._decide(batch, is_pinned=is_pinned)
        finally:
            self._counted(perf_counter() - began, batch.size)

    async def _decide(self, batch: gcra.Batch, *, is_pinned: bool) -> Sequence[gcra.Verdict]:
        limits = [limit for ask in batch.asks for limit in ask.limits]
        paces, windows = batch.paces.values(), batch.windows
        [row] = await self._decisions.fetch(
            QUERIES.decide,
            batch.keys,
            [pace.t_us for pace in paces],
            [pace.tau_us for pace in paces],
            [pace.version for pace in paces],
            [key in batch.written and key not in windows for key in batch.keys],
            [len(ask.limits) for ask in batch.asks],
            [ask.peek for ask in batch.asks],
            [batch.index[limit.key] + 1 for limit in limits],
            [limit.cost for limit in limits],
            [limit.wait_us for limit in limits],
            [limit.shadow for limit in limits],
            [limit.op for limit in limits] if batch.has_ops else None,
            [batch.index[key] + 1 for key in windows],
            [key in batch.written for key in windows],
            [window.number for window in windows.values()],
            [window.start_us for window in windows.values()],
            [window.length_us for window in windows.values()],
            [window.sliding for window in windows.values()],
            gcra.MAX_WAIT_US,
            None if is_pinned else epoch.LOCK,
            epoch.LIVE_FOR,
            epoch.SETTLE_WITHIN,
        )
        match row["state"]:
            case "moved":
                raise ports.Moved
            case "unsettled":
                raise ports.Unsettled
        levels = _quota_levels(limits, row["levels"]) if windows else _levels(row["levels"])
        return [
            gcra.Verdict(passed, tuple(next(levels) for _ in ask.limits))
            for passed, ask in zip(row["passed"], batch.asks, strict=True)
        ]

    async def debts(
        self,
        paces: Mapping[str, gcra.Pace],
        windows: Mapping[str, gcra.Window] = MappingProxyType({}),
    ) -> Mapping[str, gcra.Level]:
        """For every key asked about: what it owes, in the newer of the two paces. Those with a
        window are quotas, and their levels are what is kept, in the window it was kept for."""
        buckets = {key: pace for key, pace in paces.items() if key not in windows}
        found = await self._owed(buckets) if buckets else {}
        return found | (await self._used({key: paces[key] for key in windows}) if windows else {})

    async def _owed(self, paces: Mapping[str, gcra.Pace]) -> dict[str, gcra.Level]:
        rows = await self._bookkeeping.fetch(QUERIES.debts, list(paces))
        known = {
            row["key"]: gcra.RateLimitRecord(
                row["debt"], gcra.Pace(row["t_us"], row["tau_us"], row["version"])
            )
            for row in rows
        }
        return {key: gcra.level(known.get(key), pace, 0) for key, pace in paces.items()}

    async def _used(self, paces: Mapping[str, gcra.Pace]) -> dict[str, gcra.Level]:
        rows = await self._bookkeeping.fetch(QUERIES.quotas, list(paces))
        levels = {key: gcra.Level(0, pace, NEVER) for key, pace in paces.items()}
        for row in rows:
            kept, asked = gcra.Pace(1, row["n"], row["version"]), paces[row["key"]]
            pace = kept if kept.version >= asked.version else asked
            span = gcra.Span(row["number"], row["before"], 0, 0, 0)
            levels[row["key"]] = gcra.Level(row["used"], pace, span)
        return levels

    async def merge(self, debts: Mapping[str, gcra.Level]) -> None:
        await self._keep(debts, QUERIES.merge, is_right=False)

    async def put(self, debts: Mapping[str, gcra.Level]) -> None:
        await self._keep(debts, QUERIES.put, is_right=True)

    async def _keep(self, debts: Mapping[str, gcra.Level], query: str, *, is_right: bool) -> None:
        buckets = {key: level for key, level in debts.items() if level.span is None}
        if buckets:
            await self._bookkeeping.fetch(query, list(buckets), *_columns(buckets.values()))
        if len(buckets) < len(debts):
            quotas = {key: level for key, level in debts.items() if level.span is not None}
            columns = _quota_columns(quotas.values())
            await self._bookkeeping.fetch(QUERIES.merge_quotas, list(quotas), *columns, is_right)

    async def sweep(self) -> None:
        await self._bookkeeping.fetch(QUERIES.sweep)
        await self._bookkeeping.fetch(QUERIES.sweep_quotas)


def _columns(levels: Collection[gcra.Level]) -> Iterator[list[int]]:
    yield [level.debt_us for level in levels]
    yield [level.pace.t_us for level in levels]
    yield [level.pace.tau_us for level in levels]
    yield [level.pace.version for level in levels]


def _quota_columns(levels: Collection[gcra.Level]) -> Iterator[list[int]]:
    spans = [level.span for level in levels if level.span is not None]
    yield [span.number for span in spans]
    yield [level.used for level in levels]
    yield [span.before for span in spans]
    yield [level.pace.tau_us for level in levels]
    yield [level.pace.version for level in levels]
    yield [span.lives_us for span in spans]


def _levels(numbers: Sequence[int]) -> Iterator[gcra.Level]:
    each = iter(numbers)
    for debt, t, tau, version in zip(each, each, each, each, strict=True):
        yield gcra.Level(debt, gcra.Pace(t, tau, version))


def _quota_levels(limits: Iterable[gcra.Limit], numbers: Sequence[int]) -> Iterator[gcra.Level]:
    at = 0
    for limit in limits:
        debt, t, tau, version = numbers[at : at + 4]
        at += 4
        span = None
        if limit.window is not None:
            span = gcra.span(numbers[at : at + 4], limit.window)
            at += 4
        yield gcra.Level(debt, gcra.Pace(t, tau, version), span)
