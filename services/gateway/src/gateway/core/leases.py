"""Tokens of busy keys, taken in advance and spent here: one call for many requests.

A busy key takes what it needs for about a second, never more than a share of the bucket, and takes
more in the background before that is gone. What is not needed goes back while it can.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from chassis.kernel import errors
from gateway.core import gcra, ports
from gateway.core.accounts import Account, Lease

# Asked for more often than this in a second, a key is busy.
BUSY_PER_S = 5
SHARE = 0.1
TTL_S = 2.0
# What is leased should be spent in about this time.
LASTS_S = 1.0
# More is taken when this part is left.
LOW = 0.25
LEAST = 2
# Unused for so long, or so near its end, what is left goes back.
IDLE_S = 0.5
END_S = 0.5
# A service that leases nothing of a policy is asked again after this.
REFUSED_S = 30.0
CLOSING_S = 2.0
RETURNS_AT_ONCE = 8


class Leases:
    """`moved` is told (what, tokens); `is_away` says that the limiter is not to be asked, `fell` is
    called when it has not answered."""

    def __init__(
        self,
        *,
        limiter: ports.Limiter,
        monotonic: Callable[[], float],
        moved: Callable[[str, int], None],
        is_away: Callable[[], bool],
        fell: Callable[[], None],
    ) -> None:
        self._limiter = limiter
        self._monotonic = monotonic
        self._moved = moved
        self._is_away = is_away
        self._fell = fell
        self._holding: set[Account] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._returns = asyncio.Semaphore(RETURNS_AT_ONCE)
        self._is_closing = False

    @property
    def tokens(self) -> int:
        """All that is held."""
        return sum(account.tokens for account in self._holding)

    def take(self, account: Account, now_s: float) -> Lease | None:
        """One token of what is held, oldest first; takes more in time."""
        for lease in account.leases:
            if lease.tokens and lease.until_s > now_s:
                lease.tokens -= 1
                if lease.tokens <= account.low and account.tokens <= account.low:
                    self._start_refill(account)
                return lease
        return None

    async def wait(self, account: Account) -> bool:
        """For a busy key that holds nothing: until its refill is over. False if it is none."""
        self._start_refill(account)
        refill = account.refill
        if refill is None:
            return False
        await asyncio.shield(refill)
        return True

    def put_back(self, lease: Lease) -> None:
        """It was not needed after all."""
        lease.tokens += 1

    def sweep(self) -> None:
        """Give back what nobody needs."""
        now = self._monotonic()
        for account in list(self._holding):
            is_idle = account.is_idle(now, IDLE_S)
            self._drop(
                account,
                [
                    each
                    for each in account.leases
                    if is_idle or not each.tokens or each.until_s - now < END_S
                ],
            )

    def forget(self, account: Account) -> None:
        """Nobody will ask for this account again."""
        self._drop(account, account.leases)

    async def close(self) -> None:
        """Give everything back, as far as there is time."""
        self._is_closing = True
        for account in list(self._holding):
            self.forget(account)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_S)
        for task in self._tasks:
            task.cancel()

    def _start_refill(self, account: Account) -> None:
        if account.refill is not None or self._is_closing or self._is_away():
            return
        now = self._monotonic()
        target = self._target(account)
        want = target - account.tokens
        if account.per_s < BUSY_PER_S or target < LEAST or want < 1:
            return
        if now < account.no_lease_before_s or account.denied(now) is not None:
            return
        account.refill = self._spawn(self._refill(account, want))

    def _target(self, account: Account) -> int:
        """How much to hold: what is spent in a while, within the share of the bucket."""
        pace = account.pace
        if pace is None:
            return 0
        most = min(int(SHARE * pace.burst), int(TTL_S * gcra.SECOND_US / pace.t_us))
        return min(most, max(LEAST, int(account.per_s * LASTS_S)))

    async def _refill(self, account: Account, want: int) -> None:
        now = self._monotonic()
        try:
            grant = await self._limiter.lease(
                account.policy, account.subject, want=want, ttl_s=TTL_S
            )
        except errors.Unavailable:
            self._fell()
        except errors.Fault:
            account.no_lease_before_s = now + REFUSED_S
        else:
            self._hold(account, want, grant, now + TTL_S)
        finally:
            account.refill = None

    def _hold(self, account: Account, want: int, grant: ports.Grant, until_s: float) -> None:
        if grant.limit is not None:
            now_us = gcra.now_us(self._monotonic)
            account.learn(grant.limit, account.pace, now_us)
        if grant.tokens:
            self._moved("leased", grant.tokens)
            unspent = [lease for lease in account.leases if lease.tokens]
            account.leases = [*unspent, Lease(grant.id, grant.tokens, until_s)]
            account.low = int(LOW * self._target(account))
            self._holding.add(account)
        if self._is_closing:
            self.forget(account)
        elif grant.tokens < want:
            self._ration(account, want, grant)

    def _ration(self, account: Account, want: int, grant: ports.Grant) -> None:
        """It is empty: ask again when there may be as much as was wanted, not for every token."""
        limit, pace = grant.limit, account.pace
        if limit is None or pace is None:
            account.no_lease_before_s = self._monotonic() + 1.0
            return
        refilled_s = want * pace.t_us / gcra.SECOND_US
        account.deny(
            limit,
            grant.backend,
            now_s=self._monotonic(),
            for_s=max(limit.reset_s, min(refilled_s, LASTS_S)),
        )

    def _drop(self, account: Account, leases: Iterable[Lease]) -> None:
        now = self._monotonic()
        for lease in list(leases):
            account.leases.remove(lease)
            unspent, lease.tokens = lease.tokens, 0
            if unspent and lease.id is not None and lease.until_s > now:
                self._spawn(self._give_back(lease.id, unspent))
        if not account.leases:
            self._holding.discard(account)

    async def _give_back(self, lease_id: str, unspent: int) -> None:
        try:
            async with self._returns:
                await self._limiter.give_back(lease_id, unspent)
        except errors.Fault:
            # Its tokens are spent for nobody, which is a little too strict for a moment.
            self._moved("lost", unspent)
        else:
            self._moved("returned", unspent)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A context of its own: a request's deadline and trace are not what many live by.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
