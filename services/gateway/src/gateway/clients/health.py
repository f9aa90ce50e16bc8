"""A look at a service's health."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson

LOOK_S = 0.5


def look_at(
    session: aiohttp.ClientSession, ops_url: str
) -> Callable[[], Awaitable[dict[str, Any] | None]]:
    """`/healthz` as it says, whatever its status; None when nothing sensible comes in time."""
    url = ops_url.rstrip("/") + "/healthz"

    async def look() -> dict[str, Any] | None:
        try:
            async with (
                asyncio.timeout(LOOK_S),
                session.get(url, allow_redirects=False) as response,
            ):
                report = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return None
        return report if isinstance(report, dict) else None

    return look
