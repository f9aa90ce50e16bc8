"""What the gateway offers of its owners: read from the OpenAPI documents they commit.

Operations that are services' own talk are not offered; who calls them from outside finds nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

METHODS = frozenset({"get", "post", "put", "patch", "delete"})
INTERNAL = "/internal/"
SERVICE_SCOPE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One path and method of one owner. `timeout_s` 0: the owner bounds it (streams, polls)."""

    owner: str
    method: str
    path: str
    scope: str
    timeout_s: float
    is_upload: bool
    summary: str
    tag: str


def read(owner: str, document: Mapping[str, Any]) -> list[Offer]:
    return [
        _offer(owner, method, path, described)
        for path, method, described in _operations(document)
        if described["x-mainstay-scope"] != SERVICE_SCOPE and not path.startswith(INTERNAL)
    ]


def merge(documents: Iterable[Mapping[str, Any]], *, version: str) -> dict[str, Any]:
    """One OpenAPI document of everything that is offered; a path that two have is the first's."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for document in documents:
        for path, method, described in _operations(document):
            if described["x-mainstay-scope"] != SERVICE_SCOPE and not path.startswith(INTERNAL):
                paths.setdefault(path, {}).setdefault(method, described)
        schemas = {**document.get("components", {}).get("schemas", {}), **schemas}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mainstay", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document.get("paths", {}).items():
        for method, described in methods.items():
            if method in METHODS:
                yield path, method, described


def _routed(path: str, described: Mapping[str, Any]) -> str:
    """The document's path as a router takes it: a place of many steps holds slashes too."""
    for parameter in described.get("parameters", ()):
        if parameter.get("x-mainstay-steps") == "many":
            name = parameter["name"]
            path = path.replace(f"{{{name}}}", f"{{{name}:.+}}")
    return path


def _offer(owner: str, method: str, path: str, described: Mapping[str, Any]) -> Offer:
    timeout_s = float(described.get("x-mainstay-timeout-s", 5.0))
    types = described.get("requestBody", {}).get("content", {})
    return Offer(
        owner=owner,
        method=method.upper(),
        path=_routed(path, described),
        scope=described["x-mainstay-scope"],
        timeout_s=timeout_s,
        is_upload=timeout_s == 0 and any(kind != "application/json" for kind in types),
        summary=described.get("summary", ""),
        tag=(described.get("tags") or [""])[0],
    )
