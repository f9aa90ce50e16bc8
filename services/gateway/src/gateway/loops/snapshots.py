"""Copies that must be there when their source is not: API keys and the names of queues."""

from chassis import lifecycle
from chassis.kernel import errors
from gateway.core import keys, ports
from gateway.core.queues import Queues


class KeySync(lifecycle.Loop):
    """Woken by every change of a key; the interval is for changes that nobody told us of."""

    name = "key_sync"
    interval_s = 5.0

    def __init__(self, *, store: ports.KeyStore, table: keys.KeyTable) -> None:
        super().__init__()
        self._store = store
        self._table = table

    async def run_once(self) -> bool:
        self._table.replace(await self._store.read())
        return False


class QueueSync(lifecycle.Loop):
    name = "queue_sync"
    interval_s = 2.0

    def __init__(self, queues: Queues) -> None:
        super().__init__()
        self._queues = queues

    async def run_once(self) -> bool:
        try:
            await self._queues.refresh()
        except errors.Unavailable:
            pass  # what we knew stays; the circuit and /v1/system tell of it
        return False
