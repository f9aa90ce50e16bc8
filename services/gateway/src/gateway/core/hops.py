"""Whose request it is when proxies stand in front: the address that the last trusted one saw."""

import ipaddress
from functools import lru_cache

IPV6_PREFIX = 64
REMEMBERED = 10_000


def client(peer: str, forwarded_for: str, trusted_hops: int) -> str:
    """The client's address.

    0 hops: the peer, whatever a header claims. N hops: the N-th address from the right of
    X-Forwarded-For; a shorter or unreadable header did not come through our proxies, so the peer
    is all we know.
    """
    if trusted_hops == 0:
        return _plain(peer) or peer
    claimed = [part.strip() for part in forwarded_for.split(",") if part.strip()]
    if len(claimed) < trusted_hops:
        return _plain(peer) or peer
    return _plain(claimed[-trusted_hops]) or _plain(peer) or peer


@lru_cache(REMEMBERED)
def network(address: str) -> str:
    """What limits count by: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


@lru_cache(REMEMBERED)
def _plain(text: str) -> str | None:
    """An address without port, brackets, zone and IPv4-in-IPv6 dress."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
