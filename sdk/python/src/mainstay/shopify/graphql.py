"""GraphQL as far as calling needs it: does a document change anything, what does an answer say.

No input, no output. The document is scanned, not parsed: a query of half a megabyte must not hold
up everybody else, and what the scan does not understand counts as a change.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mainstay.shopify import errors
from mainstay.shopify.throttle import Cost, cost_of

QUERY, MUTATION, SUBSCRIPTION, FRAGMENT = "query", "mutation", "subscription", "fragment"
THROTTLED = "THROTTLED"
MAX_COST_EXCEEDED = "MAX_COST_EXCEEDED"
ACCESS_DENIED = "ACCESS_DENIED"
SHOP_INACTIVE = "SHOP_INACTIVE"
INTERNAL_ERROR = "INTERNAL_SERVER_ERROR"

_SIGN = re.compile(
    r"""
      \#[^\n\r]*                                       # a comment
    | \"\"\"(?>(?:[^"\\]|\\\"\"\"|\\|"(?!""))*)\"\"\"  # a block string
    | "(?!"")(?>(?:[^"\\\n\r]|\\.)*)"                  # a string
    | (?P<sign>[@$]?[A-Za-z_][0-9A-Za-z_]*|[{}()\[\]"])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind` is one of the three of GraphQL."""

    kind: str
    name: str | None


class Unreadable(ValueError):
    """Not GraphQL, or not to this scan."""


def operations(document: str) -> tuple[Operation, ...]:
    """Those that the document defines; raises Unreadable."""
    return tuple(Operation(kind, name) for kind, name in _definitions(document) if kind != FRAGMENT)


def chosen(document: str, operation_name: str | None = None) -> Operation | None:
    """The one that would run; None when that is not sure."""
    try:
        defined = operations(document)
    except Unreadable:
        return None
    meant = [one for one in defined if operation_name in (None, "", one.name)]
    return meant[0] if len(meant) == 1 else None


def changes(document: str, operation_name: str | None = None) -> bool:
    """May running this change anything? Yes, unless it surely is a query."""
    runs = chosen(document, operation_name)
    return runs is None or runs.kind != QUERY


def _definitions(document: str) -> Iterator[tuple[str, str | None]]:
    depth, kind, name = 0, "", None
    for sign, follows in _signs(document):
        if depth == 0 and not kind:
            kind, name = _begun(sign), None if sign in ("{", FRAGMENT) else follows
        if sign in "{([":
            depth += 1
        elif sign in "})]":
            depth -= 1
            if depth == 0 and sign == "}":
                yield kind, name
                kind = ""
        if depth < 0:
            raise Unreadable("closes more than it opens")
    if kind or depth:
        raise Unreadable("ends too early")


def _begun(sign: str) -> str:
    if sign == "{":
        return QUERY
    if sign in (QUERY, MUTATION, SUBSCRIPTION, FRAGMENT):
        return sign
    raise Unreadable("begins with nothing that GraphQL knows")


def _signs(document: str) -> Iterator[tuple[str, str | None]]:
    """Names and brackets, each with the name that comes next."""
    signs: list[str] = []
    for match in _SIGN.finditer(document):
        sign = match["sign"]
        if sign == '"':
            raise Unreadable("a string does not end")
        if sign is not None:
            signs.append(sign)
    for sign, follows in zip(signs, [*signs, "}"][1:], strict=True):
        yield sign, follows if follows[0].isalpha() or follows[0] == "_" else None


@dataclass(frozen=True, slots=True)
class GraphQLAnswer:
    """What Shopify answered, with 200. `data` and `errors` may both be there. `api_version` is the
    one that answered, not the one that was asked for; `cached` tells that nobody was asked."""

    document: Mapping[str, Any]
    shop: str
    api_version: str | None = None
    request_id: str | None = None
    deprecated: str | None = None
    cached: bool = False

    @property
    def data(self) -> Any:
        return self.document.get("data")

    @property
    def errors(self) -> tuple[Mapping[str, Any], ...]:
        return errors_of(self.document)

    @property
    def extensions(self) -> Mapping[str, Any]:
        said = self.document.get("extensions")
        return said if isinstance(said, Mapping) else {}

    @property
    def cost(self) -> Cost:
        return cost_of(self.document)

    def checked(self) -> "GraphQLAnswer":
        """Itself, when there is data; else raises what Shopify said."""
        if self.data is not None or not self.errors:
            return self
        known = self._known()
        found = codes(self.document)
        message = str(self.errors[0].get("message"))
        if MAX_COST_EXCEEDED in found:
            raise errors.QueryTooExpensive(message, **known)
        if ACCESS_DENIED in found:
            raise errors.ScopeDenied(message, **known)
        if SHOP_INACTIVE in found:
            raise errors.ShopUnavailable(message, **known)
        raise errors.GraphQLErrors(self.errors, **known)

    def done(self) -> Any:
        """The data of mutations that all did what they were told; raises `UserErrors`, and
        `GraphQLErrors` also when there is some data."""
        data = self.checked().data
        if self.errors:
            raise errors.GraphQLErrors(self.errors, **self._known())
        if told := _user_errors(data):
            raise errors.UserErrors(told, **self._known())
        return data

    def _known(self) -> dict[str, Any]:
        return {
            "shop": self.shop,
            "status": 200,
            "request_id": self.request_id,
            "document": self.document,
        }


@dataclass(frozen=True, slots=True)
class Connection:
    """One page of a list; `next_cursor` is None on the last."""

    nodes: tuple[Any, ...]
    next_cursor: str | None


def connection(data: Any, path: str) -> Connection:
    """The one at `path` (`shop.products`); ValueError when the query did not ask for what a list
    needs to go on."""
    found = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    info = found.get("pageInfo") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(info, Mapping):
        raise ValueError(f"there is no connection with a pageInfo at {path}")
    if "nodes" in found:
        nodes = tuple(found["nodes"])
    else:
        nodes = tuple(edge["node"] for edge in found.get("edges", ()))
    return Connection(nodes, info.get("endCursor") if info.get("hasNextPage") else None)


def errors_of(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Shopify says them as objects, and with some statuses as a text."""
    said = document.get("errors")
    if isinstance(said, list):
        return tuple(one if isinstance(one, Mapping) else {"message": str(one)} for one in said)
    return ({"message": str(said)},) if said else ()


def codes(document: Mapping[str, Any]) -> frozenset[str]:
    found = set()
    for one in errors_of(document):
        more = one.get("extensions")
        if isinstance(more, Mapping) and isinstance(more.get("code"), str):
            found.add(more["code"])
    return frozenset(found)


def _user_errors(data: Any) -> list[Mapping[str, Any]]:
    """Mutations name them `userErrors`, or for one kind `mediaUserErrors` and the like."""
    told: list[Mapping[str, Any]] = []
    for payload in data.values() if isinstance(data, Mapping) else ():
        for name, value in payload.items() if isinstance(payload, Mapping) else ():
            if name.lower().endswith("usererrors") and isinstance(value, list):
                told += [one for one in value if isinstance(one, Mapping)]
    return told
