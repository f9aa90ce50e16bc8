"""Whose address counts: the one that the last trusted proxy saw."""

import pytest

from mainstay.addresses import client_address, network


@pytest.mark.parametrize(
    ("peer", "claimed", "hops", "address"),
    [
        ("192.0.2.1", "203.0.113.9", 0, "192.0.2.1"),
        ("192.0.2.1", "6.6.6.6, 203.0.113.9", 1, "203.0.113.9"),
        ("192.0.2.1", "6.6.6.6, 203.0.113.9, 198.51.100.2", 2, "203.0.113.9"),
        ("192.0.2.1", "203.0.113.9", 2, "192.0.2.1"),
        ("192.0.2.1", "", 1, "192.0.2.1"),
        ("192.0.2.1", "nonsense", 1, "192.0.2.1"),
        ("::ffff:192.0.2.1", "", 0, "192.0.2.1"),
        ("192.0.2.1", "[2001:db8::1]:443", 1, "2001:db8::1"),
        ("192.0.2.1", "203.0.113.9:51515", 1, "203.0.113.9"),
    ],
)
def test_the_address_of_a_client(peer: str, claimed: str, hops: int, address: str) -> None:
    assert client_address(peer, claimed, hops) == address


def test_an_ipv6_address_counts_as_its_network() -> None:
    assert network("2001:db8:0:1:ffff::2") == network("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("somebody") == "somebody"
