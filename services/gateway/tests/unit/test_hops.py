"""Whose address counts."""

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
        ("::ffff:10.0.0.1", "", 0, "10.0.0.1"),
    ],
)
def test_the_client_is_who_the_last_trusted_proxy_saw(
    peer: str, header: str, trusted: int, client: str
) -> None:
    assert hops.client(peer, header, trusted) == client


def test_an_ipv6_network_counts_as_one() -> None:
    assert hops.network("2001:db8::1") == hops.network("2001:db8::ffff")
    assert hops.network("2001:db8::1") != hops.network("2001:db8:0:1::1")
    assert hops.network("10.0.0.1") == "10.0.0.1"
    assert hops.network("a unix socket") == "a unix socket"
