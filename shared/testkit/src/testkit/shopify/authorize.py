"""The consent page, with a merchant who agrees at once: a browser comes and goes back signed."""

from urllib.parse import urlencode

from aiohttp import web

from testkit.shopify import signing
from testkit.shopify.grants import page
from testkit.shopify.world import Shop, World


class Authorize:
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, request: web.Request, shop: Shop) -> web.Response:
        asked = request.query
        redirect = asked.get("redirect_uri", "")
        if asked.get("client_id") != self._world.api_key:
            return _refused("invalid_client", "Could not find the app of this client_id")
        if not redirect or (self._world.redirects and redirect not in self._world.redirects):
            return _refused("invalid_request", "The redirect_uri is not whitelisted")
        online = "per-user" in asked.getall("grant_options[]", [])
        self._world.install(shop.name, scopes=asked.get("scope") or None)
        query = callback_query(
            self._world, shop.name, state=asked.get("state", ""), user_id=1 if online else None
        )
        joint = "&" if "?" in redirect else "?"
        return web.Response(status=302, headers={"Location": redirect + joint + urlencode(query)})


def callback_query(
    world: World, shop: str, *, state: str, user_id: int | None = None, secret: str | None = None
) -> list[tuple[str, str]]:
    """The query that the app's callback gets: a fresh code, signed. For a user: online."""
    told = [
        ("code", world.code(shop, user_id=user_id)),
        ("host", signing.host(shop, padded=world.rules.pads_host)),
        ("shop", shop),
        ("state", state),
        ("timestamp", str(int(world.clock.now()))),
    ]
    return signing.signed(told, secret or world.api_secret)


def _refused(code: str, description: str) -> web.Response:
    denied = page(code, description)
    return web.Response(status=denied.status, text=str(denied.body), content_type="text/html")
