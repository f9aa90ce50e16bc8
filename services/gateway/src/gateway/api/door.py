"""The door: who is it, and may it come in now? Before a byte of the body is read."""

from aiohttp import web

from chassis.crypto import Caller
from chassis.kernel import errors
from chassis.web import auth
from gateway import metrics
from gateway.api import keys as app_keys
from gateway.core import hops, keys, policies, ports

SHOP_HEADER = "Mainstay-Shop"
GATEWAY = "gateway"
TEXT_MAX = 255


async def authenticate(request: web.Request) -> Caller:
    """For every operation that needs a key. Without one, the address is what is counted."""
    address = client_address(request)
    try:
        presented = auth.bearer(request)
    except errors.Unauthenticated as fault:
        metrics.AUTH_FAILURES.labels(fault.code).inc()
        await _admit(request, None, None, address)
        raise
    identity = await _identity(request, presented, address)
    await _admit(request, identity, _shop(request, identity), address)
    request[app_keys.IDENTITY] = identity
    return Caller(
        service=GATEWAY, key_id=identity.key_id, shop=identity.shop, scopes=identity.scopes
    )


async def _identity(request: web.Request, presented: str, address: str) -> keys.Identity:
    try:
        return await request.app[app_keys.AUTHENTICATE](presented, address)
    except (errors.Unauthenticated, errors.Limited) as fault:
        metrics.AUTH_FAILURES.labels(fault.code).inc()
        raise


async def admit_anybody(request: web.Request) -> None:
    """For operations without a key."""
    await _admit(request, None, None, client_address(request))


async def admit_webhook(request: web.Request, shop: str) -> None:
    """One that Shopify has signed: its shop is counted, for its addresses are everybody's."""
    demand = ports.Demand((policies.WEBHOOK_IN,), shop, None, client_address(request))
    degraded = await request.app[app_keys.ADMISSION].admit(demand)
    if degraded is not None:
        request[app_keys.DEGRADED] = degraded


def client_address(request: web.Request) -> str:
    forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", []))
    return hops.client(request.remote or "", forwarded_for, request.app[app_keys.TRUSTED_HOPS])


def idempotency_key(request: web.Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    if not 1 <= len(given) <= TEXT_MAX or not _is_text(given):
        raise errors.Invalid(f"an Idempotency-Key has 1 to {TEXT_MAX} characters of UTF-8")
    return given


async def tell(request: web.Request, response: web.StreamResponse) -> None:
    """Signal: what was degraded about letting it in is said in every answer."""
    said = request.get(app_keys.DEGRADED)
    if said is None:
        return
    others = response.headers.get("Degraded")
    if others is None:
        response.headers["Degraded"] = said
    elif said not in others:
        response.headers["Degraded"] = f"{others}, {said}"


async def _admit(
    request: web.Request, identity: keys.Identity | None, shop: str | None, address: str
) -> None:
    admission = request.app[app_keys.ADMISSION]
    degraded = await admission(identity=identity, shop=shop, address=address)
    if degraded is not None:
        request[app_keys.DEGRADED] = degraded


def _shop(request: web.Request, identity: keys.Identity) -> str | None:
    """The shop that the request is about, as far as that shows outside the body."""
    given = request.match_info.get("shop") or request.headers.get(SHOP_HEADER) or ""
    shop = given.strip().lower()
    if not shop:
        return identity.shop
    if len(shop) > TEXT_MAX or not _is_text(shop):
        raise errors.Invalid(f"a shop has 1 to {TEXT_MAX} characters of UTF-8")
    if identity.shop is not None and shop != identity.shop:
        raise errors.Denied("this key belongs to another shop", code="other_shop")
    return shop


def _is_text(text: str) -> bool:
    """No control characters, and no bytes that are not UTF-8. Requests are asked about together,
    so what the limiter cannot read would spoil it for others."""
    return not any(char < " " or "\ud800" <= char <= "\udfff" for char in text)
