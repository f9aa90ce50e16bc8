"""Which pairs are in use, and when each should be renewed so that nobody who uses it waits.

Every replica knows of its own callers alone: whose turn comes first renews, the others find it
done. A shop that nobody asked about for an hour costs nothing.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from chassis.kernel.clock import Clock
from session_service.core import copying
from session_service.core.record import ShopifySession

IN_USE_S = 3600.0
MAX_SESSIONS = 50_000
# Five to ten minutes before the end, so that the shops of one minute do not renew in one.
LATEST_MS, SPREAD_MS = 300_000, 300_000


@dataclass(frozen=True, slots=True)
class Due:
    id: str
    shop: str
    gen: int


@dataclass(frozen=True, slots=True)
class _Use:
    due: Due
    at_ms: int
    last: float


class Used:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    def now(self, session: ShopifySession) -> None:
        tokens = session.tokens
        if tokens.expires_ms is None or session.is_online:
            return
        held = self._uses.get(session.id)
        if held is not None and held.due.gen == session.gen:
            due, at_ms = held.due, held.at_ms
        else:
            due = Due(session.id, session.shop, session.gen)
            at_ms = tokens.expires_ms - LATEST_MS - _spread(session)
        self._uses[session.id] = _Use(due, at_ms, self._clock.monotonic())
        self._uses.move_to_end(session.id)
        if len(self._uses) > MAX_SESSIONS:
            self._uses.popitem(last=False)

    def due(self) -> list[Due]:
        """Each once: what comes of it is seen when it is used again."""
        now_ms, oldest = copying.now_ms(self._clock), self._clock.monotonic() - IN_USE_S
        while self._uses and next(iter(self._uses.values())).last < oldest:
            self._uses.popitem(last=False)
        due = [use.due for use in self._uses.values() if use.at_ms <= now_ms]
        for each in due:
            del self._uses[each.id]
        return due


def _spread(session: ShopifySession) -> int:
    """The same on every replica and another for every pair."""
    digest = hashlib.sha256(f"{session.id} {session.gen}".encode()).digest()
    return int.from_bytes(digest[:4], "big") * SPREAD_MS >> 32
