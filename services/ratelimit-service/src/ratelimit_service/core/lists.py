"""Who may nothing, and who is never counted: shops and networks, looked up by the length of their
prefix. However long a list is, a look costs as much as it has different lengths."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import ListEntry, ListKind, Subject
from ratelimit_service.core.resolution import FOREVER

# What looks like an address must be one: a slip must not become the name of a shop.
_LIKE_ADDRESS = re.compile(r"[\d.]+|.*[:/].*")
_MAPPED = 0xFFFF
KNOWN_ADDRESSES = 10_000


@value
class Network:
    """The addresses of `bits` bits that are `number` without their last `shift`."""

    bits: int
    shift: int
    number: int


class AccessList:
    """The entries of one list, with the moment until which each is on it."""

    def __init__(self, entries: Iterable[ListEntry] = ()) -> None:
        self._shops: dict[str, float] = {}
        self._networks: dict[tuple[int, int], dict[int, float]] = {}
        for entry in entries:
            until_s = FOREVER if entry.expires_at is None else entry.expires_at.timestamp()
            self._add(named(entry.subject), until_s)

    def __len__(self) -> int:
        return len(self._shops) + sum(map(len, self._networks.values()))

    def __bool__(self) -> bool:
        return bool(self._shops or self._networks)

    def has_shop(self, shop: str, now_s: float) -> bool:
        return now_s < self._shops.get(shop, 0.0)

    def has_address(self, address: str, now_s: float) -> bool:
        """Raises Invalid for what is no address."""
        if not self._networks:
            return False
        bits, number = _parsed(address)
        for (of_bits, shift), known in self._networks.items():
            if of_bits == bits and now_s < known.get(number >> shift, 0.0):
                return True
        return False

    def _add(self, subject: str | Network, until_s: float) -> None:
        if isinstance(subject, str):
            self._shops[subject] = max(until_s, self._shops.get(subject, 0.0))
            return
        known = self._networks.setdefault((subject.bits, subject.shift), {})
        known[subject.number] = max(until_s, known.get(subject.number, 0.0))


class AccessLists:
    """Both lists. Who is on both may nothing."""

    def __init__(self) -> None:
        self._deny, self._allow = AccessList(), AccessList()
        self.is_empty = True

    def put(self, kind: ListKind, entries: AccessList) -> None:
        if kind is ListKind.DENY:
            self._deny = entries
        else:
            self._allow = entries
        self.is_empty = not (self._deny or self._allow)

    def of(self, kind: ListKind) -> AccessList:
        return self._deny if kind is ListKind.DENY else self._allow

    def find(self, subject: Subject, now_s: float) -> ListKind | None:
        """A shop that nobody vouches for is allowed nothing by its name, and denied by it all the
        same: whoever gives the name of one that may nothing has gained nothing."""
        shop, address = subject.shop, subject.ip
        if self._deny and self._is_on(self._deny, shop, address, now_s):
            return ListKind.DENY
        vouched = shop if subject.shop_verified else None
        if self._allow and self._is_on(self._allow, vouched, address, now_s):
            return ListKind.ALLOW
        return None

    def _is_on(
        self, entries: AccessList, shop: str | None, address: str | None, now_s: float
    ) -> bool:
        if shop is not None and entries.has_shop(shop, now_s):
            return True
        return address is not None and entries.has_address(address, now_s)


def check(entries: Iterable[ListEntry]) -> None:
    """Raises Invalid that names every entry which is no subject, or is there twice."""
    flaws: list[errors.Flaw] = []
    seen: dict[str | Network, int] = {}
    for number, entry in enumerate(entries):
        pointer = f"/items/{number}/subject"
        try:
            subject = named(entry.subject)
        except ValueError as error:
            flaws.append(errors.Flaw(pointer, str(error)))
            continue
        if (first := seen.setdefault(subject, number)) != number:
            flaws.append(errors.Flaw(pointer, f"the same as /items/{first}/subject"))
    if flaws:
        raise errors.Invalid(f"{flaws[0].pointer}: {flaws[0].detail}", flaws=flaws[:20])


def named(text: str) -> str | Network:
    """A shop in lower case, or a network; an address is one of its own. Raises ValueError that says
    what is wrong."""
    said = text.strip().lower()
    if not _LIKE_ADDRESS.fullmatch(said):
        if not said or not said.isprintable() or " " in said:
            raise ValueError("no shop, address or CIDR")
        return said
    return _network(said)


def _network(said: str) -> Network:
    address, slash, prefix = said.partition("/")
    if "%" in address:
        raise ValueError("an address without a zone is needed")
    found = _address(address)
    if found is None or (slash and not (prefix.isascii() and prefix.isdigit())):
        raise ValueError("not an address or CIDR")
    bits, number = found
    length = int(prefix) if slash else bits
    if length > bits:
        raise ValueError("not an address or CIDR")
    if bits == 128 and length >= 96 and number >> 32 == _MAPPED:
        bits, length, number = 32, length - 96, number & 0xFFFF_FFFF
    shift = bits - length
    if number >> shift << shift != number:
        meant = ipaddress.ip_network(said, strict=False)
        raise ValueError(f"has bits beyond its prefix: did you mean {meant}?")
    return Network(bits, shift, number >> shift)


def _address(text: str) -> tuple[int, int] | None:
    """Bits and number. A list has thousands of them, and `ipaddress` takes its time."""
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return len(packed) * 8, int.from_bytes(packed)


@lru_cache(maxsize=KNOWN_ADDRESSES)
def _parsed(address: str) -> tuple[int, int]:
    """Bits and number; an IPv4 address in IPv6 is the IPv4 address."""
    found = _address(address.partition("%")[0])
    if found is None:
        detail = "not an IP address"
        raise errors.Invalid(f"/subject/ip: {detail}", flaws=[errors.Flaw("/subject/ip", detail)])
    bits, number = found
    if bits == 128 and number >> 32 == _MAPPED:
        return 32, number & 0xFFFF_FFFF
    return bits, number
