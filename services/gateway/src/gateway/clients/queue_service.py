"""queue-service as road 1: single enqueues travel together, each with its own verdict."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from chassis.http_client import Answer
from chassis.kernel import breaker, deadline, errors
from chassis.kernel.coalesce import Coalescer
from contracts import commands
from contracts.jobs import MAX_BATCH
from gateway.clients.upstream import Upstream
from gateway.core import ports
from gateway.core.parcels import Parcel, command, loads

ACCEPT_PATH = "/internal/v1/jobs:accept"
QUEUES_PATH = "/v1/queues?limit=200"
OK, NOT_FOUND = 200, 404
JSON = (("Content-Type", "application/json"),)

# Shorter than every other budget: behind it two more roads must fit into six seconds.
ONE_S = 1.5
MANY_S = 2.5
QUEUES_S = 2.0
# A batch of the public API, with what the gateway adds to each job.
CALL_BYTES = 1024 * 1024
_OURS = frozenset({401, 403, 404, 405})


class QueueService:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._accept_one: Coalescer[Parcel, ports.Verdict] = Coalescer(
            self._accept_many,
            items=commands.MAX_JOBS,
            weight=commands.MAX_BYTES,
            weigh=lambda parcel: len(parcel.raw),
        )

    @property
    def is_shut(self) -> bool:
        return self._upstream.circuit.state is breaker.State.OPEN

    async def accept(self, parcel: Parcel, *, within_s: float | None = None) -> ports.Verdict:
        return await self._accept_one(parcel, within_s=within_s or _half(ONE_S))

    async def accept_all(
        self, parcels: Sequence[Parcel], *, atomic: bool = False, promised: bool = False
    ) -> list[ports.Verdict | errors.Fault]:
        if atomic:
            order = _accepting(command(parcels, promised=promised, atomic=True), _half(MANY_S))
            return await self._settle(parcels, order)
        found: list[ports.Verdict | errors.Fault] = []
        for load in loads(parcels, items=MAX_BATCH, size=CALL_BYTES):
            found += await self._settle_or_alone(load, promised=promised, timeout_s=_half(MANY_S))
        return found

    async def has(self, job_id: UUID) -> bool:
        answer = await self._upstream.call(_reading(f"/v1/jobs/{job_id}"))
        return answer.status != NOT_FOUND and _judged(answer).status == OK

    async def queue_names(self) -> frozenset[str]:
        names: set[str] = set()
        path: str | None = QUEUES_PATH
        while path is not None:
            page = _judged(await self._upstream.call(_reading(path))).json()
            names |= {item["name"] for item in page["items"]}
            cursor = page.get("next_cursor")
            path = f"{QUEUES_PATH}&cursor={cursor}" if cursor else None
        return frozenset(names)

    async def close(self) -> None:
        await self._accept_one.close()

    async def _accept_many(
        self, parcels: Sequence[Parcel]
    ) -> Sequence[ports.Verdict | errors.Fault]:
        return await self._settle_or_alone(parcels, promised=False, timeout_s=ONE_S)

    async def _settle_or_alone(
        self, parcels: Sequence[Parcel], *, promised: bool, timeout_s: float
    ) -> list[ports.Verdict | errors.Fault]:
        order = _accepting(command(parcels, promised=promised), timeout_s)
        found = await self._settle(parcels, order)
        if len(parcels) == 1 or not all(_is_refusal(each) for each in found):
            return found
        # One of them spoils the call for all: let each speak for itself.
        alone: list[ports.Verdict | errors.Fault] = []
        for parcel in parcels:
            order = _accepting(command([parcel], promised=promised), timeout_s)
            alone += await self._settle([parcel], order)
        return alone

    async def _settle(
        self, parcels: Sequence[Parcel], order: ports.Order
    ) -> list[ports.Verdict | errors.Fault]:
        """Jobs come in a few loads at a time however many callers there are, so the ramp after an
        outage need not hold them back."""
        try:
            answer = _judged(await self._upstream.call(order, essential=True))
            return _verdicts(answer, len(parcels))
        except errors.Fault as fault:
            return [fault] * len(parcels)


def _accepting(body: bytes, timeout_s: float) -> ports.Order:
    return ports.Order(
        method="POST",
        path=ACCEPT_PATH,
        headers=JSON,
        body=body,
        timeout_s=timeout_s,
        is_repeatable=True,
        is_own=True,
    )


def _reading(path: str) -> ports.Order:
    return ports.Order(method="GET", path=path, timeout_s=QUEUES_S, is_repeatable=True, is_own=True)


def _half(most_s: float) -> float:
    """Of what the caller has left, at most: the other half is for the roads behind this one."""
    return deadline.budget_s(2 * most_s) / 2


def _is_refusal(found: ports.Verdict | errors.Fault) -> bool:
    return isinstance(found, errors.Fault) and not isinstance(found, errors.Unavailable)


def _judged(answer: Answer) -> Answer:
    """A 2xx, or the fault. What the owner says about *us* is no word about the caller."""
    if answer.status >= 500 or answer.status in _OURS:
        raise errors.Unavailable(f"queue-service answered {answer.status}")
    return answer.checked()


def _verdicts(answer: Answer, count: int) -> list[ports.Verdict | errors.Fault]:
    try:
        results = orjson.loads(answer.body)["results"]
        found: list[ports.Verdict | errors.Fault] = [
            ports.Verdict(status=each["status"], job=each.get("job"), problem=each.get("problem"))
            for each in results
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise errors.Ambiguous("queue-service answered something else") from error
    if len(found) != count:
        raise errors.Ambiguous("queue-service answered for another number of jobs")
    return found
