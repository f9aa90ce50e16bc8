"""What Shopify says beside its answers: another version answered, something is going away."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

log = logging.getLogger("mainstay.shopify")

AGAIN_S = 300.0
REMEMBERED = 1_000


class Notices:
    """Warns once in five minutes of each matter."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def version(self, asked: str, served: str | None) -> None:
        """A version that has ended is answered by the oldest that has not."""
        if served is not None and served != asked and self._is_news("version", asked, served):
            log.warning("Shopify answers version %s in place of %s", served, asked)

    def deprecated(self, what: str, reason: str | None) -> None:
        if reason is not None and self._is_news("deprecated", what, reason):
            log.warning("%s uses what Shopify is going to remove: %s", what, reason)

    def _is_news(self, *matter: str) -> bool:
        now = self._clock()
        said_at = self._said.get(matter)
        if said_at is not None and now - said_at < AGAIN_S:
            return False
        self._said[matter] = now
        self._said.move_to_end(matter)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return True
