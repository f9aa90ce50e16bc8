"""What this gateway knows of each key that it counts: how much it asks, and where it stands.

Bounded per policy, so that a crowd of addresses pushes out addresses and no shop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from chassis.kernel.values import value
from gateway.core import gcra, ports

CAPACITY = 10_000
# No denial is believed for longer.
DENIAL_MAX_S = 1.0


@value
class Denial:
    """Nothing is left until `until_s` on the monotonic clock."""

    limit: ports.Limit
    backend: str
    until_s: float


@dataclass(slots=True, eq=False)
class Lease:
    """Tokens that are ours to spend until `until_s`."""

    id: str | None
    tokens: int
    until_s: float


@dataclass(slots=True, eq=False)
class Account:
    """`pace` and `empty_until_us` are what the limiter last said: None before it said anything.
    `share` is the part of the pace that is ours alone, once somebody has asked for it. `low`: with
    no more tokens than this, more are taken."""

    policy: str
    subject: ports.Subject
    pace: gcra.Pace | None = None
    share: gcra.Pace | None = None
    empty_until_us: int = 0
    denial: Denial | None = None
    leases: list[Lease] = field(default_factory=list)
    refill: asyncio.Task[None] | None = None
    no_lease_before_s: float = 0.0
    low: int = 0
    is_gone: bool = False
    _since_s: float = 0.0
    _now: int = 0
    _before: int = 0

    @property
    def per_s(self) -> int:
        """How often it was asked for in this second or the last one, whichever was more."""
        return max(self._now, self._before)

    def asked(self, now_s: float) -> None:
        elapsed_s = now_s - self._since_s
        if elapsed_s >= 1.0:
            self._before = self._now if elapsed_s < 2.0 else 0
            self._since_s, self._now = now_s, 0
        self._now += 1

    def is_idle(self, now_s: float, idle_s: float) -> bool:
        return now_s - self._since_s >= idle_s + 1.0

    @property
    def tokens(self) -> int:
        return sum(lease.tokens for lease in self.leases)

    def holds(self, now_s: float) -> bool:
        return any(lease.tokens and lease.until_s > now_s for lease in self.leases)

    def denied(self, now_s: float) -> Denial | None:
        found = self.denial
        if found is not None and found.until_s <= now_s:
            found = self.denial = None
        return found

    def deny(self, limit: ports.Limit, backend: str, *, now_s: float, for_s: float) -> None:
        self.denial = Denial(limit, backend, now_s + min(for_s, DENIAL_MAX_S))

    def learn(self, limit: ports.Limit, known: gcra.Pace | None, now_us: int) -> None:
        """What an answer says of this key. `known`: the policy's own pace, which is exact."""
        if limit.shadow or limit.burst <= 0 or limit.window_s <= 0:
            self.pace = self.share = None
            return
        pace = _pace(limit, known)
        if pace is not self.pace:
            self.pace, self.share = pace, None
        # One more comes in `reset_s`, so it owes all but what is left and that one.
        owed_us = pace.tau_us - (limit.remaining + 1) * pace.t_us + round(limit.reset_s * 1e6)
        self.empty_until_us = now_us + max(0, owed_us)


class Accounts:
    """`forgotten` gets each account that had to make room; those longest untouched go first."""

    def __init__(self, *, forgotten: Callable[[Account], None], capacity: int = CAPACITY) -> None:
        self._forgotten = forgotten
        self._capacity = capacity
        self._by_policy: dict[str, OrderedDict[ports.Subject, Account]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_policy.values()))

    def of(self, policy: str, subject: ports.Subject) -> Account:
        accounts = self._by_policy.get(policy)
        if accounts is None:
            accounts = self._by_policy[policy] = OrderedDict()
        found = accounts.get(subject)
        if found is not None:
            accounts.move_to_end(subject)
            return found
        if len(accounts) >= self._capacity:
            gone = accounts.popitem(last=False)[1]
            gone.is_gone = True
            self._forgotten(gone)
        made = accounts[subject] = Account(policy, subject)
        return made

    def touch(self, account: Account) -> None:
        """It is in use: others make room first."""
        self._by_policy[account.policy].move_to_end(account.subject)


def _pace(limit: ports.Limit, known: gcra.Pace | None) -> gcra.Pace:
    """Windows are told in whole seconds: the known pace is finer, where it is this one."""
    if known is not None and (known.burst, known.window_s) == (limit.burst, limit.window_s):
        return known
    return gcra.pace(per_s=limit.burst / limit.window_s, burst=limit.burst)
