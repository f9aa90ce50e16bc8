"""The last sessions read, opened, for at most two seconds: never older than that on any replica."""

from collections import OrderedDict
from dataclasses import dataclass

from chassis.kernel.clock import Clock
from session_service.core.record import ShopifySession

LIFE_S = 2.0
MAX_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class _Held:
    until: float
    version: int
    session: ShopifySession | None


class Recent:
    """A newer version is never replaced by an older one, so that a slow read cannot undo what a
    write has told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def get(self, session_id: str) -> ShopifySession | None:
        held = self._held.get(session_id)
        if held is None or self._clock.monotonic() >= held.until:
            return None
        return held.session

    def keep(self, session: ShopifySession, *, as_of: float) -> None:
        """`as_of`: monotonic time before which it was not read."""
        self._put(session.id, _Held(as_of + LIFE_S, session.version, session))

    def forget(self, session_id: str, version: int) -> None:
        self._put(session_id, _Held(self._clock.monotonic() + LIFE_S, version, None))

    def _put(self, session_id: str, new: _Held) -> None:
        held = self._held.get(session_id)
        if held is not None and held.version > new.version:
            return
        self._held[session_id] = new
        self._held.move_to_end(session_id)
        if len(self._held) > MAX_SESSIONS:
            self._held.popitem(last=False)
