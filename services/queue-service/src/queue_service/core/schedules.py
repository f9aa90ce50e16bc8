"""Jobs that come by the clock: what a schedule is, who may change it, what is due when it is late.

A fire is known by the schedule's name and its time: whoever makes it, and however often, its job
has the same id.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import pydantic

from chassis.kernel import errors, ids
from chassis.kernel.clock import rfc3339
from contracts import schedules as wire
from queue_service.core import cron, enqueue, ports
from queue_service.core.jobs import NewJob

# A fire that is later than this was missed.
LATE = timedelta(seconds=60)
# Of missed fires so many are made up for, the oldest first; then the last one.
MAX_MISSED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """`job` is a ScheduledJob as a checked JSON document, `shop` the one it is for."""

    name: str
    shop: str | None
    cron: str
    timezone: str
    job: Mapping[str, Any]
    missed: str
    overlap: str
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(NewSchedule):
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    last_job_id: UUID | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule with a fire to make. `is_busy`: the job of its last fire has not ended."""

    schedule: Schedule
    is_busy: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of a due schedule. `passed_over`: fires that make no job, by its policies."""

    fires: Sequence[datetime]
    next_fire_at: datetime
    passed_over: int = 0


class ScheduleStore(Protocol):
    async def now(self) -> datetime:
        """The database's time, by which everything here goes."""
        ...

    async def put(
        self, new: NewSchedule, next_fire_at: datetime | None, *, shop: str | None
    ) -> bool | None:
        """True: made, False: changed; a fire that is due already stays due unless the times
        themselves were changed. None: the name is not this shop's."""
        ...

    async def get(self, name: str) -> Schedule | None: ...

    async def page(self, *, shop: str | None, after: str, limit: int) -> Sequence[Schedule]: ...

    async def delete(self, name: str, *, shop: str | None) -> bool: ...


class Schedules:
    """`shop` is the caller's own: another's schedules do not exist for it."""

    def __init__(self, *, schedules: ScheduleStore, queues: ports.QueueNames) -> None:
        self._schedules = schedules
        self._queues = queues

    async def put(self, new: NewSchedule, *, shop: str | None) -> tuple[Schedule, bool]:
        """(schedule, made now)."""
        queue = new.job.get("queue", "default")
        now = await self._schedules.now()
        first = _first_fire(new, now)
        if not await self._queues.has(queue):
            raise enqueue.unknown_queue(queue, "/job/queue")
        made = await self._schedules.put(new, first if new.enabled else None, shop=shop)
        if made is None:
            raise errors.Conflict("the name belongs to another shop's schedule", code="id_taken")
        return await self.get(new.name, shop=shop), made

    async def get(self, name: str, *, shop: str | None) -> Schedule:
        schedule = await self._schedules.get(name)
        if schedule is None or (shop is not None and schedule.shop != shop):
            raise no_such_schedule()
        return schedule

    async def page(self, *, shop: str | None, after: str, limit: int) -> Sequence[Schedule]:
        return await self._schedules.page(shop=shop, after=after, limit=limit)

    async def delete(self, name: str, *, shop: str | None) -> None:
        if not await self._schedules.delete(name, shop=shop):
            raise no_such_schedule()


def no_such_schedule() -> errors.NotFound:
    return errors.NotFound("there is no such schedule")


def _first_fire(new: NewSchedule, now: datetime) -> datetime:
    try:
        return cron.next_fire(new.cron, new.timezone, now)
    except cron.WrongZone as error:
        raise _flawed("/timezone", str(error)) from None
    except cron.WrongCron as error:
        raise _flawed("/cron", str(error)) from None


def _flawed(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])


def plan(due: Due, now: datetime) -> Plan:
    """Which of the fires up to `now` make a job. WrongCron or WrongZone when the schedule can no
    longer be read."""
    schedule = due.schedule
    first = schedule.next_fire_at
    assert first is not None
    times = (schedule.cron, schedule.timezone)
    last = cron.last_fire(*times, first, now)
    following = cron.next_fire(*times, max(now, last))
    match wire.Missed(schedule.missed):
        case wire.Missed.ALL:
            later = cron.fires(*times, first)
            rest = itertools.takewhile(lambda fire: fire < last, later)
            fires = [first, *itertools.islice(rest, MAX_MISSED - 1)] if first < last else []
            fires.append(last)
        case wire.Missed.LAST:
            fires = [last]
        case wire.Missed.SKIP:
            fires = [last] if now - last <= LATE else []
    if schedule.overlap == wire.Overlap.SKIP:
        wanted = len(fires)
        fires = [] if due.is_busy else fires[:1]
        return Plan(fires, following, wanted - len(fires))
    return Plan(fires, following, 0 if fires else 1)


def job_of(schedule: Schedule, fire: datetime, now: datetime) -> NewJob:
    """The job of one fire. Invalid when the document is none any more."""
    try:
        said = wire.ScheduledJob.model_validate_json(json.dumps(schedule.job))
    except pydantic.ValidationError:
        raise errors.Invalid("the schedule's job is not valid any more") from None
    identifier = ids.derived_id("schedule", schedule.name, rfc3339(fire))
    return enqueue.derived(said, id=identifier, shop=schedule.shop, now=now)
