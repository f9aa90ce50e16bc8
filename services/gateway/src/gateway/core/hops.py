"""Whose request it is when proxies stand in front: the address that the last trusted one saw."""

import ipaddress
from functools import lru_cache

IPV6_PREFIX = 64
# What neighbours share once there are too many of them.
NEAR_IPV4_PREFIX = 24
NEAR_IPV6_PREFIX = 48
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
    """What limits count by: an IPv4 address, or the first of an IPv6 one's /64."""
    return _first(address, 32, IPV6_PREFIX)


def neighbourhood(address: str) -> str:
    """The first address of the /24, or of the /48; what is no address stands for itself."""
    return _first(address, NEAR_IPV4_PREFIX, NEAR_IPV6_PREFIX)


def _first(address: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    prefix = ipv4_prefix if parsed.version == 4 else ipv6_prefix
    number = int(parsed) >> parsed.max_prefixlen - prefix << parsed.max_prefixlen - prefix
    return str(type(parsed)(number))


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
