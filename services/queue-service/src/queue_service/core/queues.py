"""Queues: what their jobs inherit, how many may run, and which exist from the start."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from chassis.kernel import errors
from queue_service.core.ports import Queue, QueueStore

RETRY = {"base_s": 5.0, "factor": 2.0, "max_s": 3600.0, "jitter": 0.5}
SMS_RETRY = {**RETRY, "base_s": 2.0, "max_s": 300.0}
WEBHOOKS_MAX_AGE_S = 7 * 86400.0

# null lifts these; the others always have a value.
LIFTED = frozenset({"max_age_s", "global_limit", "per_shop_limit"})


def fresh(name: str, **said: Any) -> Queue:
    """A queue that nobody has said more about."""
    plain = Queue(
        name=name,
        served_by="pull",
        concurrency=10,
        global_limit=None,
        per_shop_limit=None,
        max_attempts=5,
        timeout_s=30.0,
        max_age_s=None,
        retry=RETRY,
        weights={},
        paused=False,
    )
    return replace(plain, **said)


SEEDS = (
    fresh("default", served_by="worker", concurrency=10),
    fresh("sms", served_by="worker", concurrency=20, retry=SMS_RETRY),
    fresh("campaign", served_by="worker", concurrency=5),
    fresh("automation", served_by="worker", concurrency=10),
    fresh("webhooks", max_age_s=WEBHOOKS_MAX_AGE_S),
)


def seeds(concurrency: Mapping[str, int]) -> list[Queue]:
    """The queues of a new deployment; a name of the environment's own is one for workers."""
    wanted = {seed.name: seed for seed in SEEDS}
    for name, jobs in concurrency.items():
        known = wanted.get(name) or fresh(name, served_by="worker")
        wanted[name] = replace(known, concurrency=jobs)
    return list(wanted.values())


class Queues:
    """`kept_d`: `completed_d` and `failed_d` of the service's whole history."""

    def __init__(
        self,
        queues: QueueStore,
        *,
        can_seal: bool = False,
        kept_d: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._queues = queues
        self._can_seal = can_seal
        self._kept_d = kept_d

    async def get(self, name: str) -> Queue:
        queue = await self._queues.get(name)
        if queue is None:
            raise no_such_queue(name)
        return queue

    async def page(self, *, after: str, limit: int) -> Sequence[Queue]:
        return await self._queues.page(after=after, limit=limit)

    async def put(self, name: str, change: Mapping[str, Any]) -> tuple[Queue, bool]:
        """(queue, created now). What is not said stays as it is."""
        self._require_good(change)
        created = await self._queues.create(fresh(name, **change))
        return (await self.get(name), True) if created else (await self.change(name, change), False)

    async def change(self, name: str, change: Mapping[str, Any]) -> Queue:
        self._require_good(change)
        if not await self._queues.change(name, change):
            raise no_such_queue(name)
        return await self.get(name)

    def _require_good(self, change: Mapping[str, Any]) -> None:
        _require_values(change)
        if change.get("sealed") and not self._can_seal:
            detail = "there are no keys to seal with: set QUEUE_KEYS"
            raise errors.Invalid(f"/sealed: {detail}", flaws=[errors.Flaw("/sealed", detail)])
        for name, days in (change.get("retention") or {}).items():
            longest = self._kept_d.get(name, days)
            if days is not None and days > longest:
                pointer, detail = f"/retention/{name}", f"history is kept for {longest} days"
                raise errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])

    async def delete(self, name: str) -> None:
        deleted = await self._queues.delete(name)
        if deleted is None:
            raise no_such_queue(name)
        if not deleted:
            raise errors.Conflict("the queue holds jobs: cancel them, or let them end")


def no_such_queue(name: str) -> errors.NotFound:
    return errors.NotFound(f"there is no queue {name}")


def _require_values(change: Mapping[str, Any]) -> None:
    flaws = [
        errors.Flaw(f"/{name}", "has no null: leave it out to keep it")
        for name, value in change.items()
        if value is None and name not in LIFTED
    ]
    if flaws:
        raise errors.Invalid(f"{flaws[0].pointer}: {flaws[0].detail}", flaws=flaws)
