"""Commands on the bus: what the gateway asks of an owner when the HTTP road is shut."""

from typing import Final, Literal
from uuid import UUID

from pydantic import Field

from contracts.jobs import JobCreate
from contracts.wire import Moment, Said

ACCEPT_JOBS: Final = "commands.job.accept.v1"
MAX_JOBS = 500
MAX_BYTES = 256 * 1024


class AcceptedJob(Said):
    """A job that has been promised to its caller under this id.

    `job.run_at` is absolute (a delay was counted from `accepted_at`). `key` and `fingerprint` are
    those of the Idempotency-Key, `scope` its shop or "".
    """

    id: UUID
    accepted_at: Moment
    job: JobCreate
    scope: str = ""
    key: str | None = None
    fingerprint: str | None = None


class AcceptJobs(Said):
    """Body of `commands.job.accept.v1` and of `POST /internal/v1/jobs:accept`."""

    type: Literal["commands.job.accept.v1"] = ACCEPT_JOBS
    gateway: str = ""
    jobs: list[AcceptedJob] = Field(min_length=1, max_length=MAX_JOBS)
