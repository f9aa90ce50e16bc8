"""`graphql.json`: tokens, versions, costs and refusals around a small schema."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from aiohttp import web
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    execute_sync,
    parse,
    validate,
)

from testkit.shopify import admin, schema
from testkit.shopify.bulk import Bulk
from testkit.shopify.catalog import Row
from testkit.shopify.wallet import Access
from testkit.shopify.world import Shop, World

LIMITS = "https://shopify.dev/api/usage/rate-limits"
DEPRECATED = {"bodyHtml", "currentBulkOperation"}
DEPRECATION = "https://shopify.dev/api/usage/versioning#deprecation-practices"
MUTATION_COST = 10.0
_COST = re.compile(r"#\s*cost:\s*(\d+(?:\.\d+)?)")
_ACTUAL = re.compile(r"#\s*actual:\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Asked:
    query: str
    variables: Mapping[str, Any]
    operation_name: str | None


class GraphQL:
    """A query says its price in a comment, `# cost:N` and `# actual:N`; else it is reckoned."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.bulk = Bulk(world, self._run_bulk)

    async def handle(self, request: web.Request, shop: Shop) -> web.Response:
        try:
            answered = admin.version(self._world, request)
            access = admin.admit(self._world, request, shop)
            asked = _asked(await request.read(), request.content_type)
        except admin.Turned as turned:
            return turned.response
        said, document = self._answer(shop, access, asked, answered, request.headers)
        headers = admin.headers(answered)
        if document is not None and _names(document) & DEPRECATED:
            headers["X-Shopify-API-Deprecated-Reason"] = DEPRECATION
        return web.json_response(said, headers=headers)

    def _answer(
        self,
        shop: Shop,
        access: Access,
        asked: Asked,
        answered: str,
        headers: Mapping[str, str],
    ) -> tuple[Row, DocumentNode | None]:
        try:
            document, flaws = _read(asked.query)
        except GraphQLSyntaxError as error:
            return {"errors": [error.formatted]}, None
        if flaws:
            return {"errors": [flaw.formatted for flaw in flaws]}, document
        requested = _cost(asked, document)
        most = self._world.rules.max_cost
        if requested > most:
            return {"errors": [_too_dear(requested, most)]}, document
        if not shop.points.take(requested):
            return _throttled(shop, requested), document
        result = self._execute(shop, access, asked, answered, document)
        actual = _stated(_ACTUAL, asked.query, requested)
        shop.points.give_back(requested - actual)
        cost = _cost_told(shop, requested, actual)
        if headers.get("Shopify-GraphQL-Cost-Debug") == "1":
            cost["fields"] = [{"path": ["query"], "requestedTotalCost": requested}]
        return result | {"extensions": {"cost": cost}}, document

    def _execute(
        self,
        shop: Shop,
        access: Access,
        asked: Asked,
        answered: str,
        document: DocumentNode,
    ) -> Row:
        roots = schema.Roots(shop, access, self.bulk, answered)
        result = execute_sync(
            schema.SCHEMA,
            document,
            root_value=roots.fields(),
            variable_values=dict(asked.variables),
            operation_name=asked.operation_name,
        )
        told: Row = {"data": result.data}
        if result.errors:
            told["errors"] = [error.formatted for error in result.errors]
        return told

    def _run_bulk(self, shop: Shop, access: Access, query: str) -> Row:
        try:
            document, flaws = _read(query)
        except GraphQLSyntaxError as error:
            raise ValueError(error.message) from None
        if flaws:
            raise ValueError(flaws[0].message)
        newest = max(each for each in self._world.rules.versions if each != "unstable")
        found = self._execute(shop, access, Asked(query, {}, None), newest, document)
        if "errors" in found:
            raise ValueError(found["errors"][0]["message"])
        data: Row = found["data"]
        return data


@lru_cache(maxsize=512)
def _read(query: str) -> tuple[DocumentNode, list[GraphQLError]]:
    """Also what is wrong with it by the schema; raises GraphQLSyntaxError."""
    document = parse(query)
    return document, validate(schema.SCHEMA, document)


