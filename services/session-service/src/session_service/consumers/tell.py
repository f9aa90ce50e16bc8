"""What the gateway had to tell of a shop while we did not answer: kept by the bus, never lost."""

import orjson

from chassis import logs
from chassis.consumer import Verdict
from chassis.kernel import errors
from chassis.web import body
from contracts import commands, sessions
from contracts.commands import ShopVerb
from session_service.core.record import shop_key
from session_service.core.uninstall import Installations

log = logs.get(__name__)

Said = sessions.Uninstalled | sessions.ScopesUpdated | sessions.Redacted
MODELS: dict[ShopVerb, type[Said]] = {
    ShopVerb.UNINSTALLED: sessions.Uninstalled,
    ShopVerb.SCOPES_UPDATED: sessions.ScopesUpdated,
    ShopVerb.REDACT: sessions.Redacted,
}


class HearShops:
    """A `chassis.consumer.Handle` on the queue of `commands.session.tell.v1`. Twice is once."""

    def __init__(self, installations: Installations) -> None:
        self._installations = installations

    async def __call__(self, raw: bytes) -> Verdict:
        try:
            command = body.parse(raw, commands.TellSessions)
            said = body.parse(orjson.dumps(command.said), MODELS[command.verb])
        except (errors.Malformed, errors.Invalid) as fault:
            log.error("command_unreadable", why=fault.detail)
            return Verdict.INVALID
        await self._apply(shop_key(command.shop), said)
        return Verdict.DONE

    async def _apply(self, shop: str, said: Said) -> None:
        match said:
            case sessions.Uninstalled():
                await self._installations.uninstalled(shop, before=said.before)
            case sessions.ScopesUpdated():
                await self._installations.scopes_updated(shop, current=said.current, at=said.at)
            case sessions.Redacted():
                await self._installations.redacted(shop, before=said.before, event_id=said.event_id)
