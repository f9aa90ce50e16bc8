"""Which names are shops, and where a shop is called. No input, no output."""

import re
from dataclasses import dataclass

DOMAIN = "myshopify.com"
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,59}")


@dataclass(frozen=True, slots=True)
class Origins:
    """`template`: how a shop is called. `suffixes`: domains of shops besides myshopify.com."""

    template: str = "https://{shop}"
    suffixes: tuple[str, ...] = ()

    def named(self, given: str) -> str:
        """The shop in lower case; ValueError for what must not stand in an address."""
        shop = given.lower()
        name, _, domain = shop.partition(".")
        if domain not in (DOMAIN, *self.suffixes) or not _NAME.fullmatch(name):
            raise ValueError("not the name of a shop")
        return shop

    def of(self, shop: str) -> str:
        return self.template.replace("{shop}", self.named(shop))
