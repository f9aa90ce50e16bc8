"""Which queues this worker serves, as the database says it now; a producer for each."""

import asyncio
from collections.abc import Callable

from chassis import lifecycle
from queue_service.core.leasing import Claims, WorkerQueue
from queue_service.loops.producer import Producer

MakeProducer = Callable[[WorkerQueue], Producer]


class Roster(lifecycle.Loop):
    name = "roster"
    interval_s = 5.0

    def __init__(
        self, claims: Claims, *, supervisor: lifecycle.Supervisor, make: MakeProducer
    ) -> None:
        super().__init__()
        self._claims = claims
        self._supervisor = supervisor
        self._make = make
        self._producers: dict[str, Producer] = {}

    async def run_once(self) -> bool:
        wanted = {queue.name: queue for queue in await self._claims.worker_queues()}
        for name, queue in wanted.items():
            if name not in self._producers:
                self._producers[name] = self._make(queue)
                self._supervisor.start(self._producers[name])
            self._producers[name].queue = queue
        for name, producer in self._producers.items():
            if name not in wanted:
                producer.queue = WorkerQueue(name, 0, None)
            producer.wake()
        return False

    def hint(self, queue: str) -> None:
        """Ready jobs were heard of; "" means any of them may have been missed."""
        for name, producer in self._producers.items():
            if queue in ("", name):
                producer.wake()

    def rooms(self) -> dict[str, int]:
        """Queue → how many more jobs could start now, of queues that held none at the last look."""
        return {name: one.room for name, one in self._producers.items() if one.room > 0}

    def producer(self, queue: str) -> Producer | None:
        return self._producers.get(queue)

    async def drain(self, *, grace_s: float, interrupt_s: float) -> None:
        """All queues at once."""
        await asyncio.gather(
            *(
                producer.drain(grace_s=grace_s, interrupt_s=interrupt_s)
                for producer in self._producers.values()
            )
        )
