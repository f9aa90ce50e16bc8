"""Which queues exist, as far as this gateway knows: what a job is judged by when its owner is away.

Memory first; a name that memory does not hold is looked for in the snapshot that all replicas
share, so that a queue made through another replica is known here too.
"""

import asyncio
from collections.abc import Awaitable, Callable

from chassis.kernel import errors
from gateway.core import ports


class Queues:
    """`ask` gets the names from their owner."""

    def __init__(
        self, *, snapshot: ports.QueueNames, ask: Callable[[], Awaitable[frozenset[str]]]
    ) -> None:
        self._snapshot = snapshot
        self._ask = ask
        self._names: frozenset[str] | None = None
        self._saved: frozenset[str] | None = None
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Ask the owner; write down what has changed. Unavailable when either is away.

        One after another: an answer from before a change must not come down on one from after it.
        """
        async with self._turn:
            self._names = await self._ask()
            if self._names != self._saved:
                await self._snapshot.replace(self._names)
                self._saved = self._names

    async def require(self, name: str, pointer: str = "/queue") -> None:
        """Raises Invalid for a queue that does not exist, Unavailable when nobody can say."""
        if self._names is not None and name in self._names:
            return
        saved = frozenset(await self._snapshot.read())
        if not saved and self._names is None:
            raise errors.Unavailable("the queues are not known yet", code="enqueue_unavailable")
        if name in saved:
            self._names = (self._names or frozenset()) | saved
            return
        raise unknown(name, pointer)


def unknown(name: str, pointer: str) -> errors.Invalid:
    return errors.Invalid(
        f"there is no queue {name}",
        code="unknown_queue",
        flaws=[errors.Flaw(pointer, "no such queue")],
    )
