"""Events from the bus into the log."""

import pydantic

from chassis import logs
from chassis.consumer import Handle, Verdict
from contracts.events import Envelope
from gateway.core import ports

log = logs.get(__name__)


def into(event_log: ports.EventLog) -> Handle:
    async def handle(body: bytes) -> Verdict:
        try:
            event = Envelope.model_validate_json(body)
        except pydantic.ValidationError as error:
            log.warning("event_unreadable", errors=error.error_count())
            return Verdict.INVALID
        await event_log.append([event.model_dump(mode="json")])
        return Verdict.DONE

    return handle
