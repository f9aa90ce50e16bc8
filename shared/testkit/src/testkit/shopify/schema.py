"""A small piece of the Admin schema, with resolvers: products, refunds, bulk operations."""

import base64
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeAlias

from graphql import (
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    get_directive_values,
)

from testkit.shopify import admin
from testkit.shopify.bulk import Bulk
from testkit.shopify.catalog import Row, gid, number_of
from testkit.shopify.wallet import Access
from testkit.shopify.world import Shop

DOCUMENTATION = "https://shopify.dev/api/usage/access-scopes"
PAGE_MAX = 250
Info: TypeAlias = "GraphQLResolveInfo[Any]"

SCHEMA: GraphQLSchema = build_schema(
    resources.files("testkit.shopify").joinpath("schema.graphql").read_text()
)
IDEMPOTENT = next(each for each in SCHEMA.directives if each.name == "idempotent")


class Roots:
    """The fields that a query may begin with, for one request."""

    def __init__(self, shop: Shop, access: Access, bulk: Bulk, answered: str) -> None:
        self._shop = shop
        self._access = access
        self._bulk = bulk
        self._version = answered

    def fields(self) -> dict[str, Callable[..., Any]]:
        return {
            "shop": self._the_shop,
            "product": self._product,
            "products": self._products,
            "orders": self._orders,
            "node": self._node,
            "currentAppInstallation": self._installation,
            "bulkOperation": lambda _info, **its: self._bulk.found(self._shop, its["id"]),
            "currentBulkOperation": lambda _info, **_given: self._bulk.current(self._shop),
            "productCreate": self._create,
            "productUpdate": self._update,
            "refundCreate": self._refund,
            "bulkOperationRunQuery": self._run_bulk,
            "bulkOperationCancel": self._cancel_bulk,
        }

    def _the_shop(self, _info: Info) -> Row:
        name = self._shop.name
        return {
            "__typename": "Shop",
            "id": gid("Shop", 1),
            "name": name.partition(".")[0],
            "myshopifyDomain": name,
            "currencyCode": "EUR",
            "plan": {"displayName": "Basic"},
        }

    def _product(self, _info: Info, **its: str) -> Row | None:
        self._needs("product", "read_products")
        row = self._shop.catalog.products.get(number_of(its["id"]))
        return None if row is None else _told(row)

    def _products(self, _info: Info, first: int | None = None, after: str = "", **_how: str) -> Row:
        self._needs("products", "read_products")
        rows = [_told(row) for row in self._shop.catalog.products.values()]
        return connection(rows, first, after)

    def _orders(self, _info: Info, **_how: Any) -> Row:
        self._needs("orders", "read_orders")
        return connection([], None, "")

    def _node(self, info: Info, **its: str) -> Row | None:
        if "/BulkOperation/" in its["id"]:
            return self._bulk.found(self._shop, its["id"])
        return self._product(info, **its)

    def _installation(self, _info: Info) -> Row:
        held = [each for each in self._access.scope.split(",") if each]
        return {"accessScopes": [{"handle": each} for each in held]}

    def _create(self, _info: Info, **given: Row) -> Row:
        self._needs("productCreate", "write_products")
        title = _product_of(given).get("title")
        if not title:
            return {"product": None, "userErrors": [_flaw("title", "Title can't be blank")]}
        return {"product": _told(self._shop.catalog.add(title)), "userErrors": []}

    def _update(self, _info: Info, **given: Row) -> Row:
        self._needs("productUpdate", "write_products")
        fields = _product_of(given)
        row = self._shop.catalog.products.get(number_of(fields.get("id", "")))
        if row is None:
            return {"product": None, "userErrors": [_flaw("id", "Product does not exist")]}
        row["title"] = fields.get("title", row["title"])
        return {"product": _told(row), "userErrors": []}

    def _refund(self, info: Info, **given: Row) -> Row:
        """Twice the same key is one refund; a request without one was taken until 2026-04."""
        key, wanted = _idempotency_key(info), given["input"]
        if key is None and self._version >= "2026-04":
            raise GraphQLError(
                "The @idempotent directive is required for this mutation but was not provided.",
                extensions={"code": "BAD_REQUEST"},
            )
        known = self._shop.idempotent.get(key) if key is not None else None
        if known is not None and known[0] != wanted:
            raise GraphQLError(
                "The idempotency key was used with other parameters.",
                extensions={"code": "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"},
            )
        refund = known[1] if known is not None else self._shop.catalog.refund(wanted["orderId"])
        if key is not None:
            self._shop.idempotent[key] = (wanted, refund)
        return {"refund": {"id": gid("Refund", refund["id"])}, "userErrors": []}

    def _run_bulk(self, _info: Info, query: str, groupObjects: bool) -> Row:  # noqa: N803
        operation, flaw = self._bulk.start(self._shop, self._access, query, grouped=groupObjects)
        return {"bulkOperation": operation, "userErrors": [] if flaw is None else [flaw]}

    def _cancel_bulk(self, _info: Info, **its: str) -> Row:
        operation = self._bulk.cancel(self._shop, its["id"])
        missing = {"field": ["id"], "message": "Bulk operation does not exist"}
        return {"bulkOperation": operation, "userErrors": [] if operation else [missing]}

    def _needs(self, name: str, scope: str) -> None:
        if not admin.permits(self._access, scope):
            needed = f"`{scope}` access scope."
            raise GraphQLError(
                f"Access denied for {name} field. Required access: {needed}",
                extensions={
                    "code": "ACCESS_DENIED",
                    "documentation": DOCUMENTATION,
                    "requiredAccess": needed,
                },
            )


def connection(rows: list[Row], first: int | None, after: str | None) -> Row:
    """A page of rows that have ids; without `first` (bulk alone) all of them."""
    if first is not None and not 0 < first <= PAGE_MAX:
        raise GraphQLError(f"first must be between 1 and {PAGE_MAX}")
    seen = base64.b64decode(after).decode() if after else ""
    start = next((n + 1 for n, row in enumerate(rows) if row["id"] == seen), 0)
    page = rows[start:] if first is None else rows[start : start + first]
    edges = [{"cursor": _cursor(row), "node": row} for row in page]
    return {
        "edges": edges,
        "nodes": page,
        "pageInfo": {
            "hasNextPage": start + len(page) < len(rows),
            "hasPreviousPage": start > 0,
            "startCursor": edges[0]["cursor"] if edges else None,
            "endCursor": edges[-1]["cursor"] if edges else None,
        },
    }


def _cursor(row: Row) -> str:
    return base64.b64encode(str(row["id"]).encode()).decode()


def _told(row: Row) -> Row:
    variants = [
        {
            "__typename": "ProductVariant",
            "id": gid("ProductVariant", each["id"]),
            "title": each["title"],
        }
        for each in row["variants"]
    ]

    def page(_info: Info, first: int | None = None, after: str = "") -> Row:
        return connection(variants, first, after)

    return {
        "__typename": "Product",
        "id": gid("Product", row["id"]),
        "title": row["title"],
        "handle": row["title"].lower(),
        "bodyHtml": "",
        "descriptionHtml": "",
        "variants": page,
    }


def _product_of(given: Row) -> Row:
    fields: Row = given.get("product") or given.get("input") or {}
    return fields


def _flaw(field: str, message: str) -> Row:
    return {"field": [field], "message": message}


def _idempotency_key(info: Info) -> str | None:
    given = get_directive_values(IDEMPOTENT, info.field_nodes[0], info.variable_values)
    return None if given is None else str(given["key"])
