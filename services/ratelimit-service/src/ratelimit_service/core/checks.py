"""The use cases of a check: which limits it meets, whether it passes, and what is said of it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.kernel import errors
from contracts.ratelimits import Asked, Backend, Check, CheckBatch, OnFailure, Reserve
from ratelimit_service.core import batcher, gcra, subject
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.switch import Ruling
from ratelimit_service.core.tokens import Tokens

MAX_FLAWS = 20

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]


@dataclass(frozen=True, slots=True)
class State:
    """What the switch says of itself: what is missing, and for how long Postgres has been away."""

    degraded: str | None
    away_s: float


@dataclass(frozen=True, slots=True)
class Meeting:
    """A limit on its way through a check. `floor_us` is the end of the bucket it may not touch."""

    policy: Policy
    limit: gcra.Limit
    floor_us: int

    @property
    def is_hopeless(self) -> bool:
        room_us = self.limit.pace.tau_us - self.floor_us
        return not self.limit.shadow and self.limit.cost * self.limit.pace.t_us > room_us


@dataclass(frozen=True, slots=True)
class Met:
    """A limit after the check: what its key owes now, and how long until the cost would fit."""

    policy: Policy
    limit: gcra.Limit
    pace: gcra.Pace
    debt_us: int
    need_us: int
    violated: bool

    @property
    def remaining(self) -> int:
        return max(0, (self.pace.tau_us - self.debt_us) // self.pace.t_us)

    @property
    def reset_us(self) -> int:
        """Until one more token is there; 0 for a full bucket."""
        if self.debt_us > self.pace.tau_us:
            return self.debt_us - self.pace.tau_us + self.pace.t_us
        return self.debt_us % self.pace.t_us or min(self.debt_us, self.pace.t_us)

    def document(self) -> dict[str, Any]:
        return {
            "policy": self.policy.id,
            "limit": self.pace.burst,
            "remaining": self.remaining,
            "reset_ms": _ms(self.reset_us),
            "window_s": self.policy.window_s,
            "violated": self.violated,
            "shadow": self.limit.shadow,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    allowed: bool
    met: tuple[Met, ...]
    backend: Backend
    degraded: str | None
    wait_us: int
    unsatisfiable: bool = False
    token: str | None = None

    @property
    def retry_after_ms(self) -> int | None:
        return None if self.allowed or self.unsatisfiable else _ms(self.wait_us)

    def document(self) -> dict[str, Any]:
        return {
            "allowed": self.allowed,
            "wait_ms": _ms(self.wait_us),
            "retry_after_ms": self.retry_after_ms,
            "unsatisfiable": self.unsatisfiable,
            "token": self.token,
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
        [ruling] = await self._rule([_ask(meetings, peek=asked.mode == "peek")])
        return self._decided(meetings, ruling, peek=asked.mode == "peek")

    async def reserve(self, asked: Reserve) -> Decision:
        """As `check`, but a denial now may be a slot soon."""
        max_wait_us = asked.max_wait_ms * 1000
        meetings = self._meet(asked, max_wait_us)
        [ruling] = await self._rule([_ask(meetings)])
        return self._decided(meetings, ruling, max_wait_us=max_wait_us, is_reservation=True)

    async def batch(self, asked: CheckBatch) -> list[Decision]:
        """In order. Raises Invalid that names every item which cannot be decided; then nothing
        was taken."""
        items = self._meet_all(asked)
        peeks = [item.mode == "peek" for item in asked.items]
        if asked.atomic:
            return await self._all_or_nothing(items, peeks)
        asks = [_ask(item, peek=peek) for item, peek in zip(items, peeks, strict=True)]
        rulings = [ruling for piece in batcher.pieces(asks) for ruling in await self._rule(piece)]
        return [
            self._decided(item, ruling, peek=peek)
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
        return [
            self._decided(
                item,
                Ruling(gcra.Verdict(ruling.verdict.passed, part), ruling.backend),
                peek=peeks[0],
            )
            for item, part in zip(items, parts, strict=True)
        ]

    def _meet_all(self, asked: CheckBatch) -> list[list[Meeting]]:
        items: list[list[Meeting]] = []
        flaws: list[errors.Flaw] = []
        for number, item in enumerate(asked.items):
            try:
                items.append(self._meet(item))
            except errors.Fault as fault:
                flaws += [errors.Flaw(f"/items/{number}{f.pointer}", f.detail) for f in fault.flaws]
        if flaws:
            raise _invalid(flaws[:MAX_FLAWS])
        return items

    def _meet(self, asked: Asked, max_wait_us: int = 0) -> list[Meeting]:
        return list(self._meetings(asked, max_wait_us))

    def _meetings(self, asked: Asked, max_wait_us: int) -> Iterator[Meeting]:
        for number, name in enumerate(asked.policies):
            policy = self._policies.find(name)
            if policy is None:
                raise _unknown(name, number)
            spec = policy.spec
            cost = spec.default_cost if asked.cost is None else asked.cost
            if spec.max_cost is not None and cost > spec.max_cost:
                raise _invalid([errors.Flaw("/cost", f"{name} takes {spec.max_cost} at most")])
            floor_us = policy.floors_us[asked.priority]
            limit = gcra.Limit(
                key=subject.key(asked.subject, spec.key, name),
                pace=policy.pace,
                cost=cost,
                wait_us=max_wait_us - floor_us,
                shadow=spec.shadow,
            )
            yield Meeting(policy, limit, floor_us)

    def _decided(
        self,
        meetings: Sequence[Meeting],
        ruling: Ruling,
        *,
        peek: bool = False,
        max_wait_us: int = 0,
        is_reservation: bool = False,
    ) -> Decision:
        state = self._state()
        levels = ruling.verdict.levels
        hopeless = any(meeting.is_hopeless for meeting in meetings)
        took = ruling.verdict.passed and not peek and not hopeless
        met = tuple(
            _met(meeting, level, took=took) for meeting, level in zip(meetings, levels, strict=True)
        )
        allowed = ruling.verdict.passed and not hopeless
        degraded = state.degraded
        if ruling.backend is Backend.LOCAL:
            allowed = _alone(met, state.away_s) and not hopeless
            degraded = degraded or "postgres;this replica decides its share"
        return Decision(
            allowed=allowed,
            met=met,
            backend=ruling.backend,
            degraded=degraded,
            wait_us=0 if hopeless else _wait_us(met, allowed=allowed, max_wait_us=max_wait_us),
            unsatisfiable=hopeless,
            token=self._token(met, levels) if is_reservation and allowed else None,
        )

    def _token(self, met: Sequence[Met], levels: Sequence[gcra.Level]) -> str:
        pairs = zip(met, levels, strict=True)
        return self._tokens.mint((each.limit, level) for each, level in pairs if not each.violated)


def _ask(meetings: Sequence[Meeting], *, peek: bool = False) -> gcra.Ask:
    """What can never pass only looks, so that the answer still tells where the limits stand."""
    hopeless = any(meeting.is_hopeless for meeting in meetings)
    return gcra.Ask(tuple(meeting.limit for meeting in meetings), peek=peek or hopeless)


def _met(meeting: Meeting, level: gcra.Level, *, took: bool) -> Met:
    limit = meeting.limit
    violated = not level.fits(limit)
    taken_us = limit.cost * level.pace.t_us if took and not violated else 0
    return Met(
        policy=meeting.policy,
        limit=limit,
        pace=level.pace,
        debt_us=level.debt_us + taken_us,
        need_us=level.over_us(limit.cost) + meeting.floor_us,
        violated=violated,
    )


def _wait_us(met: Sequence[Met], *, allowed: bool, max_wait_us: int) -> int:
    """Allowed: until the slot comes. Denied: until asking again can help."""
    counted = [each.need_us for each in met if not each.limit.shadow]
    return max(0, max(counted, default=0) - (0 if allowed else max_wait_us))


def _alone(met: Sequence[Met], away_s: float) -> bool:
    """What the policies say when no store has answered. Raises Unavailable where one refuses to
    be decided so: that is no denial."""
    judged = [each for each in met if not each.limit.shadow]
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


def _invalid(flaws: Sequence[errors.Flaw]) -> errors.Invalid:
    return errors.Invalid(f"{flaws[0].pointer}: {flaws[0].detail}", flaws=flaws)
