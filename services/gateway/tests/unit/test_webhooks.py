"""What makes a webhook of Shopify, and what becomes of it."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from chassis.kernel.shopify import Shops
from contracts.commands import AcceptedJob, ShopVerb
from gateway import testing
from gateway.core import webhooks
from gateway.testing import OLD_SECRET, SECRET, sign

NOW = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)
BODY = b'{"id":9007199254740993,"note":"\xce\x93\xce\xb5\xce\xb9\xce\xac"}'


def headers(body: bytes = BODY, **other: str | None) -> list[tuple[str, str]]:
    return testing.webhook(body, **other)


def read(given: list[tuple[str, str]], body: bytes = BODY) -> webhooks.Delivery:
    return webhooks.read(given, body, secrets=(SECRET, OLD_SECRET), shops=Shops(), now=NOW)


def test_both_families_of_headers_say_the_same() -> None:
    old = read(headers())
    newer = [(name.removeprefix("X-").lower(), value) for name, value in headers()]
    found = read([*newer, ("shopify-handle", "mine"), ("shopify-action", "create")])
    assert found.more == {"handle": "mine", "action": "create"}
    assert (found.topic, found.shop, found.webhook_id, found.at) == (
        old.topic,
        old.shop,
        old.webhook_id,
        old.at,
    )


def test_while_the_secret_is_rotated_both_sign() -> None:
    assert read(headers(Hmac_Sha256=sign(BODY, OLD_SECRET))).webhook_id == "w-1"


@pytest.mark.parametrize(
    "signature",
    [
        sign(BODY + b" "),
        sign(BODY, "another"),
        sign(BODY).rstrip("="),
        hmac.digest(SECRET.encode(), BODY, hashlib.sha256).hex(),
        "λ\udcff",
        "x" * 10_000,
    ],
)
def test_a_signature_over_anything_but_the_raw_bytes_is_nobodys(signature: str) -> None:
    with pytest.raises(webhooks.Unsigned) as raised:
        read(headers(Hmac_Sha256=signature))
    assert raised.value.code == "invalid_hmac"
    assert signature not in raised.value.detail


@pytest.mark.parametrize("name", ["Topic", "Hmac_Sha256", "Shop_Domain", "Webhook_Id"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_what_every_webhook_has_must_be_there(name: str, value: str | None) -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        read(headers(**{name: value}))


@pytest.mark.parametrize(
    "shop",
    [
        "evil.example.com", "one.myshopify.com.evil.example", "one.myshopify.com@evil.example",
        "evil.example/one.myshopify.com", "one.myshopify.com#", "one\\.myshopify.com",
        "-one.myshopify.com", "x" * 300 + ".myshopify.com", "xn--é.myshopify.com",
        ".myshopify.com",
    ],
)  # fmt: skip
def test_a_shop_that_is_none_is_refused(shop: str) -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        read(headers(Shop_Domain=shop))


@pytest.mark.parametrize("topic", ["a b", "orders/", "/orders", "x" * 121, "orders\x7f", "ö/x"])
def test_a_topic_that_no_kind_of_job_could_be_made_of_is_refused(topic: str) -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        read(headers(Topic=topic))


@pytest.mark.parametrize("told", ["yesterday", "2026-13-01T00:00:00Z", "1764064798"])
def test_a_time_that_is_none_is_refused(told: str) -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        read(headers(Triggered_At=told))


def test_an_empty_body_and_a_header_given_twice_are_refused() -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        read(headers(b""), b"")
    with pytest.raises(webhooks.InvalidWebhook):
        read([*headers(), ("x-shopify-shop-domain", "two.myshopify.com")])


@pytest.mark.parametrize(
    ("told", "at"),
    [
        ("2026-11-25T09:59:58.123456789Z", datetime(2026, 11, 25, 9, 59, 58, 123456, UTC)),
        ("2026-11-25T11:59:58.5+02:00", datetime(2026, 11, 25, 9, 59, 58, 500000, UTC)),
        ("2026-11-25T09:59:58Z", datetime(2026, 11, 25, 9, 59, 58, 999_999, UTC)),
        ("2036-11-25T09:59:58Z", NOW + timedelta(seconds=10)),
        (None, NOW),
    ],
)
def test_when_it_happened_is_never_later_than_it_can_have(told: str | None, at: datetime) -> None:
    assert read(headers(Triggered_At=told)).at == at


def test_the_job_of_a_delivery_is_the_same_whoever_brings_it_and_when() -> None:
    payload = orjson.loads(BODY)
    delivery = read(headers())
    parcel = webhooks.pack(delivery, payload, now=NOW)
    accepted = AcceptedJob.model_validate_json(parcel.raw)
    assert (accepted.job.kind, accepted.job.queue) == ("shopify.orders/create", "webhooks")
    assert accepted.job.args == {
        "topic": "orders/create",
        "shop": "one.myshopify.com",
        "api_version": "2026-10",
        "webhook_id": "w-1",
        "triggered_at": "2026-11-25T09:59:58.123456789Z",
        "payload": payload,
    }
    assert parcel.id.version == 5
    later = read(headers(Shop_Domain="ONE.myshopify.com", API_Version="2027-01"))
    again = webhooks.pack(later, payload, now=NOW + timedelta(hours=4))
    assert (again.id, again.fingerprint) == (parcel.id, parcel.fingerprint)
    for other in (headers(Webhook_Id="w-2"), headers(Shop_Domain="two.myshopify.com")):
        assert webhooks.pack(read(other), payload, now=NOW).id != parcel.id


@pytest.mark.parametrize(
    ("topic", "payload", "verb", "said"),
    [
        ("app/uninstalled", {"id": 1}, ShopVerb.UNINSTALLED, {"before": "AT"}),
        (
            "app/scopes_update",
            {"current": ["read_orders"], "previous": []},
            ShopVerb.SCOPES_UPDATED,
            {"current": ["read_orders"], "at": "AT"},
        ),
        ("shop/redact", {"shop_id": 1}, ShopVerb.REDACT, {"before": "AT", "event_id": "ID"}),
    ],
)
def test_what_is_about_sessions_is_told_to_their_owner(
    topic: str, payload: Any, verb: ShopVerb, said: dict[str, Any]
) -> None:
    notice = webhooks.notice(read(headers(Topic=topic)), payload)
    assert notice is not None
    assert (notice.owner, notice.shop, notice.verb) == (
        "session-service",
        "one.myshopify.com",
        verb,
    )
    found = dict(notice.said)
    if "event_id" in found:
        found["event_id"] = "ID"
    stamp = "2026-11-25T09:59:58.123456Z"
    assert {name: "AT" if value == stamp else value for name, value in found.items()} == said
    again = webhooks.notice(read(headers(Topic=topic)), payload)
    assert again == notice


@pytest.mark.parametrize("topic", ["orders/create", "customers/redact", "customers/data_request"])
def test_what_is_not_about_sessions_is_told_to_nobody(topic: str) -> None:
    assert webhooks.notice(read(headers(Topic=topic)), {"id": 1}) is None


@pytest.mark.parametrize("payload", [[], {}, {"current": "read_orders"}, {"current": [1]}])
def test_scopes_that_cannot_be_read_are_refused(payload: Any) -> None:
    with pytest.raises(webhooks.InvalidWebhook):
        webhooks.notice(read(headers(Topic="app/scopes_update")), payload)
