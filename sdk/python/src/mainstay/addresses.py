"""Whose request it is when proxies stand in front, and what limits count by."""

import ipaddress
from functools import lru_cache

IPV6_PREFIX = 64
REMEMBERED = 10_000


def client_address(peer: str, forwarded_for: str, trusted_hops: int) -> str:
    """The client's address: with 0 trusted hops the peer, whatever a header claims; with N the N-th
    from the right of X-Forwarded-For. A shorter or unreadable header did not come through our
    proxies, so the peer is all we know."""
    claimed = [part.strip() for part in forwarded_for.split(",") if part.strip()]
    if trusted_hops == 0 or len(claimed) < trusted_hops:
        return _plain(peer) or peer
    return _plain(claimed[-trusted_hops]) or _plain(peer) or peer


@lru_cache(REMEMBERED)
def network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one; anything else as it is."""
    plain = _plain(address)
    if plain is None or ":" not in plain:
        return plain or address
    return str(ipaddress.ip_network((plain, IPV6_PREFIX), strict=False))


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
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
