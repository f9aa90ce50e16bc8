"""Whose address counts, whatever a header says."""

import pytest

from gateway.core import hops


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "client"),
    [
        ("10.0.0.1", "1.2.3.4", 0, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", 2, "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4", 2, "10.0.0.1"),
        ("10.0.0.1", "", 1, "10.0.0.1"),
        ("10.0.0.1", "unknown", 1, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4:5678", 1, "1.2.3.4"),
        ("10.0.0.1", "[2001:db8::1]:80", 1, "2001:db8::1"),
        ("10.0.0.1", "fe80::1%eth0", 1, "fe80::1"),
        ("::ffff:10.0.0.1", "", 0, "10.0.0.1"),
        ("10.0.0.1", "::ffff:1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "::FFFF:102:304", 1, "1.2.3.4"),
        ("10.0.0.1", "[::ffff:1.2.3.4]:99", 1, "1.2.3.4"),
    ],
)
def test_the_client_is_who_the_last_trusted_proxy_saw(
    peer: str, header: str, trusted: int, client: str
) -> None:
    assert hops.client(peer, header, trusted) == client


CLAIMS = [
    "",
    "9.9.9.9",
    "9.9.9.9, 8.8.8.8",
    ", , 9.9.9.9,,",
    "for=9.9.9.9",
    '"[2001:db8::9]:80"',
    "::ffff:9.9.9.9",
    "unknown",
    "_hidden",
    "9.9.9.9\t,\t8.8.8.8 ",
    "127.0.0.1",
    "x" * 5_000,
    ",".join(f"10.1.{n >> 8}.{n & 255}" for n in range(500)),
]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("trusted", [0, 1, 2])
def test_no_claim_makes_another_client(claim: str, trusted: int) -> None:
    """Each proxy of ours appends whom it saw; all before that is the caller's own invention."""
    seen = ["203.0.113.7", "10.0.0.8"][:trusted]
    header = ",".join([claim, *seen]) if claim else ",".join(seen)
    peer = "203.0.113.7" if trusted == 0 else "10.0.0.9"
    assert hops.client(peer, header, trusted) == "203.0.113.7"


def test_an_ipv6_network_counts_as_one() -> None:
    assert hops.network("2001:db8::1") == hops.network("2001:db8::ffff") == "2001:db8::"
    assert hops.network("2001:db8::1") != hops.network("2001:db8:0:1::1")
    assert hops.network("10.0.0.1") == "10.0.0.1"
    assert hops.network("a unix socket") == "a unix socket"


def test_neighbours_are_of_one_24_or_one_48() -> None:
    assert hops.neighbourhood("192.0.2.77") == "192.0.2.0"
    assert hops.neighbourhood("2001:db8:7:9::1") == "2001:db8:7::"
    assert hops.neighbourhood("s.myshopify.com") == "s.myshopify.com"
