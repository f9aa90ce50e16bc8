"""The use cases of a check: which limits it meets, whether it passes, and what is said of it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import Asked, Backend, Check, CheckBatch, ListKind, OnFailure, Reserve
from ratelimit_service.core import batcher, gcra, quota, subject, tokens
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.switch import Ruling
from ratelimit_service.core.tokens import Tokens

MAX_FLAWS = 20
LOCAL = Backend.LOCAL
ALONE = "postgres;this replica decides its share"

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]


@value
class State:
    """What the switch says of itself: what is missing, and for how long Postgres has been away."""

    degraded: str | None
    away_s: float


@value
class Meeting:
    """A limit on its way through a check. `floor_us` is the end of the bucket it may not touch."""

    policy: Policy
    limit: gcra.Limit
    floor_us: int
    is_hopeless: bool
    """The cost is more than the limit ever holds."""


@value
class Met:
    """A limit after the check: what its key owes now, and how long until the cost would fit."""

    policy: Policy
    limit: gcra.Limit
    pace: gcra.Pace
    debt_us: int
    need_us: int
    violated: bool
    quota: gcra.Level | None = None
    """Of a quota: the same level, with where it stands in time."""

    @property
    def remaining(self) -> int:
        return max(0, (self.pace.tau_us - self.debt_us) // self.pace.t_us)

    @property
    def reset_us(self) -> int:
        """Until one more token is there; 0 for a full bucket. Of a fixed quota: until the window
        ends."""
        if self.quota is not None and self.limit.window is not None:
            room = min(self.debt_us, self.pace.tau_us) - self.pace.t_us
            return quota.until_us(self.quota, self.limit.window, room) if self.debt_us else 0
        if self.debt_us > self.pace.tau_us:
            return self.debt_us - self.pace.tau_us + self.pace.t_us
        return self.debt_us % self.pace.t_us or min(self.debt_us, self.pace.t_us)

    @property
    def window_s(self) -> int:
        """Of a quota the window at hand: months and days differ."""
        window = self.limit.window
        return self.policy.window_s if window is None else window.length_us // gcra.WHOLE

    def document(self) -> dict[str, Any]:
        return {
            "policy": self.policy.id,
            "limit": self.pace.burst,
            "remaining": self.remaining,
            "reset_ms": _ms(self.reset_us),
            "window_s": self.window_s,
            "violated": self.violated,
            "shadow": self.limit.shadow,
        }


@value
class Decision:
    allowed: bool
    met: tuple[Met, ...]
    backend: Backend
    degraded: str | None
    wait_us: int
    unsatisfiable: bool = False
    token: str | None = None
    listed: ListKind | None = None

    @property
    def retry_after_ms(self) -> int | None:
        if self.allowed or self.unsatisfiable or self.listed is not None:
            return None
        return _ms(self.wait_us)

    def document(self) -> dict[str, Any]:
        return {
            "allowed": self.allowed,
            "wait_ms": _ms(self.wait_us),
            "retry_after_ms": self.retry_after_ms,
            "unsatisfiable": self.unsatisfiable,
            "token": self.token,
            "listed": self.listed,
            "limits": [met.document() for met in self.met],
            "backend": self.backend,
            "degraded": self.degraded is not None,
        }


class Checks:
    def __init__(
        self,
        *,
        policies: PolicyTable,
        rule: Rule,
        state: Callable[[], State],
        tokens: Tokens,
    ) -> None:
        self._policies = policies
        self._rule = rule
        self._state = state
        self._tokens = tokens

    async def check(self, asked: Check) -> Decision:
        """Raises NotFound for a policy that is not, Invalid for a subject or cost that does not
        fit it, Unavailable when nothing may decide."""
        meetings = self._meet(asked)
        listed = self._policies.listed(asked.subject)
        if listed is not None:
            return _by_list(listed)
        peek = asked.mode == "peek"
        [ruling] = await self._rule([_ask(meetings, peek=peek)])
        return self._decided(meetings, ruling, self._state(), peek=peek)

    async def reserve(self, asked: Reserve) -> Decision:
        """As `check`, but a denial now may be a slot soon."""
        max_wait_us = asked.max_wait_ms * 1000
        meetings = self._meet(asked, max_wait_us)
        listed = self._policies.listed(asked.subject)
        if listed is not None:
            return _by_list(listed)
        [ruling] = await self._rule([_ask(meetings)])
        return self._decided(meetings, ruling, self._state(), max_wait_us=max_wait_us)

    async def batch(self, asked: CheckBatch) -> list[Decision]:
        """In order. Raises Invalid that names every item which cannot be decided; then nothing
        was taken."""
        items, listed = self._meet_all(asked)
        peeks = [item.mode == "peek" for item in asked.items]
        if any(listed):
            return await self._beside_lists(items, listed, peeks, asked.atomic)
        return await self._batch(items, peeks, asked.atomic)

    async def _beside_lists(
        self,
        items: Sequence[Sequence[Meeting]],
        listed: Sequence[ListKind | None],
        peeks: Sequence[bool],
        atomic: bool,
    ) -> list[Decision]:
        """Who is on a list is decided by it. Of an atomic batch all are, when one may nothing."""
        if atomic and ListKind.DENY in listed:
            return [_by_list(ListKind.DENY)] * len(items)
        rest = [number for number, kind in enumerate(listed) if kind is None]
        decided = iter(
            await self._batch([items[n] for n in rest], [peeks[n] for n in rest], atomic)
            if rest
            else ()
        )
        return [next(decided) if kind is None else _by_list(kind) for kind in listed]

    async def _batch(
        self, items: Sequence[Sequence[Meeting]], peeks: Sequence[bool], atomic: bool
    ) -> list[Decision]:
        if atomic:
            return await self._all_or_nothing(items, peeks)
        asks = [_ask(item, peek=peek) for item, peek in zip(items, peeks, strict=True)]
        rulings = [ruling for piece in batcher.pieces(asks) for ruling in await self._rule(piece)]
        state = self._state()
        return [
            self._decided(item, ruling, state, peek=peek)
            for item, ruling, peek in zip(items, rulings, peeks, strict=True)
        ]

    async def _all_or_nothing(
        self, items: Sequence[Sequence[Meeting]], peeks: Sequence[bool]
    ) -> list[Decision]:
        if any(peeks) and not all(peeks):
            raise _invalid([errors.Flaw("/items", "an atomic batch peeks at all or at none")])
        meetings = [meeting for item in items for meeting in item]
        [ruling] = await self._rule([_ask(meetings, peek=peeks[0])])
        levels = iter(ruling.verdict.levels)
        parts = [tuple(next(levels) for _ in item) for item in items]
        state = self._state()
        return [
            self._decided(
                item,
                Ruling(gcra.Verdict(ruling.verdict.passed, part), ruling.backend, ruling.stored),
                state,
                peek=peeks[0],
            )
            for item, part in zip(items, parts, strict=True)
        ]

    def _meet_all(self, asked: CheckBatch) -> tuple[list[list[Meeting]], list[ListKind | None]]:
        """And the list that decides each, if one does."""
        items: list[list[Meeting]] = []
        listed: list[ListKind | None] = []
        flaws: list[errors.Flaw] = []
        for number, item in enumerate(asked.items):
            try:
                items.append(self._meet(item))
                listed.append(self._policies.listed(item.subject))
            except errors.Fault as fault:
                flaws += [errors.Flaw(f"/items/{number}{f.pointer}", f.detail) for f in fault.flaws]
        if flaws:
            raise _invalid(flaws[:MAX_FLAWS])
        return items, listed

    def _meet(self, asked: Asked, max_wait_us: int = 0) -> list[Meeting]:
        meetings: list[Meeting] = []
        for number, name in enumerate(asked.policies):
            policy = self._policies.find(name, asked.subject)
            if policy is None:
                raise _unknown(name, number) if self._policies.loaded else _too_early(name)
            if policy.is_concurrency:
                raise _by_permits(name, number)
            meetings.append(_meeting(asked, policy, max_wait_us))
        return meetings

    def _decided(
        self,
        meetings: Sequence[Meeting],
        ruling: Ruling,
        state: State,
        *,
        peek: bool = False,
        max_wait_us: int = 0,
    ) -> Decision:
        verdict, backend = ruling.verdict, ruling.backend
        hopeless = _is_hopeless(meetings)
        allowed = verdict.passed and not hopeless
        took = allowed and not peek
        met = tuple(map(_met, meetings, verdict.levels, [took] * len(meetings)))
        degraded = state.degraded
        if backend is LOCAL:
            allowed = _alone(met, state.away_s, ruling.stored) and not hopeless
            degraded = degraded or ALONE
        wait_us = 0 if hopeless else _wait_us(met, allowed, max_wait_us)
        token = self._token(met, verdict.levels) if took and allowed else None
        return Decision(allowed, met, backend, degraded, wait_us, hopeless, token)

    def _token(self, met: Sequence[Met], levels: Sequence[gcra.Level]) -> str | None:
        return self._tokens.mint(
            [
                tokens.charge(each.policy.id, each.limit, level)
                for each, level in zip(met, levels, strict=True)
                if each.limit.cost and not each.violated
            ]
        )


def stood(policy: Policy, limit: gcra.Limit, ruling: Ruling, state: State) -> Decision:
    """Where a key stands after a limit that takes nothing of it, the last of its ask."""
    after = ruling.verdict.levels[-1].after(limit)
    quota_level = after if limit.window is not None else None
    met = Met(policy, limit, after.pace, after.debt_us, 0, False, quota_level)
    degraded = state.degraded
    if ruling.backend is LOCAL:
        degraded = degraded or ALONE
    return Decision(True, (met,), ruling.backend, degraded, 0)


def _by_list(kind: ListKind) -> Decision:
    return Decision(kind is ListKind.ALLOW, (), LOCAL, None, 0, listed=kind)


def _ask(meetings: Sequence[Meeting], *, peek: bool = False) -> gcra.Ask:
    """What can never pass only looks, so that the answer still tells where the limits stand."""
    limits = tuple([meeting.limit for meeting in meetings])
    return gcra.Ask(limits, peek or _is_hopeless(meetings))


def _meeting(asked: Asked, policy: Policy, max_wait_us: int) -> Meeting:
    spec, pace = policy.spec, policy.pace
    cost = spec.default_cost if asked.cost is None else asked.cost
    if spec.max_cost is not None and cost > spec.max_cost:
        raise _invalid([errors.Flaw("/cost", f"{policy.id} takes {spec.max_cost} at most")])
    floor_us = policy.floors_us[asked.priority] if spec.floors else 0
    key = subject.key(asked.subject, spec.key, policy.key_name)
    wait_us, window = max_wait_us - floor_us, None
    if policy.calendar is not None:
        # No wait widens a quota: what it holds does not flow back.
        wait_us, window = -floor_us, policy.calendar.window(time.time_ns() // 1000)
    limit = gcra.Limit(
        key, pace, cost, wait_us, spec.shadow, gcra.TAKE, window, policy.pin, policy.opens_after_s
    )
    is_hopeless = not spec.shadow and cost * pace.t_us > pace.tau_us - floor_us
    return Meeting(policy, limit, floor_us, is_hopeless)


def _is_hopeless(meetings: Sequence[Meeting]) -> bool:
    for meeting in meetings:  # noqa: SIM110 - a generator would cost more than what it looks at
        if meeting.is_hopeless:
            return True
    return False


def _met(meeting: Meeting, level: gcra.Level, took: bool) -> Met:
    limit, pace = meeting.limit, level.pace
    violated = not level.fits(limit)
    if limit.window is not None:
        room = max(0, pace.tau_us - meeting.floor_us - limit.cost * pace.t_us)
        need_us = quota.until_us(level, limit.window, room)
        after = level.after(limit) if took and not violated else level
        return Met(meeting.policy, limit, pace, after.debt_us, need_us, violated, after)
    taken_us = limit.cost * pace.t_us if took and not violated else 0
    need_us = level.over_us(limit.cost) + meeting.floor_us
    return Met(meeting.policy, limit, pace, level.debt_us + taken_us, need_us, violated)


def _wait_us(met: Sequence[Met], allowed: bool, max_wait_us: int) -> int:
    """Allowed: until the slot comes. Denied: until asking again can help."""
    longest_us = 0
    for each in met:
        need_us = each.need_us
        if need_us > 0 and not allowed and each.limit.window is not None:
            need_us += max_wait_us  # no part of which a quota would have waited for
        if need_us > longest_us and not each.limit.shadow:
            longest_us = need_us
    return longest_us if allowed else max(0, longest_us - max_wait_us)


def _alone(met: Sequence[Met], away_s: float, stored: frozenset[str]) -> bool:
    """What the policies say when no store has answered for their keys, unless it is one of those
    in `stored`. Raises Unavailable where one refuses to be decided so: that is no denial."""
    judged = [each for each in met if not each.limit.shadow]
    if stored:
        if any(each.violated and each.limit.key in stored for each in judged):
            return False
        judged = [each for each in judged if each.limit.key not in stored]
    modes = [each.policy.mode(away_s) for each in judged]
    if OnFailure.CLOSED in modes:
        closed = judged[modes.index(OnFailure.CLOSED)].policy.id
        raise errors.Unavailable(
            f"no store answers, and the policy {closed} does not decide without one",
            code="limits_unavailable",
        )
    return not any(
        each.violated and mode is OnFailure.LOCAL for each, mode in zip(judged, modes, strict=True)
    )


def _ms(microseconds: int) -> int:
    """Rounded up: nobody is told to come back too early."""
    return -(-microseconds // 1000)


def _unknown(name: str, number: int) -> errors.NotFound:
    detail = f"there is no policy {name}"
    return errors.NotFound(
        detail, code="unknown_policy", flaws=[errors.Flaw(f"/policies/{number}", detail)]
    )


def _too_early(name: str) -> errors.Unavailable:
    """Whoever asks a process before it is ready is not told that a policy is none."""
    return errors.Unavailable(f"the policy {name} is not loaded yet", code="limits_unavailable")


def _by_permits(name: str, number: int) -> errors.Invalid:
    detail = f"{name} limits how many run at once: take a permit"
    return _invalid([errors.Flaw(f"/policies/{number}", detail)])


def _invalid(flaws: Sequence[errors.Flaw]) -> errors.Invalid:
    return errors.Invalid(f"{flaws[0].pointer}: {flaws[0].detail}", flaws=flaws)