def operation_of(body: bytes, content_type: str) -> str:
    """The name of the operation, or its first field: what a call is written down as."""
    try:
        asked = _asked(body, content_type)
        document, _flaws = _read(asked.query)
    except (admin.Turned, GraphQLSyntaxError):
        return "unknown"
    for each in document.definitions:
        if isinstance(each, OperationDefinitionNode):
            first = each.selection_set.selections[0]
            named = each.name or (first.name if isinstance(first, FieldNode) else None)
            return named.value if named is not None else "unknown"
    return "unknown"


def _asked(body: bytes, content_type: str) -> Asked:
    if content_type == "application/graphql":
        return Asked(body.decode("utf-8", "replace"), {}, None)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise admin.Turned(400, "Bad Request") from None
    query = said.get("query") if isinstance(said, dict) else None
    if not isinstance(query, str) or not query.strip():
        raise admin.Turned(400, {"query": "Required parameter missing or invalid"})
    return Asked(query, said.get("variables") or {}, said.get("operationName"))


def _names(document: DocumentNode) -> set[str]:
    """Of every field that is asked for."""
    names: set[str] = set()
    waiting = [each for each in document.definitions if hasattr(each, "selection_set")]
    sets = [each.selection_set for each in waiting]
    while sets:
        for node in sets.pop().selections:
            if isinstance(node, FieldNode):
                names.add(node.name.value)
            inner = getattr(node, "selection_set", None)
            if inner is not None:
                sets.append(inner)
    return names


def _stated(pattern: re.Pattern[str], query: str, otherwise: float) -> float:
    found = pattern.search(query)
    return otherwise if found is None else float(found[1])


def _cost(asked: Asked, document: DocumentNode) -> float:
    return _stated(_COST, asked.query, _reckoned(document, asked.variables))


def _reckoned(document: DocumentNode, variables: Mapping[str, Any]) -> float:
    """A point for each object that may come, ten for each mutation."""
    fragments = {
        each.name.value: each.selection_set
        for each in document.definitions
        if isinstance(each, FragmentDefinitionNode)
    }

    def of(selected: SelectionSetNode | None) -> float:
        total = 0.0
        for node in selected.selections if selected is not None else ():
            if isinstance(node, FragmentSpreadNode):
                total += of(fragments.get(node.name.value))
            elif not isinstance(node, FieldNode):
                total += of(getattr(node, "selection_set", None))
            elif node.selection_set is not None:
                total += (1 + of(node.selection_set)) * _times(node, variables)
        return total

    total = 0.0
    for each in document.definitions:
        if isinstance(each, OperationDefinitionNode):
            is_mutation = each.operation is OperationType.MUTATION
            base = MUTATION_COST * len(each.selection_set.selections) if is_mutation else 0.0
            total += base + of(each.selection_set)
    return total


def _times(node: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in node.arguments or ():
        if argument.name.value in ("first", "last"):
            name = getattr(getattr(argument.value, "name", None), "value", None)
            given = variables.get(name) if name else getattr(argument.value, "value", 1)
            return max(1, int(given or 1))
    return 1


def _cost_told(shop: Shop, requested: float, actual: float | None) -> Row:
    points = shop.points
    return {
        "requestedQueryCost": _plain(requested),
        "actualQueryCost": None if actual is None else _plain(actual),
        "throttleStatus": {
            "maximumAvailable": float(points.maximum),
            "currentlyAvailable": int(points.available),
            "restoreRate": float(points.restore_rate),
        },
    }


def _throttled(shop: Shop, requested: float) -> Row:
    error = {"message": "Throttled", "extensions": {"code": "THROTTLED", "documentation": LIMITS}}
    return {"errors": [error], "extensions": {"cost": _cost_told(shop, requested, None)}}


def _too_dear(requested: float, most: float) -> Row:
    cost, limit = _plain(requested), _plain(most)
    return {
        "message": f"Query cost is {cost}, which exceeds the single query max cost limit {limit}.",
        "extensions": {
            "code": "MAX_COST_EXCEEDED",
            "cost": cost,
            "maxCost": limit,
            "documentation": LIMITS,
        },
    }


def _plain(points: float) -> float | int:
    return int(points) if points == int(points) else points
