"""Signatures as Shopify makes them, written from its rules and not from our own verifiers."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import quote

Params = Sequence[tuple[str, str]]


def query_hmac(params: Params, secret: str) -> str:
    """Of a query, without `hmac` and `signature`: sorted by name, percent-encoded."""
    signed = sorted((k, v) for k, v in params if k not in ("hmac", "signature"))
    return _hex("&".join(f"{_encoded(k)}={_encoded(v)}" for k, v in signed), secret)


def legacy_query_hmac(params: Params, secret: str) -> str:
    """The form of older libraries: decoded values, repeated `ids[]` as a list, sorted pairs."""
    plain = [(k, v) for k, v in params if k not in ("hmac", "signature") and not k.endswith("[]")]
    lists: dict[str, list[str]] = {}
    for name, value in params:
        if name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
    shown = [(k, "[" + ", ".join(f'"{each}"' for each in v) + "]") for k, v in lists.items()]
    pairs = sorted(f"{_escaped(k).replace('=', '%3D')}={_escaped(v)}" for k, v in plain + shown)
    return _hex("&".join(pairs), secret)


def webhook_hmac(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def signed(params: Iterable[tuple[str, str]], secret: str) -> list[tuple[str, str]]:
    """The same query with its `hmac`."""
    given = list(params)
    return sorted([*given, ("hmac", query_hmac(given, secret))])


def host(shop: str, *, padded: bool = False) -> str:
    """Where the shop's admin is, as the query's `host` says it."""
    place = f"admin.shopify.com/store/{shop.partition('.')[0]}"
    told = base64.b64encode(place.encode()).decode()
    return told if padded else told.rstrip("=")


def _encoded(text: str) -> str:
    return quote(text, safe="*-._").replace("~", "%7E")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26")


def _hex(text: str, secret: str) -> str:
    return hmac.digest(secret.encode(), text.encode(), hashlib.sha256).hex()
