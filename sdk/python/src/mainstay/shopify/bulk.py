"""Bulk operations: a query over everything that a shop has, run by Shopify, read as it comes.

An operation may run for days and is known by its id, so whoever starts one can die and read on.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from mainstay.shopify import errors
from mainstay.shopify.graphql import GraphQLAnswer

FIRST_POLL_S, LONGEST_POLL_S = 0.5, 10.0
BULK_WITHIN_S = 24 * 3600.0
STALL_S = 60.0
MAX_ROW_BYTES = 16 * 1024 * 1024
TRIES = 4
PARENT, CHILDREN = "__parentId", "__children"
COMPLETED, ENDED = "COMPLETED", frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})

START = """
mutation MainstayBulkStart($query: String!, $grouped: Boolean!) {
  bulkOperationRunQuery(query: $query, groupObjects: $grouped) {
    bulkOperation { id }
    userErrors { field message code }
  }
}
"""
LOOK = """
query MainstayBulkLook($id: ID!) {
  node(id: $id) {
    ... on BulkOperation { id status errorCode objectCount url partialDataUrl }
  }
}
"""

Ask = Callable[[str, Mapping[str, Any]], Awaitable[GraphQLAnswer]]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """`state` as Shopify names it. `url` is absent when there was nothing to tell."""

    id: str
    state: str
    code: str | None = None
    objects: int = 0
    url: str | None = None
    partial_url: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        return cls(
            id=said["id"],
            state=said["status"],
            code=said.get("errorCode"),
            objects=int(said.get("objectCount") or 0),
            url=said.get("url"),
            partial_url=said.get("partialDataUrl"),
        )


@dataclass(frozen=True, slots=True)
class Bulk:
    """Operations of one shop. Files are read over `http`, from https addresses, and from
    where the shop itself is called."""

    shop: str
    origin: str
    ask: Ask
    http: aiohttp.ClientSession

    async def start(self, query: str, *, grouped: bool) -> str:
        """The id of the operation. Raises `UserErrors` when one too many runs."""
        answer = await self.ask(START, {"query": query, "grouped": grouped})
        return str(answer.done()["bulkOperationRunQuery"]["bulkOperation"]["id"])

    async def look(self, operation_id: str) -> BulkOperation:
        answer = await self.ask(LOOK, {"id": operation_id})
        said = answer.checked().data.get("node")
        if not isinstance(said, Mapping) or not said:
            raise errors.Refused("there is no such bulk operation", shop=self.shop)
        return BulkOperation.of(said)

    async def ended(self, operation_id: str, *, within_s: float) -> BulkOperation:
        """When it has completed; raises `BulkFailed`. A Shopify that is away for a while is waited
        for."""
        ends = asyncio.get_running_loop().time() + within_s
        for looks in count():
            try:
                operation = await self.look(operation_id)
            except errors.ShopifyError as error:
                if not error.retryable:
                    raise
            else:
                if operation.state in ENDED:
                    return self._completed(operation)
            pause_s: float = min(LONGEST_POLL_S, FIRST_POLL_S * 1.5**looks)
            if asyncio.get_running_loop().time() + pause_s >= ends:
                break
            await asyncio.sleep(pause_s)
        raise errors.DeadlineExceeded("the bulk operation runs on", shop=self.shop)

    def _completed(self, operation: BulkOperation) -> BulkOperation:
        if operation.state == COMPLETED:
            return operation
        raise errors.BulkFailed(
            f"the bulk operation is {operation.state}: {operation.code}",
            state=operation.state,
            code=operation.code,
            partial_url=operation.partial_url,
            shop=self.shop,
        )

    async def rows(self, url: str | None) -> AsyncGenerator[Row, None]:
        """Every line of a file; a connection that is lost is made again, and no row told twice."""
        if url is None:
            return
        if not self._is_safe(url):
            raise errors.Refused("the file lies at no safe address", shop=self.shop)
        told, failures = 0, 0
        while True:
            before = told
            try:
                async with aclosing(self._lines(url, skip=told)) as rows:
                    async for row in rows:
                        told += 1
                        yield row
                return
            except errors.UpstreamError:
                failures = 1 if told > before else failures + 1
                if failures >= TRIES:
                    raise
                await asyncio.sleep(FIRST_POLL_S * 2 ** (failures - 1))

    def _is_safe(self, url: str) -> bool:
        given, own = urlsplit(url), urlsplit(self.origin)
        return given.scheme == "https" or given[:2] == own[:2]

    async def _lines(self, url: str, *, skip: int) -> AsyncGenerator[Row, None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_S, sock_read=STALL_S)
        try:
            async with self.http.get(url, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    self._no_file(response.status)
                number = 0
                async for line in _split(response.content):
                    number += 1
                    if number > skip:
                        yield json.loads(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise errors.UpstreamError(
                f"the file ends too early: {type(error).__name__}", shop=self.shop
            ) from error

    def _no_file(self, status: int) -> None:
        kind = errors.UpstreamError if status >= 500 or status == 429 else errors.Refused
        raise kind("there is no file at the address", shop=self.shop, status=status)


async def nested(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    """Rows of an operation that was started `grouped`, those that belong to another within it,
    under `__children`. One object with all that belongs to it is held at a time."""
    root: Row | None = None
    known: dict[str, Row] = {}
    async for row in rows:
        parent = known.get(str(row.get(PARENT)))
        if parent is not None:
            parent.setdefault(CHILDREN, []).append(row)
        else:
            if root is not None:
                yield root
            root, known = row, {}
        if "id" in row:
            known[str(row["id"])] = row
    if root is not None:
        yield root


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        *lines, last = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > MAX_ROW_BYTES:
            raise ValueError("a row is too long")
    if rest.strip():
        yield bytes(rest)
