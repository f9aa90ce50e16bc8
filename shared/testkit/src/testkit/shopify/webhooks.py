"""Webhooks as Shopify sends them: signed, repeated for four hours, in any order."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from testkit.shopify import signing
from testkit.shopify.rules import DAY_S
from testkit.shopify.world import World

Payload = Mapping[str, Any] | bytes

CONNECT_S = 1.0
RETRY_AFTER_S = (60, 120, 240, 480, 900, 1_800, 3_600, 7_200)
"""Eight times within four hours."""
REDACT_AFTER_S = 2 * DAY_S
COMPLIANCE = ("customers/data_request", "customers/redact", "shop/redact")


class Family(StrEnum):
    """The names of the headers."""

    WEBHOOKS = "webhooks"
    EVENTS = "events"


@dataclass(slots=True, eq=False)
class Delivery:
    """One webhook; the same id, body and time however often it is sent."""

    shop: str
    topic: str
    body: bytes = field(repr=False)
    triggered_at: str
    due_at: float | None
    """By Shopify's clock. None: it has come through, or is given up."""
    family: Family = Family.WEBHOOKS
    webhook_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    statuses: list[int] = field(default_factory=list)
    """What was answered; 0: nothing in time."""

    @property
    def delivered(self) -> bool:
        return bool(self.statuses) and 200 <= self.statuses[-1] < 300

    def headers(self, *, signature: str, api_version: str) -> dict[str, str]:
        said = {
            "topic": self.topic,
            "hmac-sha256": signature,
            "shop-domain": self.shop,
            "api-version": api_version,
            "webhook-id": self.webhook_id,
            "triggered-at": self.triggered_at,
        }
        if self.family is Family.EVENTS:
            more = {"handle": "main", "action": self.topic.rpartition("/")[2]}
            return {f"shopify-{name}": value for name, value in (said | more).items()}
        more = {"event-id": self.event_id, "name": "main"}
        return {f"X-Shopify-{name.title()}": value for name, value in (said | more).items()}


class Webhooks:
    """`deliver` sends one now. `queue` and what fails wait, until `run_due` is called after the
    clock has been advanced."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.url = ""
        """The app's address for all topics."""
        self.api_version = "2026-10"
        self.deliveries: list[Delivery] = []
        self.removed: set[str] = set()
        """Topics that are sent no more, after eight failures."""
        self._http: aiohttp.ClientSession | None = None

    async def deliver(self, shop: str, topic: str, payload: Payload, **how: Any) -> Delivery:
        delivery = self.queue(shop, topic, payload, **how)
        await self.send(delivery)
        return delivery

    def queue(
        self,
        shop: str,
        topic: str,
        payload: Payload,
        *,
        in_s: float = 0.0,
        family: Family = Family.WEBHOOKS,
        triggered_at: str | None = None,
        webhook_id: str | None = None,
    ) -> Delivery:
        """`payload` of bytes is sent as it is."""
        body = payload if isinstance(payload, bytes) else json.dumps(dict(payload)).encode()
        delivery = Delivery(
            shop=shop,
            topic=topic,
            body=body,
            triggered_at=triggered_at or self._world.clock.iso(in_s=in_s),
            due_at=None if topic in self.removed else self._world.clock.now() + in_s,
            family=family,
            webhook_id=webhook_id or str(uuid.uuid4()),
        )
        self.deliveries.append(delivery)
        return delivery

    def due(self) -> list[Delivery]:
        now = self._world.clock.now()
        waiting = [each for each in self.deliveries if each.due_at is not None]
        return [each for each in waiting if (each.due_at or 0) <= now and self._is_wanted(each)]

    async def run_due(
        self, order: Callable[[list[Delivery]], Iterable[Delivery]] = list
    ) -> list[Delivery]:
        """Send what is due now, in this order; to send in another: `run_due(reversed)`."""
        sent = list(order(self.due()))
        for delivery in sent:
            await self.send(delivery)
        return sent

    async def send(self, delivery: Delivery, *, secret: str | None = None) -> int:
        """Once (more): the status, 0 when nothing came in time. A redirect is a failure."""
        rules, secrets = self._world.rules, self._world.secrets
        key = secret or secrets[-1 if rules.webhooks_signed_with_old else 0]
        signature = signing.webhook_hmac(delivery.body, key)
        headers = delivery.headers(signature=signature, api_version=self.api_version)
        status = await self._post(delivery.body, headers)
        delivery.statuses.append(status)
        delivery.due_at = None if delivery.delivered else self._next(delivery)
        if delivery.due_at is None and not delivery.delivered and rules.removes_subscriptions:
            self.removed |= {delivery.topic} - set(COMPLIANCE)
        return status

    def uninstall(self, shop: str) -> Delivery:
        """The tokens are dead before anybody is told; the redaction follows after two days."""
        self._world.uninstall(shop)
        self.queue(shop, "shop/redact", {"shop_id": 1, "shop_domain": shop}, in_s=REDACT_AFTER_S)
        return self.queue(shop, "app/uninstalled", {"id": 1, "myshopify_domain": shop})

    def change_scopes(self, shop: str, scopes: str) -> Delivery:
        """The merchant grants others; tokens from now on have them."""
        before = self._world.shop(shop).scopes
        self._world.shop(shop).scopes = scopes
        payload = {
            "id": 1,
            "previous": before.split(","),
            "current": scopes.split(","),
            "updated_at": self._world.clock.iso(),
            "shop_id": 1,
        }
        return self.queue(shop, "app/scopes_update", payload)

    def about_customer(self, shop: str, topic: str) -> Delivery:
        """`customers/data_request` or `customers/redact`."""
        payload: dict[str, Any] = {
            "shop_id": 1,
            "shop_domain": shop,
            "customer": {"id": 7, "email": "jo@example.com", "phone": "+302100000000"},
        }
        if topic == "customers/data_request":
            payload |= {"orders_requested": [1, 2], "data_request": {"id": 9}}
        else:
            payload |= {"orders_to_redact": [1, 2]}
        return self.queue(shop, topic, payload)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _is_wanted(self, delivery: Delivery) -> bool:
        """A shop that has the app again is not redacted."""
        is_back = self._world.shop(delivery.shop).installed
        redacts = not is_back or self._world.rules.redacts_reinstalled
        return delivery.topic != "shop/redact" or redacts

    def _next(self, delivery: Delivery) -> float | None:
        tried = len(delivery.statuses) - 1
        if tried >= len(RETRY_AFTER_S):
            return None
        return self._world.clock.now() + RETRY_AFTER_S[tried]

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        limit = aiohttp.ClientTimeout(
            total=self._world.rules.webhook_timeout_s, sock_connect=CONNECT_S
        )
        said = headers | {"Content-Type": "application/json", "User-Agent": "Shopify-Captain-Hook"}
        try:
            async with self._http.post(
                self.url, data=body, headers=said, timeout=limit, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
