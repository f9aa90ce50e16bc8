"""Push handlers as they cross the wire: registering one, and what it is sent.

Owner: queue-service. Deliveries are signed as Standard Webhooks are: `webhook-id` is the job's id,
`webhook-timestamp` the time in seconds, `webhook-signature` is `v1,` and the base64 of
HMAC-SHA256(secret, "id.timestamp.body"), the secret being what stands behind `whsec_` in base64.
"""

import base64
import binascii
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from contracts.wire import Answer, Document, Moment, Said

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_BYTES = (24, 64)


def secret_bytes(secret: str) -> bytes:
    """What signs. ValueError when it is no secret of this form."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    least, most = SECRET_BYTES
    if not secret.startswith(SECRET_PREFIX) or not least <= len(key) <= most:
        raise ValueError(f"must be {SECRET_PREFIX} and the base64 of {least} to {most} bytes")
    return key


def _usable(secret: str) -> str:
    secret_bytes(secret)
    return secret


Secret = Annotated[str, Field(max_length=128), AfterValidator(_usable)]


class HandlerPut(Said):
    """`PUT /v1/handlers/{kind}`. Without a secret the known one stays, or a new one is made.

    `max_in_flight`: deliveries at a time from each worker process.
    """

    url: str = Field(min_length=1, max_length=2048)
    secret: Secret | None = None
    timeout_s: float = Field(30.0, ge=1, le=3600)
    max_in_flight: int = Field(10, ge=1, le=1000)


class Handler(Answer):
    """`secret` is told once, in the answer to the call that made it."""

    kind: str
    url: str
    timeout_s: float
    max_in_flight: int
    secret: str | None = None
    disabled_at: Moment | None = None
    created_at: Moment
    updated_at: Moment


class Delivery(Answer):
    """The body of a delivery. A JSON answer with a 2xx becomes the job's result."""

    id: UUID
    kind: str
    queue: str
    shop: str | None
    attempt: int
    max_attempts: int
    args: Document
    batch_id: UUID | None = None
    tags: list[str] = Field(default_factory=list)
    created_at: Moment | None = None
