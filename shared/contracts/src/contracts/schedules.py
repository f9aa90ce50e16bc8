"""Schedules as they cross the wire. Owner: queue-service."""

from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from contracts.jobs import JobCreate
from contracts.wire import Answer, Document, Moment, Said

CRON_MAX = 200
ZONE_MAX = 64


class Missed(StrEnum):
    """What becomes of fires that nobody was there to make, or that came over a minute late."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """May a fire make a job while the schedule's last one has not ended?"""

    ALLOW = "allow"
    SKIP = "skip"


class ScheduledJob(JobCreate):
    """The job of every fire. Its id and its time are the schedule's to say."""

    @model_validator(mode="after")
    def _timeless(self) -> Self:
        if self.id is not None:
            raise ValueError("id: every fire has an id of its own")
        if self.run_at is not None:
            raise ValueError("run_at: the schedule says when")
        return self


class SchedulePut(Said):
    """`PUT /v1/schedules/{name}`: the whole schedule. `cron` has five fields."""

    cron: str = Field(min_length=1, max_length=CRON_MAX)
    timezone: str = Field("UTC", min_length=1, max_length=ZONE_MAX)
    job: ScheduledJob
    missed: Missed = Missed.LAST
    overlap: Overlap = Overlap.ALLOW
    enabled: bool = True


class Schedule(Answer):
    """`job` is what was said. `last_job_id` is the job of the fire at `last_fire_at`."""

    name: str
    cron: str
    timezone: str
    job: Document
    missed: Missed
    overlap: Overlap
    enabled: bool
    next_fire_at: Moment | None = None
    last_fire_at: Moment | None = None
    last_job_id: UUID | None = None
    created_at: Moment
    updated_at: Moment


class SchedulePage(Answer):
    items: list[Schedule]
    next_cursor: str | None = None
