"""What a shop sells, in the plainest words; GraphQL, REST and bulk tell of the same products."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

FIRST_ID = 8_000_000_000_001
Row = dict[str, Any]


@dataclass(slots=True, eq=False)
class Catalog:
    products: dict[int, Row] = field(default_factory=dict)
    """By id; `{id, title, variants: [{id, title}]}`."""
    refunds: list[Row] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=lambda: count(FIRST_ID))

    def add(self, title: str, *, variants: int = 1) -> Row:
        number = next(self._ids)
        inner = [{"id": next(self._ids), "title": f"V{n}"} for n in range(variants)]
        row = {"id": number, "title": title, "variants": inner}
        self.products[number] = row
        return row

    def fill(self, number: int, *, variants: int = 1) -> None:
        """So many products, titled P0, P1, …"""
        for n in range(number):
            self.add(f"P{n}", variants=variants)

    def refund(self, order_id: str) -> Row:
        row = {"id": next(self._ids), "order_id": order_id}
        self.refunds.append(row)
        return row


def gid(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


def number_of(given: str) -> int:
    """Of a gid or a plain number; 0 for what is neither."""
    last = given.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0
