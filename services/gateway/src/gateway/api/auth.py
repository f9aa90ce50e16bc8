"""Where browsers are authorized: to Shopify, back from Shopify, and on. No token passes here."""

import pydantic
from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.shopify import not_configured
from chassis.web import body
from contracts import gateway as wire
from contracts import sessions
from gateway.api import door
from gateway.api import keys as app_keys
from gateway.core.auth import PATH, AuthApp, Page
from gateway.core.ports import Road

# Neither the address, which may hold a code, nor the answer is for anybody else.
PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}

RELOAD_S = "3"
# A code that somebody of ours used up before he died: the browser begins anew, once in a minute.
AGAIN = "mainstay_oauth_again"
ONCE = "Max-Age=60; HttpOnly; SameSite=Lax"


async def begin(request: web.Request) -> web.Response:
    app = await _admitted(request)
    said = body.read_query(request, wire.AuthQuery)
    asked = sessions.OAuthBegin(
        shop=app.shops.named(said.shop),
        mode=said.mode,
        return_to=said.return_to,
        host=said.host,
    )
    if said.embedded == "1":
        return _page(app.leaving(asked))
    begun = await request.app[app_keys.AUTHORIZATIONS].begin(asked)
    return _redirect(begun.authorize_url, begun.cookie)


async def complete(request: web.Request) -> web.Response:
    app = await _admitted(request)
    try:
        ended = await request.app[app_keys.AUTHORIZATIONS].complete(_came_back(request))
    except errors.Conflict as fault:
        again = fault.members.get("authorize_url", "")
        if AGAIN in request.cookies or not again.startswith(f"{app.url}{PATH}?"):
            raise
        return _redirect(again, f"{AGAIN}=1; {ONCE}")
    except errors.Unavailable as fault:
        # The browser comes again by itself, for as long as Shopify's signature counts.
        fault.headers["Refresh"] = RELOAD_S
        raise
    return _redirect(ended.redirect_to, ended.clear_cookie)


async def bounce(request: web.Request) -> web.Response:
    app = await _admitted(request)
    said = body.read_query(request, wire.BounceQuery)
    return _page(app.bounce(app.shops.named(said.shop), said.reload))


async def _admitted(request: web.Request) -> AuthApp:
    await door.admit_anybody(request)
    app = request.app.get(app_keys.AUTH_APP)
    if app is None:
        raise not_configured()
    return app


def _came_back(request: web.Request) -> sessions.OAuthComplete:
    said = {
        "query": request.raw_path.partition("?")[2],
        "cookie": "; ".join(request.headers.getall("Cookie", [])),
    }
    body.screen(said)
    try:
        return sessions.OAuthComplete(**said)
    except pydantic.ValidationError as error:
        raise body.invalid(error) from None


def _redirect(address: str, cookie: str) -> web.Response:
    said = {"Location": address, "Set-Cookie": cookie, "Mainstay-Road": Road.DIRECT, **PRIVATE}
    return web.Response(status=302, headers=said)


def _page(page: Page) -> web.Response:
    said = {"Content-Security-Policy": page.policy, **PRIVATE}
    return web.Response(text=page.html, content_type="text/html", headers=said)
