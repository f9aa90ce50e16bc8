"""Shopify's `host` parameter: where in Shopify's admin an embedded app is shown.

It decides where a browser is sent, so it is read once and the address is put together anew from the
parts that were understood: nothing of what was given is passed on.
"""

import base64
import binascii
import re

from chassis.kernel import errors
from chassis.kernel.shopify import InvalidShop, Shops

_BASE64 = re.compile("[0-9a-zA-Z+/]+={0,2}")
_STORE = re.compile("admin[.]shopify[.]com/store/([a-z0-9][a-z0-9-]{0,59})")


def admin_of(shop: str) -> str:
    """The address of a shop's admin when no host says it."""
    return f"https://{shop}/admin"


def admin_at(host: str, *, shop: str, shops: Shops) -> str:
    """The address of the admin that the base64 `host` names, for this shop; raises Invalid."""
    decoded = _decoded(host)
    store = _STORE.fullmatch(decoded)
    if store is not None:
        return f"https://admin.shopify.com/store/{store[1]}"
    named, _, rest = decoded.partition("/")
    try:
        is_the_shop = shops.named(named) == shop
    except InvalidShop:
        is_the_shop = False
    if not is_the_shop or rest != "admin":
        raise _invalid()
    return admin_of(shop)


def _decoded(host: str) -> str:
    if not _BASE64.fullmatch(host):
        raise _invalid()
    bare = host.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise _invalid() from None


def _invalid() -> errors.Invalid:
    detail = "does not name Shopify's admin"
    return errors.Invalid(f"/host: {detail}", flaws=[errors.Flaw("/host", detail)])
