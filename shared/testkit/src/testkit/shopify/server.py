"""Our Shopify on a port of its own: `async with MockShopify() as shopify`."""

from types import TracebackType
from typing import Self

from aiohttp import web

from testkit.shopify import grants
from testkit.shopify.authorize import Authorize
from testkit.shopify.control import Control
from testkit.shopify.desk import Desk
from testkit.shopify.graphql import GraphQL, operation_of
from testkit.shopify.rest import Rest
from testkit.shopify.webhooks import Webhooks
from testkit.shopify.world import World, new_secret

HOST = "127.0.0.1"
API_KEY = "4f1c0ffee4f1c0ffee4f1c0ffee4f1c0"


class MockShopify(World):
    """Shops are called at `origin` (`http://127.0.0.1:<port>/{shop}`), or at the port alone with
    the shop as `Host`."""

    def __init__(
        self, *, api_key: str = API_KEY, api_secret: str | None = None, port: int = 0
    ) -> None:
        super().__init__(api_key=api_key, api_secret=api_secret or new_secret())
        self.port = port
        self.webhooks = Webhooks(self)
        self._runner: web.AppRunner | None = None

    @property
    def origin(self) -> str:
        return f"{self.url}/{{shop}}"

    async def start(self) -> None:
        self._runner = web.AppRunner(
            _app(self, self.webhooks), access_log=None, shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = int(self._runner.addresses[0][1])
        self.url = f"http://{HOST}:{self.port}"

    async def close(self) -> None:
        await self.webhooks.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _app(world: World, webhooks: Webhooks) -> web.Application:
    app = web.Application()
    desk, tokens, authorize = Desk(world), grants.TokenEndpoint(world), Authorize(world)
    graphql, rest = GraphQL(world), Rest(world)

    def grant(body: bytes, content_type: str) -> str:
        return grants.grant_of(grants.fields_of(body, content_type))

    Control(world, webhooks).add_to(app)
    app.router.add_get("/_files/{name}", graphql.bulk.handle_file)
    for shop in ("", "/{shop}"):
        oauth, api = f"{shop}/admin/oauth", f"{shop}/admin/api/{{version}}"
        app.router.add_post(f"{oauth}/access_token", desk.at("token", tokens.handle, grant))
        app.router.add_get(f"{oauth}/authorize", desk.at("authorize", authorize.handle))
        app.router.add_get(f"{oauth}/access_scopes.json", desk.at("rest", rest.scopes))
        app.router.add_post(f"{api}/graphql.json", desk.at("graphql", graphql.handle, operation_of))
        app.router.add_route("*", f"{api}/{{path:.+}}", desk.at("rest", rest.handle))
    return app
