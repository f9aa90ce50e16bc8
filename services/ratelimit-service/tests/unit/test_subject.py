"""Whose bucket it is."""

from typing import Any

import pytest

from chassis.kernel import errors
from contracts.ratelimits import KeyKind, Subject
from ratelimit_service.core import subject


@pytest.mark.parametrize(
    ("kind", "given", "key"),
    [
        ("shop", {"shop": "A.myshopify.com"}, "{s:a.myshopify.com}:p"),
        ("shop", {"shop": "a", "shop_verified": False, "ip": "192.0.2.1"}, "{i:192.0.2.1}:p"),
        ("shop_or_ip", {"shop": "a", "ip": "192.0.2.1"}, "{s:a}:p"),
        ("shop_or_ip", {"ip": "192.0.2.1"}, "{i:192.0.2.1}:p"),
        ("ip", {"shop": "a", "ip": "2001:db8::1"}, "{i:2001:db8::/64}:p"),
        ("user", {"user": "k1"}, "{u:k1}:p"),
        ("sender", {"sender": "ACME"}, "{n:ACME}:p"),
    ],
)
def test_what_is_counted(kind: str, given: dict[str, Any], key: str) -> None:
    assert subject.key(Subject(**given), KeyKind(kind), "p") == key


@pytest.mark.parametrize(
    ("kind", "given", "pointer"),
    [
        ("shop", {"ip": "192.0.2.1"}, "/subject/shop"),
        ("shop", {"shop": "a", "shop_verified": False}, "/subject/ip"),
        ("shop_or_ip", {"user": "k"}, "/subject/ip"),
        ("ip", {"ip": "not one"}, "/subject/ip"),
        ("user", {"shop": "a"}, "/subject/user"),
        ("sender", {"user": "a"}, "/subject/sender"),
    ],
)
def test_what_is_missing_is_named(kind: str, given: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        subject.key(Subject(**given), KeyKind(kind), "p")
    assert [flaw.pointer for flaw in refused.value.flaws] == [pointer]
