"""Lists: a look at prefixes finds what going through all of them would."""

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from contracts.ratelimits import ListEntry, ListKind, Subject
from ratelimit_service.core import lists
from ratelimit_service.core.lists import AccessList, AccessLists

NOW = datetime(2026, 11, 25, tzinfo=UTC)
NOW_S = NOW.timestamp()
# Close together, so that many are in one another.
v4 = st.integers(0, 2**12).map(lambda n: ipaddress.IPv4Address((10 << 24) + n * 1_048_575 % 2**24))
v6 = st.integers(0, 2**12).map(lambda n: ipaddress.IPv6Address((0x20010DB8 << 96) + (n << 60) + n))


@st.composite
def networks(draw: st.DrawFn) -> Any:
    address = draw(v4 | v6)
    prefix = draw(st.integers(4, address.max_prefixlen))
    kind = ipaddress.IPv4Network if address.version == 4 else ipaddress.IPv6Network
    return kind((int(address), prefix), strict=False)


@given(st.lists(networks(), max_size=30), st.lists(v4 | v6, min_size=1, max_size=10))
def test_an_address_is_on_a_list_when_it_is_in_one_of_its_networks(
    listed: list[Any], addresses: list[Any]
) -> None:
    entries = AccessList(ListEntry(subject=str(network)) for network in listed)
    for address in addresses:
        wanted = any(address in network for network in listed if network.version == address.version)
        assert entries.has_address(str(address), NOW_S) == wanted


def entry(subject: str, **more: Any) -> ListEntry:
    return ListEntry(subject=subject, **more)


def both(*, deny: tuple[str, ...] = (), allow: tuple[str, ...] = ()) -> AccessLists:
    found = AccessLists()
    found.put(ListKind.DENY, AccessList(map(entry, deny)))
    found.put(ListKind.ALLOW, AccessList(map(entry, allow)))
    return found


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        ({"shop": "bad"}, "deny"),
        ({"shop": "bad", "shop_verified": False, "ip": "192.0.2.1"}, "deny"),
        ({"shop": "good"}, "allow"),
        ({"shop": "good", "shop_verified": False, "ip": "192.0.2.1"}, None),
        ({"shop": "good", "ip": "198.51.100.7"}, "deny"),
        ({"shop": "both"}, "deny"),
        ({"ip": "198.51.100.7"}, "deny"),
        ({"ip": "::ffff:198.51.100.7"}, "deny"),
        ({"ip": "2001:db8::1"}, "allow"),
        ({"shop": "other", "ip": "2001:db9::1"}, None),
        ({"user": "good"}, None),
    ],
)
def test_who_is_on_which_list(subject: Any, wanted: str | None) -> None:
    listed = both(deny=("bad", "both", "198.51.100.0/24"), allow=("GOOD", "both", "2001:db8::/32"))
    assert listed.find(Subject(**subject), NOW_S) == wanted


def test_an_entry_ends_when_its_time_is_over() -> None:
    soon = NOW + timedelta(seconds=10)
    entries = AccessList([entry("shop", expires_at=soon), entry("192.0.2.0/24", expires_at=soon)])
    assert entries.has_shop("shop", NOW_S + 9)
    assert entries.has_address("192.0.2.5", NOW_S + 9)
    assert not entries.has_shop("shop", NOW_S + 10)
    assert not entries.has_address("192.0.2.5", NOW_S + 10)


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("10.0.0.300", "not an address"),
        ("10.0.0", "not an address"),
        ("10.0.0.1/33", "not an address"),
        ("10.0.0.1/24", "did you mean 10.0.0.0/24"),
        ("2001:db8::g", "not an address"),
        ("fe80::1%eth0", "without a zone"),
        ("https://shop", "not an address"),
        ("two words", "no shop"),
        ("  ", "no shop"),
        ("192.0.2.1/32", "the same as /items/0/subject"),
        ("::ffff:192.0.2.1", "the same as /items/0/subject"),
    ],
)
def test_what_is_no_subject_is_named_with_its_place(subject: str, says: str) -> None:
    with pytest.raises(errors.Invalid) as raised:
        lists.check([entry("192.0.2.1"), entry(subject)])
    [flaw] = raised.value.flaws
    assert flaw.pointer == "/items/1/subject"
    assert says in flaw.detail


def test_a_long_list_is_looked_at_once_for_each_length_of_its_prefixes() -> None:
    entries = AccessList(entry(f"10.{n // 250}.{n % 250}.0/24") for n in range(5000))
    assert len(entries) == 5000
    assert len(entries._networks) == 1
    assert entries.has_address("10.19.249.3", NOW_S)
    assert not entries.has_address("10.20.1.3", NOW_S)
