"""Brings Postgres what it has not been told: woken when a key has spent its share, else slowly."""

from chassis.lifecycle import Loop
from ratelimit_service import metrics
from ratelimit_service.core.ledger import Ledger
from ratelimit_service.core.switch import Switch


class HandOver(Loop):
    name = "hand_over"
    interval_s = 1.0

    def __init__(self, switch: Switch, ledger: Ledger) -> None:
        super().__init__()
        self._switch = switch
        self._ledger = ledger

    async def run_once(self) -> bool:
        metrics.UNSYNCED.set(self._ledger.waiting)
        await self._switch.hand_over()
        return False
