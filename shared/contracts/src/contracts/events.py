"""Events on the bus: CloudEvents 1.0, structured JSON."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from contracts.wire import Answer, Moment

BATCH_COMPLETED = "batch.completed.v1"


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
