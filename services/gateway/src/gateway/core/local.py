"""Deciding alone, while the limiter does not: this gateway's share of what it last saw.

Each of `gateways` gives out the same share of a bucket and of its refill, so that together they
give out one. What was given out is told to the limiter before it decides again.
"""

from collections.abc import Callable, Sequence

from chassis.kernel import errors
from chassis.kernel.values import value
from gateway.core import gcra, ports
from gateway.core.accounts import Account
from gateway.core.policies import Known

LOCAL = "limits;local"
OPEN = "limits;open"
# A key never seen here may have spent anything elsewhere: it starts half full.
UNSEEN = 0.5

PASSED = ports.Decision(True, (), 0.0, "local", LOCAL)
PASSED_OPEN = ports.Decision(True, (), 0.0, "local", OPEN)


@value
class Asked:
    """One policy of a request, and whom it counts."""

    account: Account
    known: Known


@value
class Debit:
    """Tokens given out without the limiter."""

    policy: str
    subject: ports.Subject
    tokens: int


class Local:
    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        gateways: int,
        capacity: int = gcra.CAPACITY,
    ) -> None:
        self._monotonic = monotonic
        self._gateways = gateways
        self._capacity = capacity
        self._buckets: dict[str, gcra.Buckets] = {}

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def decide(self, asked: Sequence[Asked], *, away_s: float) -> ports.Decision:
        """One token of each bucket, or of none. Raises Unavailable where a policy would rather let
        nothing pass than let it pass uncounted."""
        counted = [each for each in asked if self._is_counted(each.known, away_s)]
        if not counted:
            return PASSED_OPEN
        levels = [self._peek(each) for each in counted] if len(counted) > 1 else []
        if all(level.allowed for level in levels):
            levels = [self._take(each) for each in counted]
            if levels[0].allowed:
                return PASSED
        return ports.Decision(
            allowed=False,
            limits=tuple(map(self._limit, counted, levels)),
            retry_after_s=max(level.retry_after_s for level in levels),
            backend="local",
            degraded=LOCAL,
        )

    def debits(self) -> list[Debit]:
        """What was given out and has not flowed off since, the most first."""
        now = gcra.now_us(self._monotonic)
        found = [
            Debit(policy, subject, bucket.given(now))
            for policy, buckets in self._buckets.items()
            for subject, bucket in buckets.items()
            if bucket.given(now)
        ]
        return sorted(found, key=lambda debit: debit.tokens, reverse=True)

    def told(self, debit: Debit) -> None:
        """The limiter knows of these."""
        bucket = self._of(debit.policy).get(debit.subject)
        if bucket is not None:
            bucket.told(debit.tokens, gcra.now_us(self._monotonic))

    def clear(self) -> None:
        """The limiter decides again, and knows all that was given out."""
        self._buckets.clear()

    def _is_counted(self, known: Known, away_s: float) -> bool:
        mode = known.on_failure
        if mode == "local" or known.mode(away_s) == "local":
            return not known.is_exempt
        if mode == "closed" and not known.is_exempt:
            raise errors.Unavailable("nobody decides on limits now", code="limits_unavailable")
        return False

    def _peek(self, asked: Asked) -> gcra.Level:
        account = asked.account
        return self._of(account.policy).peek(
            account.subject, self._pace(asked), start_us=self._start_us(asked)
        )

    def _take(self, asked: Asked) -> gcra.Level:
        account = asked.account
        return self._of(account.policy).take(
            account.subject, self._pace(asked), start_us=self._start_us(asked)
        )

    def _of(self, policy: str) -> gcra.Buckets:
        """Each policy has its own, so that a crowd of addresses pushes out no shop."""
        found = self._buckets.get(policy)
        if found is None:
            found = gcra.Buckets(self._monotonic, capacity=self._capacity)
            self._buckets[policy] = found
        return found

    def _pace(self, asked: Asked) -> gcra.Pace:
        account = asked.account
        share = account.share
        if share is None:
            share = account.share = (account.pace or asked.known.pace).shared(self._gateways)
        return share

    def _start_us(self, asked: Asked) -> int:
        """What a share owes lasts as long as what the whole owes: both shrink by the same."""
        if asked.account.pace is not None:
            return asked.account.empty_until_us
        return gcra.now_us(self._monotonic) + int(asked.known.pace.tau_us * UNSEEN)

    def _limit(self, asked: Asked, level: gcra.Level) -> ports.Limit:
        pace = self._pace(asked)
        return ports.Limit(
            policy=asked.account.policy,
            burst=pace.burst,
            remaining=level.remaining,
            window_s=pace.window_s,
            reset_s=level.retry_after_s,
            violated=not level.allowed,
        )
