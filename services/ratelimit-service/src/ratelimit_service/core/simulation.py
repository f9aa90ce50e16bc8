"""What a change of a policy would have done to the traffic that was counted.

The approximation: what a shop asked for in a minute (whatever the answer was) is spread over the
minute in equal steps and poured into the reference kernel token by token, beginning with a full
bucket. Nobody knows where in a step an ask came, so it gets the benefit of the step and of a token.
Floors, other policies of the same check and retries that a denial would have saved are not seen.
Of a change only rate, burst and limit matter here: every ask costs what it did. What is denied is
counted in tokens, and told in asks of the shop's average cost.

So the policy in force denies nothing of traffic of which it has denied nothing, and a lower rate
never denies less. Of a sliding quota, and of windows that are no whole minutes, both are nearly so.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from chassis.kernel import errors
from contracts.ratelimits import PolicyChange, ShopCount, Simulation
from ratelimit_service.core import gcra, policy
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.usage import Row

STEPS = 12
MINUTE_US = 60_000_000
STEP_US = MINUTE_US // STEPS
WORST = 20
_SIMULATED = ("rate", "burst", "limit", "default_cost", "max_cost")


def changed(current: Policy, change: PolicyChange) -> Policy:
    """Raises Invalid, with a pointer, for what cannot be counted or cannot be simulated."""
    if current.is_concurrency:
        detail = (
            f"{current.id} limits how many run at once: there are no checks to go through again"
        )
        raise errors.Invalid(detail, flaws=[errors.Flaw("", detail)])
    given = {name: getattr(change, name) for name in _SIMULATED}
    update = {name: value for name, value in given.items() if value is not None}
    return policy.build(
        current.id,
        version=current.version,
        spec=current.spec.model_copy(update=update),
        updated_at=current.updated_at,
    )


class Replay:
    """One key under one policy: minutes in order, tokens in, tokens denied out."""

    def __init__(self, changed: Policy) -> None:
        self._policy = changed
        self._record: gcra.Record | None = None

    def minute(self, minute: int, cost: int) -> int:
        """How many of the `cost` tokens that were asked for in this minute are denied."""
        denied = poured = 0
        for step in range(STEPS):
            wanted = cost * (step + 1) // STEPS - poured
            if wanted:
                denied += wanted - self._pour(minute * MINUTE_US + step * STEP_US, wanted)
                poured += wanted
        return denied

    def _pour(self, now_us: int, wanted: int) -> int:
        pace, calendar = self._policy.pace, self._policy.calendar
        window = None if calendar is None else calendar.window(now_us)
        found = gcra.level(self._record, pace, now_us, window)
        room_us = -found.over_us(0)
        if window is None:
            room_us += STEP_US + pace.t_us
        taken = max(0, min(wanted, room_us // pace.t_us))
        if taken:
            after = found.after(gcra.Limit("", pace, taken))
            self._record = gcra.recorded(after, now_us)
        return taken


@dataclass(slots=True)
class _Shop:
    replay: Replay
    allowed: int = 0
    denied: int = 0
    shadow_denied: int = 0
    cost: int = 0
    lost: int = 0
    """Tokens that would have been denied."""

    @property
    def asked(self) -> int:
        return self.allowed + self.denied + self.shadow_denied

    @property
    def would_deny(self) -> int:
        return -(-self.lost * self.asked // self.cost) if self.cost else 0


@dataclass(slots=True, kw_only=True)
class Simulator:
    """Rows come by shop, each shop's in the order of minutes; one shop is held at a time."""

    changed: Policy
    minutes: int
    _name: str = ""
    _shop: _Shop | None = None
    _shops: int = 0
    _asked: int = 0
    _denied: int = 0
    _would_deny: int = 0
    _worst: list[tuple[int, str, ShopCount]] = field(default_factory=list)

    def feed(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._shop is None or row.shop != self._name:
                self._close()
                self._name, self._shop = row.shop, _Shop(Replay(self.changed))
            shop = self._shop
            shop.allowed += row.allowed
            shop.denied += row.denied
            shop.shadow_denied += row.shadow_denied
            shop.cost += row.cost
            shop.lost += shop.replay.minute(row.minute, row.cost)

    def answer(self) -> Simulation:
        self._close()
        return Simulation(
            minutes=self.minutes,
            shops=self._shops,
            asked=self._asked,
            denied=self._denied,
            would_deny=self._would_deny,
            worst=[count for _, _, count in sorted(self._worst, reverse=True)],
        )

    def _close(self) -> None:
        shop, self._shop = self._shop, None
        if shop is None:
            return
        self._shops += 1
        self._asked += shop.asked
        self._denied += shop.denied
        self._would_deny += shop.would_deny
        if shop.would_deny:
            count = ShopCount(
                shop=self._name,
                policy=self.changed.id,
                allowed=shop.allowed,
                denied=shop.denied,
                shadow_denied=shop.shadow_denied,
                would_deny=shop.would_deny,
            )
            heapq.heappush(self._worst, (shop.would_deny, self._name, count))
            if len(self._worst) > WORST:
                heapq.heappop(self._worst)
