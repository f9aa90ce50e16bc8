"""Which addresses may be called: every special range, in every disguise."""

import ipaddress

import pytest

from chassis import egress
from chassis.egress import Guard
from chassis.kernel import errors

NOBODY = Guard()
OPEN_HOUSE = Guard(egress.networks("0.0.0.0/0, ::/0"))

PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "192.0.3.1", "100.128.0.1", "223.255.255.254",
          "2606:4700::1111", "2a00:1450:4017::200e", "64:ff9b::101:101",
          "::ffff:1.1.1.1"]  # fmt: skip
PRIVATE = ["10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",
           "127.255.255.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1",
           "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
           "203.0.113.9", "240.0.0.1", "::1", "fc00::1", "fd12:3456::1", "2001:db8::1", "2001::1",
           "2001:10::1", "2002:7f00:1::", "3fff::1", "100::1", "5f00::1", "64:ff9b:1::1",
           "fec0::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
           "64:ff9b::a00:1"]  # fmt: skip
NEVER = ["0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "224.0.0.1", "239.255.255.255",
         "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192", "::", "fe80::1",
         "fe80::1%eth0", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
         "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "::ffff:0.0.0.0"]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_called_by_https_alone(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert NOBODY.permits(address, secure=True)
    assert not NOBODY.permits(address, secure=False)


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_may_be_called_where_that_is_allowed(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert not NOBODY.permits(address, secure=True)
    assert not NOBODY.permits(address, secure=False)
    assert OPEN_HOUSE.permits(address, secure=True)
    assert OPEN_HOUSE.permits(address, secure=False)


@pytest.mark.parametrize("text", NEVER)
def test_some_addresses_may_never_be_called(text: str) -> None:
    address = ipaddress.ip_address(text)
    for guard in (NOBODY, OPEN_HOUSE):
        assert not guard.permits(address, secure=True)
        assert not guard.permits(address, secure=False)


def test_allowing_a_network_allows_that_network_alone() -> None:
    guard = Guard(egress.networks("10.1.0.0/16"))
    assert guard.permits(ipaddress.ip_address("10.1.2.3"), secure=False)
    assert guard.permits(ipaddress.ip_address("::ffff:10.1.2.3"), secure=False)
    assert not guard.permits(ipaddress.ip_address("10.2.0.1"), secure=True)
    assert not guard.permits(ipaddress.ip_address("1.1.1.1"), secure=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/hook", "ftp://shop.example/", "https:///hook", "shop.example", "",
        "https://me:secret@shop.example/", "https://shop.example/#here", "https://shop.example:x/",
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1]/",
        "https://169.254.169.254/latest", "https://shop.example/a b", "https://καλό.example/",
        "https://shop.example/" + "x" * 2048, "file:///etc/passwd", "https://[::1/",
    ],
)  # fmt: skip
def test_what_a_url_alone_shows_to_be_wrong_is_said_at_once(url: str) -> None:
    with pytest.raises(errors.Invalid):
        NOBODY.require(url)


def test_good_urls_pass() -> None:
    NOBODY.require("https://shop.example:8443/hook?a=b")
    NOBODY.require("https://1.1.1.1/hook")
    local = Guard(egress.networks("127.0.0.0/8"))
    local.require("http://127.0.0.1:9/hook")
    local.require("http://localhost/hook")
    with pytest.raises(errors.Invalid):
        local.require("http://1.1.1.1/hook")


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "all", "shop.example"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        egress.networks(text)
