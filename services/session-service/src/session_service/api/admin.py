"""The Admin API of a shop, for apps that hold no token: Shopify's words in, Shopify's words out."""

from urllib.parse import quote, urlencode

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.shopify import not_configured
from chassis.web import body
from chassis.web.answer import Answer as Whole
from contracts import sessions as wire
from mainstay.shopify.rest import WITH_PAGE
from session_service import metrics
from session_service.api import parts
from session_service.api.keys import ADMIN, SHOPS
from session_service.core import admin

VERSION_HEADER = "Shopify-Api-Version"
KEY_HEADER = "Idempotency-Key"
REST = "/admin/rest/"
CACHE_NAME = "mainstay"
MAX_KEY = 255


async def ask_graphql(request: web.Request) -> web.Response:
    shop = _shop(request)
    given = await body.read_json(request, wire.GraphQLRequest)
    call = admin.graphql_call(
        shop=shop,
        document=given.model_dump(by_alias=True, exclude_unset=True),
        version=request.headers.get(VERSION_HEADER),
        has_key=_has_key(request),
        max_age_s=_max_age_s(request),
    )
    return await _answer(request, call)


async def ask_rest(request: web.Request) -> web.Response:
    shop = _shop(request)
    call = admin.rest_call(
        shop=shop,
        method=request.method,
        path=request.rel_url.raw_path.partition(REST)[2],
        query=_query(request),
        body=await _body(request),
        version=request.headers.get(VERSION_HEADER),
        has_key=_has_key(request),
        max_age_s=_max_age_s(request),
    )
    return await _answer(request, call)


async def _answer(request: web.Request, call: admin.Call) -> web.Response:
    proxy = request.app.get(ADMIN)
    if proxy is None:
        raise not_configured()
    try:
        answer = await proxy(call)
    except errors.Fault as fault:
        metrics.ADMIN_CALLS.labels(call.api, fault.code).inc()
        raise
    outcome = "answered" if answer.backend is None else "remembered"
    metrics.ADMIN_CALLS.labels(call.api, outcome).inc()
    return _response(request, call, answer)


def _response(request: web.Request, call: admin.Call, answer: admin.Answer) -> web.Response:
    reply = answer.reply
    headers = dict(reply.headers) | {"Cache-Control": "no-store"}
    if reply.body:
        headers["Content-Type"] = body.JSON_ANSWER
    if reply.pages:
        headers["Link"] = _link(call, reply)
    if reply.degraded is not None:
        headers["Degraded"] = reply.degraded
    if answer.backend is not None:
        headers["Mainstay-Backend"] = answer.backend
        headers["Age"] = str(answer.age_s)
        headers["Cache-Status"] = f"{CACHE_NAME}; hit; detail={answer.backend}"
    elif call.max_age_s > 0:
        headers["Cache-Status"] = f"{CACHE_NAME}; fwd=miss"
    return Whole(status=reply.status, body=reply.body, headers=headers)


def _link(call: admin.Call, reply: admin.Reply) -> str:
    """Where the list goes on, by our own path: Shopify's would need a token."""
    path = f"/v1/shops/{quote(call.shop)}{REST}{call.path}"
    kept = {name: value for name, value in call.query.items() if name in WITH_PAGE}
    return ", ".join(
        f'<{path}?{urlencode({**kept, "page_info": info})}>; rel="{rel}"'
        for rel, info in reply.pages.items()
    )


def _shop(request: web.Request) -> str:
    shop = parts.shop(request)
    parts.access(request).require(shop)
    return request.app[SHOPS].named(shop)


async def _body(request: web.Request) -> bytes | None:
    """One JSON document, passed on as it was written. GET and DELETE have none."""
    raw = await body.read_bytes(request)
    if not raw:
        return None
    if request.method not in ("POST", "PUT"):
        raise errors.Invalid(f"{request.method} takes no body")
    body.require_json(request)
    body.parse_value(raw)
    return raw


def _query(request: web.Request) -> dict[str, str]:
    """Lists are given by comma, as Shopify takes them."""
    repeated = sorted(name for name in set(request.query) if len(request.query.getall(name)) > 1)
    if repeated:
        raise errors.Invalid(
            "a parameter is given twice",
            flaws=[errors.Flaw(f"/{name}", "given twice") for name in repeated],
        )
    given = dict(request.query)
    body.screen(given)
    return given


def _has_key(request: web.Request) -> bool:
    key = request.headers.get(KEY_HEADER)
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise errors.Invalid(f"an {KEY_HEADER} has 1 to {MAX_KEY} characters")
    return key is not None


def _max_age_s(request: web.Request) -> int:
    """The age that the caller allows, 0 for none."""
    for part in request.headers.get("Cache-Control", "").lower().split(","):
        name, _, value = part.strip().partition("=")
        if name in ("no-cache", "no-store"):
            return 0
        if name == "max-age" and value.isascii() and value.isdigit():
            return min(int(value[:9]), admin.MAX_AGE_S)
    return 0
