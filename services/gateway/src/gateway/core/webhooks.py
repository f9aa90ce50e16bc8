"""A webhook of Shopify: what makes it one, the job that it becomes, and what it says of the shop.

Two families of headers say the same under other names. The signature covers the body alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from chassis.kernel import canonical, clock, errors, ids
from chassis.kernel.shopify import Shops, webhook_is_signed
from contracts.commands import ShopVerb
from gateway.core.notices import Notice
from gateway.core.parcels import Parcel, wrap
from gateway.core.ports import Headers

QUEUE = "webhooks"
SESSION_SERVICE = "session-service"
OLD_FAMILY, EVENTS_FAMILY = "x-shopify-", "shopify-"
EVENTS_ONLY = ("handle", "action")
TEXT_MAX = 255
# Shopify's clock and ours may differ by this much.
SKEW = timedelta(seconds=10)
_TOPIC = re.compile(r"[a-z0-9_.-]{1,100}(?:/[a-z0-9_.-]{1,100})*")
TOPIC_MAX = 100


class InvalidWebhook(errors.Malformed):
    code = "invalid_webhook"


class Unsigned(errors.Unauthenticated):
    code = "invalid_hmac"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopifyApp:
    """The app whose webhooks these are. Without secrets there is none."""

    secrets: tuple[str, ...] = field(repr=False)
    shops: Shops


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """`told` is when it happened, as Shopify says it, "" if it does not; `at` the same as a moment,
    else when it came here. `more`: what only the newer family says."""

    topic: str
    shop: str
    webhook_id: str
    api_version: str
    told: str
    at: datetime
    more: dict[str, str]


def read(
    headers: Headers, body: bytes, *, secrets: Sequence[str], shops: Shops, now: datetime
) -> Delivery:
    """Raises InvalidWebhook for what no webhook of Shopify is, Unsigned for what somebody else may
    have sent."""
    if not body:
        raise InvalidWebhook("the body is empty")
    said = _Said(headers)
    if not webhook_is_signed(body, said.raw("hmac-sha256"), secrets):
        raise Unsigned("the signature is not one of this app's secret over this body")
    told = said.text("triggered-at")
    return Delivery(
        topic=_topic(said.required("topic").lower()),
        shop=_shop(said.required("shop-domain"), shops),
        webhook_id=said.required("webhook-id"),
        api_version=said.text("api-version"),
        told=told,
        at=_moment(told, now) if told else now,
        more={name: text for name in EVENTS_ONLY if (text := said.text(name))},
    )


def pack(delivery: Delivery, payload: Any, *, now: datetime) -> Parcel:
    """The job of a delivery. Its print is made of what identifies it, so that a repeat of it is one
    whatever else has changed on the way."""
    identity = (delivery.shop, delivery.webhook_id)
    args = {
        "topic": delivery.topic,
        "shop": delivery.shop,
        "api_version": delivery.api_version or None,
        "webhook_id": delivery.webhook_id,
        "triggered_at": delivery.told or None,
        "payload": payload,
        **delivery.more,
    }
    return wrap(
        {
            "kind": f"shopify.{delivery.topic}",
            "queue": QUEUE,
            "shop": delivery.shop,
            "args": args,
        },
        id=ids.derived_id("webhook", *identity),
        queue=QUEUE,
        fingerprint=canonical.fingerprint(["webhook", *identity]),
        now=now,
    )


def notice(delivery: Delivery, payload: Any) -> Notice | None:
    """What session-service is to be told, if the delivery is about a shop's sessions. Those about
    customers are not: no session holds anything of theirs."""
    at = clock.rfc3339(delivery.at)
    match delivery.topic:
        case "app/uninstalled":
            return _notice(delivery, ShopVerb.UNINSTALLED, {"before": at})
        case "app/scopes_update":
            said = {"current": _scopes(payload), "at": at}
            return _notice(delivery, ShopVerb.SCOPES_UPDATED, said)
        case "shop/redact":
            event_id = ids.derived_id("redact", delivery.shop, delivery.webhook_id)
            said = {"before": at, "event_id": str(event_id)}
            return _notice(delivery, ShopVerb.REDACT, said)
    return None


def _notice(delivery: Delivery, verb: ShopVerb, said: dict[str, Any]) -> Notice:
    identity = (SESSION_SERVICE, verb, delivery.shop, delivery.webhook_id)
    return Notice(
        id=ids.derived_id("notice", *identity),
        owner=SESSION_SERVICE,
        shop=delivery.shop,
        verb=verb,
        said=said,
    )


class _Said:
    """The headers by the names that both families share. One that is absent is ""."""

    def __init__(self, headers: Headers) -> None:
        self._headers = [(name.lower(), value.strip()) for name, value in headers]
        is_newer = any(name == f"{EVENTS_FAMILY}hmac-sha256" for name, _ in self._headers)
        self._family = EVENTS_FAMILY if is_newer else OLD_FAMILY

    def text(self, name: str) -> str:
        values = self._values(name)
        value = values[0] if values else ""
        if (
            len(values) > 1
            or len(value) > TEXT_MAX
            or not (value.isascii() and value.isprintable())
        ):
            raise InvalidWebhook(f"the header {self._family}{name} is not what Shopify sends")
        return value

    def required(self, name: str) -> str:
        return self.text(name) or self._missing(name)

    def raw(self, name: str) -> str:
        """Whatever it is, but it must be there."""
        return ",".join(self._values(name)) or self._missing(name)

    def _values(self, name: str) -> list[str]:
        return [value for given, value in self._headers if given == self._family + name]

    def _missing(self, name: str) -> NoReturn:
        raise InvalidWebhook(f"the header {self._family}{name} is missing")


def _topic(topic: str) -> str:
    if len(topic) > TOPIC_MAX or not _TOPIC.fullmatch(topic):
        raise InvalidWebhook("the topic is none of Shopify's")
    return topic


def _shop(given: str, shops: Shops) -> str:
    try:
        return shops.named(given)
    except errors.Invalid:
        raise InvalidWebhook("the shop is not the name of a shop") from None


def _moment(told: str, now: datetime) -> datetime:
    """A time in whole seconds is somewhere in that second; nothing has happened after now."""
    try:
        moment = datetime.fromisoformat(told)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidWebhook("the time when it was triggered is no time") from None
    if "." not in told:
        moment = moment.replace(microsecond=999_999)
    return min(moment, now + SKEW)


def _scopes(payload: Any) -> list[str]:
    current = payload.get("current") if isinstance(payload, dict) else None
    if not isinstance(current, list) or not all(isinstance(each, str) for each in current):
        raise InvalidWebhook("the body does not say which scopes there are now")
    return current
