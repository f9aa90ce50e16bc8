"""Shopify's token endpoint. One question, one answer; what it means is judged elsewhere."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
from yarl import URL

from chassis.kernel import errors
from chassis.kernel.shopify import Shops
from session_service.core.answers import Reply

PATH = "/admin/oauth/access_token"
ANSWER_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024
REST_OF_SECOND = timedelta(microseconds=999_999)
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class ShopifyTokens:
    def __init__(self, *, session: aiohttp.ClientSession, shops: Shops) -> None:
        self._session = session
        self._shops = shops

    async def ask(self, shop: str, body: Mapping[str, str]) -> Reply:
        url = URL(self._shops.origin(shop) + PATH, encoded=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._exchange(url, orjson.dumps(dict(body)))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise errors.Unavailable("Shopify does not answer") from None

    async def _exchange(self, url: URL, body: bytes) -> Reply:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            said = bytearray()
            async for piece in answer.content.iter_any():
                said += piece
                if len(said) > MAX_ANSWER_BYTES:
                    raise errors.Unavailable("Shopify answered with too much")
            return Reply(
                status=answer.status,
                body=bytes(said),
                date=moment_of(answer.headers.get("Date", ""), came=datetime.now(UTC)),
                retry_after_s=_retry_after_s(answer.headers.get("Retry-After", "")),
            )


def moment_of(told: str, *, came: datetime) -> datetime | None:
    """When it was, by Shopify's clock. It tells whole seconds; where in that one, our clock knows
    as far as the two agree: an uninstallation is told to the nanosecond."""
    try:
        second = parsedate_to_datetime(told)
    except (TypeError, ValueError):
        return None
    second = second.replace(tzinfo=second.tzinfo or UTC).astimezone(UTC)
    return min(max(came, second), second + REST_OF_SECOND)


def _retry_after_s(text: str) -> float | None:
    """Seconds, fractions of them too."""
    return float(text) if _SECONDS.fullmatch(text) else None
