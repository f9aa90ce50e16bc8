"""Buckets in Redis: one script call per batch, on a connection bound to one server process."""

import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib import resources
from time import perf_counter
from typing import TypeVar

from chassis import redis
from ratelimit_service.cache.link import Link
from ratelimit_service.core import gcra, ports

MARK = "ratelimit:epoch"
UNPLANT = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"
CONNECT_BUDGET_S = 0.2
PATIENT_BUDGET_S = 0.25
# More limits than this may take longer, so that one large question is not taken for a slow Redis.
BUDGETED_LIMITS = 512
ABSENT_IS_FULL = -1
ABSENT_IS_UNKNOWN = -2
IS_AS_HINTED = 0

_HEAD = struct.Struct("<Iq")
_KEY = struct.Struct("<qqqq")
_CHECK = struct.Struct("<HB")
_LIMIT = struct.Struct("<HBqq")
_LEVEL = struct.Struct("<qqqq")
_WINDOW = struct.Struct("<qqqBqqq")
_QUOTA_LEVEL = struct.Struct("<qqqqqqqq")
_ANSWERS = (ports.Answered.REFUSED, ports.Answered.PASSED, ports.Answered.UNKNOWN)

T = TypeVar("T")
Debts = Mapping[str, gcra.Level | None]


class RedisBuckets:
    """`counted` is told how long each deciding call took, and of how many limits."""

    def __init__(
        self,
        accelerator: redis.Accelerator,
        *,
        counted: Callable[[float, int], None] = lambda _s, _limits: None,
    ) -> None:
        if accelerator.client is None:
            raise ValueError("buckets in Redis need a Redis")
        self._accelerator = accelerator
        self._counted = counted
        script = resources.files(__package__).joinpath("buckets.lua").read_text()
        self._link = Link(accelerator.client, script)

    async def run_id(self) -> str:
        """Which server process answers now; an unsteady one does not count."""
        run_id = await self._bounded(self._answering, CONNECT_BUDGET_S)
        if self._accelerator.presence() is not redis.Presence.UP:
            raise ports.Missed("not steady yet")
        return run_id

    async def plant(self, mark: str) -> None:
        await self._bounded(lambda: self._link.call("SET", MARK, mark), redis.BUDGET_S)

    async def unplant(self, mark: str) -> None:
        await self._bounded(
            lambda: self._link.call("EVAL", UNPLANT, "1", MARK, mark), redis.BUDGET_S
        )

    async def decide(
        self, epoch: ports.Epoch, batch: gcra.Batch, debts: Debts, *, patient: bool
    ) -> Sequence[ports.Found]:
        keys = [MARK, *(f"rl:{epoch.gen}:{key}" for key in batch.keys)]
        args: list[bytes | str] = [*keys, epoch.mark or "", pack(batch, debts)]
        least_s = PATIENT_BUDGET_S if patient else redis.BUDGET_S
        budget_s = least_s * max(1.0, batch.size / BUDGETED_LIMITS)
        began = perf_counter()
        try:
            answer = await self._bounded(
                lambda: self._link.evaluate(epoch.run_id, len(keys), *args), budget_s
            )
        finally:
            self._counted(perf_counter() - began, batch.size)
        if not answer:
            raise ports.Missed("the mark of the generation is gone")
        return list(unpack(batch, answer))

    async def close(self) -> None:
        await self._link.close()

    async def _answering(self) -> str:
        run_id = await self._link.open()
        await self._link.call("PING")
        return run_id

    async def _bounded(self, work: Callable[[], Awaitable[T]], budget_s: float) -> T:
        try:
            return await self._accelerator.call(lambda _client: work(), budget_s=budget_s)
        except redis.Missed as error:
            raise ports.Missed(str(error)) from error


def pack(batch: gcra.Batch, debts: Debts) -> bytes:
    pieces = [_HEAD.pack(len(batch.asks), gcra.MAX_WAIT_US)]
    windows = batch.windows
    for key, asked in batch.paces.items():
        if key in windows:
            pieces.append(_quota(key, asked, windows[key], debts))
            continue
        pace, hint = asked, ABSENT_IS_FULL
        if key in debts:
            known = debts[key]
            pace, hint = (known.pace, known.debt_us) if known else (asked, ABSENT_IS_UNKNOWN)
        pieces.append(_KEY.pack(pace.t_us, pace.tau_us, pace.version, hint))
    index = batch.index
    for ask in batch.asks:
        pieces.append(_CHECK.pack(len(ask.limits), ask.peek))
        pieces += [
            _LIMIT.pack(index[limit.key], limit.shadow + 2 * limit.op, limit.cost, limit.wait_us)
            for limit in ask.limits
        ]
    return b"".join(pieces)


def _quota(key: str, asked: gcra.Pace, window: gcra.Window, debts: Debts) -> bytes:
    pace, hint, number, used, before = asked, ABSENT_IS_FULL, 0, 0, 0
    if key in debts:
        known = debts[key]
        if known is None:
            hint = ABSENT_IS_UNKNOWN
        elif known.span is not None:
            pace, used = known.pace, known.used
            number, before = known.span.number, known.span.before
            hint = IS_AS_HINTED if used or before else ABSENT_IS_FULL
    return _KEY.pack(0, pace.tau_us, pace.version, hint) + _WINDOW.pack(
        window.number, window.start_us, window.length_us, window.sliding, number, used, before
    )


def unpack(batch: gcra.Batch, answer: bytes) -> Iterator[ports.Found]:
    at, levels_of = 0, _quota_levels if batch.windows else _levels
    for ask in batch.asks:
        levels, end = levels_of(ask, answer, at + 1)
        yield ports.Found(_ANSWERS[answer[at]], levels)
        at = end


def _levels(ask: gcra.Ask, answer: bytes, at: int) -> tuple[tuple[gcra.Level, ...], int]:
    """The levels of an ask, and where they end."""
    end = at + _LEVEL.size * len(ask.limits)
    levels = tuple(
        [
            gcra.Level(debt, gcra.Pace(t, tau, version))
            for debt, t, tau, version in _LEVEL.iter_unpack(answer[at:end])
        ]
    )
    return levels, end


def _quota_levels(ask: gcra.Ask, answer: bytes, at: int) -> tuple[tuple[gcra.Level, ...], int]:
    """As `_levels`, in a batch with quotas."""
    levels: list[gcra.Level] = []
    for limit in ask.limits:
        if limit.window is None:
            debt, t, tau, version = _LEVEL.unpack_from(answer, at)
            levels.append(gcra.Level(debt, gcra.Pace(t, tau, version)))
            at += _LEVEL.size
        else:
            debt, t, tau, version, *where = _QUOTA_LEVEL.unpack_from(answer, at)
            span = gcra.span(where, limit.window)
            levels.append(gcra.Level(debt, gcra.Pace(t, tau, version), span))
            at += _QUOTA_LEVEL.size
    return tuple(levels), at
