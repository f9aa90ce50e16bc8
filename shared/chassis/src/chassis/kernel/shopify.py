"""What is Shopify's own and two services need: names of shops, and signatures of webhooks."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from chassis.kernel import errors

SUFFIX = "myshopify.com"
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,59}")
# No second slash or backslash, which browsers take for another host; no space, no control.
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


class InvalidShop(errors.Invalid):
    code = "invalid_shop"


def not_configured() -> errors.Unavailable:
    return errors.Unavailable("no Shopify app is configured here", code="shopify_not_configured")


class Shops:
    """Which names may stand in a URL. `suffixes`: domains besides myshopify.com."""

    def __init__(self, *, origin: str = "https://{shop}", suffixes: Sequence[str] = ()) -> None:
        self._origin = origin
        self._suffixes = frozenset({SUFFIX, *suffixes})

    def named(self, given: str) -> str:
        """The shop in lower case, without scheme and trailing slashes; raises InvalidShop."""
        shop = given.strip(" ").lower()
        shop = shop.removeprefix("https://").removeprefix("http://").rstrip("/")
        name, _, suffix = shop.partition(".")
        if suffix not in self._suffixes or not _NAME.fullmatch(name):
            raise InvalidShop("not the name of a shop", flaws=[errors.Flaw("/shop", "not a shop")])
        return shop

    def origin(self, shop: str) -> str:
        """Where a shop is called; only ever of one that `named` has passed."""
        return self._origin.replace("{shop}", self.named(shop))


def is_path(text: str) -> bool:
    """Is it a path, with its query, that a browser looks for on the app's own host?"""
    return _PATH.fullmatch(text) is not None


def webhook_is_signed(body: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Is the base64 `signature` that of the raw body under one of the secrets? Any text is safe to
    ask about, and all secrets are tried whatever comes first."""
    given = signature.encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(
            given, base64.b64encode(hmac.digest(key.encode(), body, hashlib.sha256))
        )
        for key in secrets
    ]
    return any(matches)
