"""What came back from Shopify, whatever it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mainstay.errors import retry_after_s

VERSION, DEPRECATED, REQUEST_ID, LINK, CALLS = KEPT = (
    "X-Shopify-API-Version",
    "X-Shopify-API-Deprecated-Reason",
    "X-Request-Id",
    "Link",
    "X-Shopify-Shop-Api-Call-Limit",
)


@dataclass(frozen=True, slots=True)
class Received:
    """`document` is None when the body is no JSON. Of the headers those in `KEPT`."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    document: Any = field(repr=False)
    retry_after_s: float | None = None

    @property
    def request_id(self) -> str | None:
        return self.headers.get(REQUEST_ID)


def received(status: int, headers: Mapping[str, str], body: bytes) -> Received:
    try:
        document = json.loads(body) if body else None
    except ValueError:
        document = None
    kept = {name: headers[name] for name in KEPT if name in headers}
    wait_s = retry_after_s(headers.get("Retry-After"))
    return Received(status, kept, body, document, wait_s)
