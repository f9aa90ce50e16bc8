"""From who is asking to the key that is counted.

A shop that nobody vouches for would be a fresh bucket for every name an attacker invents, so it
counts as the address it comes from.
"""

import ipaddress
from functools import lru_cache

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import KeyKind, Subject

IPV6_PREFIX = 64
KNOWN_ADDRESSES = 10_000
SHOP, SHOP_OR_IP = KeyKind.SHOP, KeyKind.SHOP_OR_IP


@value
class Owner:
    """A caller whose key is of one shop."""

    shop: str
    key_id: str | None


def key(subject: Subject, kind: KeyKind, policy: str) -> str:
    """`{s:shop}:policy` and so on. Raises Invalid when the subject lacks what the policy counts."""
    if (kind is SHOP_OR_IP or kind is SHOP) and subject.shop and subject.shop_verified:
        return f"{{s:{subject.shop}}}:{policy}"
    return f"{{{_who(subject, kind)}}}:{policy}"


def is_of(key: str, owner: Owner | None) -> bool:
    """Whether the owner may move what this key counts. An address is nobody's; without an owner
    all is everybody's."""
    if owner is None:
        return True
    who = key.rpartition("}:")[0]
    return who in (f"{{s:{owner.shop}", f"{{u:{owner.key_id}") or who.startswith("{i:")


def shop_of(key: str) -> Subject | None:
    """The shop that a key counts, if it counts one."""
    who = key.rpartition("}:")[0]
    return Subject(shop=who[3:]) if who.startswith("{s:") else None


def _who(subject: Subject, kind: KeyKind) -> str:
    match kind:
        case KeyKind.SHOP if not subject.shop:
            raise _lacking("shop")
        case KeyKind.USER:
            return f"u:{_given(subject.user, 'user')}"
        case KeyKind.SENDER:
            return f"n:{_given(subject.sender, 'sender')}"
        case _:
            return f"i:{network(_given(subject.ip, 'ip'))}"


@lru_cache(maxsize=KNOWN_ADDRESSES)
def network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: one customer has all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        detail = "not an IP address"
        raise errors.Invalid(
            f"/subject/ip: {detail}", flaws=[errors.Flaw("/subject/ip", detail)]
        ) from None
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))


def _given(value: str | None, name: str) -> str:
    if value is None:
        raise _lacking(name)
    return value


def _lacking(name: str) -> errors.Invalid:
    pointer = f"/subject/{name}"
    detail = "needed: a policy of this check counts by it"
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])
