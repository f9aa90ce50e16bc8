"""Bulk operations: a state machine by Shopify's clock, and a file with a line per object."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from testkit.shopify.catalog import Row, gid, number_of
from testkit.shopify.rules import DAY_S
from testkit.shopify.wallet import Access
from testkit.shopify.world import Shop, World

URL_LIVES_S = 7 * DAY_S
OPERATION_LIVES_S = 10 * DAY_S
ENDED = ("COMPLETED", "FAILED", "CANCELED", "EXPIRED")

Run = Callable[[Shop, Access, str], Row]
"""All that a query finds, without pages; raises ValueError of one that is no query."""


@dataclass(slots=True, eq=False)
class Operation:
    number: int
    query: str
    created_at: float
    takes_s: float
    lines: list[Row]
    roots: int
    name: str
    """Of its file."""
    canceled_at: float | None = None
    error: str | None = None

    def status(self, now: float) -> str:
        age_s = now - self.created_at
        if self.canceled_at is not None:
            return "CANCELED" if now - self.canceled_at >= self.takes_s / 4 else "CANCELING"
        if self.takes_s > OPERATION_LIVES_S and age_s > OPERATION_LIVES_S:
            return "EXPIRED"
        if age_s >= self.takes_s:
            return "COMPLETED" if self.error is None else "FAILED"
        return "RUNNING" if age_s >= self.takes_s / 4 else "CREATED"

    @property
    def file(self) -> bytes:
        """Half of it when it failed."""
        kept = self.lines if self.error is None else self.lines[: len(self.lines) // 2]
        return b"".join(orjson.dumps(line) + b"\n" for line in kept)


class Bulk:
    def __init__(self, world: World, run: Run) -> None:
        self._world = world
        self._run = run
        self._files: dict[str, Operation] = {}
        self._last = 0

    def start(
        self, shop: Shop, access: Access, query: str, *, grouped: bool
    ) -> tuple[Row | None, Row | None]:
        """The operation, or the user error that there is instead."""
        now = self._world.clock.now()
        running = [each for each in self._of(shop) if each.status(now) not in ENDED]
        if len(running) >= self._world.rules.bulk_queries_at_once:
            at_work = gid("BulkOperation", running[0].number)
            return None, _flaw(
                f"A bulk query operation for this app and shop is already in progress: {at_work}.",
                "OPERATION_IN_PROGRESS",
            )
        try:
            found = self._run(shop, access, query)
        except ValueError as error:
            return None, _flaw(f"Invalid bulk query: {error}", "INVALID")
        lines = list(_lines(found))
        roots = [line for line in lines if "__parentId" not in line]
        children = [line for line in lines if "__parentId" in line]
        self._last += 1
        operation = Operation(
            number=self._last,
            query=query,
            created_at=now,
            takes_s=self._world.rules.bulk_takes_s,
            lines=lines if grouped else roots + children,
            roots=len(roots),
            name=f"bulk-{secrets.token_hex(16)}.jsonl",
            error=shop.bulk_error,
        )
        shop.bulk_operations[operation.number] = operation
        self._files[operation.name] = operation
        return self._told(operation), None

    def cancel(self, shop: Shop, given: str) -> Row | None:
        operation = shop.bulk_operations.get(number_of(given))
        if operation is None:
            return None
        now = self._world.clock.now()
        if operation.status(now) not in ENDED:
            operation.canceled_at = operation.canceled_at or now
        return self._told(operation)

    def found(self, shop: Shop, given: str) -> Row | None:
        operation = shop.bulk_operations.get(number_of(given))
        return None if operation is None else self._told(operation)

    def current(self, shop: Shop) -> Row | None:
        """The latest."""
        operations = self._of(shop)
        return self._told(operations[-1]) if operations else None

    async def handle_file(self, request: web.Request) -> web.Response:
        """The file; nobody needs a token for it, and after a week nobody gets it."""
        operation = self._files.get(request.match_info["name"])
        now = self._world.clock.now()
        if operation is None or now > operation.created_at + operation.takes_s + URL_LIVES_S:
            return web.Response(status=403, text="<Error><Code>ExpiredToken</Code></Error>")
        return web.Response(body=operation.file, content_type="application/jsonl")

    def _of(self, shop: Shop) -> list[Operation]:
        return list(shop.bulk_operations.values())

    def _told(self, operation: Operation) -> Row:
        status = operation.status(self._world.clock.now())
        url = f"{self._world.url}/_files/{operation.name}"
        ended = status in ENDED
        counted = len(operation.lines) if ended else 0
        done_at = operation.created_at + operation.takes_s
        return {
            "__typename": "BulkOperation",
            "id": gid("BulkOperation", operation.number),
            "status": status,
            "errorCode": operation.error if status == "FAILED" else None,
            "type": "QUERY",
            "query": operation.query,
            "url": url if status == "COMPLETED" and operation.lines else None,
            "partialDataUrl": url if status == "FAILED" and operation.lines else None,
            "objectCount": str(counted),
            "rootObjectCount": str(operation.roots if ended else 0),
            "fileSize": str(len(operation.file)) if status == "COMPLETED" else None,
            "createdAt": _iso(operation.created_at),
            "completedAt": _iso(done_at) if status == "COMPLETED" else None,
        }


def _flaw(message: str, code: str) -> Row:
    return {"field": None, "message": message, "code": code}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(found: Row, parent: str | None = None) -> Iterator[Row]:
    """Each node a line, its connections as lines of their own that name their parent."""
    for value in found.values():
        for node in _nodes(value):
            plain = {name: each for name, each in node.items() if not _is_connection(each)}
            yield plain if parent is None else plain | {"__parentId": parent}
            inner = {name: each for name, each in node.items() if _is_connection(each)}
            yield from _lines(inner, node.get("id"))


def _nodes(value: Any) -> list[Row]:
    if not _is_connection(value):
        return []
    if "nodes" in value:
        return list(value["nodes"])
    return [edge["node"] for edge in value["edges"]]


def _is_connection(value: Any) -> bool:
    return isinstance(value, dict) and ("edges" in value or "nodes" in value)
