"""Events on the bus: CloudEvents 1.0, structured JSON."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from contracts.wire import Answer, Moment

JOB_COMPLETED = "job.completed.v1"
JOB_FAILED = "job.failed.v1"
JOB_CANCELLED = "job.cancelled.v1"
JOB_REJECTED = "job.rejected.v1"
BATCH_PROGRESS = "batch.progress.v1"
BATCH_COMPLETED = "batch.completed.v1"
SHOP_REDACT = "shop.redact.v1"
POLICY_CHANGED = "ratelimit.policy.changed.v1"
BACKEND_SWITCHED = "ratelimit.backend.switched.v1"
STORE_DENIED = "ratelimit.store.denied.v1"
SESSION_INSTALLED = "session.installed.v1"
SESSION_REFRESHED = "session.refreshed.v1"
SESSION_REAUTH_REQUIRED = "session.reauth_required.v1"
SESSION_REVOKED = "session.revoked.v1"
SESSION_SCOPES_CHANGED = "session.scopes_changed.v1"
CIRCUIT_CHANGED = "gateway.circuit.changed.v1"


class Envelope(Answer):
    """One event. `id` is the message id: a consumer that has seen it does nothing."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: str
    type: str
    time: Moment
    subject: str | None = None
    datacontenttype: str = "application/json"
    traceparent: str | None = None
    shop: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class JobEnded(Answer):
    """`job.failed.v1` and `job.rejected.v1` of every such job; `job.completed.v1` and
    `job.cancelled.v1` of those that were enqueued with `notify`. What it was about is not told
    here: read the job."""

    job_id: UUID
    queue: str
    kind: str
    shop: str | None
    state: Literal["completed", "failed", "cancelled", "rejected"]
    attempt: int
    batch_id: UUID | None
    error_type: str | None
    finished_at: Moment


class BatchProgress(Answer):
    """`batch.progress.v1`: jobs of a batch have ended. About once a second; none need follow."""

    batch_id: UUID
    name: str
    shop: str | None
    total: int
    completed: int
    failed: int
    cancelled: int
    rate: float | None


class ShopRedact(Answer):
    """`shop.redact.v1`: everything of the shop that was there before is to be forgotten."""

    shop: str
    before: Moment


class BatchCompleted(Answer):
    """`batch.completed.v1`: every job of a closed batch has reached a final state."""

    batch_id: UUID
    name: str
    shop: str | None
    total: int
    completed: int
    failed: int
    cancelled: int
    finished_at: Moment


class PolicyChanged(Answer):
    """`ratelimit.policy.changed.v1`: made, changed or deleted, in the same transaction."""

    policy: str
    version: int
    deleted: bool


class BackendSwitched(Answer):
    """`ratelimit.backend.switched.v1`: another store decides for every replica, once for each
    change. `epoch` grows with each, `generation` with every return to Redis. A replica that decides
    alone because neither answers is not told here: its log and metric say so."""

    old: Literal["redis", "postgres"]
    new: Literal["redis", "postgres"]
    epoch: int
    generation: int


class StoreDenied(Answer):
    """`ratelimit.store.denied.v1`: a shop met a limit. A sample: the first denial of a second."""

    shop: str
    policy: str
    backend: Literal["redis", "postgres", "local"]


class CircuitChanged(Answer):
    """`gateway.circuit.changed.v1`: one gateway goes to a service in another way than before, and
    what brought it there (`contracts.gateway.Circuit`). With `mode`, an operator has said so to all
    gateways, until `until`; each then tells of its own circuit."""

    upstream: str
    gateway: str
    old: Literal["closed", "open", "half_open", "recovering"]
    state: Literal["closed", "open", "half_open", "recovering"]
    why: str
    mode: Literal["auto", "force_open", "force_closed"] | None = None
    until: Moment | None = None
    reason: str | None = None
    by: str | None = None


class SessionChanged(Answer):
    """`session.*.v1`, in the transaction of the change; never with a token. `installed`: the first
    pair of a shop; `refreshed`: another one by any grant; `reason` of `reauth_required` and
    `revoked`; `scope` of `scopes_changed`. `version` is the session's from then on."""

    session_id: str
    shop: str
    user_id: int | None
    version: int
    grant: Literal["code", "exchange", "refresh", "migrate", "client_credentials"] | None = None
    reason: str | None = None
    scope: str | None = None
