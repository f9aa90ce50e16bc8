"""Commands on the bus: what the gateway asks of an owner when the HTTP road is shut."""

from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from pydantic import Field

from contracts.jobs import Job, JobCreate
from contracts.wire import Answer, Document, Moment, Said

ACCEPT_JOBS: Final = "commands.job.accept.v1"
TELL_SESSIONS: Final = "commands.session.tell.v1"
MAX_JOBS = 500
MAX_BYTES = 256 * 1024


class AcceptedJob(Said):
    """A job under the id that its caller knows or will know.

    `job.run_at` is absolute (a delay was counted from `accepted_at`). `fingerprint` is that of the
    caller's body without its id (`chassis.kernel.canonical.fingerprint`): it tells a repeat from
    another job under the same id or key. `key` is the Idempotency-Key, `scope` its shop or "".
    """

    id: UUID
    accepted_at: Moment
    job: JobCreate
    fingerprint: str
    scope: str = ""
    key: str | None = None


class AcceptJobs(Said):
    """Body of `commands.job.accept.v1` and of `POST /internal/v1/jobs:accept`.

    `promised`: the callers have been told 202 already, so a job that is found wrong now becomes a
    `rejected` one, which they can read. `atomic`: all or none (never with `promised`).
    """

    type: Literal["commands.job.accept.v1"] = ACCEPT_JOBS
    gateway: str = ""
    promised: bool = False
    atomic: bool = False
    jobs: list[AcceptedJob] = Field(min_length=1, max_length=1000)


class Acceptance(Answer):
    """What became of one of them. `job` for created and existing, `problem` for rejected."""

    id: UUID
    status: Literal["created", "existing", "rejected"]
    job: Job | None = None
    problem: Document | None = None


class Acceptances(Answer):
    """The answer to `POST /internal/v1/jobs:accept`, in the order asked. With `atomic` and one
    wrong, every result is `rejected` and nothing was stored."""

    results: list[Acceptance]


class ShopVerb(StrEnum):
    """What has become of a shop at Shopify: `POST /internal/v1/shops/{shop}:{verb}`."""

    UNINSTALLED = "uninstalled"
    SCOPES_UPDATED = "scopes-updated"
    REDACT = "redact"


class TellSessions(Said):
    """Body of `commands.session.tell.v1`: what session-service would have been told by HTTP. `said`
    is the body of that call: `sessions.Uninstalled`, `ScopesUpdated` or `Redacted`."""

    type: Literal["commands.session.tell.v1"] = TELL_SESSIONS
    shop: str = Field(min_length=1, max_length=255)
    verb: ShopVerb
    said: Document
