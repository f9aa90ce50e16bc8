"""Shops that are to be forgotten, told over the bus."""

import pydantic

from chassis import logs
from chassis.consumer import Verdict
from contracts.events import Envelope, ShopRedact
from ratelimit_service.core.redaction import Redaction

log = logs.get(__name__)


class RedactShops:
    """A `chassis.consumer.Handle` on the queue of `shop.redact.v1`. Twice is once."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction

    async def __call__(self, raw: bytes) -> Verdict:
        try:
            event = Envelope.model_validate_json(raw)
            asked = ShopRedact.model_validate(event.data)
        except pydantic.ValidationError as error:
            log.error("event_unreadable", errors=error.error_count())
            return Verdict.INVALID
        await self._redaction(asked.shop.lower(), before=asked.before, event_id=event.id)
        return Verdict.DONE
