"""What GraphQL and REST have in common: whose token it is, which version answers."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from testkit.shopify.wallet import Access
from testkit.shopify.world import Shop, World

UNKNOWN_TOKEN = "[API] Invalid API key or access token (unrecognized login or wrong password)"
NON_EXPIRING = (
    "Non-expiring access tokens are no longer accepted for the Admin API. "
    "Start using expiring offline tokens."
)
_QUARTER = re.compile(r"20\d\d-(01|04|07|10)")


class Turned(Exception):
    """A request that is answered before anything is done."""

    def __init__(self, status: int, errors: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = web.json_response({"errors": errors}, status=status, headers=headers)


def admit(world: World, request: web.Request, shop: Shop) -> Access:
    """The token's; a token that is used is in use. Raises Turned."""
    given = request.headers.get("X-Shopify-Access-Token", "")
    access = shop.wallet.find(given, world.clock.now()) if shop.installed else None
    if access is None:
        raise Turned(401, UNKNOWN_TOKEN)
    if world.rules.refuses_non_expiring and access.expires_at is None:
        raise Turned(403, NON_EXPIRING)
    access.used = True
    return access


def version(world: World, request: web.Request) -> str:
    """Which version answers: an old one falls forward to the oldest that lives."""
    asked = request.match_info["version"]
    if asked in world.rules.versions:
        return asked
    oldest = min(world.rules.versions)
    if _QUARTER.fullmatch(asked) and asked < oldest:
        return oldest
    raise Turned(404, "Not Found")


def headers(answered: str) -> dict[str, str]:
    return {"X-Shopify-API-Version": answered, "X-Request-Id": str(uuid.uuid4())}


def permits(access: Access, scope: str) -> bool:
    """Writing implies reading."""
    held = access.scope.split(",")
    return scope in held or scope.replace("read_", "write_", 1) in held
