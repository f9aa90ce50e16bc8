"""Rate limits, as an app asks them: part of `Client`.

A denial is an answer (`allowed` is False), never an error; a limiter that is away is `Unavailable`.
Who goes on by himself then is `mainstay.limiter.Limiter`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NotRequired, Required, TypedDict, TypeVar, Unpack

from mainstay import errors, ids, limits
from mainstay.permits import Renewal
from mainstay.transport import Transport, step

PREFIX = "/v1/ratelimits"
# What is not given back in this time runs out by itself.
GIVE_BACK_S = 5.0
Names = str | Sequence[str]
M = TypeVar("M")


class Subject(TypedDict, total=False):
    """Who is counted. A shop that is not verified counts as its `ip`. `user` is anything that acts,
    `sender` a number or name that messages come from."""

    shop: str | None
    shop_verified: bool
    ip: str | None
    user: str | None
    sender: str | None


class CheckItem(TypedDict):
    """One item of `check_batch`; without `cost` each policy takes its own default."""

    policies: Required[Sequence[str]]
    subject: Required[Mapping[str, Any]]
    cost: NotRequired[int | None]
    priority: NotRequired[str]
    mode: NotRequired[str]


class RateLimits:
    _transport: Transport

    async def check(
        self,
        policies: Names,
        *,
        cost: int | None = None,
        priority: str = "default",
        **subject: Unpack[Subject],
    ) -> limits.Decision:
        """May this be done now? All policies pass, or nothing is taken."""
        asked = _asked(policies, subject, cost=cost, priority=priority)
        return await self._limits("POST", "check", limits.Decision, asked)

    async def enforce(
        self,
        policies: Names,
        *,
        cost: int | None = None,
        priority: str = "default",
        **subject: Unpack[Subject],
    ) -> limits.Decision:
        """As `check`, but a denial raises `Limited` with `retry_after_s`."""
        decision = await self.check(policies, cost=cost, priority=priority, **subject)
        if not decision.allowed:
            raise refusal(decision)
        return decision

    async def check_batch(
        self,
        items: Iterable[CheckItem],
        *,
        atomic: bool = False,
        within_s: float | None = None,
    ) -> tuple[limits.Decision, ...]:
        """Up to 1,000 checks, decided in order in one step; with `atomic` all pass or nothing is
        taken. `within_s`: one try in this time, instead of the client's patience."""
        body = {"items": [_said(item) for item in items], "atomic": atomic}
        answered = await self._transport.call(
            "POST",
            f"{PREFIX}/check:batch",
            body=body,
            within_s=within_s,
            tries=None if within_s is None else 1,
        )
        return answered.read(limits.Decisions).results

    async def reserve(
        self,
        policies: Names,
        *,
        cost: int | None = 1,
        max_wait_ms: int = 0,
        priority: str = "default",
        **subject: Unpack[Subject],
    ) -> limits.Decision:
        """A slot that nobody else is given, at most `max_wait_ms` ahead. What comes of it is told
        by `refund`; an answer that was lost leaves a slot unused."""
        asked = _asked(policies, subject, cost=cost, priority=priority)
        asked["max_wait_ms"] = max_wait_ms
        return await self._limits("POST", "reserve", limits.Decision, asked)

    async def refund(self, token: str, cost: int | None = None) -> int:
        """Give back what a decision's `token` stands for, all of it or `cost` of it; how much came
        back. Once: whatever comes later gives 0."""
        asked = _said({"token": token, "cost": cost})
        return (await self._limits("POST", "refund", limits.Refunded, asked)).refunded

    async def penalize(
        self,
        policy: str,
        cost: int,
        *,
        reason: str | None = None,
        within_s: float | None = None,
        **subject: Unpack[Subject],
    ) -> limits.Levels:
        """Take `cost` whether it fits or not. Tried once: a repeat would take twice."""
        asked = {"subject": _said(subject), "policy": policy, "cost": cost, "reason": reason}
        answered = await self._transport.call(
            "POST", f"{PREFIX}/penalize", body=_said(asked), within_s=within_s, tries=1
        )
        return answered.read(limits.Levels)

    async def observe(
        self, policy: str, *, shop: str, **told: Unpack[limits.Observed]
    ) -> limits.Levels:
        """What an upstream said of its own bucket. It may only lower what is thought to be left; a
        policy with `learn` takes over rate and size."""
        asked = {"policy": policy, "shop": shop, **told}
        return await self._limits("POST", "observe", limits.Levels, _said(asked))

    async def peek(self, policies: Names, **subject: Unpack[Subject]) -> limits.Levels:
        """Where limits stand; takes nothing."""
        names = [policies] if isinstance(policies, str) else list(policies)
        query = {"policy": ",".join(names), **_said(subject)}
        return await self._limits("GET", "peek", limits.Levels, query=query)

    async def reset(
        self, policy: str, *, reason: str | None = None, **subject: Unpack[Subject]
    ) -> limits.Levels:
        """Forget what a subject has spent. Needs `ratelimits:admin`, and is written down."""
        asked = {"subject": _said(subject), "policy": policy, "reason": reason}
        return await self._limits("POST", "reset", limits.Levels, _said(asked))

    @asynccontextmanager
    async def permit(
        self,
        policy: str,
        *,
        ttl_s: float = 30.0,
        weight: int = 1,
        **subject: Unpack[Subject],
    ) -> AsyncIterator[limits.Permit]:
        """One of so many at once, held and renewed while the block runs. Raises `Limited` when all
        are taken. If it cannot be renewed in time, the block is cancelled and `Unavailable` raised:
        somebody else may have it by then."""
        asked = {"policy": policy, "subject": _said(subject), "ttl_ms": int(ttl_s * 1000),
                 "weight": weight, "id": ids.new_id()}  # fmt: skip
        path, since = f"permits/{asked['id']}", asyncio.get_running_loop().time()
        try:
            permit = await self._limits("POST", "permits", limits.Permit, asked)
        except (errors.Unavailable, asyncio.CancelledError):
            await self._give_back(path)
            raise
        if not permit.allowed:
            wait_ms = permit.retry_after_ms
            raise errors.Limited(
                f"all {permit.limit} of {policy} are taken",
                status=429,
                code="rate_limited",
                retry_after_s=None if wait_ms is None else wait_ms / 1000,
            )
        try:
            renew = partial(self._renew, path, ttl_s)
            async with Renewal(renew, ttl_s, since=since):
                yield permit
        finally:
            await self._give_back(path)

    async def lease_tokens(
        self, policy: str, want: int, *, ttl_s: float, **subject: Unpack[Subject]
    ) -> limits.TokenLease:
        """Take up to `want` at once, to be spent in this process within `ttl_s`."""
        asked = {"policy": policy, "subject": _said(subject), "want": want,
                 "ttl_ms": int(ttl_s * 1000)}  # fmt: skip
        return await self._limits("POST", "leases", limits.TokenLease, asked)

    async def return_tokens(self, lease: limits.TokenLease, unspent: int) -> None:
        """Give back the rest, once, before it runs out; later it is gone."""
        if lease.id is not None:
            query = {"unspent": unspent}
            with suppress(errors.NotFound):
                await self._transport.call(
                    "DELETE", f"{PREFIX}/leases/{step(lease.id)}", query=query
                )

    async def _limits(
        self,
        method: str,
        path: str,
        model: type[M],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> M:
        """The document itself says who decided."""
        answered = await self._transport.call(method, f"{PREFIX}/{path}", body=body, query=query)
        return answered.read(model)

    async def _renew(self, path: str, ttl_s: float, within_s: float) -> bool:
        """False when it is lost."""
        body = {"ttl_ms": int(ttl_s * 1000)}
        try:
            answered = await self._transport.call(
                "PUT", f"{PREFIX}/{path}", body=body, within_s=within_s, tries=1
            )
        except errors.NotFound:
            return False
        return answered.read(limits.Permit).allowed

    async def _give_back(self, path: str) -> None:
        with suppress(errors.ApiError):
            await asyncio.shield(
                self._transport.call("DELETE", f"{PREFIX}/{path}", within_s=GIVE_BACK_S, tries=1)
            )


def refusal(decision: limits.Decision) -> errors.Limited:
    """A denial as an error."""
    over = [one.policy for one in decision.limits if one.violated and not one.shadow]
    wait_ms = decision.retry_after_ms
    return errors.Limited(
        f"over the limit {', '.join(over)}" if over else "refused by a list",
        status=429,
        code="rate_limited",
        retry_after_s=None if wait_ms is None else wait_ms / 1000,
    )


def _asked(
    policies: Names, subject: Mapping[str, Any], *, cost: int | None, priority: str
) -> dict[str, Any]:
    names = [policies] if isinstance(policies, str) else list(policies)
    said = {"subject": _said(subject), "policies": names, "cost": cost, "priority": priority}
    return _said(said)


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
