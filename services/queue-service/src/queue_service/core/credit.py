"""Fresh jobs for workers that have nothing to do: stored as theirs already, and told to them."""

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

from queue_service.core.attempts import Claimed


class Credit(Protocol):
    """A worker says how many jobs of a queue it would start at once; jobs that find nobody waiting
    before them are given to it without being asked for."""

    async def offer(self, queue: str, worker: UUID, slots: int) -> bool:
        """From now on so many, whatever was said before. False: the worker is not known."""
        ...

    async def withdraw(self, worker: UUID) -> Mapping[str, int]:
        """No more, of any queue. What was left, by queue: the rest is on its way."""
        ...

    async def ping(self) -> None:
        """Have the line by which jobs come tell that it works."""
        ...

    def read(self, told: str) -> tuple[UUID, Claimed] | None:
        """What came by the line: a job and the worker it was given to. None: the ping."""
        ...
