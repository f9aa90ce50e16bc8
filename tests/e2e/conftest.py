"""One stack for all stories that do not break it, and the Shopify that it knows."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from localstack.servers import ports
from testkit.shared_servers import Run
from testkit.shopify.server import MockShopify
from testkit.stack import StackProcess, free_port_base

SECRET = f"shpss_{'5e' * 16}"


@pytest.fixture(scope="session")
def shopify_port() -> int:
    return ports.free_port()


@pytest.fixture(scope="session")
def stack(run: Run, shopify_port: int) -> Iterator[StackProcess]:
    home: Path = run.folder / "stack"
    port_base = free_port_base()
    environ = {
        "SHOPIFY_API_KEY": "key-of-the-stories",
        "SHOPIFY_API_SECRET": SECRET,
        "SHOPIFY_SCOPES": "read_orders,write_products",
        "SHOPIFY_APP_URL": f"http://127.0.0.1:{port_base}",
        "SHOPIFY_SHOP_ORIGIN": f"http://127.0.0.1:{shopify_port}/{{shop}}",
    }
    with StackProcess(home, environ=environ, port_base=port_base) as serving:
        yield serving


@pytest_asyncio.fixture
async def shopify(stack: StackProcess, shopify_port: int) -> AsyncIterator[MockShopify]:
    """The one that the stack calls, and that sends it webhooks."""
    async with MockShopify(
        api_key="key-of-the-stories", api_secret=SECRET, port=shopify_port
    ) as server:
        server.webhooks.url = f"{stack.gateway_url}/webhooks/shopify"
        yield server
