"""Answers of the REST API, and how lists go on."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mainstay.shopify import rest

Ask = Callable[[str], Awaitable["RestAnswer"]]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A 2xx. `document` is None when there is no body; `pages` has the `page_info` of the `next`
    and the `previous` page, where there is one. `cached` tells that nobody was asked."""

    status: int
    document: Any
    pages: Mapping[str, str]
    api_version: str | None = None
    request_id: str | None = None
    deprecated: str | None = None
    cached: bool = False
    ask: Ask | None = field(default=None, repr=False, compare=False)

    async def next(self) -> "RestAnswer | None":
        return await self._page(rest.NEXT)

    async def previous(self) -> "RestAnswer | None":
        return await self._page(rest.PREVIOUS)

    async def _page(self, rel: str) -> "RestAnswer | None":
        info = self.pages.get(rel)
        return None if info is None or self.ask is None else await self.ask(info)
