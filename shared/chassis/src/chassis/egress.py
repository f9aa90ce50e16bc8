"""Calls to addresses that a caller gave us: https to the public internet, nothing of ours.

The address is judged when a socket to it is made, so a name that resolves to something else the
second time gains nothing, and neither does a redirect. `allowed` networks may be private and may be
called by plain http; link-local, metadata and unspecified addresses never.
"""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from chassis.kernel import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONNECT_S = 5.0
URL_MAX = 2048


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(each) for each in text.split())


# Not for any configuration: what these answer is nobody's but the machine's own.
NEVER = _networks(
    "0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 255.255.255.255/32 100.100.100.200/32 168.63.129.16/32 "
    "192.0.0.192/32 ::/128 fe80::/10 ff00::/8 fd00:ec2::254/128 fd20:ce::254/128"
)
# Special-purpose addresses of IPv4, as the registry lists them.
SPECIAL = _networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 "
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
)
# Of IPv6 only global unicast is public, and these parts of it are not.
(GLOBAL_UNICAST,) = _networks("2000::/3")
NOT_GLOBAL = _networks("2001::/23 2001:db8::/32 2002::/16 3fff::/20")
(NAT64,) = _networks("64:ff9b::/96")


class Refused(OSError):
    """The address is none that may be called. It is not named: that would map our network."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "this address may not be called")


def networks(text: str) -> tuple[Network, ...]:
    """Comma-separated CIDRs; ValueError for anything else."""
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


class Guard:
    """`allowed` are the networks of EGRESS_ALLOWED_NETWORKS."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address, *, secure: bool) -> bool:
        """May this address be connected to? `secure`: by https."""
        address = _unwrapped(address)
        if _is_in(address, NEVER):
            return False
        return _is_in(address, self._allowed) or (secure and _is_public(address))

    def require(self, url: str) -> None:
        """Invalid for what the URL alone shows to be wrong; its address is judged at the call."""
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname, parts.port
        except ValueError:
            raise errors.Invalid("is not a URL") from None
        if parts.scheme not in ("https", "http") or not host:
            raise errors.Invalid("must be an https URL")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise errors.Invalid("must hold neither credentials nor a fragment")
        if not url.isascii() or any(char <= " " for char in url) or len(url) > URL_MAX:
            raise errors.Invalid(f"must have at most {URL_MAX} ASCII characters without spaces")
        if parts.scheme == "http" and not self._allowed:
            raise errors.Invalid("must be https")
        address = _literal(host)
        if address is not None and not self.permits(address, secure=parts.scheme == "https"):
            raise errors.Invalid("this address may not be called")


def open_session(
    guard: Guard, *, resolver: AbstractResolver | None = None, connections: int = 100
) -> aiohttp.ClientSession:
    """A session that reaches only what the guard permits: ClientConnectorError whose `os_error` is
    Refused for the rest. Time-outs are given per call; follow no redirects unless you mean to."""
    return aiohttp.ClientSession(
        connector=_Connector(guard, resolver=resolver, connections=connections),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A small answer must not be able to unfold into a large one.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def was_refused(error: BaseException) -> bool:
    """Did the guard, rather than the network, end this call?"""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, Refused)


_is_secure: ContextVar[bool] = ContextVar("egress_is_secure", default=False)


class _Connector(aiohttp.TCPConnector):
    def __init__(
        self, guard: Guard, *, resolver: AbstractResolver | None, connections: int
    ) -> None:
        super().__init__(
            limit=connections, keepalive_timeout=30, resolver=resolver, socket_factory=self._socket
        )
        self._guard = guard

    async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        token = _is_secure.set(req.url.scheme == "https")
        try:
            return await super().connect(req, *args, **kwargs)
        finally:
            _is_secure.reset(token)

    def _socket(self, info: Any) -> socket.socket:
        """The last step before the packets: nothing can change between here and them."""
        family, kind, protocol, _name, address = info
        if not self._guard.permits(ipaddress.ip_address(address[0]), secure=_is_secure.get()):
            raise Refused
        return socket.socket(family, kind, protocol)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where routers take it so."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not _is_in(address, SPECIAL)
    return address in GLOBAL_UNICAST and not _is_in(address, NOT_GLOBAL)


def _is_in(address: Address, listed: Sequence[Network]) -> bool:
    return any(address in network for network in listed)
