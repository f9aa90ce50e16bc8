"""Admin REST: products by the page, the call limit, the errors that clients must know."""

import base64
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from testkit.shopify import admin
from testkit.shopify.catalog import Row
from testkit.shopify.wallet import Access
from testkit.shopify.world import Shop, World

LIMIT_DEFAULT, LIMIT_MAX = 50, 250
WITH_PAGE_INFO = {"limit", "fields", "page_info"}
TOO_FAST = (
    "Exceeded 2 calls per second for api client. "
    "Reduce request rates to resume uninterrupted service."
)


class Rest:
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, request: web.Request, shop: Shop) -> web.Response:
        try:
            answered = admin.version(self._world, request)
            access = admin.admit(self._world, request, shop)
            if not shop.calls.take(1):
                raise admin.Turned(429, TOO_FAST, {"Retry-After": "2.0"})
            response = await self._answer(request, shop, access)
        except admin.Turned as turned:
            return turned.response
        used = int(shop.calls.maximum - shop.calls.available + 0.5)
        response.headers.update(admin.headers(answered))
        response.headers["X-Shopify-Shop-Api-Call-Limit"] = f"{used}/{shop.calls.maximum:.0f}"
        return response

    async def scopes(self, request: web.Request, shop: Shop) -> web.Response:
        """`/admin/oauth/access_scopes.json`, which has no version."""
        try:
            access = admin.admit(self._world, request, shop)
        except admin.Turned as turned:
            return turned.response
        held = [{"handle": each} for each in access.scope.split(",") if each]
        return web.json_response({"access_scopes": held})

    async def _answer(self, request: web.Request, shop: Shop, access: Access) -> web.Response:
        path = request.match_info["path"].removesuffix(".json").strip("/").split("/")
        match request.method, path:
            case "GET", ["shop"]:
                return web.json_response({"shop": _shop(shop)})
            case "GET", ["products"]:
                _needs(access, "read_products")
                return _page(request, shop)
            case "GET", ["products", "count"]:
                _needs(access, "read_products")
                return web.json_response({"count": len(shop.catalog.products)})
            case "POST", ["products"]:
                _needs(access, "write_products")
                row = shop.catalog.add(_title(await request.read()))
                return web.json_response({"product": row}, status=201)
            case method, ["products", number]:
                _needs(access, "read_products" if method == "GET" else "write_products")
                return await self._one(request, shop, number)
            case _:
                raise admin.Turned(404, "Not Found")

    async def _one(self, request: web.Request, shop: Shop, number: str) -> web.Response:
        row = shop.catalog.products.get(int(number) if number.isdecimal() else 0)
        if row is None or request.method not in ("GET", "PUT", "DELETE"):
            raise admin.Turned(404, "Not Found")
        if request.method == "PUT":
            row["title"] = _title(await request.read())
        if request.method == "DELETE":
            del shop.catalog.products[row["id"]]
            return web.json_response({})
        return web.json_response({"product": row})


def _shop(shop: Shop) -> Row:
    return {"id": 1, "name": shop.name.partition(".")[0], "myshopify_domain": shop.name}


def _needs(access: Access, scope: str) -> None:
    if not admin.permits(access, scope):
        raise admin.Turned(403, f"[API] This action requires merchant approval for {scope} scope.")


def _title(body: bytes) -> str:
    try:
        fields = orjson.loads(body)["product"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise admin.Turned(400, {"product": "Required parameter missing or invalid"}) from None
    title = fields.get("title") if isinstance(fields, dict) else None
    if not title:
        raise admin.Turned(422, {"title": ["can't be blank"]})
    return str(title)


def _page(request: web.Request, shop: Shop) -> web.Response:
    query = request.query
    limit = int(query.get("limit", LIMIT_DEFAULT)) if query.get("limit", "50").isdecimal() else 0
    if not 0 < limit <= LIMIT_MAX:
        raise admin.Turned(400, {"limit": "Invalid value."})
    first = 0
    if "page_info" in query:
        if set(query) - WITH_PAGE_INFO:
            raise admin.Turned(400, {"page_info": "Invalid value."})
        first = _place(query["page_info"])
    rows = list(shop.catalog.products.values())
    wanted = [each for each in query.get("fields", "").split(",") if each]
    page = [_narrowed(row, wanted) for row in rows[first : first + limit]]
    links = {}
    if first > 0:
        links["previous"] = max(0, first - limit)
    if first + limit < len(rows):
        links["next"] = first + limit
    headers = {"Link": _link(request, shop, links, limit)} if links else {}
    return web.json_response({"products": page}, headers=headers)


def _narrowed(row: Row, wanted: list[str]) -> dict[str, Any]:
    return {name: row[name] for name in wanted if name in row} if wanted else row


def _link(request: web.Request, shop: Shop, links: dict[str, int], limit: int) -> str:
    """With the shop's own host, as Shopify does, wherever the request came in."""
    at = f"https://{shop.name}/admin/api/{request.match_info['version']}/products.json"

    def url(place: int) -> str:
        return f"{at}?{urlencode({'limit': limit, 'page_info': _page_info(place)})}"

    return ", ".join(f'<{url(place)}>; rel="{rel}"' for rel, place in links.items())


def _page_info(place: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"place": place})).decode().rstrip("=")


def _place(page_info: str) -> int:
    try:
        return int(orjson.loads(base64.urlsafe_b64decode(page_info + "=="))["place"])
    except (ValueError, KeyError, TypeError):
        raise admin.Turned(400, {"page_info": "Invalid value."}) from None
