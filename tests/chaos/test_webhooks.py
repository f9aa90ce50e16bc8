"""Everything dies in the middle of an intake of webhooks: what was answered is there, once."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localstack.servers import ports
from testkit.shared_servers import Run
from testkit.shopify.server import MockShopify
from testkit.signals import eventually
from testkit.stack import StackProcess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

VICTIMS = ("postgres", "session-service", "queue-service", "gateway")
SHOPS = [f"chaos-{number}.myshopify.com" for number in range(12)]


async def test_webhooks_that_were_answered_are_jobs_and_end_sessions_whatever_dies(
    run: Run,
) -> None:
    home: Path = run.folder / "webhooks"
    environ = {
        "SHOPIFY_API_KEY": "key",
        "SHOPIFY_API_SECRET": "shpss_of_the_bad_day",
        "SHOPIFY_SHOP_ORIGIN": f"http://127.0.0.1:{ports.free_port()}/{{shop}}",
    }
    with StackProcess(home, environ=environ) as stack:
        async with (
            MockShopify(api_key="key", api_secret="shpss_of_the_bad_day") as shopify,
            stack.session() as session,
        ):
            shopify.webhooks.url = f"{stack.gateway_url}/webhooks/shopify"
            for shop in SHOPS:
                await _put(session, shop)
            for shop in SHOPS:
                shopify.webhooks.queue(shop, "orders/create", {"of": shop})
                shopify.webhooks.uninstall(shop)
            await _send_through_everything(stack, shopify)
            sent = [each for each in shopify.webhooks.deliveries if each.topic != "shop/redact"]
            assert all(each.delivered for each in sent)
            wanted = Counter({each.webhook_id: 1 for each in sent})

            async def is_all_there() -> bool:
                found = [await _ids_of(session, shop) for shop in SHOPS]
                gone = [await _is_gone(session, shop) for shop in SHOPS]
                return sum(found, Counter()) == wanted and all(gone)

            await eventually(is_all_there, 60.0)


async def _send_through_everything(stack: StackProcess, shopify: MockShopify) -> None:
    """Everything dies while the first half arrives; Shopify repeats what was not answered."""
    waiting = shopify.webhooks.due()
    half = len(waiting) // 2
    arriving = [asyncio.create_task(shopify.webhooks.send(each)) for each in waiting[:half]]
    await asyncio.wait(arriving, return_when=asyncio.FIRST_COMPLETED)
    for victim in VICTIMS:
        stack.kill(victim)
    await asyncio.gather(*arriving)

    async def all_answered() -> bool:
        left = [each for each in waiting if not each.delivered]
        await asyncio.gather(*map(shopify.webhooks.send, left))
        return not left

    await eventually(all_answered, 60.0)


async def _put(session: aiohttp.ClientSession, shop: str) -> None:
    document = {"id": f"offline_{shop}", "shop": shop, "isOnline": False, "accessToken": "shpat_x"}
    async with session.put(f"/v1/sessions/offline_{shop}", json=document) as answer:
        assert answer.status == 200, await answer.text()


async def _ids_of(session: aiohttp.ClientSession, shop: str) -> Counter[Any]:
    async with session.get("/v1/jobs", params={"queue": "webhooks", "shop": shop}) as answer:
        if answer.status != 200:
            return Counter()
        return Counter(job["args"]["webhook_id"] for job in (await answer.json())["items"])


async def _is_gone(session: aiohttp.ClientSession, shop: str) -> bool:
    async with session.get(f"/v1/sessions/offline_{shop}") as answer:
        return answer.status == 404
