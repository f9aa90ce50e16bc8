"""How much may come in: per API key and shop, without a key per address.

ratelimit-service decides: ahead of time for busy keys (`leases`), else within a small budget. What
it has refused is refused here for a moment without asking again. While it does not answer, this
process decides its share by what it was last told, and says so: a limiter that is away is no reason
to refuse anybody.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence

from chassis.kernel import errors
from gateway.core import gcra, keys, ports
from gateway.core.absence import Absence
from gateway.core.accounts import Accounts, Denial, Lease
from gateway.core.callers import Caller, Callers
from gateway.core.leases import Leases
from gateway.core.local import LOCAL, Asked, Debit, Local
from gateway.core.policies import API, API_IP, API_KEY, Policies

# The limiter's lists hold within this time also for who passes by what is leased.
CLEARED_S = 5.0
# Who is on its list of denials costs it one call in this time.
LISTED_S = 1.0
# More keys than these are not told of: the most spent come first.
DEBITS = 1_000
TOLD_AT_ONCE = 8

# A decision, and what it came by: denial, lease, service, local, or exempt: no policy counts it.
Ruling = tuple[ports.Decision, str]

PASSED = ports.Decision(allowed=True, limits=(), retry_after_s=0.0, backend="lease")
PASSED_BY_LEASE = (PASSED, "lease")


class Admission:
    """`counted` is told (backend, outcome) of each decision, `moved` (what, tokens) of those that
    are taken in advance, given back and told of; `gateways` share what they decide alone."""

    def __init__(
        self,
        *,
        limiter: ports.Limiter,
        monotonic: Callable[[], float],
        counted: Callable[[str, str], None],
        moved: Callable[[str, int], None],
        gateways: int = 1,
    ) -> None:
        self._limiter = limiter
        self._monotonic = monotonic
        self._counted = counted
        self._moved = moved
        self._policies = Policies()
        self.absence = Absence(monotonic)
        self.leases = Leases(
            limiter=limiter,
            monotonic=monotonic,
            moved=moved,
            is_away=lambda: self.absence.is_on,
            fell=self.absence.begin,
        )
        self._accounts = Accounts(forgotten=self.leases.forget)
        self._local = Local(monotonic, gateways=gateways)
        self._callers = Callers()

    def __len__(self) -> int:
        """How many are remembered, whatever for."""
        return len(self._accounts) + len(self._local) + len(self._callers)

    async def __call__(
        self, *, identity: keys.Identity | None, shop: str | None, address: str
    ) -> str | None:
        """Let it pass, or raise Limited. Returns what is degraded about the decision."""
        if identity is not None and identity.is_admin:
            return None
        return await self.admit(_demand(identity, shop, address))

    async def admit(self, demand: ports.Demand) -> str | None:
        caller = self._callers.get(demand) or self._meet(demand)
        decision, by = self._at_once(caller) or await self._decide(demand, caller)
        self._counted(by, "allowed" if decision.allowed else "refused")
        if not decision.allowed:
            raise refusal(decision)
        return decision.degraded

    async def refresh(self) -> None:
        """Learn what the policies are. Unavailable while nobody says."""
        if self._policies.replace(await self._limiter.policies()):
            self._callers.clear()

    async def come_back(self) -> None:
        """Once the limiter answers again, tell it what was given out, then let it decide."""
        if not self.absence.is_on:
            return
        try:
            await self._limiter.answers()
            if self.absence.answered():
                # Twice: some is given out while the first is told.
                await self._tell()
                await self._tell()
                self.absence.end()
                await self._tell()
        except errors.Unavailable:
            self.absence.missed()
            return
        self._forget()

    def _forget(self) -> None:
        if not self.absence.is_on:
            self._local.clear()

    def _meet(self, demand: ports.Demand) -> Caller:
        asked = []
        for name in demand.policies:
            known = self._policies.get(name)
            subject = known.subject(demand) if known is not None else None
            if known is not None and subject is not None:
                account = self._accounts.of(name, subject)
                account.share = None
                asked.append(Asked(account, known))
        caller = Caller(asked)
        self._callers.add(demand, caller)
        return caller

    def _at_once(self, caller: Caller) -> Ruling | None:
        """What can be said without asking anybody: most of what there is to say on a busy day."""
        now = self._monotonic()
        refused = self._refused(caller, caller.asked, now)
        if refused is not None:
            return refused, "denial"
        holding = 0
        for each in caller.asked:
            account = each.account
            account.asked(now)
            self._accounts.touch(account)
            holding += account.holds(now)
        if not caller.asked:
            return PASSED, "exempt"
        if holding == len(caller.asked) and (caller.cleared_until_s > now or self.absence.is_on):
            for each in caller.asked:
                self.leases.take(each.account, now)
            return PASSED_BY_LEASE
        if self.absence.is_on and not holding:
            return self._local.decide(caller.asked, away_s=self.absence.lasts_s), "local"
        return None

    async def _decide(self, demand: ports.Demand, caller: Caller) -> Ruling:
        held: list[Lease] = []
        ruling: Ruling | None = None
        try:
            others = await self._lease(caller.asked, held)
            refused = self._refused(caller, others, self._monotonic())
            if refused is not None:
                return refused, "denial"
            ruling = await self._decide_others(demand, caller, others)
        finally:
            if ruling is None or not ruling[0].allowed:
                self._put_back(held)
        return ruling

    async def _decide_others(
        self, demand: ports.Demand, caller: Caller, others: Sequence[Asked]
    ) -> Ruling:
        if not others:
            return await self._may_pass(demand, caller), "lease"
        if not self.absence.is_on:
            try:
                return await self._check(demand, caller, others), "service"
            except errors.Unavailable:
                self.absence.begin()
            except errors.Fault:
                pass  # it is there, but has no word for this request
        return self._local.decide(others, away_s=self.absence.lasts_s), "local"

    async def _may_pass(self, demand: ports.Demand, caller: Caller) -> ports.Decision:
        """Tokens are there, but is it on a list? Asked by name every few seconds."""
        now = self._monotonic()
        if self.absence.is_on or caller.cleared_until_s > now:
            return PASSED
        try:
            looked = await self._limiter.check(demand._replace(takes=False))
        except errors.Unavailable:
            self.absence.begin()
            return PASSED
        except errors.Fault:
            return PASSED
        if looked.allowed or looked.limits:
            caller.cleared_until_s = now + CLEARED_S
            return PASSED
        caller.listed, caller.listed_until_s = looked, now + LISTED_S
        return looked

    def _refused(self, caller: Caller, asked: Sequence[Asked], now: float) -> ports.Decision | None:
        """What was refused a moment ago still is, unless there are tokens for it here."""
        for each in asked:
            denial = each.account.denied(now)
            if denial is not None and not each.account.holds(now):
                # Who hammers at an empty bucket is busy there, and spends nothing elsewhere.
                each.account.asked(now)
                return _still(denial, now)
        return caller.listed if caller.listed_until_s > now else None

    async def _lease(self, asked: Sequence[Asked], held: list[Lease]) -> list[Asked]:
        """Adds to `held` what was spent; returns those that nothing was held for."""
        others = []
        for each in asked:
            account = each.account
            lease = self.leases.take(account, self._monotonic())
            if lease is None and each.known.is_leasable and await self.leases.wait(account):
                lease = self.leases.take(account, self._monotonic())
            if lease is None:
                others.append(each)
            else:
                held.append(lease)
        return others

    def _put_back(self, held: Sequence[Lease]) -> None:
        for lease in held:
            self.leases.put_back(lease)

    async def _check(
        self, demand: ports.Demand, caller: Caller, asked: Sequence[Asked]
    ) -> ports.Decision:
        policies = tuple(each.account.policy for each in asked)
        decision = await self._limiter.check(demand._replace(policies=policies))
        now = self._monotonic()
        self._learn(asked, decision, now)
        if decision.allowed:
            caller.cleared_until_s = now + CLEARED_S
        elif not decision.limits:
            caller.listed, caller.listed_until_s = decision, now + LISTED_S
        return decision

    def _learn(self, asked: Sequence[Asked], decision: ports.Decision, now: float) -> None:
        by_policy = {each.account.policy: each for each in asked}
        for limit in decision.limits:
            found = by_policy.get(limit.policy)
            if found is None:
                continue
            found.account.learn(limit, found.known.pace, int(now * gcra.SECOND_US))
            if limit.violated and not decision.allowed:
                found.account.deny(limit, decision.backend, now_s=now, for_s=decision.retry_after_s)

    async def _tell(self) -> None:
        debits = self._local.debits()[:DEBITS]
        for start in range(0, len(debits), TOLD_AT_ONCE):
            some = debits[start : start + TOLD_AT_ONCE]
            await asyncio.gather(*map(self._tell_of, some))

    async def _tell_of(self, debit: Debit) -> None:
        account = self._accounts.of(debit.policy, debit.subject)
        known = self._policies.get(debit.policy)
        try:
            limit = await self._limiter.debit(debit.policy, debit.subject, debit.tokens)
        except errors.Unavailable:
            raise
        except errors.Fault:
            self._moved("lost", debit.tokens)
        else:
            self._moved("debited", debit.tokens)
            if limit is not None and known is not None:
                account.learn(limit, known.pace, gcra.now_us(self._monotonic))
        self._local.told(debit)


def _demand(identity: keys.Identity | None, shop: str | None, address: str) -> ports.Demand:
    if identity is None:
        policies: tuple[str, ...] = (API_IP,)
    else:
        policies = (API_KEY, API) if shop else (API_KEY,)
    key_id = identity.key_id if identity else None
    return ports.Demand(policies, shop, key_id, address)


def _still(denial: Denial, now_s: float) -> ports.Decision:
    left_s = denial.until_s - now_s
    limit = dataclasses.replace(denial.limit, remaining=0, reset_s=left_s, violated=True)
    return ports.Decision(False, (limit,), left_s, denial.backend, degraded(denial.backend))


def degraded(backend: str) -> str | None:
    """What is said of a decision by this backend of the limiter."""
    return LOCAL if backend == "local" else None


def refusal(decision: ports.Decision) -> errors.Limited:
    """429 with the headers that say which limit, how it is made, and when to come again."""
    violated = [limit for limit in decision.limits if limit.violated] or list(decision.limits)
    headers = {"Mainstay-Backend": decision.backend}
    if violated:
        headers["RateLimit"] = ", ".join(
            f'"{each.policy}";r={each.remaining};t={max(1, math.ceil(each.reset_s))}'
            for each in violated
        )
        headers["RateLimit-Policy"] = ", ".join(
            f'"{each.policy}";q={each.burst};w={each.window_s}' for each in violated
        )
    if decision.degraded is not None:
        headers["Degraded"] = decision.degraded
    return errors.Limited(
        f"over the limit {violated[0].policy}" if violated else "over a limit",
        retry_after_s=decision.retry_after_s,
        headers=headers,
    )
